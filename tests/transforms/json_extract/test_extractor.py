"""json-extracting at work: paths, actions, deletes, and the transform in a Beam pipeline."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import jsonpath
import orjson
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given
from hypothesis import strategies as st

from vecferry.instead import OnReject
from vecferry.rows import DELETE, Change, Reject
from vecferry.steps import StepContext
from vecferry.transforms.json_extract import ExtractJson
from vecferry.transforms.json_extract.extractor import JsonExtractor, find_plain
from vecferry.transforms.json_extract.settings import JsonExtractSettings, plain_path

CONTEXT = StepContext(step="extract", step_type="json-extracting")


def settings(*columns: dict[str, Any]) -> JsonExtractSettings:
    base = {"name": "out", "fromColumn": "doc", "jsonPath": "$.a"}
    return JsonExtractSettings.model_validate({"column": [{**base, **c} for c in columns]})


def extract(row: dict[str, Any], *columns: dict[str, Any], kind: str = "+I") -> Any:
    """What becomes of one row: the row, its reject, or None where it is dropped."""
    operator = JsonExtractor(settings(*columns), None, CONTEXT)
    emitted = operator.process(Change(row, kind=kind, version=7, origin="f:0"), "stamp")
    assert operator.finish() == []
    if not emitted:
        assert operator.counts.values == {"rows-dropped": 1}
        return None
    [(item, stamp)] = emitted
    assert stamp == "stamp"
    return item


def test_the_source_column_goes_on_flowing() -> None:
    """The row keeps what it had, its kind, version and origin, and the given row is left alone."""
    row = Change({"doc": '{"a": "x"}', "id": 1}, kind="+U", version=7, origin="f:0")
    operator = JsonExtractor(settings({}), None, CONTEXT)
    [(out, _)] = operator.process(row)
    assert out == {"doc": '{"a": "x"}', "id": 1, "out": "x"}
    assert isinstance(out, Change)
    assert (out.kind, out.version, out.origin) == ("+U", 7, "f:0")
    assert row == {"doc": '{"a": "x"}', "id": 1}


def test_several_columns_of_several_sources() -> None:
    """Each column is taken from its own source and converted to its own type."""
    out = extract(
        {"doc": '{"a": "5", "b": {"c": [1, 2]}}', "more": '{"a": "t"}'},
        {"name": "n", "type": "LONG"},
        {"name": "c", "jsonPath": "$.b.c", "type": "JSON"},
        {"name": "t", "fromColumn": "more"},
    )
    assert (out["n"], out["c"], out["t"]) == (5, [1, 2], "t")


def exploded(row: dict[str, Any], action: str = "DIRTY_DATA", **change: Any) -> Any:
    """What becomes of a row whose list is exploded, and what is counted."""
    column = {"name": "item", "type": "JSON", "explode": True, "nullOrInvalidDataAction": action}
    operator = JsonExtractor(settings({"name": "of", "jsonPath": "$.of"}, column), None, CONTEXT)
    emitted = operator.process(Change(row, **{"version": 7, "origin": "f:0", **change}), "stamp")
    assert all(stamp == "stamp" for _, stamp in emitted)
    return [item for item, _ in emitted], operator.counts.values


def test_each_element_of_a_list_becomes_a_row() -> None:
    """All have the other columns, the version of the row, and origins of their own."""
    row = {"doc": '{"of": "x", "a": [{"n": 1}, null, "t"]}', "id": 5}
    rows, counts = exploded(row)
    shared = {**row, "of": "x"}
    assert rows == [
        {**shared, "item": element, "item_index": i}
        for i, element in enumerate([{"n": 1}, None, "t"])
    ]
    assert [(r.kind, r.version, r.origin) for r in rows] == [
        ("+I", 7, f"f:0#{i}") for i in range(3)
    ]
    assert counts == {"rows-split": 1, "rows-added": 2}


@pytest.mark.parametrize(
    ("doc", "reason"),
    [
        ('{"of": 1, "a": []}', "empty-list"),
        ('{"of": 1, "a": {"n": 1}}', "wrong-type"),
        ('{"of": 1, "a": "text"}', "wrong-type"),
        ('{"of": 1, "a": null}', "null-value"),
        ('{"of": 1}', "no-match"),
    ],
)
def test_what_is_no_list_with_elements_is_told_dropped_or_null(doc: str, reason: str) -> None:
    """As the column says; a null is one row."""
    ([reject], counts) = exploded({"doc": doc})
    assert (reject.reason, counts) == (reason, {})
    assert exploded({"doc": doc}, "DROP_ROW") == ([], {"rows-dropped": 1})
    ([row], counts) = exploded({"doc": doc}, "SET_NULL")
    assert (row["item"], row["item_index"]) == (None, 0)
    assert counts == {"values-nulled": 1, "rows-split": 1}


def test_a_changed_list_does_not_leave_its_old_elements_behind() -> None:
    """It is rejected, since nobody knows which rows were made of it."""
    for kind in ("+U", "-D"):
        ([reject], counts) = exploded({"doc": '{"of": 1, "a": [1]}'}, kind=kind)
        assert (reject.reason, counts) == ("change-of-list", {})


def test_a_list_found_by_several_matches_is_exploded() -> None:
    """Each match is an element."""
    column = {"name": "item", "jsonPath": "$.a[*].n", "type": "JSON", "explode": True}
    operator = JsonExtractor(settings(column), None, CONTEXT)
    emitted = operator.process(Change({"doc": '{"a": [{"n": 1}, {"n": 2}, {}]}'}))
    assert [row["item"] for row, _ in emitted] == [1, 2]
    assert [row.origin for row, _ in emitted] == ["", ""]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([{"explode": True}], "explode, which takes a list .STRING.; make its type JSON"),
        (
            [{"name": n, "type": "JSON", "explode": True} for n in "ab"],
            "columns 'a' and 'b' both have explode; explode the second in a json-extracting step",
        ),
        (
            [{"name": "a", "type": "JSON", "explode": True}, {"name": "a_index"}],
            "column 'a_index' would be the number of an element of 'a', too",
        ),
    ],
)
def test_what_can_not_be_exploded_is_refused(columns: list[dict[str, Any]], words: str) -> None:
    """By name, before anything runs."""
    with pytest.raises(ValueError, match=words):
        settings(*columns)


def test_each_source_is_parsed_once_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many columns are taken from a source, its text is parsed once."""
    parsed = []

    def loads(text: Any) -> Any:
        parsed.append(text)
        return orjson.loads(text)

    import vecferry.transforms.json_extract.extractor as module

    spy = type("Spy", (), {"loads": staticmethod(loads), "JSONDecodeError": ValueError})
    monkeypatch.setattr(module, "orjson", spy)
    extract({"doc": '{"a": "x"}'}, {}, {"name": "b"}, {"name": "c"})
    assert parsed == ['{"a": "x"}']


