"""Whole runs with rows in shape: counts, rejects, replays, estimates, previews, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, counts_add_up, rejects_of, step
from tests.pipelines.sync_place import Place
from tests.transforms.embed.endpoints.server import EndpointServer

ROWS: list[Any] = [
    {"id": "a", "text": "  the tide\n is out ", "km": 7},
    {"id": "b", "text": "the tide is in", "km": 3},
    {"id": "c", "text": "the tide is out", "km": 9},
    {"id": "d", "text": "the ebb", "km": 8},
    {"id": "e", "text": "nobody knows", "km": None},
]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Rows that are tidied, of which short walks and repeated texts are left out."""
    bench = Bench(tmp_path, capsys)
    bench.step("Extract")["column"].append(
        {
            "name": "km", "fromColumn": "line", "jsonPath": "$.km", "type": "LONG",
            "nullOrInvalidDataAction": "SET_NULL",
        }
    )  # fmt: skip
    spaces = {
        "operation": "replace", "column": "text", "stringToReplace": "\\s+", "replaceWith": " ",
        "regularExpression": True,
    }  # fmt: skip
    tidy = [spaces, {"operation": "trim", "column": "text"}]
    bench.job["steps"][2:2] = [
        step("edit", "map", "Tidy", rules=tidy),
        step("filter", "map", "Long", where="km > 5"),
        step("deduplicate", "map", "Once", columns=["text"]),
    ]
    bench.job["setting"] = {"errorLimit": {}, "speed": {"concurrent": 1}}
    bench.write_lines(ROWS)
    return bench


@pytest.mark.slow
def test_rows_are_shaped_and_counts_add_up(bench: Bench) -> None:
    """What is left out is dropped, what has no value rejected, and written by a replay."""
    report = bench.run()
    assert counts_add_up(report)
    assert (report["rows_read"], report["rows_written"], report["rows_dropped"]) == (5, 2, 2)
    assert [(r["step"], r["reason"]) for r in rejects_of(report)] == [("Long", "null-value")]
    stored = {row["id"]: row["text"] for row in bench.stored(["id", "text"])}
    assert stored == {"a": "the tide is out", "d": "the ebb"}
    bench.step("Long")["where"] = "km == null || km > 5"
    again = bench.run("--replay", report["rejects"])
    assert counts_add_up(again)
    assert again["rows_written"] == 1
    assert len(bench.stored(["id"])) == 3


@pytest.mark.slow
def test_an_estimate_and_a_preview_shape_rows_as_the_run_does(bench: Bench) -> None:
    """And each looks at the rows anew."""
    for _ in range(2):
        estimate = bench.call("check", "--estimate", "--json").json["estimate"]
        counted = tuple(estimate[n] for n in ("rows", "dropped", "rejected", "texts"))
        assert counted == (5, 2, 1, 2)
        stages = bench.call("preview", "--rows", "5", "--json").json["steps"]
        shown = {stage["step"]: [row["id"] for row in stage["rows"]] for stage in stages[1:]}
        assert shown["Tidy"] == ["a", "b", "c", "d", "e"]
        assert shown["Long"] == ["a", "c", "d"]
        assert shown["Once"] == shown["Writer"] == ["a", "d"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Long", {"where": "km >"}, "where is 'km >': 'km >' is not CEL"),
        ("Long", {"where": "kms > 5"}, "needs column 'kms', which no step before it gives"),
        ("Once", {"columns": ["txt"]}, "needs column 'txt'"),
        ("Tidy", {"rules": [{"operation": "trim", "column": "txt"}]}, "needs column 'txt'"),
        ("Tidy", {"rules": [{"operation": "drop", "column": "text"}]}, "needs column 'text'"),
    ],
)
def test_a_wrong_step_is_found_by_check(
    bench: Bench, name: str, change: dict[str, Any], message: str
) -> None:
    """With status 2, before a row is read."""
    bench.step(name).update(change)
    outcome = bench.call("check")
    assert outcome.status == 2
    assert message in outcome.err


def test_rows_that_repeat_others_are_not_told_on_a_cluster(bench: Bench) -> None:
    """For equal rows may come to two workers."""
    outcome = bench.line(
        "run", bench.save(), "--data-sources", str(bench.folder / "sources.json"),
        "--runner", "FlinkRunner", "--", "--flink_master=127.0.0.1:1",
    )  # fmt: skip
    assert outcome.status == 2
    assert "step 'Once': knows the rows of one process only" in outcome.err


def followed(bench: Bench) -> None:
    """Lets the job follow a table of MySQL."""
    bench.sources["Db"] = {"type": "mysql", "host": "127.0.0.1", "username": "u", "password": "p"}
    bench.job["steps"][0] = step(
        "mysql-cdc", "reader", "Reader", datasource="Db", database="shop", table=["pages"],
        column=["id", "line"],
    )  # fmt: skip


def test_a_source_that_is_followed_takes_no_deduplicate(bench: Bench) -> None:
    """Nor an id of origins."""
    followed(bench)
    bench.step("Tidy")["rules"].append({"operation": "id", "column": "i", "idFrom": "origin"})
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "'Once' leaves out rows that repeat others" in outcome.err
    assert "'Tidy' makes an id of origins (rules[2])" in outcome.err


def test_what_a_condition_names_counts_as_written(bench: Bench) -> None:
    """So an update of such a column alone reaches the filter, which may leave the row out."""
    from vecferry.pipelines.job.feeds import mapped_columns
    from vecferry.transforms.embed import EmbedSettings
    from vecferry.transforms.shape import EditSettings, FilterSettings

    class Writer(EmbedSettings):
        def outputs(self):
            return {"vector": 64, "id": None}

        def inputs(self):
            return []

    writer = Writer.model_validate(bench.step("Embed"))
    renamed = {"rules": [{"operation": "rename", "column": "km", "fromColumn": "metres"}]}
    behind = [EditSettings.model_validate(renamed), FilterSettings(where="km > 5")]
    assert mapped_columns(behind, writer) == ("vector", "id", "metres")


class Shaped(Place):
    """A sync whose rows are filtered and edited on their way."""

    def job(self) -> Path:
        """The job's file, with two steps more."""
        path = super().job()
        job = json.loads(path.read_text())
        rules = [{"operation": "upper", "column": "text"}]
        job["steps"][1:1] = [
            step("filter", "map", "Some", where="!text.startsWith('not')"),
            step("edit", "map", "Loud", rules=rules),
        ]
        path.write_text(json.dumps(job))
        return path


@pytest.mark.slow
def test_rows_that_a_condition_leaves_out_of_a_sync_leave_the_target(tmp_path: Path) -> None:
    """An update that no longer meets it deletes, one that meets it again brings the row back."""
    with EndpointServer() as endpoint:
        place = Shaped(tmp_path, endpoint)
        place.insert("a", "b", "c")
        place.script.insert("d", "not this one")
        report = place.run()
        assert (report.rows_read, report.rows_written, report.rows_dropped) == (4, 3, 1)
        place.script.update("a", "not any more")
        place.script.update("d", "this one")
        place.script.delete("b")
        report = place.run()
        assert (report.rows_read, report.rows_written, report.rows_deleted) == (3, 1, 2)
        texts = {key: row["text"] for key, row in place.held.there().items()}
        assert texts == {"c": "TEXT OF C", "d": "THIS ONE"}
        place.script.update("a", "text of a")
        assert place.run().rows_written == 1
        assert sorted(place.held.there()) == ["a", "c", "d"]
        assert sum(len(seen.inputs) for seen in endpoint.good) == 4
