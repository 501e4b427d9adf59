"""Runs a job: tries its ends, prepares its target, submits its graph, follows it, reports.

What happens once in a job happens here, never in a DoFn: bundles are repeated.
"""

from __future__ import annotations

import datetime
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from vecferry.errors import JobError, VecferryError, redact
from vecferry.pipelines.cluster.launch import (
    ask_workers,
    how_to_follow,
    leave_nothing,
    open_state,
    refuse_detaching,
    rejects_folder,
    settle_rejects,
    streams_of,
    worker_requirements,
)
from vecferry.pipelines.cluster.options import ClusterOptions
from vecferry.pipelines.cluster.requirements import packed
from vecferry.pipelines.cluster.runners import RunnerConfig, choose
from vecferry.pipelines.cluster.watch import JobWatcher, RunResult
from vecferry.pipelines.job.resolve import ResolvedJob, context_of
from vecferry.pipelines.run.graph import RunPlan, build
from vecferry.pipelines.run.local import run_here
from vecferry.pipelines.run.preflight import preflight
from vecferry.pipelines.run.report import (
    Report,
    State,
    make_report,
    nothing_written,
    over_budget,
    over_limit,
)
from vecferry.process import RunState, end_run
from vecferry.secrets import left_to_workers
from vecferry.steps import Size
from vecferry.transforms.embed.budget import Ledger, ledger_of

COUNTED_TWICE = (
    "errorLimit: a worker read no further, as it had counted the rejects of a repeated bundle "
    "twice, though no more than are allowed were rejected: run the job again"
)

log = logging.getLogger(__name__)

