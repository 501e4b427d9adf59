"""What a job expects of its run: told by the exit status, before an alias moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows
from vecferry.distinct import KeyCount
from vecferry.pipelines.job.model import Expect
from vecferry.pipelines.run.expectations import replaced, unmet
from vecferry.pipelines.run.report import RejectedBy, Report, make_report
from vecferry.process import RunState


class Counted(RunState):
    """A run of which all is known."""

    def __init__(self, counts: dict[str, int], keys: KeyCount | None) -> None:
        super().__init__()
        self.add(counts)
        self._known = keys

    def keys(self) -> KeyCount | None:
        """The keys that the test says."""
        return self._known


def report(keys: KeyCount | None = None, **counts: int) -> Report:
    """The report of a run that counted so."""
    rejected = counts.pop("rejected", 0)
    counted = {f"rows-{name}": n for name, n in counts.items()}
    made = make_report(
        job="j", run="r", state="DONE", run_state=Counted(counted, keys), rejects="", seconds=1,
        error=None,
    )  # fmt: skip
    lines = [RejectedBy(step="Read", reason="invalid-json", rows=rejected)] if rejected else []
    return made.model_copy(update={"rows_rejected": rejected, "rejected_by": lines})


def exactly(n: int) -> KeyCount:
    """Keys that were counted."""
    return KeyCount(n, True, n, n)


ROWS = {"read": 100, "written": 90, "rejected": 10}
KEYED = {"read": 63, "written": 63, "keyed": 63}


@pytest.mark.parametrize(
    ("expect", "counts", "words"),
    [
        ({}, ROWS, None),
        ({"minRows": 100, "maxRows": "100", "minWritten": 90, "maxRejectShare": 0.1}, ROWS, None),
        ({"minRows": 101}, ROWS, "100 rows read, fewer than minRows 101"),
        ({"maxRows": 99}, ROWS, "100 rows read, more than maxRows 99"),
        ({"minWritten": 91}, ROWS, "90 rows written, fewer than minWritten 91"),
        ({"maxRejectShare": 0.09}, ROWS, "10 of 100 rows rejected, more than maxRejectShare 0.09"),
        ({"minRows": 1}, {"read": 0}, "0 rows read, fewer than minRows 1"),
        ({}, {"read": 0}, None),
        ({}, {"read": 5, "rejected": 5}, "every row was rejected (5 rows), most often by 'Read'"),
        ({"minWritten": 0}, {"read": 5, "rejected": 5}, None),
        ({}, {"read": 5, "rejected": 4, "dropped": 1}, None),
        ({}, {"read": 5, "rejected": 4, "stale": 1}, None),
        ({}, {"read": 5, "rejected": 4, "deleted": 1}, None),
        (
            {}, {"read": 5, "rejected": 5, "added": 5, "replaced": 5, "written": 5},
            "every row was rejected (5 rows)",
        ),
        ({"maxReplaced": 61}, {**KEYED, "keys": exactly(2)}, None),
        ({"maxReplaced": 60}, {**KEYED, "keys": exactly(2)}, "61 rows replaced others"),
        ({"maxReplaced": 0}, {**KEYED, "keys": exactly(63)}, None),
        ({"maxReplaced": 0}, KEYED, None),
    ],
)  # fmt: skip
def test_a_run_is_judged_by_what_its_job_expects(
    expect: dict[str, Any], counts: dict[str, Any], words: str | None
) -> None:
    """Without words, it is as expected."""
    found = unmet(report(**counts), Expect.model_validate(expect), partial=False)
    assert (found is None) == (words is None), found
    assert words is None or words in str(found)


def test_numbers_of_rows_are_not_judged_where_only_some_are_read() -> None:
    """With --limit or --replay; shares, and a run of rejects only, are."""
    some = report(read=10, written=9, rejected=1)
    expect = Expect.model_validate({"minRows": 100, "minWritten": 100})
    assert unmet(some, expect, partial=True) is None
    strict = Expect.model_validate({"maxRejectShare": 0})
    assert "maxRejectShare" in str(unmet(some, strict, partial=True))
    assert "(3 rows)" in str(unmet(report(read=3, rejected=3), Expect(), partial=True))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (exactly(2), "61 of the 63 rows that were written replaced others, as there are 2 keys"),
        (KeyCount(40, False, 30, 50), "about 23 of the 63 rows"),
        (KeyCount(60, False, 50, 70), None),
        (exactly(63), None),
        (None, None),
    ],
)
def test_rows_that_replace_one_another_are_told(keys: KeyCount | None, words: str | None) -> None:
    """An estimate does not warn if perhaps no row was replaced."""
    found = replaced(report(keys, **KEYED))
    assert (found is None) == (words is None), found
    assert words is None or words in str(found)


def test_keys_are_not_told_of_rows_that_have_none() -> None:
    """Nor where only some of the rows that were written have a key, or no version."""
    assert report(exactly(2), read=63, written=63, keyed=62).keys is None
    assert report(None, read=63, written=63).keys is None


def test_expectations_that_no_run_can_meet_are_refused(tmp_path: Path, capsys: Any) -> None:
    """Before anything runs."""
    bench = Bench(tmp_path, capsys)
    for expect, words in (
        ({"minRows": 3, "maxRows": 2}, "no run meets both"),
        ({"maxRejectShare": 2}, "or less"),
        ({"minRow": "x"}, ""),
    ):
        bench.job["setting"]["expect"] = expect
        told = bench.call("check")
        assert (told.status, words in told.err) == (2 if words else 0, True)
    assert "did you mean 'minRows'?" in told.err


@pytest.mark.slow
def test_a_run_tells_how_many_keys_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the summary, in the report and as a warning; a job may forbid it; equal keys only."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{**row, "id": f"r{i % 2}"} for i, row in enumerate(rows(63))])
    told = bench.call("run")
    assert "written 63 under 2 keys" in told.out
    assert "WARNING: 61 of the 63 rows that were written replaced others" in told.out
    bench.job["setting"]["expect"] = {"maxReplaced": 10}
    failed = bench.run()
    assert (failed["state"], failed["keys"]["distinct"], failed["keys"]["replaced"]) == (
        "FAILED", 2, 61
    )  # fmt: skip
    assert "more than maxReplaced 10" in failed["error"]
    estimate = bench.call("check", "--estimate", "--json").json["estimate"]
    assert (estimate["keys"], estimate["keys_exact"]) == (2, True)
    bench.write_lines(list(rows(63)))
    good = bench.run()
    assert (good["state"], good["keys"]["distinct"], good["notes"]) == ("DONE", 63, [])


def test_an_estimate_and_a_preview_tell_why_rows_are_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A preview of which nothing would come through ends with 1."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([*rows(2), "{broken", "{broken", {"id": "x", "text": ""}])
    told = bench.call("check", "--estimate")
    assert "2 rejected by Extract: invalid-json" in told.out
    assert "1 rejected by Embed: empty-text" in told.out
    assert "keys: 2" in told.out
    assert bench.call("preview", "--rows", "3").status == 0
    bench.write_lines(["{broken", {"id": "x", "text": ""}])
    told = bench.call("preview", "--json")
    assert (told.status, len(told.json["steps"])) == (1, 4)
    assert "every row is rejected (2 rows)" in told.json["errors"][0]["message"]
    bench.write_lines([])
    assert bench.call("preview").status == 0
