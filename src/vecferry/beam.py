"""Runs readers and operators inside Beam: the only DoFns of vecferry.

Transforms wire, operators work. A buffering operator emits a row in a later call than the call that
brought the row. Therefore each row carries its own timestamp and window.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import get_function_args_defaults
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from vecferry.errors import (
    PROGRAMMING_ERRORS,
    FatalError,
    JobError,
    ReadAnew,
    TransientError,
    own_fault,
)
from vecferry.rows import Change, Reject, as_change
from vecferry.run.channel import told
from vecferry.steps import (
    Counts,
    Emitted,
    Operator,
    Source,
    Split,
    StepContext,
    TokenBucket,
    goes_on,
    paced,
)

REJECTED = "rejected"
SPLITS_READ = "splits-read"
"""The counter of the splits that were read to their ends, not stopped before."""
FLUSH_SECONDS = 0.25
_GLOBAL = (GlobalWindow(),)

MakeSource = Callable[[], Source]
MakeOperator = Callable[[], Operator]
ListSplits = Callable[[], list[Split]]
"""Gives the splits of a source that was listed already; can be pickled."""


class Reporter:
    """Adds an operator's counters to Beam and to the run's state in this process."""

    def __init__(self, context: StepContext) -> None:
        self.state = context.state
        self._step = f"step {context.step!r}"
        self._namespace = f"vecferry.{context.step_type}"
        self._due = 0.0
        folder = context.shared.reports
        self._told = told(context.run, self.state, folder) if folder else None

    def tell(self) -> None:
        """Tells the launcher of a run on a cluster at once, because this process may end now."""
        if self._told is not None:
            self._told.tell()

    def report(self, counts: Counts, *, now: bool = False) -> None:
        """Hands on what was counted, at most every `FLUSH_SECONDS` unless `now`."""
        moment = time.monotonic()
        if not now and moment < self._due:
            return
        self._due = moment + FLUSH_SECONDS
        values, samples = counts.take()
        if counts.keys:
            self.state.add_keys(counts.take_keys())
        for name, n in values.items():
            Metrics.counter(self._namespace, name).inc(n)
        for name, observed in samples.items():
            distribution = Metrics.distribution(self._namespace, name)
            for value in observed:
                distribution.update(value)
        if values:
            self.state.add(values)
        if samples:
            self.state.observe(samples)

    def fail(self, error: Exception) -> None:
        """Keeps the error of a step, and the name of the step."""
        if isinstance(error, PROGRAMMING_ERRORS):
            error = own_fault(self._step, error)
        text = str(error) or type(error).__name__
        words = text if self._step in text else f"{self._step}: {text}"
        self.state.fail(
            words,
            fatal=isinstance(error, FatalError | JobError),
            passing=isinstance(error, TransientError),
            anew=isinstance(error, ReadAnew),
        )
        self.tell()

    def reject(self, reject: Reject) -> beam.pvalue.TaggedOutput:
        """A reject on its way to the output of rejects, counted."""
        self.state.reject(reject.step, reject.reason)
        return beam.pvalue.TaggedOutput(REJECTED, reject)


class Dealt(Iterable[Any]):
    """The splits that one stream of a job on a cluster reads, one by one."""


class _DealtList(list[Split], Dealt):
    """The splits themselves."""


def deal(splits: list[Split], streams: int | None) -> list[Split]:
    """The splits unchanged, or dealt out to `streams` streams.

    A cluster may have more cores than the job has streams. One core reads everything in one
    element, so at most `streams` bundles work at a time.
    """
    if streams is None or len(splits) <= streams:
        return splits
    return [_DealtList(splits[i::streams]) for i in range(streams)]


Inspected = tuple[list[str], list[object]]
_INSPECTED: dict[tuple[type, str], Inspected] = {}


class PlainFn(beam.DoFn):
    """A DoFn whose methods are inspected once in a process.

    Beam inspects the signatures of all methods of a DoFn whenever a bundle's work is set up. In a
    sync of many short rounds, that would be most of what a round costs. Beam asks a DoFn for
    ``_inspect_NAME`` first, which gives the names and the defaults of the method's arguments.
    """

    def __getattr__(self, name: str) -> Callable[[], Inspected]:
        if not name.startswith("_inspect_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        method = name.removeprefix("_inspect_")

        def inspected() -> Inspected:
            known = _INSPECTED.get((type(self), method))
            if known is None:
                known = get_function_args_defaults(getattr(self, method))
                _INSPECTED[type(self), method] = known
            return list(known[0]), list(known[1])

        return inspected


class ReadFn(PlainFn):
    """Reads splits: rows go to the main output, records that are not rows to ``rejected``."""

    def __init__(self, make: MakeSource, context: StepContext) -> None:
        self.make, self.context = make, context

    def setup(self) -> None:
        self.reporter = Reporter(self.context)
        try:
            self.reader = self.make()
        except Exception as e:
            self.reporter.fail(e)
            raise
        self.buckets = _buckets(self.context)

    def process(self, part: Any) -> Iterator[Any]:
        for split in part if isinstance(part, Dealt) else (part,):
            yield from self._read(split)

    def _read(self, split: Any) -> Iterator[Any]:
        context, reader, reporter = self.context, self.reader, self.reporter
        drop = context.drop
        item: Any
        if reporter.state.stop.is_set():
            return
        try:
            for item in paced(reader, split, context, self.buckets):
                if type(item) is Reject:
                    reader.counts.add("rows-rejected")
                    yield reporter.reject(item)
                    if (instead := goes_on(item, reader.counts)) is not None:
                        yield instead
                else:
                    yield item.without_columns(drop) if drop else item
                reporter.report(reader.counts)
            if not reporter.state.stop.is_set():
                reader.counts.add(SPLITS_READ)
        except Exception as e:
            if isinstance(e, TransientError) and reporter.state.giving_up.begun:
                return  # what is not read is not unfinished
            reporter.fail(e)
            raise
        finally:
            reporter.report(reader.counts, now=True)

    def finish_bundle(self) -> None:
        self.reporter.report(self.reader.counts, now=True)
        self.reporter.tell()


def _buckets(context: StepContext) -> tuple[TokenBucket | None, TokenBucket | None]:
    def bucket(name: str, rate: float | None) -> TokenBucket | None:
        if rate is None:
            return None
        share = rate / context.shared.parallelism
        if context.shared.streams is not None:  # several of them may read in one process
            return TokenBucket(share)
        return context.scope.get(("throttle", name), lambda: TokenBucket(share))

    return bucket("rows", context.read.rows_per_second), bucket(
        "bytes", context.read.bytes_per_second
    )


class OperatorFn(PlainFn):
    """Runs an operator over rows that all have one timestamp in the global window."""

    def __init__(self, make: MakeOperator, context: StepContext) -> None:
        self.make, self.context = make, context
        self.operator: Operator | None = None
        self.counted = True

    def setup(self) -> None:
        self.reporter = Reporter(self.context)

    def start_bundle(self) -> None:
        # Each bundle gets a new operator: after a failure, the old one holds rows that come again.
        if self.operator is not None:
            self.operator.close()
            self._leave()
        try:
            self.operator = self.make()
        except Exception as e:
            self.reporter.fail(e)
            raise
        self.counted = (
            self.context.shared.streams is None
        )  # else it shares quotas with other processes

    def _enter(self) -> None:
        self.reporter.state.enter(self.context.step)
        self.counted = True

    def _leave(self) -> None:
        if self.context.shared.streams is not None and self.counted:
            self.reporter.state.leave(self.context.step)
        self.counted = False

    def process(self, row: Any) -> Any:
        operator = self.operator
        assert operator is not None
        if not self.counted:
            self._enter()
        try:
            emitted = operator.process(row if isinstance(row, Change) else Change(row))
        except Exception as e:
            self._fail(e)
            raise
        self.reporter.report(operator.counts)
        return self._plain(emitted) if emitted else None

    def finish_bundle(self) -> Iterable[Any]:
        operator = self.operator
        assert operator is not None
        try:
            late = self._stamped(operator.finish())
        except Exception as e:
            self._fail(e)
            raise
        self.reporter.report(operator.counts, now=True)
        self.reporter.tell()
        operator.close()
        self.operator = None
        self._leave()
        return late

    def teardown(self) -> None:
        # A bundle failed, here or in another step: the operator's threads would wait or send on.
        if self.operator is not None:
            self.operator.close()
            self.operator = None
            self._leave()

    def _fail(self, error: Exception) -> None:
        assert self.operator is not None
        self.reporter.fail(error)
        self.reporter.report(self.operator.counts, now=True)

    def _plain(self, emitted: list[Emitted]) -> list[Any]:
        plain: list[Any] = []
        drop = self.context.drop
        item: Any
        for item, _ in emitted:
            if type(item) is not Reject:
                plain.append(item.without_columns(drop) if drop else item)
                continue
            if not item.quiet:
                plain.append(self._rejected(item))
            if (instead := self._instead(item)) is not None:
                plain.append(instead)
        return plain

    def _rejected(self, item: Reject) -> Any:
        assert self.operator is not None
        self.operator.counts.add("rows-rejected")
        return self.reporter.reject(item)

    def _instead(self, item: Reject) -> Change | None:
        assert self.operator is not None
        return goes_on(item, self.operator.counts)

    def _stamped(self, emitted: Iterable[Emitted]) -> list[Any]:
        stamped: list[Any] = []
        drop = self.context.drop
        item: Any
        for item, stamp in emitted:
            timestamp, windows = stamp or (MIN_TIMESTAMP, _GLOBAL)
            if type(item) is not Reject:
                item = item.without_columns(drop) if drop else item
                stamped.append(WindowedValue(item, timestamp, windows))
                continue
            if not item.quiet:
                tagged = self._rejected(item)
                value = WindowedValue(tagged.value, timestamp, windows)
                stamped.append(beam.pvalue.TaggedOutput(REJECTED, value))
            if (instead := self._instead(item)) is not None:
                stamped.append(WindowedValue(instead, timestamp, windows))
        return stamped


class StampedOperatorFn(OperatorFn):
    """Runs an operator over rows of any timestamp in any window."""

    def process(
        self,
        row: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Any:
        operator = self.operator
        assert operator is not None
        if not self.counted:
            self._enter()
        try:
            emitted: list[Emitted] = operator.process(as_change(row), (timestamp, (window,)))
        except Exception as e:
            self._fail(e)
            raise
        self.reporter.report(operator.counts)
        return self._stamped(emitted) if emitted else None


@dataclass(kw_only=True, eq=False)
class OperatorTransform(beam.PTransform):
    """The base of transformers and writers: wires one operator and the output ``rejected``."""

    context: StepContext | None = None

    main = "rows"
    verb = "Work"
    step_type = ""

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the operator."""
        raise TypeError(f"{type(self).__name__} must say how its operator is made")

    def expand(self, rows: Any) -> Any:
        context = self.context or StepContext(step=self.verb, step_type=self.step_type)
        kind = StampedOperatorFn if context.stamped else OperatorFn
        fn = kind(self.operator(context), context)
        return rows | self.verb >> beam.ParDo(fn).with_outputs(REJECTED, main=self.main)


