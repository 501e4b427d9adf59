"""What a file reader's part of a job may say, and what it may not."""

from __future__ import annotations

import json
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vecferry.io.common.types import json_converter, strptime_format, text_converter
from vecferry.io.files import FilesSettings

JSONL: dict[str, Any] = {"object": "a", "fileFormat": "jsonl"}
CSV: dict[str, Any] = {"object": "a", "fileFormat": "csv", "column": [{"index": 0}]}


def parsed(**job: Any) -> FilesSettings:
    """The settings of a step's parameters."""
    return FilesSettings.model_validate(job)


@pytest.mark.skipif(
    not os.environ.get("VECFERRY_VENDOR_JOBS"),
    reason="not ours: VECFERRY_VENDOR_JOBS names no folder",
)
def test_the_vendors_example_is_taken_as_it_is() -> None:
    """Name and index 0 in jsonl: the whole line, and no key is unknown."""
    path = Path(os.environ["VECFERRY_VENDOR_JOBS"]) / "oss-to-milvus.json"
    job = json.loads(path.read_text())
    settings = FilesSettings.model_validate(job["steps"][0]["parameter"])
    assert [c.index for c in settings.column] == [0]
    assert settings.outputs() == {"chunk_text": None}
    assert settings.model_extra == {}


def test_fields_left_empty_in_the_vendors_form_mean_the_defaults() -> None:
    """DataWorks writes empty texts for them."""
    blank = dict.fromkeys(("encoding", "skipHeader", "compress", "csvReaderConfig"), "")
    assert parsed(**JSONL, **blank) == parsed(**JSONL)


def test_names_are_taken_in_both_spellings_and_texts_as_numbers() -> None:
    """path and fileType are those of the HDFS reader."""
    one = parsed(path="a", fileType="CSV", column=[{"index": "1", "type": "LONG"}])
    other = FilesSettings(paths=["a"], file_format="csv", column=[{"index": 1, "type": "long"}])
    assert one == other
    assert parsed(**JSONL, maxLineBytes="10").max_line_bytes == 10
    assert pickle.loads(pickle.dumps(one)) == one


def test_outputs_are_unknown_for_all_columns() -> None:
    """With ["*"] the files decide; a reader needs no columns itself."""
    assert parsed(**JSONL, column=["*"]).outputs() is None
    assert parsed(**JSONL, column=["a", {"name": "b", "value": 1}]).outputs() == {
        "a": None,
        "b": None,
    }
    assert parsed(**JSONL).inputs() == []


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"object": "a", "fileFormat": "avro"}, "'avro' is not a file format; use jsonl, csv"),
        ({"object": "a", "fileFormat": "orc", "skipHeader": True}, "orc files have no header"),
        ({"object": "a", "fileFormat": "json", "column": [{"index": 0}]}, "keys only"),
        ({**JSONL, "column": [{"name": "n", "from": "lineNumber", "index": 1}]}, "leave them out"),
        (
            {**JSONL, "column": [{"name": "n", "from": "folder"}]},
            "'fileName', 'lineNumber' or 'recordKey'",
        ),
        ({"object": "a", "fileFormat": "jsnl"}, "did you mean 'jsonl'"),
        ({"object": "a", "path": "b", "fileFormat": "csv"}, "mean the same"),
        ({"object": [], "fileFormat": "jsonl"}, "at least 1 item"),
        ({"object": " ", "fileFormat": "jsonl"}, "a path is empty"),
        ({"object": "a", "fileFormat": "csv"}, "set skipHeader to true"),
        ({**CSV, "column": ["a"]}, "column 'a' by name needs a header"),
        ({**CSV, "fieldDelimiter": "||"}, "'||' of a csv file must be one character"),
        ({**CSV, "csvReaderConfig": {"textQualifier": "''"}}, "one ASCII character"),
        ({**JSONL, "skipHeader": True}, "a jsonl file has no header"),
        ({**JSONL, "column": []}, "no column is named"),
        ({**JSONL, "column": ["*", "a"]}, "stands alone"),
        ({**JSONL, "column": ["a", "a"]}, "column 'a' is there twice"),
        ({**JSONL, "column": [{"type": "string"}]}, "give it a `name`"),
        ({**JSONL, "column": [{"name": "a", "index": 1}]}, "index 1: jsonl knows only index 0"),
        ({**JSONL, "column": [{"name": "a", "index": 0}, "b"]}, "only index 0 of a single"),
        ({**JSONL, "column": [{"name": "a", "index": 0, "value": 1}]}, "leave one of them out"),
        ({**JSONL, "column": [{"name": "a", "type": "strng"}]}, "did you mean 'string'"),
        ({**JSONL, "column": [{"name": "a", "type": "date", "format": "QQ"}]}, "'QQ' has no"),
        ({**JSONL, "column": [{"name": "a", "type": "long", "value": "x"}]}, "'x' is not a whole"),
        ({**JSONL, "encoding": "utf-16"}, "convert the files to utf-8"),
        ({**JSONL, "encoding": "klingon"}, "'klingon' is unknown"),
        ({**JSONL, "encoding": "hex"}, "'hex' is unknown"),
        ({**JSONL, "compress": "rar"}, "'rar' is not a known compression"),
        ({**JSONL, "maxLineBytes": 0}, "greater than 0"),
    ],
    ids=lambda v: "" if isinstance(v, dict) else v[:24],
)
def test_wrong_settings_say_what_is_wrong(job: dict[str, Any], message: str) -> None:
    """The value, the rule, and the way out."""
    with pytest.raises(ValidationError) as raised:
        FilesSettings.model_validate(job)
    assert message in str(raised.value)


