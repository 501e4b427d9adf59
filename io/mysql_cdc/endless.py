"""Reads the change log of MySQL for ever in an own Beam pipeline, as a splittable DoFn.

A restriction is a place in the log. A bundle reads some transactions, and the place moves on behind
them. So a checkpoint always lies between two transactions. A job (`vecferry run`) works in rounds
instead, and needs none of this.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp

from vecferry.beam import REJECTED, Reporter
from vecferry.errors import JobError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.kept import Keeper, place_at
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.tail import Begin, Tail, begin_of
from vecferry.rows import Reject
from vecferry.steps import StepContext, goes_on

log = logging.getLogger(__name__)

STOP_SECONDS = 60.0
"""A stop waits for a checkpoint for so long."""
STOP_POLL_SECONDS = 0.2
LOCAL = ("DirectRunner", "SwitchingDirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
FLINK_NEEDS = ("checkpointing_interval", "finish_bundle_before_checkpointing")

Restriction = dict[str, Any]
"""`Begin` as plain values, which a savepoint holds: ``at, epoch, until``, and ``done``."""

Claim = dict[str, Any] | str
"""A place in the log, as `Position.at` has it; or `BUSY`, or `END`."""
BUSY = "busy"
"""Claimed before a batch: until its end is claimed, nobody knows where a split could be."""
END = "end"
"""Claimed in place of all that would follow."""


class LogTracker(RestrictionTracker):  # type: ignore[misc]
    """The log from a place on; claims say how far it was read, `BUSY`, or `END`."""

    def __init__(self, restriction: Restriction) -> None:
        self._restriction, self._busy = restriction, False

    def current_restriction(self) -> Restriction:
        return self._restriction

    def try_claim(self, position: Claim) -> bool:
        if self._restriction["done"]:
            return False
        self._busy = position == BUSY
        if position == END:
            self._restriction = {**self._restriction, "done": True}
        elif not isinstance(position, str):
            self._restriction = {**self._restriction, "at": position}
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Restriction, Restriction] | None:
        """All that was read, and the rest; None within a batch, and of what has no middle."""
        if self._busy or self._restriction["done"] or fraction_of_remainder:
            return None
        rest = self._restriction
        self._restriction = {**rest, "done": True}
        return self._restriction, rest

    def check_done(self) -> None:
        if not self._restriction["done"]:
            raise ValueError("the log was left within a batch; please report it")

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=0, remaining=1)

    def is_bounded(self) -> bool:
        return False


class LogRestrictions(beam.RestrictionProvider):  # type: ignore[misc]
    """One restriction for each element, which is a restriction itself."""

    def initial_restriction(self, element: Restriction) -> Restriction:
        return element

    def create_tracker(self, restriction: Restriction) -> LogTracker:
        return LogTracker(restriction)

    def restriction_size(self, element: Restriction, restriction: Restriction) -> int:
        return 1


_TRACKER = beam.DoFn.RestrictionParam(LogRestrictions())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _Tails:
    """Readers of this process that no bundle uses now, with their connections to the log."""

    def __init__(self) -> None:
        self._free: list[Tail] = []

    def take(self, at: dict[str, Any]) -> Tail | None:
        """The reader that stands at a place; others are closed, since the reading went on."""
        while self._free:
            tail = self._free.pop()
            if tail.at == at:
                return tail
            tail.close()
        return None

    def put(self, tail: Tail) -> None:
        """Keeps a reader for the next bundle."""
        self._free.append(tail)

    def close(self) -> None:
        """Closes all readers."""
        while self._free:
            self._free.pop().close()


@dataclass(frozen=True, kw_only=True)
class _Endless:
    """What both DoFns know; pickled with them."""

    settings: MySqlCdcSettings
    connection: MySqlConnection
    context: StepContext
    since: str | None
    until: str | None
    positions: str | None
    epoch: int

    def keeper(self) -> Keeper | None:
        """What stores positions, once in a process; None if nothing does."""
        where = self.positions
        if where is None:
            return None
        return self.context.once("positions", lambda: Keeper(where, self.context.run))


class _BeginFn(beam.DoFn):  # type: ignore[misc]
    """Says where to begin, once in a pipeline; a savepoint knows it by itself."""

    def __init__(self, endless: _Endless) -> None:
        self.endless = endless

    def process(self, _: Any) -> Iterator[Restriction]:
        given = self.endless
        try:
            keeper = given.keeper()
            begin = begin_of(
                given.settings,
                given.connection,
                given.context,
                since=given.since,
                until=given.until,
                epoch=given.epoch,
                position=None if keeper is None else keeper.load(),
            )
            if keeper is not None:
                keeper.begin(begin)
        except Exception as e:
            Reporter(given.context).fail(e)
            raise
        yield {"at": begin.at, "epoch": begin.epoch, "until": begin.until, "done": False}


class _TailFn(beam.DoFn):  # type: ignore[misc]
    """Reads a batch, and comes back for the rest."""

    def __init__(self, endless: _Endless) -> None:
        self.endless = endless

    def setup(self) -> None:
        self.context = self.endless.context
        self.reporter = Reporter(self.context)
        self.tails = self.context.once("tails", _Tails)

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        _: Restriction,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _TRACKER,
        watermark: Any = _WATERMARK,
    ) -> Iterator[Any]:
        keeper, reporter, given = (
            self.endless.keeper(),
            self.reporter,
            tracker.current_restriction(),
        )
        try:
            if keeper is not None:
                keeper.require()
            if reporter.state.stop.is_set():
                self._stop(given, keeper, finalizer, tracker)
                return
            now = watermark.current_watermark()
            tail = self.tails.take(given["at"]) or self._tail(given, now)
            if not tracker.try_claim(BUSY):
                self.tails.put(tail)
                return
            try:
                yield from self._batch(tail)
            except BaseException:
                tail.close()
                raise
            tracker.try_claim(tail.at)
            if now is None or Timestamp.of(tail.time) > now:
                watermark.set_watermark(Timestamp.of(tail.time))
        except Exception as e:
            reporter.fail(e)
            raise
        finally:
            reporter.tell()
        if keeper is not None and (tail.ended or not keeper.has_stored(tail.at)):
            finalizer.register(
                functools.partial(keeper.reached, tail.at, given["epoch"], last=tail.ended)
            )
        if tail.ended:
            tail.close()
            tracker.try_claim(END)
            return
        self.tails.put(tail)
        tracker.defer_remainder()

    def _tail(self, given: Restriction, now: Timestamp | None) -> Tail:
        begin = Begin(at=given["at"], epoch=given["epoch"], until=given["until"])
        since = 0.0 if now is None or now == MIN_TIMESTAMP else now.micros / 1e6
        endless = self.endless
        return Tail(endless.settings, endless.connection, self.context, begin, since)

    def _batch(self, tail: Tail) -> Iterator[Any]:
        counts, reporter = tail.counts, self.reporter
        moment, stamp = -1.0, Timestamp(0)
        try:
            for item, seconds in tail.batch():
                if seconds != moment:
                    moment, stamp = seconds, Timestamp.of(seconds)
                if type(item) is Reject:
                    counts.add("rows-rejected")
                    tagged = reporter.reject(item)
                    yield beam.pvalue.TaggedOutput(REJECTED, TimestampedValue(tagged.value, stamp))
                    if (instead := goes_on(item, counts)) is not None:
                        yield TimestampedValue(instead, stamp)
                else:
                    yield TimestampedValue(item, stamp)
                reporter.report(counts)
        finally:
            reporter.report(counts, now=True)

    def _stop(
        self, given: Restriction, keeper: Keeper | None, finalizer: Any, tracker: Any
    ) -> None:
        """Ends for good once the position is stored, and before comes back for that."""
        self.tails.close()
        asked = self.context.once("asked to stop", time.monotonic)
        late = time.monotonic() > asked + STOP_SECONDS
        if keeper is None or keeper.has_stored(given["at"]) or late:
            if late:
                log.warning(
                    "no checkpoint came within %g s, so the last position is not stored",
                    STOP_SECONDS,
                )
            tracker.try_claim(END)
            return
        finalizer.register(
            functools.partial(keeper.reached, given["at"], given["epoch"], last=True)
        )
        time.sleep(STOP_POLL_SECONDS)
        tracker.defer_remainder(Duration(STOP_POLL_SECONDS))


@dataclass(kw_only=True, eq=False)
class ReadMySQLChanges(beam.PTransform):  # type: ignore[misc]
    """Reads the change log of MySQL or MariaDB for ever, on Flink or on Beam's local runner.

    Takes the beginning of a pipeline; gives `rows` (`vecferry.rows.Change`, in the order of the
    log) and `rejected` (`vecferry.rows.Reject`). The timestamp of a row is the commit time of its
    transaction, in whole seconds of the server's clock. Timestamps never go back, and the watermark
    goes on while the log is idle. A row may come again after a failure, with the same version.
    Nothing is loaded: `ReadFromMySQLSnapshot` reads the tables themselves.

    The pipeline fails with words if the log behind the place is gone. It also fails if the log
    tells of what names no rows, such as TRUNCATE.

    Args:
      settings: the tables, their columns, a condition. `scanMode` may be ``earliest``.
      connection: the server.
      since: where to begin, as ``binlog.000012:4711`` or a time of ISO 8601; None for the log's
        end as it is when the pipeline starts. A stored position and a savepoint go before.
      positions: where positions are stored after each checkpoint: a folder that all workers see,
        or ``redis://host:port/database/name``. What is stored was handed on at least.
      epoch: the epoch of the versions; a greater one than before for another server.
      until: where to end, as `since`, or ``now``; None for ever.
      context: the run that this step is part of; its stop flag ends the reading.

    Raises, when it is applied:
      JobError: the runner can't run a source without an end, or lacks an option for it.
      ValueError: the settings ask for a full load.
    """

    settings: MySqlCdcSettings
    connection: MySqlConnection
    since: str | None = None
    positions: str | None = None
    epoch: int = 1
    until: str | None = None
    context: StepContext | None = None

    step_type = "mysql-cdc"

    def expand(self, begin: beam.pvalue.PBegin) -> beam.pvalue.DoOutputsTuple:
        _require_runner(begin.pipeline)
        self._require_settings()
        endless = _Endless(
            settings=self.settings,
            connection=self.connection,
            context=self.context or StepContext(step="Read", step_type=self.step_type),
            since=self.since,
            until=self.until,
            positions=self.positions,
            epoch=self.epoch,
        )
        return (
            begin
            | "Start" >> beam.Impulse()
            | "Find place" >> beam.ParDo(_BeginFn(endless))
            | "Follow log" >> beam.ParDo(_TailFn(endless)).with_outputs(REJECTED, main="rows")
        )

    def _require_settings(self) -> None:
        given = self.settings
        if "scan_mode" in given.model_fields_set and given.scan_mode in ("initial", "position"):
            raise ValueError(
                f"scanMode {given.scan_mode!r}: ReadMySQLChanges loads nothing and reads the log "
                "only; leave scanMode out and say `since`, or choose latest or earliest"
            )
        if self.positions is not None:
            place_at(self.positions).close()


def _require_runner(pipeline: Any) -> None:
    """Raises JobError where this source is known to lose rows, or never to end."""
    name, options = type(pipeline.runner).__name__, pipeline.options
    if name in LOCAL and options.view_as(DirectOptions).direct_num_workers != 1:
        raise JobError(
            "ReadMySQLChanges: with direct_num_workers other than 1 the local runner loses rows of "
            "a source without an end; set --direct_num_workers=1"
        )
    if name == "SparkRunner":
        raise JobError(
            "ReadMySQLChanges: Spark can neither pause a source without an end nor keep its place; "
            "use the FlinkRunner, or a job with `vecferry run`, which works in rounds"
        )
    if name != "FlinkRunner":
        return
    known = options.get_all_options(drop_default=True, retain_unknown_options=True)
    lacking = [] if options.view_as(StandardOptions).streaming else ["streaming"]
    lacking += [option for option in FLINK_NEEDS if not known.get(option)]
    if lacking:
        raise JobError(
            f"ReadMySQLChanges: on Flink a source without an end needs --{', --'.join(lacking)}; "
            "for example --streaming --checkpointing_interval=10000 "
            "--finish_bundle_before_checkpointing --max_bundle_time_mills=100"
        )