@dataclass(frozen=True)
class _Listing:
    """Lists a source in the process that calls it."""

    make: MakeSource

    def __call__(self) -> list[Any]:
        return self.make().plan().splits


@dataclass(kw_only=True, eq=False)
class ReaderTransform(beam.PTransform):
    """The base of readers: lists, spreads and reads splits, with the output ``rejected``.

    A launcher that has listed the source hands the splits over by `splits`. In any other pipeline,
    a worker lists the source. Without `spread` one stream reads all splits in order, and the graph
    needs no shuffle.
    """

    context: StepContext | None = None
    splits: ListSplits | None = None
    spread: bool = True

    main = "rows"
    step_type = ""

    def reader(self, context: StepContext) -> MakeSource:
        """A picklable function that makes the reader."""
        raise TypeError(f"{type(self).__name__} must say how its reader is made")

    def expand(self, begin: Any) -> Any:
        context = self.context or StepContext(step="Read", step_type=self.step_type)
        make = self.reader(context)
        streams, listed = context.shared.streams, self.splits or _Listing(make)
        splits = (
            begin
            | "Start" >> beam.Impulse()
            | "List splits" >> beam.FlatMap(lambda _: deal(listed(), streams))
        )
        if self.spread:
            splits = splits | "Spread splits" >> beam.Reshuffle()
        reading = beam.ParDo(ReadFn(make, context)).with_outputs(REJECTED, main=self.main)
        return splits | "Read splits" >> reading