NOON = datetime(2024, 2, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("long", " -12 ", -12),
        ("long", str(2**63 - 1), 2**63 - 1),
        ("double", "1e3", 1000.0),
        ("boolean", "TRUE", True),
        ("date", "2024-02-01 12:00:00", NOON),
        ("date", "2024-02-01T14:00:00+02:00", NOON),
    ],
)
def test_text_becomes_the_type(kind: str, given: str, expected: Any) -> None:
    """In csv and text, and in texts of jsonl alike."""
    for make in (text_converter, json_converter):
        convert = make(kind)
        assert convert is not None
        assert convert(given) == expected


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("string", {"a": [1, None]}, '{"a":[1,null]}'),
        ("string", True, "true"),
        ("long", 12.0, 12),
        ("double", 3, 3.0),
        ("boolean", 0, False),
        ("date", 1706788800000, NOON),
    ],
)
def test_json_values_become_the_type(kind: str, given: Any, expected: Any) -> None:
    """A JSON number or object need not be a text."""
    convert = json_converter(kind)
    assert convert is not None
    assert convert(given) == expected


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("long", "1_000"),
        ("long", "1.5"),
        ("long", str(2**63)),
        ("long", 1.5),
        ("long", True),
        ("long", 1e17),
        ("double", "nan"),
        ("double", "1_0"),
        ("double", None),
        ("boolean", "yes"),
        ("boolean", 2),
        ("date", "yesterday"),
        ("date", 10**18),
        ("date", "0001-01-01T00:00:00+14:00"),
        ("string", 1e30),
    ],
)
def test_what_does_not_fit_raises_and_shows_the_value(kind: str, given: Any) -> None:
    """Nothing is rounded, guessed or cut."""
    convert = json_converter(kind)
    assert convert is not None
    with pytest.raises(ValueError, match=r"is|does not fit"):
        convert(given)


def test_java_date_patterns_are_understood() -> None:
    """DataWorks' formats are those of SimpleDateFormat."""
    assert strptime_format("yyyy-MM-dd'T'HH:mm:ss.SSS") == "%Y-%m-%dT%H:%M:%S.%f"
    assert strptime_format("d/M/yy 'o''clock' %") == "%d/%m/%y o'clock %%"
    convert = text_converter("date", "yyyyMMdd HH")
    assert convert is not None
    assert convert("20240201 12") == NOON
    with pytest.raises(ValueError, match="not a date of the format 'yyyyMMdd HH'"):
        convert("2024")


def test_a_constant_without_a_name_is_called_by_its_place() -> None:
    """DataX's own examples have such columns; places never pass for a field's index."""
    column = [{"index": 0}, {"type": "string", "value": "hello"}, {"index": 1}]
    found = FilesSettings.model_validate({"path": "f", "fileType": "csv", "column": column})
    assert [c.label for c in found.column] == ["column_0", "constant_1", "column_1"]
    with pytest.raises(ValidationError, match="a column needs a name"):
        FilesSettings.model_validate({"path": "f", "fileType": "csv", "column": [{"value": None}]})
