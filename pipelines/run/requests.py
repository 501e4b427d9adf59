"""Carries out what commands ask of the holder of a lease: between two rounds, oldest first.

A request is carried out by one entry among the positions, which names it. So whoever finds the
request after a kill knows whether it was carried out: then it is only answered. Work that was cut
off before its entry is begun again, in the epoch that was begun for it.

Apart from `vecferry.pipelines.run.sync` because a round knows no requests.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from vecferry.errors import (
    FatalError,
    JobError,
    ReadAnew,
    TransientError,
    VecferryError,
    redact,
    shorten,
)
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.at_position import SourceRows, look
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.rejects import WriteRejectsFn
from vecferry.pipelines.run.verify import Repaired, next_epoch, repair, through
from vecferry.positions import Position
from vecferry.positions.entries import Begun
from vecferry.positions.lease import Lease, LeaseLost
from vecferry.positions.requests import Answer, Json, Request, Requests
from vecferry.process import run_state
from vecferry.rows import Change, Reject
from vecferry.steps import RangeSource, Span, Target
from vecferry.versions import unpack

RequestStep = Literal["request", "repair", "effect", "answer"]
"""The places between two actions of carrying out a request, in their order."""

TRIES = 3
"""So many runs may end while they carry out a request; then nobody tries again."""

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The work was told to end; the request waits for the next holder of the lease."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What carrying out a request came to: words, the exit status of the command, and figures."""

    text: str
    status: int = 0
    result: Json = None


class Carrier(Protocol):
    """A sync between two rounds, as the requests see it.

    Attributes:
      alone: whether the requests are all that the process is there for.
      lease: the right to store positions.
      position: how far the source is read; None before the first round.
    """

    alone: bool
    lease: Lease
    position: Position | None

    def due(self) -> str | None:
        """Why a full load comes first, in words; None where the target has all up to `position`."""

    def read_anew(self, why: str) -> None:
        """Lets the next round begin a full load: the position is forgotten."""

    def go_on_from(self, position: Position) -> None:
        """Lets the next round read from a position that is stored."""

    def read_range(self, span: Span, request: str) -> int | None:
        """Reads a range of keys in a round of its own; gives how many rows it read.

        None where it was stopped. Raises as a round does.
        """

    def guard(self) -> None:
        """Called while work goes on; raises `Stopped`, and `LeaseLost`."""

    def note(self, text: str) -> None:
        """Tells a person, in the log and in the report."""

    def on_step(self, step: RequestStep) -> None:
        """Called between two actions; see `vecferry.pipelines.run.sync.OnStep`."""


