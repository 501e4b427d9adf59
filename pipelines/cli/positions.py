"""``vecferry status`` and ``vecferry position``: how a sync stands, how far it has read."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import VecferryError
from vecferry.pipelines.cli.asking import asked, followed
from vecferry.pipelines.cli.options import JobArguments, job_arguments, json_option
from vecferry.pipelines.cli.output import say, say_result, tell

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob
    from vecferry.pipelines.run.logic import JobLogic
    from vecferry.positions.entries import Progress, Stored
    from vecferry.positions.lease import Lease
    from vecferry.positions.requests import Request
    from vecferry.positions.store import Positions, Standing

ASK_SECONDS = 10.0
"""How long the source is asked where it is; a person waits for the answer."""


@click.command()
@job_arguments
@json_option
def status(arguments: JobArguments, as_json: bool) -> None:
    """Show how a sync stands. JOB is a job file, or the folder or URI of its positions.

    Works from any machine that reaches the positions, and while the sync runs.
    """
    positions = _positions(arguments)
    standing = positions.standing()
    waiting = positions.requests.waiting(tidy=False)
    if as_json:
        asked = [dataclasses.asdict(request) for request in waiting]
        say_result({"positions": positions.where, **_shown(standing), "waiting": asked})
        return
    lines = _described(positions, standing)
    lines += [
        f"  waits: {request.kind}, asked for by {request.asked_by} at {_moment(request.time)}"
        for request in waiting
    ]
    say("\n".join(lines))


@click.group()
def position() -> None:
    """See, set and forget how far a sync has read."""


@position.command()
@job_arguments
@json_option
def show(arguments: JobArguments, as_json: bool) -> None:
    """Show the positions that are kept, the newest last. JOB as for status. Changes nothing."""
    positions = _positions(arguments)
    kept = positions.history()
    if as_json:
        shown = [dataclasses.asdict(entry) for entry in kept]
        say_result({"positions": positions.where, "kept": shown})
        return
    if not kept:
        say(f"{positions.where}: nothing is stored")
    for entry in kept:
        say(_line_of(entry))


@position.command("set")
@job_arguments
@click.argument("place")
@json_option
def set_position(arguments: JobArguments, place: str, as_json: bool) -> None:
    """Let JOB go on from PLACE, without a full load: its next run, or the run that holds it now.

    PLACE is a time, or a place as the source names it, as for --until. The target is made if it is
    not there. A new epoch begins, so that what is read from PLACE on is newer than all rows before.
    """
    from vecferry.pipelines.run import requests

    resolved = followed(arguments)
    positions = _of_job(resolved)
    with _logic(resolved) as logic:
        source = logic.change_source
        source.check()
        given = {"at": source.parse_until(place), "identity": source.identity()}

        def alone(lease: Lease, request: Request) -> None:
            logic.target.prepare()
            requests.set_position(lease, logic, request)

        asked(resolved, "set", given, _under_lease(positions, alone))
    _tell_newest(positions, as_json)


@position.command()
@job_arguments
@json_option
def reset(arguments: JobArguments, as_json: bool) -> None:
    """Forget the position of JOB: its next run, or the run that holds it now, loads everything.

    The target stays as it is. The full load begins a new epoch, whose rows replace all others.
    The source is told to keep nothing more for this job, where a source keeps something.
    """
    from vecferry.pipelines.run import requests

    resolved = followed(arguments)
    positions = _of_job(resolved)

    def alone(lease: Lease, request: Request) -> None:
        requests.reset(lease, request)
        note = _released(resolved)
        if note is not None:
            tell(f"note: {note}")

    asked(resolved, "reset", {}, _under_lease(positions, alone))
    _tell_newest(positions, as_json)


def _released(resolved: ResolvedJob) -> str | None:
    """Lets the source forget what it kept for a job; gives a note if it could not be told."""
    from vecferry.steps import Holds

    try:
        with _logic(resolved) as logic:
            source = logic.change_source
            return source.release(resolved.job.name) if isinstance(source, Holds) else None
    except VecferryError as e:
        return f"the source keeps what it kept for this job, as it could not be told: {e}"


def _under_lease(
    positions: Positions, carry_out: Callable[[Lease, Request], object]
) -> Callable[[Request], str | None]:
    """Carries out one request where no run holds the sync; others wait for the next run."""
    from vecferry.positions.holder import Holder
    from vecferry.positions.requests import Answer

    def alone(request: Request) -> None:
        with positions.take(Holder(run=f"position-{uuid.uuid4().hex[:6]}")) as lease:
            if request.id not in lease.stored.carried:
                carry_out(lease, request)
            positions.requests.answer(request.id, Answer(text="done", done=True))
            lease.answered(request.id)

    return alone


@contextmanager
def _logic(resolved: ResolvedJob) -> Iterator[JobLogic]:
    """The steps of a job, for a command that goes on from a position."""
    from vecferry.pipelines.run.logic import JobLogic
    from vecferry.process import end_run

    run = f"position-{uuid.uuid4().hex[:6]}"
    logic = JobLogic(resolved, run, retry_deadline=ASK_SECONDS, resumed=True)
    try:
        yield logic
    finally:
        logic.close()
        end_run(run)


def _tell_newest(positions: Positions, as_json: bool) -> None:
    stored = positions.load()
    assert stored is not None
    if as_json:
        say_result({"positions": positions.where, **dataclasses.asdict(stored)})
    else:
        say(_line_of(stored))


def _positions(arguments: JobArguments) -> Positions:
    """The positions of a job, or those in a folder or at a URI."""
    named = arguments.job
    if arguments.is_template or not ("://" in named or os.path.isdir(named)):
        return _of_job(followed(arguments))
    from vecferry.pipelines.job.datasources import read_data_sources
    from vecferry.pipelines.job.positions import resolve_place
    from vecferry.pipelines.run.positions import positions_at

    sources = read_data_sources(arguments.data_sources, arguments.values())
    return positions_at(resolve_place(named, sources, "POSITIONS"), "")


def _of_job(resolved: ResolvedJob) -> Positions:
    from vecferry.pipelines.run.positions import positions_of

    return positions_of(resolved)


def _shown(standing: Standing) -> dict[str, Any]:
    """A standing as JSON."""
    stored, progress = standing.stored, standing.progress
    shown: dict[str, Any] = {"state": standing.state}
    if stored is not None:
        held = stored.position
        shown |= {
            "job": stored.job,
            "position": None if held is None else dataclasses.asdict(held),
            "stored": stored.time,
            "epoch": stored.epoch,
            "counts": dict(stored.counters),
            "last_run": None if stored.outcome is None else dataclasses.asdict(stored.outcome),
        }
    shown["holder"] = None if standing.holder is None else dataclasses.asdict(standing.holder)
    shown["renewed_seconds"] = standing.renewed
    shown["progress"] = None if progress is None else dataclasses.asdict(progress)
    return shown


def _described(positions: Positions, standing: Standing) -> list[str]:
    """A standing in lines for a person."""
    stored, progress = standing.stored, standing.progress
    if stored is None:
        return [f"{standing.state}: {positions.where}: nothing is stored"]
    phase = f", {progress.phase}" if progress is not None and progress.phase else ""
    lines = [f"{standing.state}{phase}: {stored.job}", f"  {_line_of(stored)}"]
    if standing.holder is not None:
        ago = "" if standing.renewed is None else f", renewed {standing.renewed:.0f} s ago"
        lines.append(f"  held by {standing.holder}{ago}")
    if progress is not None:
        behind = [] if progress.behind is None else [f"{progress.behind:,} {progress.unit}".strip()]
        if progress.behind_seconds is not None:
            behind.append(f"{progress.behind_seconds:,.1f} s")
        lines += [
            f"  behind: {', '.join(behind) or 'unknown'}",
            f"  rows {progress.rows:,} ({progress.rows_per_second:,.0f}/s)  rejects "
            f"{progress.rejects:,}  rounds {progress.rounds:,}  begun again {progress.restarts:,}",
        ]
        if progress.loaded is not None:
            lines.append(f"  {_loading(progress)}")
        if progress.last_error:
            lines.append(f"  last error: {progress.last_error}")
    ended = stored.outcome
    if ended is not None and standing.state != "Running":
        how = "died" if ended.status is None else f"ended with status {ended.status}"
        words = f": {ended.words}" if ended.words else ""
        lines.append(f"  run {ended.run} {how} at {_moment(ended.time)}{words}")
    return lines


def _loading(progress: Progress) -> str:
    """How far a full load is, in a line."""
    from vecferry.waits import in_words

    done, of = progress.loaded or 0, progress.load_size or 0
    share = f" ({done / of:.0%})" if of else ""
    seconds = progress.load_seconds
    left = "" if seconds is None else f", about {in_words(seconds)} left"
    return f"loaded: {done:,} of about {of:,} {progress.load_unit}{share}{left}"


def _line_of(stored: Stored) -> str:
    """One entry in a line."""
    held = stored.position
    what = "no position"
    if held is not None:
        place = json.dumps(held.at, ensure_ascii=False)
        what = f"{held.phase} at {place} of {held.identity}, epoch {held.epoch}"
    return f"{stored.number}  {_moment(stored.time)}  {stored.why}  {what}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
