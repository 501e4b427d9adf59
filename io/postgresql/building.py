"""Builds the indexes that a load left for later: one connection works, another asks how far it is.

Apart from `vecferry.io.postgresql.catalog` because it takes minutes, and may be broken off.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecferry.io.postgresql.client import words
from vecferry.io.sink.background import followed
from vecferry.steps import OnWords

if TYPE_CHECKING:
    from vecferry.io.postgresql.client import Connection

MOST_MEMORY = 1 << 30
"""The most memory that a build asks for, where the server gives less by itself."""
_PROGRESS = """
SELECT phase, tuples_done, tuples_total, blocks_done, blocks_total
FROM pg_stat_progress_create_index WHERE pid = %s
"""
_KNOWN = """
SELECT current_setting('server_version_num')::int,
       pg_size_bytes(current_setting('maintenance_work_mem')), pg_table_size(%s::oid)
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """Statements that index a table, carried out in one transaction.

    Attributes:
      what: the index and its table, in words.
      oid: the server's number for the table.
      first: what begins the transaction, so that no other run does the same meanwhile.
      statements: gives what is to be carried out then.
      tuned: whether the server knows the settings of PostgreSQL, and its way to tell progress.
    """

    what: str
    oid: int
    first: Sequence[str]
    statements: Callable[[Connection], Sequence[str]]
    tuned: bool

    def carry_out(
        self, opened: AbstractContextManager[Connection], watcher: Connection, on_progress: OnWords
    ) -> None:
        """Builds the index by a connection that is `opened`, and tells by `watcher` how far it is.

        What `on_progress` raises breaks it off. If this process dies, the server ends the build.

        Raises:
          JobError: as `opened` makes it of the server's errors.
        """
        with opened as worker:
            process = worker.info.backend_pid

            def stop() -> None:
                with contextlib.suppress(Exception):  # why it is broken off is what matters
                    watcher.execute("SELECT pg_cancel_backend(%s)", [process])

            def look() -> None:
                on_progress(f"building {self.what}{self._so_far(process, watcher)}")

            followed(lambda: self._run(worker), look, stop)

    def _so_far(self, process: int, watcher: Connection) -> str:
        """How far the server is, in words; empty where it does not tell."""
        import psycopg

        if not self.tuned:
            return ""
        try:
            row = watcher.execute(_PROGRESS, [process]).fetchone()
        except psycopg.Error as e:
            log.debug("the progress is not known: %s", words(e))
            return ""
        if row is None:
            return ""
        phase, tuples, all_tuples, blocks, all_blocks = row
        done, total = (tuples, all_tuples) if all_tuples else (blocks, all_blocks)
        share = f", {100 * done // total} %" if total else ""
        return f": {str(phase).removeprefix('building index: ')}{share}"

    def _run(self, connection: Connection) -> None:
        """Carries the statements out; with the server's own memory where more can't be had."""
        import psycopg

        settings = self._settings(connection) if self.tuned else {}
        try:
            self._transaction(connection, settings)
        except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as e:
            # A container may have little shared memory, in which parallel workers meet.
            if settings.pop("maintenance_work_mem", None) is None:
                raise
            log.debug("%s is built with less memory: %s", self.what, words(e))
            self._transaction(connection, settings)

    def _transaction(self, connection: Connection, settings: dict[str, str]) -> None:
        with connection.transaction():
            for name, value in settings.items():
                connection.execute(f"SET LOCAL {name} = '{value}'")
            for statement in self.first:
                connection.execute(statement)
            for statement in self.statements(connection):
                connection.execute(statement)

    def _settings(self, connection: Connection) -> dict[str, str]:
        ((version, memory, size),) = connection.execute(_KNOWN, [self.oid]).fetchall()
        out = {"statement_timeout": "0"}
        if version >= 140000:  # else the server would build on for nobody, and lock the table
            out["client_connection_check_interval"] = "1s"
        # A graph that outgrows its memory is built many times slower.
        wanted = min(2 * size, MOST_MEMORY)
        if wanted > memory:
            out["maintenance_work_mem"] = f"{wanted >> 10}kB"
        return out