@pytest.mark.parametrize(
    "document", [{"a": "x"}, b'{"a":"x"}', bytearray(b'{"a":"x"}'), Change({"a": "x"})], ids=repr
)
def test_a_source_of_another_kind(document: Any) -> None:
    """A source may be bytes, or parsed already, as a lake's maps and MySQL's JSON columns are."""
    assert extract({"doc": document}, {})["out"] == "x"


def test_a_list_as_a_document() -> None:
    """A document may be an array."""
    assert extract({"doc": [{"a": 1}, {"a": 2}]}, {"jsonPath": "$[1].a"})["out"] == "2"


def test_a_new_column_may_replace_an_old_one() -> None:
    """A column of the same name as one of the row's takes its place."""
    assert extract({"doc": '{"a": "x"}'}, {"name": "doc"}) == {"doc": "x"}


REASONS = [
    ({}, {}, "missing-column"),
    ({"doc": None}, {}, "null-value"),
    ({"doc": "null"}, {}, "null-value"),
    ({"doc": '{"a": null}'}, {}, "null-value"),
    ({"doc": '{"b": 1}'}, {}, "no-match"),
    ({"doc": "[1]"}, {}, "no-match"),
    ({"doc": '"a"'}, {"jsonPath": "$.*"}, "no-match"),
    ({"doc": '{"a": {}}'}, {"type": "LONG"}, "wrong-type"),
    ({"doc": "{"}, {}, "invalid-json"),
    ({"doc": ""}, {}, "invalid-json"),
    ({"doc": b"\xff{"}, {"jsonPath": "$", "type": "JSON"}, "invalid-json"),
    ({"doc": '{"a": NaN}'}, {}, "invalid-json"),
    ({"doc": "[" * 2000}, {"jsonPath": "$..a"}, "too-deep"),
    ({"doc": "[" * 300 + "]" * 300}, {"jsonPath": "$..a"}, "too-deep"),
    ({"doc": '{"a":' * 1000 + "1" + "}" * 1000}, {}, "too-deep"),
    ({"doc": b'{"a":' * 255 + b"1" + b"}" * 255}, {"jsonPath": "$", "type": "JSON"}, "too-deep"),
]


@pytest.mark.parametrize(("row", "column", "reason"), REASONS)
def test_dirty_data_is_rejected(row: Any, column: Any, reason: str) -> None:
    """The default action rejects the row, whole, with a stable reason and a message."""
    reject = extract(row, column)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.step, reject.origin) == (reason, "extract", "f:0")
    assert reject.row == row
    assert "'out'" in reject.message
    assert len(reject.message) < 400


