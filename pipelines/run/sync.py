"""Follows a source: a chain of rounds under one lease. Each round runs the graph over one span.

The launcher asks the source for a span, whose end is fixed before the round begins. Once the round
is DONE, nothing has asked it to stop, and all of the span was read, its end is stored as the
position. A round that failed is begun again from the position: what it wrote is written again.

Apart from `vecferry.pipelines.run.launch` because a bounded run has neither positions nor rounds.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from vecferry.beam import SPLITS_READ
from vecferry.errors import (
    FatalError,
    JobError,
    ReadAnew,
    TransientError,
    VecferryError,
    redact,
    shorten,
)
from vecferry.pipelines.run.base import JobRun
from vecferry.pipelines.run.interrupts import on_interrupt
from vecferry.pipelines.run.launch import (
    OnProgress,
    enter,
    graph_of,
    hand_over,
    judge,
    settled,
    timed,
)
from vecferry.pipelines.run.loading import Loading
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.preflight import preflight
from vecferry.pipelines.run.rejects import require_folder, tidy_rejects
from vecferry.pipelines.run.report import STATUS, Report, State, make_report
from vecferry.pipelines.run.requests import Desk, RequestStep, Stopped
from vecferry.pipelines.run.rounds import SyncStatus
from vecferry.positions import Position
from vecferry.positions.entries import Begun, Outcome, Progress
from vecferry.positions.holder import Holder
from vecferry.positions.lease import Lease
from vecferry.positions.store import Positions
from vecferry.process import RunStatus, end_run
from vecferry.retry import Backoff, call_with_retries
from vecferry.steps import ChangeSource, Holds, Lag, Plan, Size, Span, end_load
from vecferry.versions import MAX_EPOCH

ASK_SECONDS = 10.0
"""How long the launcher's own questions wait for a server: a failed one is asked again."""
MOST_WAIT_SECONDS = 2.0
"""The longest wait before a round is begun again: an outage costs little more than it lasts."""
PATIENCE_SECONDS = 300.0
"""How long a sync that is to end begins a round again before it fails."""
STILL_SECONDS = 5.0
"""An interrupted round that counts nothing for so long only waits, and is given up."""
SHORT_ROUNDS = 3
"""So many rounds in a row may read less than their span before the sync fails."""
TELL_SECONDS = 1.0
LAG_SECONDS = 3.0
"""How often the progress is told with the lease, and how often the source is asked for the lag."""

Step = (
    RequestStep
    | Literal["span", "plan", "epoch", "round", "done"]
    | Literal["index", "reconcile", "store", "stored", "conclude"]
)
"""The places between two actions of the loop, in their order."""

OnStep = Callable[[Step], None]

log = logging.getLogger(__name__)


def follow(
    run: JobRun,
    positions: Positions,
    on_progress: OnProgress,
    on_step: OnStep = lambda step: None,
    *,
    alone: bool = False,
) -> Report:
    """Carries out a sync to its end, and tells how it went.

    Without `RunOptions.continuous` a sync ends where nothing is left to read, or at
    `RunOptions.until`. `on_step` is called between the actions of the loop; what it raises breaks
    the sync off there, and a `TransientError` lets the sync begin again. `alone` carries out what
    commands ask for, with the rounds that this takes, and ends.

    Raises:
      LeaseHeld: another process holds the lease.
      JobError: the sync can't run at all; nothing was written.
    """
    try:
        require_folder(run.rejects)
        run.accept_rounds()
        with positions.take(Holder(run=run.id)) as lease:
            return _Sync(run, positions, lease, on_progress, on_step, alone).carried_out()
    finally:
        run.abandon()
        end_run(run.id)
        if "://" not in run.rejects:
            tidy_rejects(run.rejects)  # a round that was begun again has rejected rows twice


