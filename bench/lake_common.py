"""What the benches of lake tables share: commits of pypaimon, steps of a job, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

Step = dict[str, Any]


def commit(catalog: Any, *rows: pa.Table) -> None:
    """One commit of rows to the table `db.t`."""
    builder = catalog.get_table("db.t").new_batch_write_builder()
    write, commit = builder.new_write(), builder.new_commit()
    for some in rows:
        write.write_arrow(some)
    commit.commit(write.prepare_commit())
    write.close()
    commit.close()


def step(kind: str, category: str, parameter: dict[str, Any]) -> Step:
    """A step, called as its type."""
    return {"stepType": kind, "category": category, "name": kind, "parameter": parameter}


def reader(**more: Any) -> Step:
    """Reads the table `db.t` of the data source `Lake`."""
    return step("paimon", "reader", {"datasource": "Lake", "database": "db", "table": "t", **more})


def embedding(url: str, dimension: int) -> Step:
    """Embeds the column `text`."""
    parameter = {
        "modelProvider": "openai",
        "modelName": "m",
        "endpoint": url,
        "apiKey": "sk-test",
        "dimension": dimension,
        "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
    }
    return step("embedding-transformer", "map", parameter)


def write_job(folder: Path, name: str, steps: Iterable[Step], setting: Any, **sources: Any) -> Path:
    """Writes ``job.json`` and ``sources.json``; the warehouse is the folder `warehouse` beside."""
    path = folder / "job.json"
    path.write_text(json.dumps({"name": name, "steps": [*steps], "setting": setting}))
    lake = {"type": "paimon", "options": {"warehouse": str(folder / "warehouse")}}
    (folder / "sources.json").write_text(json.dumps({"Lake": lake, **sources}))
    return path
