"""What a json-extracting step may say, and what it is told where it may not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jsonpath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vecferry.transforms.json_extract.settings import JsonExtractSettings, plain_path


def settings(*columns: dict[str, Any]) -> JsonExtractSettings:
    return JsonExtractSettings.model_validate({"column": list(columns)})


def column(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "fromColumn": "line", "jsonPath": "$.text", **changes}


def test_the_vendors_example_is_read() -> None:
    """The keys and values of DataWorks' own example are taken."""
    read = settings(
        {
            "name": "text",
            "fromColumn": "chunk_text",
            "jsonPath": "$.text",
            "type": "STRING",
            "nullOrInvalidDataAction": "DIRTY_DATA",
        }
    )
    assert read.inputs() == ["chunk_text"]
    assert read.outputs() == {"text": None}
    assert read.column[0].null_or_invalid_data_action == "DIRTY_DATA"


def test_types_and_actions_in_any_case() -> None:
    """Types and actions may be written in lower case; both have defaults."""
    read = settings(
        column(type="long", nullOrInvalidDataAction="set_null"), column(name="other")
    ).column
    assert [c.type for c in read] == ["LONG", "STRING"]
    assert [c.null_or_invalid_data_action for c in read] == ["SET_NULL", "DIRTY_DATA"]


def test_a_source_column_is_an_input_once() -> None:
    """Two columns from one source need it once."""
    assert settings(column(), column(name="b")).inputs() == ["line"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "STRIN"}, ["'STRIN'", "STRING, LONG", "did you mean 'STRING'"]),
        ({"nullOrInvalidDataAction": "DROP"}, ["'DROP'", "SET_NULL", "DROP_ROW"]),
        ({"type": 7}, ["7 is not a type"]),
        ({"jsonPath": "$.a[?(@.b"}, ["$.a[?(@.b", "not a JSONPath", "character 6"]),
        ({"jsonPath": "$.a[*"}, ["not a JSONPath", "its end"]),
        ({"jsonPath": "$.a y"}, ["'$.a y'", "'y'", "character 5"]),
        ({"jsonPath": "$.a[99999999999999999999]"}, ["out of range", "character 5"]),
        ({"jsonPath": "text"}, ["must begin with '$'", "'$.text'"]),
        ({"jsonPath": ""}, ["must begin with '$'"]),
        ({"name": ""}, ["at least 1"]),
    ],
    ids=str,
)
def test_a_wrong_value_is_explained(changes: dict[str, Any], words: list[str]) -> None:
    """An error names the value, the rule and, of a path, the place."""
    with pytest.raises(ValidationError) as caught:
        settings(column(**changes))
    assert caught.value.error_count() == 1
    for word in words:
        assert word in str(caught.value)


def test_two_columns_of_one_name_are_refused() -> None:
    """The second would silently replace the first."""
    with pytest.raises(ValidationError, match="two columns are named 'text'"):
        settings(column(), column(jsonPath="$.b"))


def test_no_column_is_refused() -> None:
    """A step that extracts nothing is a mistake."""
    with pytest.raises(ValidationError, match="column is empty"):
        settings()


def test_unknown_keys_are_kept_for_a_warning() -> None:
    """A key nobody knows does not fail the job; it can be warned about."""
    read = settings(column(jsonPaht="$.x"))
    assert read.column[0].model_extra == {"jsonPaht": "$.x"}


@pytest.mark.slow
def test_plain_paths_need_no_library() -> None:
    """Checking a job with plain paths imports neither Beam nor the JSONPath library."""
    code = (
        "import sys\n"
        "from vecferry.transforms.json_extract import JsonExtractSettings as S\n"
        "S.model_validate({'column': [{'name': 'a', 'fromColumn': 'b', 'jsonPath': '$.a.b[0]'}]})\n"
        "print('apache_beam' in sys.modules, 'jsonpath' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("$.a.b[0]", ("a", "b", 0)),
        ("$['a b'][\"c.d\"]", ("a b", "c.d")),
        ("$.a[-1]", ("a", -1)),
        ("$['']", ("",)),
    ],
)
def test_plain_paths_are_recognised(path: str, steps: tuple[str | int, ...]) -> None:
    """Names and indexes, in both notations."""
    assert plain_path(path) == steps


@pytest.mark.parametrize(
    "path", ["$.*", "$..a", "$.a[*]", "$['a','b']", "$[0:2]", "$[?@.a]", "$['a\\'b']", "$[01]", "a"]
)
def test_other_paths_are_left_to_the_library(path: str) -> None:
    """Whatever selects more than a name or an index is not a plain path."""
    assert plain_path(path) is None


@given(st.text(st.sampled_from("$.[]'\"ab0-1*_ é\\?@:,"), max_size=12).map(lambda tail: "$" + tail))
def test_a_plain_path_is_one_that_the_library_knows(path: str) -> None:
    """Whatever is taken as plain is also a path for the library, of as many steps."""
    steps = plain_path(path)
    if steps is not None:
        assert len(jsonpath.compile(path).segments) == len(steps)  # type: ignore[union-attr]