class _Sync:
    """One sync under its lease. Used by the thread of the launcher only."""

    def __init__(
        self,
        run: JobRun,
        positions: Positions,
        lease: Lease,
        on_progress: OnProgress,
        on_step: OnStep,
        alone: bool,
    ) -> None:
        self._run, self._positions, self.lease = run, positions, lease
        self._on_progress, self.on_step = on_progress, on_step
        self.alone = alone
        self._options, self._setting = run.options, run.resolved.job.setting
        self._status = SyncStatus()
        self._before = Counter(lease.stored.counters)
        self.position = lease.stored.position
        self._epoch = lease.epoch
        self._logic = JobLogic(
            run.resolved,
            run.id,
            retry_deadline=ASK_SECONDS,
            target_deadline=run.retry_deadline,
            resumed=self.position is not None,
            load_ends=True,
        )
        self._identity = ""
        self._why: str | None = None  # why all is to be read anew; None where it need not
        self._fresh: Span | None = None  # the span that begins a full load, until it is DONE
        self._found = False  # whether another process began it
        self._loaded = False  # whether this process has come to the end of a full load
        self._until: Any = None  # what the user asked for
        self._caught_up: Any = None  # where the source ended once the full load was in
        self._concluded = False
        self._rounds = self._short_rounds = 0
        self._committed = False  # whether the counts of the round under way are
        self._under_way: tuple[JobRun, Span] | None = None
        self._span: Span | None = None  # of the last round that was DONE
        self._backoff: Backoff | None = None
        self._notes: list[str] = []
        self._last_error = ""
        self._lag = Lag()
        self._lag_due = self._tell_due = 0.0
        self._told = (time.monotonic(), 0)
        self._speed = 0.0
        self._loading = Loading()
        self._interrupted = self._given_up = self._asked_to_stop = False
        self._still: tuple[float, dict[str, int]] = (0.0, {})
        # A signal may come while the main thread waits: putting into this queue is safe there.
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._desk = Desk(
            self,
            positions.requests,
            run.resolved,
            run=run.id,
            rejects=run.rejects,
            logic=self._logic,
            retry_seconds=run.retry_deadline,
            pause=positions.place.pace.store,
        )

    def carried_out(self) -> Report:
        """The report of the sync; JobError where nothing was written."""
        try:
            with on_interrupt(self._interrupt, self._interrupt_again), _frozen():
                report = self._gone_on()
        except Exception as e:
            self._release(2 if isinstance(e, JobError) else 1, str(e) or type(e).__name__)
            raise
        finally:
            self._logic.close()
        self._release(STATUS[report.state], report.error or "")
        return report

    def _gone_on(self) -> Report:
        try:
            self._begin()
            self._loop()
            if self._interrupted:
                call_with_retries(self.lease.flush, deadline=ASK_SECONDS, what="the position")
        except JobError as e:
            if not self._rounds:
                raise
            return self._report("FAILED", "; ".join(e.problems))
        except VecferryError as e:
            return self._report("FAILED", str(e))
        if not self._interrupted:
            return self._report("DONE", None)
        if self._options.continuous:
            self._note("interrupted; the position is the end of the last round that was DONE")
            return self._report("DONE", None)
        return self._report(
            "CANCELLED", "interrupted; the position is the end of the last round that was DONE"
        )

    def _release(self, status: int, words: str) -> None:
        if self.alone:  # what is told of the last run stays
            return
        try:
            self.lease.release(Outcome(run=self._run.id, status=status, words=redact(words)))
        except VecferryError as e:
            log.warning("the lease could not be released, it ends by itself: %s", shorten(e))

    # The beginning

    def _begin(self) -> None:
        """All that can fail without a trace in the target, then the target."""
        run, logic = self._run, self._logic
        if self._options.preflight:
            enter(self._status, "checking", self._on_progress)
            log.info("run %s: trying source, endpoint and target", run.id)
            preflight(run.resolved, logic)
            run.check_workers()
        asked = self._options.until
        if asked is not None:
            source = self._source
            self._until = source.end() if asked == "now" else source.parse_until(asked)
        enter(self._status, "preparing", self._on_progress)
        self._why = self._why_anew()
        log.info("run %s: making the target ready", run.id)
        logic.target.prepare()
        if self._fresh is not None:
            self._note(f"the full load of epoch {self._epoch} is begun again: {self._why}")
            self._notes += logic.target.remember_epoch(self._epoch)
        lost = logic.target.unversioned()
        if lost is not None:
            self._note(lost)
        if self.position is not None and self.position.phase == "changes":
            self._caught_up = self._source.end()

    @property
    def _source(self) -> ChangeSource:
        return self._logic.change_source

    def _why_anew(self) -> str | None:
        """Why the position does not lead to what the target holds; None where it does."""
        found, begun = self._logic.target.epoch(), self.lease.stored.begun
        self._epoch = max(self._epoch, found or 0)
        position = self.position
        if begun is not None and (found or 0) <= begun.epoch:
            if begun.load is not None:
                self._identity, self._fresh, self._found = begun.identity, _span(begun.load), True
                return f"it was broken off before the end of its first part ({self._fresh.why})"
            if position is not None and found == begun.epoch:
                # A request was broken off that raised the epoch: the position is as good as ever.
                position = self.position = dataclasses.replace(position, epoch=found)
        if position is None:
            where = self._positions.where
            there = f"{where} has no position, and the target was filled in epoch {found}"
            return there if found else None
        if found is None:
            return "there is a position, and the target is empty" if self._is_empty() else None
        if found == position.epoch:
            return None
        return (
            f"the position is of epoch {position.epoch}, and the target was filled in epoch "
            f"{found}: it was made anew, or another sync filled it"
        )

    def _is_empty(self) -> bool:
        try:
            return self._logic.target.row_count() == 0
        except JobError:  # it is yet to be made
            return True

    # The loop

    def _loop(self) -> None:
        """Rounds until nothing is left, or for ever."""
        enter(self._status, "running", self._on_progress)
        while not self._interrupted:
            try:
                if self._is_loaded and not self._end_load():  # of a run that was broken off
                    continue
                self._desk.carry_out()
                if self.alone and not self._desk.left and (self._concluded or not self._loaded):
                    return
                span = self._next_span()
                self._hold(span)
                if span.kind != "nothing":
                    self._round(span)
                elif not self._concluded:
                    self._conclude()
                elif self._until is not None or not self._options.continuous:
                    if not self._desk.carry_out(now=True):
                        self.lease.flush()
                        self._hold(span)
                        return
                else:
                    self._tell("waiting")
                    self._wait(self._poll_seconds)
            except TransientError as e:
                self._begin_again(e)
            except ReadAnew as e:
                self._require_owned(str(e))
                self.read_anew(str(e))
            except JobError as e:
                if not isinstance(e.__cause__, TransientError):
                    raise
                self._begin_again(e.__cause__)  # of a target, asked by the launcher

    @property
    def _poll_seconds(self) -> float:
        asked = self._setting.poll_seconds
        return self._run.resolved.reader.settings.poll_seconds if asked is None else asked

    def _next_span(self) -> Span:
        """What to read next, and in which epoch."""
        self.on_step("span")
        source, position, why = self._source, self.position, self._why
        identity = source.identity()
        if self._fresh is not None and identity == self._identity and self._can_follow(self._fresh):
            # Begun again with the same end: what changed since the first try is read afterwards.
            return self._fresh
        self._identity, self._fresh = identity, None
        if position is not None and position.identity != identity:
            why = f"the source is {identity!r} now, and the position is of {position.identity!r}"
        anew = position is None or why is not None
        until = self._until if self._until is not None or self._concluded else self._caught_up
        span = source.span(None if anew else position, until)
        if position is not None and not anew and not span.fresh:
            if span.renews:
                self._note(f"{span.why}: changes go on under a new epoch")
                position = self.position = self._renew(position)
            return dataclasses.replace(span, epoch=position.epoch)
        if position is not None or why is not None:
            if span.gap:
                self._require_owned(span.why)
            self._note(f"everything is read anew, in epoch {self._epoch + 1}: {why or span.why}")
        return dataclasses.replace(span, fresh=True, why=why or span.why, epoch=self._epoch + 1)

    def _require_owned(self, why: str) -> None:
        """Raises JobError unless rows that nobody names may be deleted from the target."""
        if not self._logic.target.owns_target:
            raise JobError(
                f"{why}, so what was deleted meanwhile is not known; set ownsTarget: true "
                "on the writer, and all is read anew and reconciled. Or forget the position "
                "with `vecferry position reset`, and rows that are gone stay in the target"
            )

    def _renew(self, position: Position) -> Position:
        """The position under a new epoch, which the target knows before the first row."""
        epoch = self._epoch + 1
        self.on_step("epoch")
        if epoch <= MAX_EPOCH:  # otherwise the target refuses it, in words
            self.lease.begin(Begun(epoch=epoch))
        self._notes += self._logic.target.remember_epoch(epoch)
        self._epoch = epoch
        return dataclasses.replace(position, epoch=epoch)

    def _hold(self, span: Span) -> None:
        """Asks a source that forgets to keep what is behind the position that is surely stored."""
        source, stored = self._source, self.lease.stored.position
        if not isinstance(source, Holds):
            return
        at = span.until if span.fresh or stored is None else stored.at
        note = source.hold(self._run.resolved.job.name, at)
        if note is not None:
            self._note(note)

    def _can_follow(self, load: Span) -> bool:
        """Whether changes can still be read from the end of a load that another process began."""
        if not self._found:
            return True
        self._found = False
        end = Position(epoch=load.epoch, identity=self._identity, phase=load.phase, at=load.until)
        try:
            return not self._source.span(end).fresh
        except JobError as e:
            if isinstance(e.__cause__, TransientError):
                raise
            return False

    def _round(self, span: Span, request: str = "") -> bool:
        """Reads one span, for a request or not; whether its end is stored.

        Raises TransientError where the round is to be begun again.
        """
        self.on_step("plan")
        plan = self._source.plan(span)
        if span.fresh and self._fresh is None:
            self.on_step("epoch")
            log.info("run %s: a full load in epoch %d: %s", self._run.id, span.epoch, span.why)
            if span.epoch <= MAX_EPOCH:  # otherwise the target refuses it, in words
                load = dataclasses.asdict(span)
                self.lease.begin(Begun(epoch=span.epoch, identity=self._identity, load=load))
            self._notes += self._logic.target.remember_epoch(span.epoch)
            self._epoch, self._fresh = span.epoch, span
        self.on_step("round")
        self._rounds += 1
        run = self._run.begin_round(self._rounds, full=span.kind == "full")
        try:
            done = self._is_done(run, span, plan) and self._keep(span, request)
        finally:
            self._under_way = self._status.current = None
            run.end_round()
        self._settle_down()
        return done

    def _keep(self, span: Span, request: str) -> bool:
        """Stores the end of a span whose round is DONE as the position; False where stopped."""
        self.on_step("done")
        before = self.position
        since = span.epoch if span.fresh or before is None else before.loaded
        loaded = span.kind == "full" and span.phase == "changes" and span.keys is None
        if loaded:
            self.on_step("index")
            if not self._end_load():
                return False
            self.on_step("reconcile")
            self._reconcile(since)
            self._caught_up, self._concluded, self._loaded = self._source.end(), False, True
            self._loading.ends()
        self.on_step("store")
        assert self._under_way is not None
        self._status.add(self._under_way[0].state, committed=self._committed)
        self.position = Position(
            epoch=span.epoch,
            identity=self._identity,
            phase=span.phase,
            at=span.until,
            loaded=since,
        )
        self._span, self._why, self._fresh = span, None, None
        # The parts of a full load are stored at once: a kill is to cost one of them at most.
        self.lease.store(
            self.position,
            counters=self._sums(),
            last=span.kind == "full" or self._interrupted,
            request=request,
        )
        self.on_step("stored")
        self._tell(span.phase)
        return True

    def _is_done(self, run: JobRun, span: Span, plan: Plan) -> bool:
        """Runs a round; False where it was stopped. Raises what else it came to."""
        self._under_way, self._status.current = (run, span), run.state
        self._still = (time.monotonic(), {})
        if self._interrupted:
            return False
        splits = hand_over(run, plan)
        self._status.current = run.state  # workers may have been started, who tell another one
        if not run.submit_again():
            run.submit(graph_of(run, splits))
        ended = settled(run, run.watch(self._look))
        if self.lease.lost.is_set():
            self.lease.flush()  # raises, and says who took it
        report = judge(run, ended)
        if self._given_up or report.state == "CANCELLED":
            return False
        if report.state == "FAILED":
            raise _error_of(run, report)
        self._committed = report.counts == "committed"
        self._require_whole(run.state, plan)
        return True

    def _require_whole(self, state: RunStatus, plan: Plan) -> None:
        """Raises unless all of a span was read; a runner may repeat work, and count it again."""
        counts = state.counts()
        read = [("splits", counts.get(SPLITS_READ, 0), len(plan.splits))]
        if plan.size.rows is not None:
            read.append(("rows", counts.get("rows-read", 0), plan.size.rows))
        for unit, found, wanted in read:
            if found == wanted or (found > wanted and not self._committed):
                continue
            self._short_rounds += 1
            text = f"the round read {found:,} of the {wanted:,} {unit} of its span"
            if self._short_rounds < SHORT_ROUNDS:
                raise TransientError(text)
            raise FatalError(
                f"{text}, {SHORT_ROUNDS} times in a row, so no position was stored: look into the "
                "source, which gives less or more than it told"
            )
        self._short_rounds = 0

    def _look(self) -> None:
        """Called while a round is under way: shows it, and ends it where that is asked for."""
        assert self._under_way is not None
        run, span = self._under_way
        self._on_progress(self._status, Size())
        self._tell(span.phase)
        if self.lease.lost.is_set():
            self._ask_to_stop(run, "lease")
        if not self._interrupted:
            return
        moment, counts = time.monotonic(), run.state.counts()
        if counts != self._still[1]:
            self._still = (moment, counts)
        elif moment - self._still[0] > STILL_SECONDS and not self._given_up:
            log.warning("the round under way only waits, and is given up")
            self._given_up = True
            run.give_up()

    def _reconcile(self, epoch: int) -> None:
        """Deletes what the source no longer has, once a full load that began in `epoch` is in.

        The epoch may have grown since, and a load of one table more is not of all rows. So rows
        of the epoch of the last load of all rows, and of later ones, stay.
        """
        if not epoch:
            self._note("it is not known when all rows were read last, so none were deleted")
            return
        done = self._logic.target.reconcile(epoch, self._logic.keys)
        if done.deleted:
            self._note(f"{done.deleted:,} rows that the source no longer has were deleted")
        if done.note:
            self._note(done.note)

    @property
    def _is_loaded(self) -> bool:
        """Whether a full load came to its end, and none is under way."""
        position = self.position
        loaded = position is not None and position.phase == "changes"
        return loaded and self._why is None and self._fresh is None

    def _end_load(self) -> bool:
        """Builds what the target went without while it was loaded, before changes are read.

        False where a signal broke that off.
        """
        try:
            notes = end_load(self._logic.target, self._building)
        except Stopped:
            return False
        finally:
            self._status.doing = ""
            enter(self._status, "running", self._on_progress)
        for text in notes:
            self._note(text, level=logging.INFO)
        return True

    def _leave_load(self) -> None:
        """Does what costs little of that at the end of a run, if others don't hold the sync."""
        if self.lease.lost.is_set():
            return
        try:
            self._notes += end_load(self._logic.target, lambda words: None, whole=False)
        except Exception as e:  # how the run ended is what matters
            log.warning("the target stays as it was for the load: %s", shorten(redact(str(e))))

    def _building(self, words: str) -> None:
        """Called while an index is built; breaks that off where the sync is to end."""
        self._status.doing = words
        enter(self._status, "indexing", self._on_progress)
        self._tell("index", lag=False)
        if self._interrupted:
            raise Stopped
        if self.lease.lost.is_set():
            self.lease.flush()  # raises, and says who took it

    def _conclude(self) -> None:
        """The target's last step, such as moving an alias: the full load is in and caught up."""
        self.on_step("conclude")
        enter(self._status, "indexing", self._on_progress)
        target = self._logic.target
        for text in target.conclude():
            self._note(text, level=logging.INFO)
        self._concluded = True
        enter(self._status, "running", self._on_progress)

    def _settle_down(self) -> None:
        """After a round that is DONE."""
        self._backoff, self._last_error = None, ""
        if self._status.rounds == 1 and not gc.get_freeze_count():
            # What the first round has made stays: the collector need not look at it each time.
            gc.collect()
            gc.freeze()
        self._wait(self._setting.pause_seconds)

    def _begin_again(self, error: TransientError) -> None:
        """Waits before a round is begun again; raises the error once the patience is spent."""
        deadline = None if self._options.continuous else PATIENCE_SECONDS
        self._backoff = self._backoff or Backoff(deadline=deadline, cap=MOST_WAIT_SECONDS)
        wait = self._backoff.next_wait()
        self._last_error = str(error)
        if wait is None:
            raise error
        self._status.restarts += 1
        log.warning(
            "run %s: begins again from the position in %.1f s: %s",
            self._run.id,
            wait,
            shorten(redact(str(error)), 300),
        )
        self._tell("waiting")
        self._wait(wait)

    # What requests ask for: see `vecferry.pipelines.run.requests.Carrier`

    def due(self) -> str | None:
        """Why a full load comes first, in words; None where the target has all up to `position`."""
        position = self.position
        if position is None:
            return "nothing is loaded yet"
        if position.phase == "full" or self._fresh is not None:
            return "a full load is not at its end"
        if self._why is not None:
            return f"a full load is due ({self._why})"
        identity = self._source.identity()
        if identity != position.identity:
            return f"a full load is due (the source is {identity!r} now)"
        return None

    def read_anew(self, why: str) -> None:
        """Lets the next round begin a full load: the position is forgotten."""
        self.position = self._fresh = self._caught_up = None
        self._epoch, self._why = max(self._epoch, self.lease.epoch), why

    def go_on_from(self, position: Position) -> None:
        """Lets the next round read from a position that is stored."""
        self.position, self._identity = position, position.identity
        self._epoch = max(self._epoch, position.epoch)
        self._why = self._fresh = None

    def read_range(self, span: Span, request: str) -> int | None:
        """Reads a range of keys in a round of its own; gives how many rows, None if stopped."""
        before = self._status.counts().get("rows-read", 0)
        self._identity = self._source.identity()
        if not self._round(span, request):
            return None
        self._epoch = max(self._epoch, span.epoch)
        return self._status.counts().get("rows-read", 0) - before

    def guard(self) -> None:
        """Called while a request is carried out; raises `Stopped`, and `LeaseLost`."""
        if self._interrupted:
            raise Stopped
        if self.lease.lost.is_set():
            self.lease.flush()  # raises, and says who took it
        self._tell("repair", lag=False)

    def note(self, text: str) -> None:
        """Tells a person, in the log and in the report."""
        self._note(text, level=logging.INFO)

    # Signals and waits

    def _interrupt(self) -> None:
        """The first signal: no further round; a part of a full load is stopped."""
        self._interrupted = True
        self._status.stop.set()
        self._still = (time.monotonic(), {})
        if self._under_way is not None and self._under_way[1].kind == "full":
            self._ask_to_stop(self._under_way[0], "interrupt")
        log.warning("interrupted: the round under way is finished; a second time ends at once")
        self._woken.put(None)

    def _interrupt_again(self) -> None:
        """The second signal: nothing is waited for."""
        if self._under_way is not None:
            self._under_way[0].give_up()
        raise KeyboardInterrupt

    def _ask_to_stop(self, run: JobRun, why: str) -> None:
        """Asks the readers of a round to stop; workers elsewhere may take a while to be asked."""
        if not self._asked_to_stop:
            self._asked_to_stop = True
            threading.Thread(target=run.state.request_stop, args=(why,), daemon=True).start()

    def _wait(self, seconds: float) -> None:
        """Waits, unless a signal comes."""
        if self._interrupted or seconds <= 0:
            return
        try:
            self._woken.get(timeout=seconds)
        except queue.Empty:
            return

    # What is told

    def _note(self, text: str, level: int = logging.WARNING) -> None:
        if text not in self._notes:
            log.log(level, "run %s: %s", self._run.id, text)
            self._notes.append(text)

    def _sums(self) -> dict[str, int]:
        """The counters of this sync over all its runs, of rounds that were DONE."""
        return dict(self._before + Counter(self._status.counts()))

    def _tell(self, phase: str, *, lag: bool = True) -> None:
        """Tells others, with the lease, how the sync stands; asks the source for the `lag`."""
        moment = time.monotonic()
        if moment < self._tell_due:
            return
        self._tell_due = moment + TELL_SECONDS
        status = self._status
        lag = lag and status.current is None and moment >= self._lag_due
        if lag and self.position is not None:
            self._lag_due = moment + LAG_SECONDS
            try:
                self._lag = self._source.lag(self.position)
            except VecferryError as e:
                log.debug("the lag is not known: %s", shorten(e))
        rows = status.counts().get("rows-read", 0)
        before, told = self._told
        if moment > before:
            self._speed = max(0.0, (rows - told) / (moment - before))
            self._told = (moment, rows)
        under_way = None if status.current is None else self._under_way
        span = under_way and under_way[1]
        read = under_way[0].state.counts().get("rows-read", 0) if under_way else 0
        self.lease.tell(
            Progress(
                phase=phase,
                **self._loading.told(span, read),
                behind=self._lag.amount,
                unit=self._lag.unit,
                behind_seconds=self._lag.seconds,
                rows=rows,
                rows_per_second=self._speed,
                rejects=sum(status.rejects().values()),
                rounds=status.rounds,
                restarts=status.restarts,
                last_error=self._last_error,
            )
        )

    def _report(self, state: State, error: str | None) -> Report:
        status, span = self._status, self._span
        status.current = None
        report = make_report(
            job=self._run.resolved.job.name,
            run=self._run.id,
            state=state,
            run_state=status,
            rejects=self._run.rejects,
            seconds=time.monotonic() - status.started,
            error=redact(error) if error else None,
            committed=status.committed,
            currency=self._run.resolved.currency,
        )
        self._leave_load()
        concluded = self._concluded or (self.alone and not self._loaded)
        unfinished = None if concluded else self._logic.target.unfinished()
        notes = [*self._notes, *([unfinished] if unfinished else [])]
        enter(status, "ended", self._on_progress)
        return timed(status, report).model_copy(
            update={
                "notes": notes,
                "rounds": status.rounds,
                "span": span
                and {
                    "kind": span.kind,
                    "since": span.since,
                    "until": span.until,
                    "part": span.part,
                    "rows": span.rows,
                },
                "position": self.position and dataclasses.asdict(self.position),
            }
        )


def _span(told: Mapping[str, Any]) -> Span:
    """A span that was stored as JSON, which has lists in place of tuples."""
    names = [n for n in ("part", "rows", "keys") if told.get(n) is not None]
    tuples = {name: tuple(told[name]) for name in names}
    return Span(**{**told, **tuples})


def _error_of(run: JobRun, report: Report) -> VecferryError:
    """The error of a round that failed: one that may pass if a server or a worker was away."""
    state, told = run.state, report.error or "the round failed without a word"
    without_words = not state.failure and run.reports is not None  # a worker was lost, say
    may_pass = (state.passing or without_words) and not state.fatal and not state.stopped_by
    if state.anew and not state.stopped_by:
        return ReadAnew(told)
    return TransientError(told) if may_pass else FatalError(told)


@contextmanager
def _frozen() -> Iterator[None]:
    """Lets the collector look again at what was frozen within.

    Who calls vecferry may have frozen objects before. They stay so, and nothing is frozen beside
    them: all is thawed together, or nothing.
    """
    theirs = gc.get_freeze_count()
    try:
        yield
    finally:
        if not theirs:
            gc.unfreeze()
