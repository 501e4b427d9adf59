"""A real MaxCompute project, where the environment names one; see docs/odps.md."""

from __future__ import annotations

import os
from typing import Any

import pytest

from vecferry.io.odps import OdpsConnection, OdpsSettings
from vecferry.io.odps.source import OdpsSource
from vecferry.steps import ReadOptions, StepContext

GIVEN = {
    name: os.environ.get(f"VECFERRY_ODPS_{name}", "")
    for name in ("ENDPOINT", "PROJECT", "ACCESS_ID", "ACCESS_KEY", "TABLE", "PARTITION")
}
LACKING = [f"VECFERRY_ODPS_{n}" for n, v in GIVEN.items() if not v and n != "PARTITION"]
pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"not ours: a MaxCompute project to read: {', '.join(LACKING)} not set"
)


def _reader(**parameters: Any) -> OdpsSource:
    partition = [GIVEN["PARTITION"]] if GIVEN["PARTITION"] else []
    given = {"table": GIVEN["TABLE"], "partition": partition, "column": ["*"], **parameters}
    return OdpsSource(
        OdpsSettings.model_validate(given),
        OdpsConnection(
            endpoint=GIVEN["ENDPOINT"], project=GIVEN["PROJECT"],
            accessId=GIVEN["ACCESS_ID"], accessKey=GIVEN["ACCESS_KEY"],
        ),
        StepContext(
            step="Reader", step_type="odps", retry_deadline=60.0, read=ReadOptions(row_limit=1000)
        ),
    )  # fmt: skip


def test_a_real_table_can_be_read() -> None:
    """As many rows as its session says, each with an origin of its own."""
    reader = _reader(maxSplitRows=20_000)
    reader.check()
    origins: set[str] = set()
    split = reader.plan().splits[0]
    for item in reader.read(split):
        origins.add(item.origin)
    assert len(origins) == split.count


def test_a_real_query_gives_rows_of_the_same_columns() -> None:
    """Through SQL and the instance tunnel."""
    plain = next(iter(_reader().read(_reader().plan().splits[0])))
    reader = _reader(enableWhere=True, where="1 = 1")
    reader.check()
    assert list(next(iter(reader.read(reader.plan().splits[0])))) == list(plain)
