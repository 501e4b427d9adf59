"""Rows of a JSON document that are not at its top: `recordPath`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.io.files.test_source import reader, rejects, rows
from vecferry.io.files.settings import FilesSettings

NAMES = ["id", "text"]
KEYED = [{"name": "key", "from": "recordKey"}, "text"]
ONE, TWO = {"id": 1, "text": "ebb"}, {"id": 2, "text": "flood"}

FOUND: dict[str, tuple[str, Any, list[Any], list[dict[str, Any]]]] = {
    "an array": ("$.data[*]", {"n": 2, "data": [ONE, TWO], "next": None}, NAMES, [ONE, TWO]),
    "arrays within arrays": (
        "$.pages[*].items[*]", {"pages": [{"items": [ONE]}, {"items": [TWO]}]}, NAMES, [ONE, TWO]
    ),
    "one object": ("$.result", {"result": ONE}, NAMES, [ONE]),
    "the top": ("$[*]", [ONE, TWO], NAMES, [ONE, TWO]),
    "a name with a space": ("$['the data'][*]", {"the data": [TWO]}, NAMES, [TWO]),
    "values of an object": (
        "$.*", {"a": ONE, "b c": TWO}, KEYED,
        [{"key": "a", "text": "ebb"}, {"key": "b c", "text": "flood"}],
    ),
    "values of an object deep down": (
        "$.shops.*", {"shops": {"a": ONE}, "more": {"b": TWO}}, KEYED, [{"key": "a", "text": "ebb"}]
    ),
    "all that an object has": ("$.*", {"a": ONE}, ["*"], [ONE]),
    "an empty array": ("$.data[*]", {"data": []}, NAMES, []),
    "nothing there": ("$.rows[*]", {"data": [ONE]}, NAMES, []),
}  # fmt: skip


@pytest.mark.parametrize(("path", "document", "column", "found"), FOUND.values(), ids=FOUND)
def test_rows_are_where_the_path_says(
    tmp_path: Path, path: str, document: Any, column: list[Any], found: list[dict[str, Any]]
) -> None:
    """In order, and nothing else of the document."""
    (tmp_path / "a.json").write_text(json.dumps(document))
    job = {"fileFormat": "json", "recordPath": path, "column": column}
    assert rows(reader(tmp_path, **job)) == found


def test_a_value_under_a_key_that_is_not_an_object_is_rejected_with_its_key(
    tmp_path: Path,
) -> None:
    """And a replay of what was mended has the key again."""
    (tmp_path / "a.json").write_text(json.dumps({"a": ONE, "next": 7}))
    source = reader(tmp_path, fileFormat="json", recordPath="$.*", column=KEYED)
    (reject,) = rejects(source)
    assert (reject.reason, reject.raw, reject.origin) == (
        "not-an-object", '{"next":7}', "a.json:1"
    )  # fmt: skip
    again = source.reread('{"next": {"text": "neap"}}', "a.json:1")
    assert again == {"key": "next", "text": "neap"}


REFUSED = {
    "no dollar": ({"recordPath": "data[*]"}, "can't be followed"),
    "a filter": ({"recordPath": "$.data[?(@.x)]"}, "can't be followed"),
    "an index": ({"recordPath": "$.data[0]"}, "can't be followed"),
    "a name with a dot": ({"recordPath": "$['a.b'][*]"}, "can't be followed"),
    "lines": ({"recordPath": "$.data[*]", "fileFormat": "jsonl"}, "means nothing in a jsonl file"),
    "a table": ({"recordPath": "$.x", "fileFormat": "parquet"}, "means nothing in a parquet file"),
    "keys of an array": ({"recordPath": "$.data[*]", "column": KEYED}, "recordKey"),
    "keys of lines": ({"fileFormat": "jsonl", "column": KEYED}, "recordKey"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_a_path_that_means_nothing_is_refused(given: dict[str, Any], words: str) -> None:
    """Before a file is opened."""
    job = {"path": "a.json", "fileFormat": "json", **given}
    with pytest.raises(ValueError, match=words):
        FilesSettings.model_validate(job)
