"""What each rule of `edit` makes of a value, and what it rejects."""

from __future__ import annotations

import datetime
import time
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from vecferry.instead import OnReject
from vecferry.rows import DELETE, UPDATE, Change, Reject
from vecferry.steps import StepContext
from vecferry.transforms.shape.editing import Editor
from vecferry.transforms.shape.settings import EditSettings

UTC = datetime.UTC


def edited(row: dict[str, Any], *rules: dict[str, Any], kind: str = "+I") -> Any:
    """What becomes of a row."""
    settings = EditSettings.model_validate({"rules": rules})
    operator = Editor(settings, None, StepContext(step="E", step_type="edit"))
    ((out, _),) = operator.process(Change(row, kind=kind, origin="f:1"))
    return out


def rule(operation: str, column: str = "a", **more: Any) -> dict[str, Any]:
    """A rule on column a."""
    return {"operation": operation, "column": column, **more}


@pytest.mark.parametrize(
    ("value", "how", "expected"),
    [
        ("Tea, TEA", rule("replace", stringToReplace="tea", replaceWith="x"), "x, x"),
        (
            "Tea, TEA tea",
            rule("replace", stringToReplace="tea", replaceWith="x", caseSensitive=True),
            "Tea, TEA x",
        ),
        ("a.b", rule("replace", stringToReplace=".", replaceWith="\\1"), "a\\1b"),
        (
            "äb  c\t d",
            rule("replace", stringToReplace="\\s+", replaceWith=" ", regularExpression=True),
            "äb c d",
        ),
        (
            "k12 K3",
            rule(
                "replace",
                stringToReplace="(k)(\\d+)",
                replaceWith="\\2\\1\\\\",
                regularExpression=True,
            ),
            "12k\\ 3K\\",
        ),
        ("  x\n", rule("trim"), "x"),
        ("straße", rule("upper"), "STRASSE"),
        ("ÄB", rule("lower"), "äb"),
        ("dataxTest", rule("cut", start=2, length=5), "taxTe"),
        ("dataxTest", rule("cut", start=5, length=10), "Test"),
        ("abc", rule("cut", start=9, length=1), ""),
        ("aä€😀", rule("cut", length=5, unit="bytes"), "aä"),
        ("aä€😀", rule("cut", length=6, unit="bytes"), "aä€"),
        ("aä€😀", rule("cut", length=9, unit="bytes"), "aä€"),
        ("aä€😀", rule("cut", length=10, unit="bytes"), "aä€😀"),
        ("xyz", rule("pad", length=4, fill="A"), "Axyz"),
        ("xyzzzzz", rule("pad", length=4, fill="A"), "xyzz"),
        ("xyz", rule("pad", length=4, fill="A", side="right"), "xyzA"),
        (
            "04.05.2026",
            rule("date", format="%d.%m.%Y", timeZone="Asia/Shanghai"),
            datetime.datetime(2026, 5, 3, 16, tzinfo=UTC),
        ),
        (
            " 2026-05-04 +0200",
            rule("date", format="%Y-%m-%d %z"),
            datetime.datetime(2026, 5, 3, 22, tzinfo=UTC),
        ),
        (datetime.date(2026, 5, 4), rule("date", format="%Y"), datetime.date(2026, 5, 4)),
        ("", rule("default", value="none"), "none"),
        (None, rule("default", value=0), 0),
        (0, rule("default", value=5), 0),
        (1, rule("constant", value={"b": [1]}), {"b": [1]}),
        ("xyzzzzz", rule("digest", algorithm="md5"), "9cdffc4fa4e45a99db8bbcd762acffa2"),
        (12, rule("expression", expression="a * 2 + 1"), 25),
        (12, rule("expression", expression="string(a) + ' km'"), "12 km"),
    ],
)
def test_an_operation_makes_a_value(value: Any, how: dict[str, Any], expected: Any):
    """As its table says; DataX' own examples of cut, pad and digest among them."""
    assert edited({"a": value, "b": 1}, how) == {"a": expected, "b": 1}


@pytest.mark.parametrize(
    "how",
    [
        rule("replace", stringToReplace="x"),
        rule("trim"),
        rule("cut", length=1),
        rule("pad", length=3),
        rule("date", format="%Y"),
        rule("digest"),
    ],
)
def test_a_null_stays_a_null(how: dict[str, Any]):
    """Only `default` and `constant` fill it."""
    assert edited({"a": None}, how) == {"a": None}


def test_texts_are_joined_and_nulls_left_out():
    """Numbers and dates by the text that they have."""
    row = {"t": "Tea", "n": 3, "d": Decimal("1.50"), "day": datetime.date(2026, 5, 4), "x": None}
    how = rule("concatenate", "all", fromColumns=["t", "n", "x", "d", "day"], separator=" ")
    assert edited(row, how)["all"] == "Tea 3 1.50 2026-05-04"


def test_rules_are_carried_out_in_order():
    """Each takes what the ones before it made."""
    row = edited(
        {"first": " Ada ", "last": "L"},
        rule("trim", "first"),
        rule("concatenate", "name", fromColumns=["first", "last"], separator=" "),
        rule("upper", "name"),
        rule("rename", "given", fromColumn="first"),
        rule("drop", "last"),
    )
    assert row == {"given": "Ada", "name": "ADA L"}
    assert row.origin == "f:1"


