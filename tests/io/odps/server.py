"""A MaxCompute server for tests: the REST and Tunnel protocols as pyodps speaks them.

In a test: ``with OdpsServer() as server:``, ``server.add(Table(…))`` and ``server.connection()``.
As a process of its own, for benches and pages: ``python -m tests.io.odps.server --rows 1000000``
prints its endpoint and serves until its standard input ends. What follows instead is a command:
``python -m tests.io.odps.server vecferry preview job.json`` runs it with ODPS_ENDPOINT,
ODPS_PROJECT, ODPS_ID and ODPS_KEY set.
It listens on 127.0.0.1 only.

What it speaks was learned from pyodps 0.13 and the vendor's pages, not from a real project: see
docs/odps.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

from tests.io.odps.handler import Handler, Session
from tests.io.odps.query import Instance
from tests.io.odps.tables import WIDE, Endless, Rows, Table, wide_batch

__all__ = ["OdpsServer", "Rows", "Table"]

CHUNK = 1 << 18


@dataclass
class Fault:
    """`what` happens to the next `times` requests of a `kind`, after `skip` of them."""

    kind: str
    what: str
    times: float = 1
    skip: int = 0


class OdpsServer:
    """The server and what it has seen.

    `seen` holds (kind, path, parameters) of each request; kinds are project, tables, table,
    partitions, partition, session, attach, data, query, state, result. `rows_sent` counts the rows
    that went out whole.
    """

    def __init__(
        self, *, project: str = "shop", access_id: str = "id-of-the-test",
        access_key: str = "key-of-the-test", token: str | None = None, batch_rows: int = 1000,
    ) -> None:  # fmt: skip
        self.project, self.access_id, self.access_key, self.token = (
            project, access_id, access_key, token,
        )  # fmt: skip
        self.batch_rows, self.chunk = batch_rows, CHUNK
        self.tables: dict[str, Table] = {}
        self.quotas: set[str] = {"exclusive"}
        self.sessions: dict[str, Session] = {}
        self.instances: dict[str, Instance] = {}
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.rows_sent = 0
        self.denied: set[str] = set()
        self.session_requests: int | None = None
        self.query_looks = 1
        self.lock = threading.Lock()
        self.on_request: Callable[[str], None] = lambda kind: None

    def __enter__(self) -> OdpsServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def endpoint(self) -> str:
        """What a data source names as `endpoint`."""
        return f"http://127.0.0.1:{self.port}/api"

    def connection(self, **changes: Any) -> dict[str, Any]:
        """A data source for this server."""
        return {
            "type": "odps", "endpoint": self.endpoint, "project": self.project,
            "accessId": self.access_id, "accessKey": self.access_key, **changes,
        }  # fmt: skip

    def add(self, table: Table) -> Table:
        """Adds a table."""
        self.tables[table.name] = table
        return table

    def replace(self, name: str, spec: str, rows: list[dict[str, Any]]) -> None:
        """Writes a partition anew, as an INSERT OVERWRITE does."""
        table = self.tables[name]
        table.rows[spec] = table.held(rows)
        table.modified += 1

    def fail(self, kind: str, what: str, *, times: float = 1, skip: int = 0) -> None:
        """From now on 500, 503, 429, reset, close, cut, short, lost (session) or quota (refused).

        ``reset`` and ``close`` break the connection in the middle of the body. ``cut`` ends the
        body within a chunk; ``short`` ends it well-formed after half of the rows.
        """
        self.faults.append(Fault(kind, what, times, skip))

    def fault(self, kind: str) -> str:
        """The fault for a request of a kind, or an empty text."""
        with self.lock:
            for fault in self.faults:
                if fault.kind == kind:
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    if fault.times > 0:
                        fault.times -= 1
                        return fault.what
        return ""

    def count(self, kind: str) -> int:
        """How many requests of a kind came."""
        with self.lock:
            return sum(k == kind for k, _, _ in self.seen)

    def lose_sessions(self) -> None:
        """Forgets all download sessions, as after 24 hours."""
        with self.lock:
            for session in self.sessions.values():
                session.alive = False


def main() -> None:
    """Serves tables `wide`, of so many rows, and `reviews`, each in partitions of `ds`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    reviews = [
        {"id": 1, "text": "a fine bicycle", "stars": 5},
        {"id": 2, "text": "the saddle hurts", "stars": 2},
    ]
    columns, keys = {"id": "bigint", "text": "string", "stars": "int"}, {"ds": "string"}
    with OdpsServer() as server:
        server.add(Table("wide", WIDE, {"ds=1": Endless(wide_batch(), arguments.rows)}, keys))
        server.add(Table("reviews", columns, {"ds=20240101": reviews}, keys))
        if arguments.command:
            places = {
                "ODPS_ENDPOINT": server.endpoint, "ODPS_PROJECT": server.project,
                "ODPS_ID": server.access_id, "ODPS_KEY": server.access_key,
            }  # fmt: skip
            done = subprocess.run(arguments.command, env={**os.environ, **places}, check=False)
            raise SystemExit(done.returncode)
        print(server.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
