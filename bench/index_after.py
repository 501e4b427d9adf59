"""Seconds from an empty store to a full one with its index: built before the rows, and after them.

Usage::

    python bench/index_after.py [--rows 100000] [--dimension 256] [--rounds 3] [--stores …]

Both sides are our writer with `indexWhen`, four requests in flight, one bundle. The clock runs from
the creation of the target to the end of its load, the index included. Both sides then hold all
rows and the same index. They take turns; the median of each is told.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from sinks_common import Rows, make_rows

from tests.services.opensearch import OpenSearchServer
from tests.services.postgres import Postgres
from tests.services.server import running, stop_all
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.io.postgresql import PostgresConnection, PostgresWriterSettings
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.process import end_run
from vecferry.steps import StepContext, WriteOptions

WHEN = ("before", "after")


def context(kind: str) -> StepContext:
    """Of a run whose launcher ends the load."""
    return StepContext(step="Writer", step_type=kind, write=WriteOptions(load_ends=True))


class PostgresSide:
    """A table with an index of HNSW, with what pgvector takes by itself."""

    def __init__(self, dimension: int) -> None:
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self._vector = {"name": "vector", "type": "vector", "dimension": dimension}

    def target(self, name: str, when: str) -> Any:
        """A new table."""
        columns = [
            {"name": "id", "type": "varchar(64)", "primaryKey": True},
            {"name": "text", "type": "varchar"},
            self._vector,
        ]
        settings = PostgresWriterSettings.model_validate(
            {
                "table": name,
                "schemaCreateMode": "createIfNotExist",
                "column": columns,
                "indexWhen": when,
            }
        )
        connection = PostgresConnection.model_validate(self.server.source)
        return PostgresTarget(settings, connection, context("postgresql"))

    def remove(self, name: str) -> str:
        """Drops the table, and tells its index."""
        with self.server.client() as connection:
            asked = (
                "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%'"
            )
            ((found,),) = connection.execute(asked, [name]).fetchall()
            connection.execute(f'DROP TABLE "{name}"')
        return str(found).partition(" USING ")[2]


class OpenSearchSide:
    """An index of Lucene's HNSW, which the server builds segment by segment."""

    def __init__(self, dimension: int) -> None:
        self.server = running(OpenSearchServer)
        field = {"name": "vector", "type": "knn_vector", "dimension": dimension}
        self._vector = {**field, "engine": "lucene"}

    def target(self, name: str, when: str) -> Any:
        """A new index."""
        columns = [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            self._vector,
        ]
        settings = OpenSearchSettings.model_validate(
            {
                "index": name,
                "schemaCreateMode": "createIfNotExist",
                "column": columns,
                "indexWhen": when,
            }
        )
        server = self.server
        given: dict[str, Any] = {"endpoint": server.url}
        if server.login is not None:
            given |= {"username": server.user, "password": server.password}
        if server.has_tls:
            given["caCert"] = str(server.certificates / "ca.pem")
        connection = OpenSearchConnection.model_validate(given)
        return OpenSearchTarget(settings, connection, context("opensearch"))

    def remove(self, name: str) -> str:
        """Drops the index, and tells how often it was refreshed by then."""
        answer = self.server.request("GET", f"/{name}/_settings?flat_settings=true")
        settings = answer[name]["settings"]
        self.server.request("DELETE", f"/{name}")
        return f"refresh_interval {settings.get('index.refresh_interval', 'as usual')}"


SIDES: dict[str, Callable[[int], Any]] = {
    "postgresql": PostgresSide,
    "opensearch": OpenSearchSide,
}


def load(side: Any, rows: Rows, when: str) -> tuple[float, float, str]:
    """Seconds until the rows are in, seconds until the load has ended, and what stands there."""
    name = f"b{uuid.uuid4().hex[:12]}"
    target = side.target(name, when)
    began = time.perf_counter()
    target.prepare()
    operator = target.operator()
    done = sum(len(operator.process(row)) for row in rows) + len(operator.finish())
    assert done == len(rows)
    written = time.perf_counter() - began
    target.end_load(lambda words: None)
    target.conclude()
    ended = time.perf_counter() - began
    count = target.row_count()
    assert count == len(rows), f"{when}: {count} of {len(rows)} rows"
    end_run(target.context.run)
    return written, ended, side.remove(name)


def main() -> None:
    """Prints a line for each load, and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", nargs="*", default=list(SIDES), choices=list(SIDES))
    given = parser.parse_args()
    rows = make_rows(given.rows, given.dimension)
    gc.collect()
    gc.freeze()
    lines = []
    for store in given.stores:
        side = SIDES[store](given.dimension)
        load(side, rows[: min(1000, len(rows))], "after")  # warms up
        seconds: dict[str, list[float]] = {when: [] for when in WHEN}
        for turn in range(given.rounds):
            for when in WHEN if turn % 2 == 0 else WHEN[::-1]:
                written, ended, found = load(side, rows, when)
                seconds[when].append(ended)
                print(f"  {store}, {when}: rows in {written:.1f} s, ended {ended:.1f} s; {found}")
        before, after = (statistics.median(seconds[when]) for when in WHEN)
        rates = f"{given.rows / before:,.0f} | {given.rows / after:,.0f}"
        lines.append(f"| `{store}`, {given.dimension} | {rates} | {before / after:.2f} |")
        stop_all()
    print("\n| store | rows/s, before | rows/s, after | times |\n|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
