"""A connection of the launcher's, what it knows of the server, and errors that are the job's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vecferry.errors import JobError, TransientError
from vecferry.io.postgresql.catalog import quoted_table
from vecferry.io.postgresql.client import connect, told, where_of
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.tables.settings import TableConnection

_SERVER = """
SELECT current_setting('transaction_read_only') = 'on',
       EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE extname = 'vector'),
       EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'hg_version')
"""


class Session:
    """A connection and what the launcher must know of its server."""

    def __init__(self, connection: Any, settings: WriterSettings) -> None:
        self.connection, self._settings = connection, settings
        row = connection.execute(_SERVER).fetchone()
        self._read_only, self._has_pgvector, is_hologres = row
        self.hologres = is_hologres and settings.source_type == "hologres"

    def problems(self) -> list[str]:
        """Why nothing can be written there at all."""
        out = []
        if self._read_only:
            out.append("the database is read-only (a standby?): name the one that takes writes")
        if self.hologres and self._settings.version_column:
            out.append("versionColumn can't be kept by Hologres' COPY; leave it out")
        return out

    def lacks_pgvector(self) -> bool:
        """Whether the extension is not there."""
        return not self._has_pgvector

    def run(self, statements: list[str], what: str) -> None:
        """Runs statements of the job; JobError names the parameter that they stand in."""
        import psycopg

        for statement in statements:
            try:
                self.connection.execute(statement.replace("@table", quoted_table(self._settings)))
            except psycopg.Error as e:
                raise JobError(f"{what} failed: {told(e)}") from e


@contextlib.contextmanager
def session_of(
    settings: WriterSettings, connection: TableConnection, step: str, opened: Any = None
) -> Iterator[Session]:
    """A session that is closed in the end; every error of the server within is a JobError."""
    try:
        held = opened or connect(connection)
    except TransientError as e:
        raise JobError(str(e)) from e
    import psycopg

    try:
        with held:
            yield Session(held, settings)
    except psycopg.Error as e:
        raise JobError(f"step {step!r}: {where_of(connection)}: {told(e)}") from e