@pytest.mark.parametrize(("row", "column", "reason"), REASONS)
def test_set_null_keeps_the_row(row: Any, column: Any, reason: str) -> None:
    """Under SET_NULL the row goes on with a null, whatever was wrong."""
    out = extract(row, {**column, "nullOrInvalidDataAction": "SET_NULL"})
    assert out == {**row, "out": None}


@pytest.mark.parametrize(("row", "column", "reason"), REASONS)
def test_drop_row_counts_it(row: Any, column: Any, reason: str) -> None:
    """Under DROP_ROW nothing is emitted, and the row is counted."""
    assert extract(row, {**column, "nullOrInvalidDataAction": "DROP_ROW"}) is None


def test_each_column_has_its_own_action() -> None:
    """A null that is allowed does not hide one that is not."""
    reject = extract(
        {"doc": "no JSON"}, {"nullOrInvalidDataAction": "SET_NULL"}, {"name": "second"}
    )
    assert isinstance(reject, Reject)
    assert "'second'" in reject.message


def test_several_matches_are_an_array_for_json() -> None:
    """A path that may match often gives an array, also of one match; of none it does not match."""
    several = {"jsonPath": "$.a[*].b", "type": "JSON"}
    assert extract({"doc": '{"a":[{"b":1},{"b":null}]}'}, several)["out"] == [1, None]
    assert extract({"doc": '{"a":[{"b":1}]}'}, several)["out"] == [1]
    assert extract({"doc": '{"a":[]}'}, several).reason == "no-match"


@pytest.mark.parametrize("action", ["DIRTY_DATA", "SET_NULL", "DROP_ROW"])
def test_several_matches_of_a_scalar_are_rejected(action: str) -> None:
    """No action makes one value of two: the path is at fault, not the data."""
    reject = extract(
        {"doc": '{"a":["x","y"]}'}, {"jsonPath": "$.a[*]", "nullOrInvalidDataAction": action}
    )
    assert isinstance(reject, Reject)
    assert reject.reason == "several-matches"
    assert "matches 2 values" in reject.message


def test_one_match_of_a_wide_path_is_a_scalar() -> None:
    """A filter that finds one value gives that value."""
    column = {"jsonPath": "$.a[?(@.k == 'y')].v", "type": "LONG"}
    assert extract({"doc": '{"a":[{"k":"x","v":1},{"k":"y","v":2}]}'}, column)["out"] == 2


def test_a_message_never_holds_the_whole_text() -> None:
    """A long text that is not JSON shows its beginning only."""
    reject = extract({"doc": "secret " * 10000}, {})
    assert len(reject.message) < 400


def test_a_misspelled_source_is_guessed() -> None:
    """A row without the source column is told the near name."""
    assert "did you mean 'docs'" in extract({"docs": "{}"}, {}).message


@pytest.mark.parametrize("action", ["DIRTY_DATA", "SET_NULL", "DROP_ROW"])
@pytest.mark.parametrize(
    "row", [{"id": 1}, {"id": 1, "doc": None}, {"id": 1, "doc": "{"}, {"id": 1, "doc": '["x","y"]'}]
)
def test_a_delete_always_passes(row: Any, action: str) -> None:
    """A delete needs its key only: a missing or bad text neither rejects nor drops it."""
    out = extract(row, {"jsonPath": "$[*]", "nullOrInvalidDataAction": action}, kind=DELETE)
    assert out == row
    assert out.kind == DELETE


def test_a_delete_takes_what_there_is() -> None:
    """The key of a delete may itself be in the JSON text."""
    assert extract({"doc": '{"a": "k"}'}, {}, kind=DELETE)["out"] == "k"


def test_nulls_are_counted() -> None:
    """Each value that SET_NULL replaced is counted."""
    operator = JsonExtractor(settings({"nullOrInvalidDataAction": "SET_NULL"}), None, CONTEXT)
    operator.process(Change({"doc": "{}"}))
    assert operator.counts.values == {"values-nulled": 1}


