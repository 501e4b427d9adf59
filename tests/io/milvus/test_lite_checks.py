"""A Milvus Lite file takes what a server takes, and no more; a real file each time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.io.milvus.support import KEY, VECTOR, Lite, vector, write

COLUMNS = [
    KEY,
    VECTOR,
    {"name": "j", "type": "JSON"},
    {"name": "a", "type": "Array", "elementType": "VarChar", "maxLength": 4, "maxCapacity": 2},
    {"name": "n", "type": "Array", "elementType": "Int8", "maxCapacity": 3},
]


@pytest.fixture
def lite(tmp_path):
    made = Lite(tmp_path)
    yield made
    made.close()


def one(lite: Lite, **values: Any) -> tuple[list, list]:
    """What becomes of a row with these values."""
    target = lite.target(column=COLUMNS, schemaCreateMode="createIfNotExist")
    row = {"id": 1, "vector": vector(1), "j": {}, "a": [], "n": []}
    return write(target, [{**row, **values}])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"j": 5}, "wrong-type"),
        ({"j": True}, "wrong-type"),
        ({"j": 1.5}, "wrong-type"),
        ({"j": "17"}, "wrong-type"),
        ({"j": {"a": "x" * 65_536}}, "too-long"),
        ({"a": ["abcde"]}, "too-long"),
        ({"a": ["ééé"]}, "too-long"),
        ({"a": ["a", "b", "c"]}, "too-long"),
        ({"n": [300]}, "out-of-range"),
        ({"n": ["7_0"]}, "wrong-type"),
        ({"n": [1, 2, 3, 4]}, "too-long"),
    ],
    ids=str,
)
def test_a_file_refuses_what_a_server_would(lite: Lite, values: dict, reason: str) -> None:
    """A job that was tried on a file finds nothing new on a server; no row takes others along."""
    written, rejects = one(lite, **values)
    assert not written
    assert [r.reason for r in rejects] == [reason]


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"j": {"a": "x" * 65_000}},
        {"j": [1, True, None]},
        {"a": ["abcd", "é"]},
        {"n": ["1", 2.0, -128]},
    ],
    ids=lambda v: str(v)[:30],
)
def test_a_file_takes_what_fits(lite: Lite, values: dict) -> None:
    """Up to the bounds themselves."""
    written, rejects = one(lite, **values)
    assert not rejects
    assert len(written) == 1


@pytest.mark.slow
def test_dynamic_fields_are_bounded_together(lite: Lite) -> None:
    """All of a row's make up one JSON, of which a server takes 65,536 bytes."""
    names = ["id", "vector", "x", "y"]
    mapping = [{"sourceColName": n, "dstColName": n} for n in names]
    target = lite.target(
        column=COLUMNS[:2],
        schemaCreateMode="createIfNotExist",
        enableDynamicSchema=True,
        columnMapping=mapping,
    )
    half = "x" * 33_000
    rows = [{"id": i, "vector": vector(i), "x": half, "y": y} for i, y in enumerate((half, 5))]
    written, rejects = write(target, rows)
    assert [r["y"] for r in written] == [5]
    assert [r.reason for r in rejects] == ["too-long"]
