"""Tables in real databases for the tests of their readers, and the readers themselves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from tests.services.server import Server, running
from tests.shared.contexts import step_context
from vecferry.process import end_run
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

_numbers = itertools.count()
_runs: list[str] = []


@dataclass
class Place:
    """A database of a real server, its dialect, and readers of it."""

    server: Any
    dialect: str

    def context(self, **more: Any) -> StepContext:
        """A run of its own."""
        context = step_context("Reader", self.dialect, **more)
        _runs.append(context.run)
        return context

    def connection(self, **more: Any) -> Any:
        """The data source as settings."""
        if self.dialect == "mysql":
            from vecferry.io.mysql import MySqlConnection as Connection
        else:
            from vecferry.io.postgresql import PostgresConnection as Connection
        return Connection.model_validate({**self.server.source, **more})

    def reader(
        self,
        parameter: dict[str, Any],
        splits: int | None = None,
        connection: Any = None,
        **context: Any,
    ) -> Any:
        """A reader with a step's parameters."""
        if self.dialect == "mysql":
            from vecferry.io.mysql import MySqlSettings as Settings
            from vecferry.io.mysql.source import MySqlSource as Source
        else:
            from vecferry.io.postgresql import PostgresSettings as Settings
            from vecferry.io.postgresql.source import PostgresSource as Source
        return Source(
            Settings.model_validate(parameter),
            connection or self.connection(),
            self.context(**context),
            splits=splits,
        )

    def read(self, splits: int | None = None, **parameter: Any) -> list[Change | Reject]:
        """All that a reader gives, over all of its splits."""
        return read_all(self.reader(parameter, splits))

    def table(self, columns: str, *rows: str, after: str = "") -> str:
        """Makes a table with rows, each as it stands in VALUES; gives its name."""
        name = f"t{next(_numbers)}"
        statements = [f"CREATE TABLE {name} ({columns}) {after}"]
        if rows:
            statements.append(f"INSERT INTO {name} VALUES {', '.join(f'({r})' for r in rows)}")
        self.server.execute(*statements)
        return name

    def title(self, table: str) -> str:
        """What the origins of a table's rows begin with."""
        return f"shop.{table}" if self.dialect == "mysql" else f"public.{table}"


def place(kind: type[Server]) -> Place:
    """The database `shop` of a server of this session; runs of the last place are over."""
    while _runs:  # or a server would soon have all the connections that it takes
        end_run(_runs.pop())
    return Place(running(kind), "postgresql" if kind.name.startswith("postgres") else "mysql")


def read_all(reader: Any) -> list[Change | Reject]:
    """The rows and rejects of all splits, each read by itself."""
    return [item for split in reader.plan().splits for item in reader.read(split)]


def by_origin(items: list[Change | Reject]) -> dict[str, Any]:
    """Rows by origin, rejects as their reasons; no origin may come twice."""
    found: dict[str, Any] = {}
    for item in items:
        assert item.origin not in found, f"{item.origin} came twice"
        found[item.origin] = item.reason if isinstance(item, Reject) else dict(item)
    return found
