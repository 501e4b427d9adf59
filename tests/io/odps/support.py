"""Readers of the MaxCompute server of the tests, and a table that most tests read."""

from __future__ import annotations

from typing import Any

from tests.io.odps.server import OdpsServer, Table
from tests.shared.contexts import step_context
from vecferry.io.odps import OdpsConnection, OdpsSettings
from vecferry.io.odps.source import OdpsSource
from vecferry.rows import Change, Reject

ROWS = 2000


def talks(rows: int = ROWS) -> Table:
    """A table `talks` with partitions ``split=dev`` and ``split=train``."""
    return Table(
        "talks",
        {"id": "bigint", "sentence": "string"},
        {
            "split=dev": [{"id": i, "sentence": f"sentence {i}"} for i in range(rows)],
            "split=train": [{"id": -1, "sentence": "to learn from"}],
        },
        {"split": "string"},
    )


def reader(
    server: OdpsServer,
    *,
    connection: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
    **parameters: Any,
) -> OdpsSource:
    """A reader of ``split=dev`` of `talks`, where `parameters` say nothing else."""
    given = {"table": "talks", "partition": ["split=dev"], "column": ["id", "sentence"]}
    return OdpsSource(
        OdpsSettings.model_validate({**given, **parameters}),
        OdpsConnection(**(connection or server.connection())),
        step_context("Reader", "odps", **{"retry_deadline": 5.0, **(context or {})}),
    )


def read_all(of: OdpsSource) -> list[Change | Reject]:
    """What all splits give, one after the other."""
    return [item for split in of.plan().splits for item in of.read(split)]


def ids(items: list[Any]) -> list[Any]:
    """The column `id` of rows."""
    return [item["id"] for item in items]