OnProgress = Callable[[RunState, Size], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a job, apart from what the job says."""

    runner: str = "DirectRunner"
    beam_options: tuple[str, ...] = ()
    rejects: str = "rejects"
    replay: str | None = None
    limit: int | None = None
    preflight: bool = True
    poll_seconds: float = 0.1
    cluster: ClusterOptions = field(default_factory=ClusterOptions)


def run_job(
    resolved: ResolvedJob, options: RunOptions, on_progress: OnProgress = lambda state, size: None
) -> Report:
    """Runs a job to its end and tells how it went.

    `on_progress` is called a few times a second from the calling thread. Ctrl-C in the main thread
    ends the run after what was read; the second one raises KeyboardInterrupt.

    Raises:
      JobError: the job can't run at all; nothing was written.
    """
    if resolved.unable():
        raise JobError(resolved.unable())
    with left_to_workers(options.cluster.secrets == "worker"):
        return _run(resolved, options, on_progress)


def _run(resolved: ResolvedJob, options: RunOptions, on_progress: OnProgress) -> Report:
    run = f"{datetime.datetime.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    started = time.monotonic()
    where = choose(options, resolved)
    plan = _plan(resolved, options, where, run)
    state = open_state(resolved, where, run, plan.rejects)
    try:
        if options.preflight:
            log.info("run %s: trying source, endpoint and target", run)
            preflight(resolved, run, reader=options.replay is None)
        if options.limit is None and options.replay is None:
            plan = plan.with_streams(streams_of(resolved, where, run))
        name = f"{resolved.job.name}-{run}"
        needs = worker_requirements(resolved, where, plan.rejects, options.cluster.secrets)
        if options.preflight:
            ask_workers(where, name, needs)
        pipeline = beam.Pipeline(where.runner, options=where.beam_options(name, packed(needs)))
        build(pipeline, resolved, plan)
        target = _target(resolved, run)
        if options.cluster.detach:
            refuse_detaching(resolved, target)
        log.info("run %s: making the target ready", run)
        target.prepare()
        size = _size(resolved, run) if options.replay is None else Size()
        log.info("run %s: %s bytes to read; rejects go to %s", run, size.bytes, plan.rejects)
        following = None if where.local else JobWatcher(pipeline, where, name, state)
        if options.cluster.detach and following is not None:
            job = following.submitted()
            return _left(resolved, plan, state, how_to_follow(where, job, plan.rejects))
        ended = _follow(pipeline, following, state, options, lambda: on_progress(state, size))
        if following is not None:
            settle_rejects(state, plan.rejects)
        report = _conclude(resolved, plan, state, ended, time.monotonic() - started)
        return _last_act(target, report)
    except JobError:
        leave_nothing(state)
        raise
    finally:
        end_run(run)


def _plan(resolved: ResolvedJob, options: RunOptions, where: RunnerConfig, run: str) -> RunPlan:
    folder = rejects_folder(options.rejects, where)
    rejects = os.path.join(folder, f"{resolved.job.name}-{run}")
    one = options.limit is not None or options.replay is not None
    streams = 1 if one else where.parallelism
    return RunPlan(
        run=run,
        rejects=rejects,
        row_limit=options.limit,
        replay=options.replay and rejects_folder(options.replay, where),
        parallelism=streams,
        reports=rejects if where.apart else None,
        streams=None if where.local else streams,
    )


def _target(resolved: ResolvedJob, run: str) -> Any:
    return resolved.writer.logic(context_of(resolved, resolved.writer, run))


def _last_act(target: Any, report: Report) -> Report:
    """What a target has to do once a job is done, such as moving an alias.

    An alias is not moved to a target into which no row came, as all of them were rejected.
    """
    conclude = getattr(target, "conclude", list)
    unfinished = getattr(target, "unfinished", lambda: None)()
    if report.state != "DONE":
        update = {"error": f"{report.error}; {unfinished}"} if unfinished else {}
        return report.model_copy(update=update)
    barren = nothing_written(report)
    if barren and unfinished:
        why = f"{barren}; {unfinished}"
        return report.model_copy(update={"state": "FAILED", "error": why})
    try:
        notes = [*([barren] if barren else []), *(conclude() or [])]
    except VecferryError as e:
        why = f"all rows are written, but the target's last step failed: {redact(str(e))}"
        return report.model_copy(update={"state": "FAILED", "error": why})
    return report.model_copy(update={"notes": notes})


def _size(resolved: ResolvedJob, run: str) -> Size:
    reader = resolved.reader.logic(context_of(resolved, resolved.reader, run))
    size: Size = reader.size()
    return size


def _follow(
    pipeline: beam.Pipeline,
    following: JobWatcher | None,
    state: RunState,
    options: RunOptions,
    on_progress: Callable[[], None],
) -> RunResult:
    if following is None:
        return run_here(pipeline, state, on_progress, options.poll_seconds)
    return following.to_its_end(on_progress, options.poll_seconds)


def _left(resolved: ResolvedJob, plan: RunPlan, state: RunState, follow: list[str]) -> Report:
    report = make_report(
        job=resolved.job.name,
        run=plan.run,
        state="RUNNING",
        run_state=state,
        rejects=plan.rejects,
        seconds=time.monotonic() - state.started,
        error=None,
        committed=False,
    )
    return report.model_copy(update={"follow": follow})


def _conclude(
    resolved: ResolvedJob, plan: RunPlan, state: RunState, ended: RunResult, seconds: float
) -> Report:
    ledger = ledger_of(context_of(resolved, resolved.reader, plan.run))

    def report(outcome: State, why: str | None) -> Report:
        return make_report(
            job=resolved.job.name,
            run=plan.run,
            state=outcome,
            run_state=state,
            rejects=plan.rejects,
            seconds=seconds,
            error=why,
            committed=ended.committed,
            requests=ledger.requests,
        )

    limit = resolved.job.setting.error_limit
    if ended.error is not None:
        broken = over_limit(report("FAILED", None), limit.record, None) if ended.cancelled else None
        return report("FAILED", broken or ended.error)
    outcome = report("DONE", None)
    verdict = _budget_verdict(resolved, ledger, state)
    if verdict is not None:
        return report("FAILED", verdict)
    broken = over_limit(outcome, limit.record, limit.percentage)
    if broken is not None:
        return report("FAILED", broken)
    if state.stopped_by == "errorLimit":
        return report("FAILED", COUNTED_TWICE)
    if outcome.lost and ended.committed:
        return report(
            "FAILED", f"{outcome.lost} rows are unaccounted for: this is a fault of vecferry"
        )
    if state.stopped_by == "interrupt":
        return report("CANCELLED", "interrupted; what was read is written")
    return outcome


def _budget_verdict(resolved: ResolvedJob, ledger: Ledger, state: RunState) -> str | None:
    verdict = ledger.verdict()
    if verdict is None and state.stopped_by == "budget":  # a worker's own ledger refused
        counts = state.counts()
        verdict = over_budget(
            resolved.job.setting.budget,
            counts.get("embed-requests", 0),
            counts.get("embed-tokens", 0),
        )
    return verdict
