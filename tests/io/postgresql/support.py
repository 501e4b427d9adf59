"""What the tests of tables share: a PostgreSQL server, a table of its own for each test."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import eventually, running
from vecferry.io.hologres import HologresConnection, HologresSettings
from vecferry.io.hologres.target import HologresTarget
from vecferry.io.postgresql import PostgresConnection, PostgresWriterSettings
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.process import end_run
from vecferry.testing.sinks import DIMENSION, MOST_TEXT, SinkPlace

KEY = {"name": "id", "type": "varchar(64)", "primaryKey": "true"}
TEXT = {"name": "text", "type": "varchar", "maxLength": MOST_TEXT}
NUMBER = {"name": "number", "type": "int8"}
KINDS = {
    "postgresql": (PostgresWriterSettings, PostgresConnection, {"type": "vector"}),
    "hologres": (HologresSettings, HologresConnection, {"type": "float4[]"}),
}
TARGETS = {"postgresql": PostgresTarget, "hologres": HologresTarget}


def backends(server: Postgres) -> list[int]:
    """The server's processes that serve connections of vecferry."""
    with server.client() as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'vecferry'"
        ).fetchall()
    return [pid for (pid,) in found]


def processes(server: Postgres) -> list[int]:
    """The server itself and its backends."""
    first, *_ = (server.data / "d" / "postmaster.pid").read_text().split()
    return [int(first), *backends(server)]


@contextlib.contextmanager
def stopped(numbers: Iterable[int]) -> Iterator[None]:
    """Stops processes of a server, which go on in the end."""
    for process in numbers:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in numbers:
            os.kill(process, signal.SIGCONT)


class Tables(SinkPlace):
    """A table in a real PostgreSQL server, written to by one of the two writers."""

    dies = True
    keeps_versions = True

    def __init__(self, step_type: str) -> None:
        self.step_type = step_type
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.table = f"t_{uuid.uuid4().hex[:12]}"
        self._settings, self._connection, kind = KINDS[step_type]
        self.vector = {"name": "vector", "dimension": str(DIMENSION), **kind}
        self.columns = [KEY, TEXT, NUMBER, self.vector]
        self._runs: list[str] = []

    def connection(self, **more: Any) -> Any:
        given = {"host": "127.0.0.1", "port": self.server.port, "database": DATABASE}
        return self._connection.model_validate(
            {**given, "username": USER, "password": PASSWORD, **more}
        )

    def settings(self, **more: Any) -> Any:
        given = {"table": self.table, "column": self.columns}
        return self._settings.model_validate(
            {"schemaCreateMode": "createIfNotExist", **given, **more}
        )

    def unprepared(
        self,
        connection: Any = None,
        retry_deadline: float = 300,
        resumed: bool = False,
        **more: Any,
    ) -> PostgresTarget:
        """A target as the launcher has it before it has done anything."""
        context = dataclasses.replace(self.context(), retry_deadline=retry_deadline)
        write = dataclasses.replace(context.write, resumed=resumed)
        context = dataclasses.replace(context, write=write)
        self._runs.append(context.run)
        kind = TARGETS[self.step_type]
        return kind(self.settings(**more), connection or self.connection(), context)

    def target(self, **settings: Any) -> PostgresTarget:
        target = self.unprepared(**settings)
        target.prepare()
        return target

    def count(self, target: PostgresTarget) -> int:
        return target.row_count()

    def read(self, target: PostgresTarget) -> dict[str, dict[str, Any]]:
        from psycopg.rows import dict_row

        with self.server.client(row_factory=dict_row) as connection:
            found = connection.execute(f'SELECT * FROM "{self.table}"').fetchall()
        return {row["id"]: row for row in found}

    def execute(self, *statements: str) -> None:
        self.server.execute(*(s.replace("@t", f'"{self.table}"') for s in statements))

    def ask(self, statement: str) -> list[Any]:
        with self.server.client() as connection:
            rows: list[Any] = connection.execute(
                statement.replace("@t", f'"{self.table}"')
            ).fetchall()
            return rows

    def without_index(self) -> dict[str, Any]:
        return {"column": [KEY, TEXT, NUMBER, {**self.vector, "indexType": "none"}]}

    def locked_out(self) -> tuple[Any, str]:
        wrong = "quite-wrong-pass"
        return self.unprepared(self.connection(password=wrong)), wrong

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        # A server's children outlive it by a moment, and keep the next one from starting.
        eventually(self._starts)

    def _starts(self) -> bool:
        try:
            self.server.start()
        except RuntimeError as e:
            if "still in use" in str(e):
                return False
            raise
        return True

    def close(self) -> None:
        for run in self._runs:
            end_run(run)
        self.execute("DROP TABLE IF EXISTS @t CASCADE")