class Desk:
    """The requests of one sync, at its holder.

    Attributes:
      left: whether a request waited for more than this process could do when it looked last.
    """

    def __init__(
        self,
        carrier: Carrier,
        requests: Requests,
        resolved: ResolvedJob,
        *,
        run: str,
        rejects: str,
        logic: JobLogic,
        retry_seconds: float,
        pause: float,
    ) -> None:
        self._carrier, self._requests, self._resolved = carrier, requests, resolved
        self._run, self._rejects, self._logic = run, rejects, logic
        self._retry_seconds, self._pause = retry_seconds, pause
        self._due = 0.0
        self._told: set[tuple[str, str]] = set()
        self._failing: dict[str, float] = {}  # since when a request fails with what may pass
        self.left = False

    def carry_out(self, *, now: bool = False) -> bool:
        """Looks for requests, and carries them out; whether there was something to do.

        Looks no more often than positions are stored, unless `now`. Raises what a round raises.
        """
        moment = time.monotonic()
        if moment < self._due and not now and not self._carrier.alone:
            return False
        self._due = moment + self._pause
        try:
            waiting = self._requests.waiting()
        except TransientError as e:
            if self._carrier.alone:
                raise
            log.debug("requests can't be read: %s", shorten(e))
            return False
        lease = self._carrier.lease
        for gone in set(lease.stored.carried) - {request.id for request in waiting}:
            lease.answered(gone)
        self.left, acted = False, False
        for request in waiting:
            acted = self._one(request) or acted
        return acted

    def _one(self, request: Request) -> bool:
        """Whether something was done; `left` is set where the request is not at its end."""
        carrier, lines = self._carrier, self._requests.answers(request.id)
        due = carrier.due()
        if request.id in carrier.lease.stored.carried:
            if _reads_all(request) and due is not None:
                self.left = True
                return False
            self._end(request, _as_told(request, lines))
            return True
        if due is not None and not _is_light(request):
            if carrier.alone and not self.left:
                self._end(request, Done(text=f"{due}: run the job first", status=2))
                return True
            self._tell_once(request, f"waits: {due}")
            self.left = True
            return False
        before = {run for line in lines if (run := _run_of(line)) is not None}
        if len(before - {self._run}) >= TRIES:
            text = f"given up: {len(before)} runs ended while they carried it out; see their logs"
            self._end(request, Done(text=text, status=1))
            return True
        if self._run not in before:
            text = f"run {self._run} carries it out"
            self._requests.answer(request.id, Answer(text=text, result={"run": self._run}))
        return self._carried_out(request)

    def _carried_out(self, request: Request) -> bool:
        carrier = self._carrier
        carrier.on_step("request")
        log.info("run %s: carries out %s of %s", self._run, request.kind, request.asked_by)
        try:
            done = self._do(request)
        except Stopped:
            self.left = True
            return True
        except LeaseLost:
            raise
        except ReadAnew as e:
            self._tell_once(request, f"waits: {shorten(redact(str(e)), 300)}")
            self.left = True
            raise
        except VecferryError as e:
            passes = isinstance(e, TransientError) or isinstance(e.__cause__, TransientError)
            since = self._failing.setdefault(request.id, time.monotonic())
            if passes and time.monotonic() - since < self._retry_seconds:
                self._tell_once(request, f"begins again: {shorten(redact(str(e)), 300)}")
                raise
            self._keep_epoch(request)
            done = Done(text=str(e), status=2 if isinstance(e, JobError) and not passes else 1)
        if done is None:
            self.left = True
            return True
        self._end(request, done)
        return True

    def _do(self, request: Request) -> Done | None:
        """Carries out a request; None where rounds are to follow, or it was stopped."""
        carrier = self._carrier
        if request.kind == "repair":
            return self._repair(request)
        if request.kind == "set":
            carrier.go_on_from(set_position(carrier.lease, self._logic, request))
            carrier.on_step("effect")
            return Done(text=_carried_out(request))
        if request.kind == "resync" and not _reads_all(request):
            return self._read_range(request)
        reset(carrier.lease, request)
        carrier.on_step("effect")
        asked = "a resync was asked for" if request.kind == "resync" else "the position was reset"
        carrier.read_anew(f"{asked} by {request.asked_by}")
        return None if request.kind == "resync" else Done(text=_carried_out(request))

    def _read_range(self, request: Request) -> Done | None:
        carrier, source = self._carrier, self._logic.change_source
        first, last = (_text_or_none(request.arguments.get(side)) for side in ("first", "last"))
        span = span_of_keys(source, carrier.position, first, last)
        epoch = raised_epoch(carrier.lease, self._logic.target, request)
        rows = carrier.read_range(dataclasses.replace(span, epoch=epoch), request.id)
        if rows is None:
            return None
        carrier.on_step("effect")
        text = (
            f"{rows:,} rows were read and written again in epoch {epoch}; rows that the source no "
            "longer has stay, vecferry verify --repair removes them"
        )
        return Done(text=text, result={"rows": rows, "epoch": epoch})

    def _repair(self, request: Request) -> Done:
        carrier, lease = self._carrier, self._carrier.lease
        assert carrier.position is not None  # nothing is due
        position: Position = carrier.position
        logic = JobLogic(
            self._resolved,
            self._run,
            retry_deadline=self._retry_seconds,
            target_deadline=self._retry_seconds,
            resumed=True,
        )
        try:
            rows = SourceRows(self._resolved, logic, carrier.guard)

            def greatest() -> int:
                return max(lease.epoch, position.epoch, logic.target.epoch() or 0)

            comparison, _ = look(rows, position, greatest)
            with comparison:
                found = comparison.result
                begun = lease.stored.begun
                if found.same and (begun is None or begun.request != request.id):
                    return Done(text="source and target are equal", result=found.to_json())
                lease.renew()  # it may be lost since: nothing is written then
                epoch = raised_epoch(lease, logic.target, request, found.newest)
                carrier.on_step("repair")
                with _Rejects(self._rejects, self._run) as rejects:
                    mended = repair(
                        logic.target,
                        comparison,
                        rows.recalled(epoch, position),
                        lambda some: rejects.kept(self._written(logic, rows, some)),
                        epoch=epoch,
                    )
        finally:
            logic.close()
        done = _mended(mended, found.to_json())
        # What was done is told first: whoever finds the entry after a kill can tell it.
        told = Answer(text=done.text, status=done.status, result=done.result)
        self._requests.answer(request.id, told)
        position = dataclasses.replace(position, epoch=epoch)
        lease.store(position, last=True, request=request.id)
        carrier.on_step("effect")
        carrier.go_on_from(position)
        carrier.note(f"repaired, as asked by {request.asked_by}: {done.text}")
        return done

    def _keep_epoch(self, request: Request) -> None:
        """After a request that failed for good: later changes must have the epoch begun for it."""
        carrier, begun = self._carrier, self._carrier.lease.stored.begun
        position = carrier.position
        if begun is None or begun.request != request.id or position is None:
            return
        position = dataclasses.replace(position, epoch=begun.epoch)
        carrier.lease.store(position, last=True)
        carrier.go_on_from(position)

    def _written(
        self, logic: JobLogic, rows: SourceRows, some: Iterator[Change]
    ) -> Iterator[Change | Reject]:
        writer = logic.target.operator()
        try:
            yield from through(some, [*rows.transformers, writer])
        finally:
            writer.close()

    def _end(self, request: Request, done: Done) -> None:
        """Gives the last answer, unless another process has taken the lease meanwhile."""
        self._carrier.lease.renew()
        self._requests.answer(
            request.id,
            Answer(text=done.text, done=True, status=done.status, result=done.result),
        )
        self._carrier.lease.answered(request.id)
        log.info("run %s: %s of %s: %s", self._run, request.kind, request.asked_by, done.text)
        self._carrier.on_step("answer")

    def _tell_once(self, request: Request, text: str) -> None:
        if (request.id, text) not in self._told:
            self._told.add((request.id, text))
            self._requests.answer(request.id, Answer(text=text))


