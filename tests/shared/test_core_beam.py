"""How readers and operators run inside Beam: windows, rejects, counters, bundles."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue

from tests.shared.contexts import step_context
from vecferry.beam import OperatorTransform, ReaderTransform
from vecferry.process import end_run, run_state
from vecferry.rows import Change, Reject
from vecferry.steps import Counts, Emitted, Plan, ReadOptions, RunContext, Size, Stamp, StepContext


class Hold:
    """Holds rows back, two at a time, and rejects those whose number is negative."""

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.counts = Counts()
        self.held: list[tuple[Change, Stamp]] = []
        self.closed = False

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        self.counts.add("rows-held")
        self.counts.observe("hold-msec", change["n"])
        self.held.append((change, stamp))
        return self.finish() if len(self.held) == 2 else []

    def finish(self) -> list[Emitted]:
        held, self.held = self.held, []
        return [(self._judge(change), stamp) for change, stamp in held]

    def _judge(self, change: Change) -> Change | Reject:
        if change["n"] < 0:
            return self.context.reject("negative", f"n={change['n']}", row=change)
        return change.with_columns({"held": True})

    def close(self) -> None:
        assert not self.held, "closed with rows inside"
        self.closed = True


class HoldRows(OperatorTransform):
    """A transform around `Hold`."""

    verb = "Hold"
    step_type = "hold"

    def operator(self, context: StepContext) -> Any:
        return functools.partial(Hold, context)


class Numbers:
    """A reader of two splits, whose every third record is not a row."""

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.counts = Counts()

    def plan(self) -> Plan:
        return Plan(splits=[(0, 6), (6, 12)], size=Size(rows=12))

    def read(self, split: Any) -> Iterator[Change | Reject]:
        for n in range(*split):
            self.counts.add("rows-read")
            yield self.reread(str(n), f"numbers:{n}")

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        n = int(raw)
        if n % 3 == 2:
            return self.context.reject("third", "no row", raw=raw, origin=origin)
        return Change({"n": n}, origin=origin)


class ReadNumbers(ReaderTransform):
    """A transform around `Numbers`."""

    step_type = "numbers"

    def reader(self, context: StepContext) -> Any:
        return functools.partial(Numbers, context)


def told(
    item: Any, time: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
) -> tuple[int, int, int]:
    """The number of a row or of a rejected row, its timestamp and the start of its window."""
    row: Any = item.row if isinstance(item, Reject) else item
    return row["n"], int(time), int(window.start)


def context(**changes: Any) -> StepContext:
    return step_context("Hold", "hold", **changes)


def counters(result: Any) -> dict[tuple[str, str], int]:
    found = result.metrics().query()["counters"]
    return {(m.key.metric.namespace, m.key.metric.name): m.committed for m in found}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5])
def test_late_output_keeps_its_own_timestamp_and_window(count: int) -> None:
    """Whether a row leaves with a later one or at the end, it stays in its own window."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([TimestampedValue({"n": n}, n * 61) for n in range(count)])
            | beam.WindowInto(FixedWindows(60))
            | HoldRows()
        )
        expected = [(n, n * 61, n * 61 // 60 * 60) for n in range(count)]
        assert_that(result.rows | beam.Map(told), equal_to(expected))


@pytest.mark.slow
def test_rejects_keep_their_own_timestamp_and_window() -> None:
    """A late reject stands in the window of its row, beside those that leave at once."""
    numbers = [1, -2, -3, 4, -5]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([TimestampedValue({"n": n}, abs(n) * 100) for n in numbers])
            | beam.WindowInto(FixedWindows(60))
            | HoldRows()
        )
        rows, rejects = (
            [(n, abs(n) * 100, abs(n) * 100 // 60 * 60) for n in numbers if (n < 0) == bad]
            for bad in (False, True)
        )
        assert_that(result.rows | "rows" >> beam.Map(told), equal_to(rows), label="good")
        assert_that(result.rejected | "bad" >> beam.Map(told), equal_to(rejects), label="bad rows")


@pytest.mark.slow
def test_a_row_in_several_windows_leaves_in_each() -> None:
    """A row of overlapping windows is held once for each and loses none."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([TimestampedValue({"n": n}, 65) for n in (7, 8, 9)])
            | beam.WindowInto(SlidingWindows(60, 30))
            | HoldRows()
        )
        expected = [(n, 65, start) for n in (7, 8, 9) for start in (30, 60)]
        assert_that(result.rows | beam.Map(told), equal_to(expected))


@pytest.mark.slow
def test_unstamped_rows_leave_at_the_end_of_the_bundle() -> None:
    """Where all rows are in the global window nothing is lost either, rows or rejects."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([{"n": n} for n in (1, -2, 3)], reshuffle=False)
            | HoldRows(context=context(stamped=False))
        )
        numbers = result.rows | "n" >> beam.Map(lambda row: (row["n"], row["held"]))
        assert_that(numbers, equal_to([(1, True), (3, True)]), label="good")
        bad = result.rejected | "bad" >> beam.Map(lambda r: (r.row["n"], r.reason, r.step))
        assert_that(bad, equal_to([(-2, "negative", "Hold")]), label="bad rows")


@pytest.mark.slow
def test_counters_reach_beam_and_the_state_of_the_run() -> None:
    """Counters, distributions and rejects are told to the runner and kept for the run."""
    own = context(stamped=False)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([{"n": n} for n in (1, -2, 3)]) | HoldRows(context=own)
    result = pipeline.run()
    result.wait_until_finish()
    found = counters(result)
    assert found["vecferry.hold", "rows-held"] == 3
    assert found["vecferry.hold", "rows-rejected"] == 1
    distributions = result.metrics().query()["distributions"]
    held = next(m for m in distributions if m.key.metric.name == "hold-msec").committed
    assert (held.count, held.sum, held.min, held.max) == (3, 2, -2, 3)
    state = run_state(own.run)
    assert state.counts() == {"rows-held": 3, "rows-rejected": 1}
    assert state.rejects() == {("Hold", "negative"): 1}
    end_run(own.run)
    assert run_state(own.run) is not state


@pytest.mark.slow
def test_rejects_beyond_the_limit_set_the_stop() -> None:
    """The run's own state knows the limit from the first step that counts a reject."""
    own = context(stamped=False, reject_limit=1)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | beam.Create([{"n": -n} for n in (1, 2, 3)]) | HoldRows(context=own)
    assert run_state(own.run).over_limit


@pytest.mark.slow
def test_changes_arrive_as_changes() -> None:
    """A change keeps its row kind and origin through a step; a plain dict is an insert."""
    rows = [Change({"n": 1}, kind="-D", version=3, origin="b:1"), {"n": 2}]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = pipeline | beam.Create(rows) | HoldRows()
        kinds = result.rows | beam.Map(lambda row: (row["n"], row.kind, row.version, row.origin))
        assert_that(kinds, equal_to([(1, "-D", 3, "b:1"), (2, "+I", None, "")]))


@pytest.mark.slow
def test_a_reader_gives_rows_and_rejects() -> None:
    """Every record of every split comes out once, as a row or as a reject, and is counted."""
    own = StepContext(step="Read", step_type="numbers")
    pipeline = beam.Pipeline(runner="FnApiRunner")
    result = pipeline | ReadNumbers(context=own)
    numbers = result.rows | "n" >> beam.Map(lambda row: row["n"])
    assert_that(numbers, equal_to([n for n in range(12) if n % 3 != 2]), label="rows")
    raws = result.rejected | "raw" >> beam.Map(lambda r: (r.raw, r.origin, r.reason))
    expected = [(str(n), f"numbers:{n}", "third") for n in range(2, 12, 3)]
    assert_that(raws, equal_to(expected), label="rejects")
    done = pipeline.run()
    done.wait_until_finish()
    assert counters(done)["vecferry.numbers", "rows-read"] == 12
    assert run_state(own.run).counts() == {
        "rows-read": 12,
        "rows-rejected": 4,
        "splits-read": 2,
    }


@pytest.mark.slow
def test_a_stopped_reader_hands_out_no_more(monkeypatch) -> None:
    """Some rows past the limit no further one is read; the rows in flight finish."""
    monkeypatch.setattr("vecferry.run.state.GRACE_ROWS", 2)
    own = StepContext(step="Read", step_type="numbers", shared=RunContext(reject_limit=0))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | ReadNumbers(context=own)
    counts = run_state(own.run).counts()
    assert counts["rows-read"] == 4
    assert counts["rows-rejected"] == 1


@pytest.mark.slow
def test_a_reader_is_paced() -> None:
    """A throttle holds for all splits of the process together."""
    own = StepContext(step="Read", step_type="numbers", read=ReadOptions(rows_per_second=20.0))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | ReadNumbers(context=own)
    # Twelve rows, of which two pass as the burst.
    assert time.monotonic() - run_state(own.run).started >= 0.45


def test_a_transform_without_an_operator_says_so() -> None:
    """A subclass that forgets how its operator is made fails when the graph is built."""
    with pytest.raises(TypeError, match="must say how its operator is made"):
        _ = beam.Pipeline(runner="FnApiRunner") | beam.Create([1]) | OperatorTransform()