@pytest.mark.parametrize(
    ("row", "how", "reason", "message"),
    [
        ({"b": 1}, rule("trim"), "missing-column", "the row has no column 'a'"),
        ({"a": 5}, rule("trim"), "wrong-type", "column 'a' is of type int, and trim takes texts"),
        ({"a": 1.5}, rule("digest"), "wrong-type", "column 'a' is of type float"),
        ({"a": "5.x"}, rule("date", format="%d.%m"), "bad-date", "'5.x', which is not a date"),
        ({"a": "\ud800"}, rule("cut", length=2, unit="bytes"), "bad-text", "not valid Unicode"),
        ({"a": "\ud800"}, rule("digest"), "bad-text", "not valid Unicode"),
        ({"a": "\ud800"}, rule("replace", stringToReplace="x"), "bad-text", "not valid Unicode"),
        ({"a": None}, rule("expression", expression="a + 1"), "null-value", "column 'a' is null"),
        ({"a": None}, rule("id", "i", fromColumns=["a"]), "null-value", "an id needs a value"),
    ],
)
def test_a_row_that_a_rule_cannot_take_is_rejected(
    row: dict[str, Any], how: dict[str, Any], reason: str, message: str
):
    """The message names the rule and the column."""
    out = edited({"z": "kept", **row}, rule("upper", "z"), how)
    assert isinstance(out, Reject)
    assert out.reason == reason
    assert out.message.startswith("rules[1] (")
    assert message in out.message
    assert out.row == {"z": "kept", **row}


def test_ids_tell_rows_apart_and_stay():
    """Other columns give other ids, wherever the border between two texts is."""
    how = rule("id", "i", fromColumns=["a", "b"])
    one, other = edited({"a": "ab", "b": "c"}, how), edited({"a": "a", "b": "bc"}, how)
    assert one["i"] != other["i"]
    assert one["i"] == edited({"a": "ab", "b": "c"}, how)["i"]
    assert len(one["i"]) == 64
    named = edited({"a": "ab", "b": 1}, {**how, "idFrom": "uuid5"})["i"]
    assert (named[14], len(named)) == ("5", 36)
    assert edited({"a": 1}, rule("id", "i", idFrom="origin"))["i"] == "f:1"


def test_a_delete_passes_with_what_can_be_made():
    """Its key is made as that of the row was, and what is missing is left out."""
    how = [rule("id", "i", fromColumns=["a"]), rule("trim", "t"), rule("constant", "c", value=1)]
    row = edited({"a": 7, "t": " x "}, *how)
    gone = edited({"a": 7}, *how, kind=DELETE)
    assert (gone.kind, dict(gone)) == (DELETE, {"a": 7, "i": row["i"], "c": 1})


def test_in_place_of_a_rejected_update_its_key_is_deleted():
    """The key is made by rules that come behind the one that failed."""
    settings = EditSettings.model_validate(
        {"rules": [rule("trim", "t"), rule("id", "i", fromColumns=["a"])]}
    )
    context = StepContext(step="E", step_type="edit", on_reject=OnReject(mode="delete", key=("i",)))
    operator = Editor(settings, None, context)
    ((out, _),) = operator.process(Change({"a": 7, "t": 5}, kind=UPDATE, version=1))
    assert isinstance(out, Reject)
    assert out.instead is not None
    assert out.instead["i"] == edited({"a": 7}, rule("id", "i", fromColumns=["a"]))["i"]


def test_a_pattern_cannot_hang():
    """A pattern that takes other engines for ever takes time by the length of the text."""
    how = rule("replace", stringToReplace="(a+a+)+b", regularExpression=True)
    began = time.process_time()
    assert edited({"a": "a" * 100_000}, how)["a"] == "a" * 100_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "rules is empty"),
        ([rule("trimm")], "'trimm' is not a value of operation; did you mean 'trim'"),
        ([rule("replace")], "operation replace needs stringToReplace"),
        ([rule("cut")], "operation cut needs length"),
        ([rule("constant")], "operation constant needs value"),
        ([rule("trim", length=5)], "length is for cut and pad only, and the operation is trim"),
        ([rule("trim", fromColumns=["a"])], "fromColumns is for concatenate"),
        ([rule("drop"), rule("trim")], r"rules\[1\] takes column 'a', which rules\[0\] took away"),
        ([rule("date", format="%Q")], "is not one of strptime"),
        ([rule("date", format="%Y", timeZone="Mars")], "'Mars' is not a time zone"),
        (
            [rule("replace", stringToReplace="(?=a)", regularExpression=True)],
            "is not a regular expression of RE2: invalid perl operator",
        ),
        (
            [rule("replace", stringToReplace="a", replaceWith="\\1", regularExpression=True)],
            "replaceWith names group 1, and the pattern has 0",
        ),
        (
            [rule("replace", stringToReplace="a", replaceWith="\\n", regularExpression=True)],
            "replaceWith has a backslash before 'n'",
        ),
        ([rule("expression", expression="a +")], "is not CEL"),
        ([rule("id")], "operation id needs fromColumns"),
        ([rule("cut", length=3, start=1, unit="bytes")], "start counts characters"),
    ],
)
def test_a_wrong_rule_says_the_way_out(rules: list[dict[str, Any]], message: str):
    """Before anything runs."""
    with pytest.raises(ValidationError, match=message):
        EditSettings.model_validate({"rules": rules})


def test_columns_are_followed_through_the_rules():
    """What is made of a made column is made of what came in."""
    settings = EditSettings.model_validate(
        {
            "rules": [
                rule("concatenate", "both", fromColumns=["x", "y"]),
                rule("digest", "key", fromColumns=["both", "z"]),
                rule("rename", "w", fromColumn="v"),
                rule("drop", "both"),
            ]
        }
    )
    assert settings.inputs() == ["x", "y", "z", "v"]
    assert settings.outputs() == {"key": None, "w": None}
    assert settings.made_of() == {"key": ["x", "y", "z"], "w": ["v"]}
    assert settings.takes_away() == ["v", "both"]
    assert settings.column_types() == {"key": "string"}