class _Rejects:
    """Keeps the rejects of a repair in the folder of the run's rejects."""

    def __init__(self, folder: str, run: str) -> None:
        self._run, self._write = run, WriteRejectsFn(folder, run)

    def __enter__(self) -> _Rejects:
        self._write.start_bundle()
        return self

    def __exit__(self, *_: object) -> None:
        self._write.finish_bundle()

    def kept(self, items: Iterator[Change | Reject]) -> Iterator[Change | Reject]:
        """The same items; raises FatalError where a reject can't be written."""
        state = run_state(self._run)
        before = state.counts().get("rows-unkept", 0)
        for item in items:
            if isinstance(item, Reject):
                self._write.process(item)
                if state.counts().get("rows-unkept", 0) > before:
                    raise FatalError(state.failure or "a reject can't be written")
            yield item


def reset(lease: Lease, request: Request) -> None:
    """Forgets the position; raises JobError where no further epoch is left for a full load."""
    next_epoch(lease.epoch, None)
    lease.reset(request=request.id)


def set_position(lease: Lease, logic: JobLogic, request: Request) -> Position:
    """Stores the position that a request gives, under a new epoch; raises JobError."""
    at, identity = request.arguments["at"], str(request.arguments["identity"])
    found = logic.change_source.identity()
    if found != identity:
        raise JobError(
            f"the source is {found!r} now, and the place {at} is of {identity!r}; set it again"
        )
    epoch = raised_epoch(lease, logic.target, request)
    position = Position(epoch=epoch, identity=identity, phase="changes", at=at)
    lease.set(position, request=request.id)
    return position


def raised_epoch(lease: Lease, target: Target, request: Request, newest: int | None = None) -> int:
    """A new epoch, kept with the positions and with the target; that of an earlier try, if any.

    `newest` is the greatest version in the target. Raises JobError where no epoch is left.
    """
    begun, least = lease.stored.begun, 0 if newest is None else unpack(newest)[0]
    if begun is not None and begun.request == request.id and least <= begun.epoch:
        target.remember_epoch(begun.epoch)
        return begun.epoch
    epoch = next_epoch(max(lease.epoch, target.epoch() or 0), newest)
    lease.begin(Begun(epoch=epoch, request=request.id))
    target.remember_epoch(epoch)
    return epoch


def span_of_keys(
    source: object, position: Position | None, first: str | None, last: str | None
) -> Span:
    """The span of a range of keys; raises JobError where the source can't read one."""
    if not isinstance(source, RangeSource):
        raise JobError(
            "this source can't read a range of keys: leave out --from and --to, and the whole "
            "table is read again"
        )
    at = position or Position(epoch=0, identity="", phase="changes", at=None)
    return source.span_of_keys(at, first, last)


def _reads_all(request: Request) -> bool:
    """Whether a request asks for a full load."""
    given = request.arguments
    return request.kind == "resync" and given.get("first") is given.get("last") is None


def _is_light(request: Request) -> bool:
    """Whether a request can be carried out whatever the target holds."""
    return request.kind in ("set", "reset") or _reads_all(request)


def _as_told(request: Request, lines: list[Answer]) -> Done:
    """What a request came to whose effect is stored, and that was not answered."""
    last = lines[-1] if lines else None
    if request.kind != "repair" or last is None or _run_of(last):
        return Done(text=_carried_out(request))
    return Done(text=last.text, status=last.status, result=last.result)


def _carried_out(request: Request) -> str:
    if request.kind == "set":
        return "the position is set; the next round goes on from there"
    if request.kind == "reset":
        return "the position is forgotten; the next round begins a full load"
    if request.kind == "resync":
        return "the source was read again"
    return "what differed is mended"


def _mended(done: Repaired, found: dict[str, Any]) -> Done:
    told = f"{done.written:,} rows written, {done.removed.deleted:,} deleted, in epoch {done.epoch}"
    if done.rejected:
        told += f"; {done.rejected:,} rejected, see the rejects of the run"
    if done.note:
        told += f"; {done.note}"
    ghosts = found["found"]["ghost"]
    left = done.rejected or done.removed.deleted < ghosts
    repaired: dict[str, Json] = {
        "epoch": done.epoch,
        "written": done.written,
        "deleted": done.removed.deleted,
        "rejected": done.rejected,
        "note": done.note,
    }
    return Done(text=told, status=1 if left else 0, result={**found, "repaired": repaired})


def _run_of(line: Answer) -> str | None:
    """The run that says in this line that it carries out the request; None of another line."""
    told = line.result
    return str(told["run"]) if isinstance(told, dict) and "run" in told else None


def _text_or_none(value: Json) -> str | None:
    return None if value is None else str(value)