NAMES = st.sampled_from(["a", "b", "0", "1", "-1", "c d", "é", "", "_x9"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["x", "[1]", "a", "{}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
STEPS = st.one_of(
    st.sampled_from([".a", ".b", "._x9"]),
    NAMES.map(lambda name: f"['{name}']"),
    NAMES.map(lambda name: f'["{name}"]'),
    st.integers(-3, 3).map(lambda index: f"[{index}]"),
)


@given(DOCUMENTS, st.lists(STEPS, max_size=4).map(lambda steps: "$" + "".join(steps)))
def test_a_plain_path_gives_what_the_library_gives(document: Any, path: str) -> None:
    """Walking a plain path finds the same value, or as little, as the library does."""
    plain = plain_path(path)
    assert plain is not None
    expected = jsonpath.compile(path).findall(orjson.dumps(document).decode())
    assert find_plain(plain)(document) == (expected[0] if expected else None)
    assert len(expected) <= 1


@pytest.mark.slow
def test_the_transform_in_fixed_windows() -> None:
    """Plain dicts are taken; rows and rejects keep the timestamp and window of their own row."""
    rows = [(1, '{"a": "one"}'), (61, "{"), (62, '{"a": "two"}'), (121, '{"a": "three"}')]

    def told(item: Any, time: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam):
        word = item.reason if isinstance(item, Reject) else item["out"]
        return word, int(time), int(window.start), int(window.end)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([TimestampedValue({"doc": doc}, time) for time, doc in rows])
            | beam.WindowInto(FixedWindows(60))
            | ExtractJson(settings=settings({}))
        )
        assert_that(
            result.rows | beam.Map(told),
            equal_to([("one", 1, 0, 60), ("two", 62, 60, 120), ("three", 121, 120, 180)]),
            label="rows",
        )
        assert_that(
            result.rejected | "told" >> beam.Map(told),
            equal_to([("invalid-json", 61, 60, 120)]),
            label="rejects",
        )


@pytest.mark.slow
def test_the_transform_counts() -> None:
    """Dropped and rejected rows are counters of the step's namespace."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = (
        pipeline
        | beam.Create([{"doc": "{}", "x": "1"}, {"doc": '{"a": 1}', "x": "{"}])
        | ExtractJson(
            settings=settings(
                {"nullOrInvalidDataAction": "DROP_ROW"}, {"name": "b", "fromColumn": "x"}
            )
        )
    )
    result = pipeline.run()
    result.wait_until_finish()
    found = {
        (m.key.metric.namespace, m.key.metric.name): m.committed
        for m in result.metrics().query()["counters"]
    }
    assert found["vecferry.json-extracting", "rows-dropped"] == 1
    assert found["vecferry.json-extracting", "rows-rejected"] == 1


def test_the_transform_is_pickled_small() -> None:
    """What travels to a worker is settings, not compiled paths."""
    transform = ExtractJson(settings=settings({"jsonPath": "$..a"}), context=CONTEXT)
    assert transform.context is not None
    assert not transform.context.stamped
    make = pickle.loads(pickle.dumps(transform.operator(transform.context)))
    [(out, _)] = make().process(Change({"doc": '{"b": {"a": "deep"}}'}))
    assert out["out"] == "deep"


@pytest.mark.slow
def test_the_example_of_the_docs(capfd: pytest.CaptureFixture[str]) -> None:
    """The pipeline on the documentation's page runs and prints what it says."""
    page = (Path(__file__).parents[3] / "docs" / "json-extracting.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    exec(compile(code, "json-extracting.md", "exec"), {"__name__": "docs"})
    shown = capfd.readouterr().out
    assert "'text': 'hello'}" in shown
    assert "invalid-json column 'text'" in shown


KEYED = (
    {"name": "id", "jsonPath": "$.id", "type": "LONG"},
    {"name": "out", "nullOrInvalidDataAction": "DIRTY_DATA"},
    {"name": "late", "jsonPath": "$.late", "nullOrInvalidDataAction": "SET_NULL"},
)

GOES_ON: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    # the document, what is to be done with a bad value, the columns of the delete
    "a value is missing": ('{"id": 5, "late": "x"}', "DIRTY_DATA", {"id": 5, "late": "x"}),
    "a row is dropped": ('{"id": 5}', "DROP_ROW", {"id": 5}),
    "the key is missing too": ('{"late": "x"}', "DIRTY_DATA", None),
    "the document is broken": ('{"id": 5', "DIRTY_DATA", None),
}


@pytest.mark.parametrize(("doc", "action", "expected"), GOES_ON.values(), ids=GOES_ON)
def test_a_delete_goes_on_in_place_of_a_change_whose_key_is_known(
    doc: str, action: str, expected: dict[str, Any] | None
) -> None:
    """Also of a change that is dropped: the old row of its key is not to stay."""
    columns = [
        c | ({"nullOrInvalidDataAction": action} if c["name"] == "out" else {}) for c in KEYED
    ]
    told = dataclasses.replace(CONTEXT, on_reject=OnReject(mode="withoutVector", key=("id",)))
    operator = JsonExtractor(settings(*columns), None, told)
    emitted = operator.process(Change({"doc": doc}, kind="+U", version=7, origin="f:0"), "stamp")
    found = [item.instead if isinstance(item, Reject) else item for item, _ in emitted]
    (instead,) = found
    if expected is None:
        assert instead is None
        return
    assert (instead.kind, dict(instead), instead.version) == (DELETE, {"doc": doc, **expected}, 7)
    dropped = {"rows-dropped": 1, "rows-added": 1, "rows-replaced": 1}
    assert operator.counts.values == (dropped if action == "DROP_ROW" else {})
