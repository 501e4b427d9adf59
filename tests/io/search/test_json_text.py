"""Objects and lists of rows, written as texts of JSON where a job asks for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from tests.io.search.support import settings
from vecferry.io.search.dialect import Field
from vecferry.io.search.values import RowEncoder
from vecferry.rows import Change

FIELDS = {
    "id": Field("id", "keyword"),
    "j": Field("j", "text"),
    "o": Field("o", "object"),
    "n": Field("n", "nested"),
    "d": Field("d", "date"),
    "v": Field("v", "dense_vector", 2, "cosine"),
}


def written(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The document of a row, as the server reads it."""
    names = [{"sourceColName": name, "dstColName": name} for name in FIELDS]
    given = {"column": [], "columnMapping": names, "jsonAsText": True, "dynamic": True} | more
    primary = {"primaryKeyInfo": {"type": "specific", "column": ["id"]}}
    encoder = RowEncoder(settings(**given, **primary), FIELDS)
    full = dict.fromkeys(FIELDS) | {"id": "1"} | row
    found: dict[str, Any] = orjson.loads(encoder.encode(Change(full)).body.splitlines()[1])
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"k": 1, "ü": [1.5, None]}, '{"k": 1, "ü": [1.5, null]}'),
        ([1, "a"], '[1, "a"]'),
        ({}, "{}"),
        ("plain", "plain"),
        (7, 7),
        (None, None),
    ],
)
def test_objects_and_lists_become_texts(value: Any, text: Any) -> None:
    """With the blanks that MySQL writes; other values stay."""
    assert written({"j": value})["j"] == text


@pytest.mark.parametrize("name", ["o", "n"])
def test_a_field_of_objects_gets_objects(name: str) -> None:
    """Also from a text of JSON, as ever."""
    assert written({name: {"k": [1]}})[name] == {"k": [1]}
    assert written({name: '{"k": [1]}'})[name] == {"k": [1]}


def test_a_field_that_the_mapping_lacks_gets_a_text() -> None:
    """The store would guess fields within from an object."""
    assert written({"x": {"k": 1}, "y": 3})["x"] == '{"k": 1}'


def test_vectors_are_no_texts() -> None:
    """As a list or as an array."""
    assert written({"v": [0.5, 1.0]})["v"] == [0.5, 1.0]
    assert written({"v": np.array([0.5, 1.0], dtype=np.float32)})["v"] == [0.5, 1.0]


def test_objects_stay_objects_unless_the_job_asks() -> None:
    """The default is what it was."""
    assert written({"j": {"k": 1}}, jsonAsText=False)["j"] == {"k": 1}
