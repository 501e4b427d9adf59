"""Writes the trails of examples/data/trails.csv into a Paimon table, in a folder.

    python examples/lake_table.py data/lake

The table is ``hiking.trails``, with the key ``id``. A second commit corrects the length of a trail,
so a reader must merge two files.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from pypaimon import CatalogFactory, Schema

TRAILS = Path(__file__).parent / "data" / "trails.csv"
COLUMNS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("title", pa.string()),
        ("about", pa.string()),
        ("km", pa.float64()),
    ]
)


def commit(table: Any, rows: list[dict[str, Any]]) -> None:
    """Writes rows in one commit; a row replaces the one with its key."""
    builder = table.new_batch_write_builder()
    write, done = builder.new_write(), builder.new_commit()
    write.write_arrow(pa.Table.from_pylist(rows, COLUMNS))
    done.commit(write.prepare_commit())
    write.close()
    done.close()


def main(folder: str) -> None:
    """Makes the table, and tells how many rows it has."""
    catalog = CatalogFactory.create({"warehouse": folder})
    catalog.create_database("hiking", True)
    schema = Schema.from_pyarrow_schema(COLUMNS, primary_keys=["id"], options={"bucket": "2"})
    catalog.create_table("hiking.trails", schema, False)
    table = catalog.get_table("hiking.trails")
    with TRAILS.open(encoding="utf-8", newline="") as file:
        rows = [
            {"id": int(row["id"]), "title": row["title"], "about": row["about"],
             "km": float(row["km"])}
            for row in csv.DictReader(file)
        ]  # fmt: skip
    commit(table, rows)
    commit(table, [{**rows[0], "km": rows[0]["km"] + 1}])
    print(f"hiking.trails in {folder} has {len(rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1])
