"""Runs a job: tries its ends, prepares its target, submits its graph, follows it, reports.

What happens once in a job happens here, never in a DoFn: bundles are repeated.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from vecferry.errors import JobError, VecferryError, redact, shorten
from vecferry.pipelines.ends import try_ends
from vecferry.pipelines.graph import RunPlan, build
from vecferry.pipelines.report import Report, State, make_report, over_limit
from vecferry.pipelines.resolve import ResolvedJob, context_of
from vecferry.process import RunState, end_run, run_state
from vecferry.steps import Size
from vecferry.transforms.embed_budget import ledger_of

LOCAL_RUNNERS = ("DirectRunner", "FnApiRunner")

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


def run_job(
    resolved: ResolvedJob, options: RunOptions, on_progress: OnProgress = lambda state, size: None
) -> Report:
    """Runs a job to its end and tells how it went.

    `on_progress` is called a few times a second from the calling thread. Ctrl-C in the main thread
    ends the run after what was read; the second one raises KeyboardInterrupt.

    Raises:
      JobError: the job can't run at all; nothing was written.
    """
    if options.runner not in LOCAL_RUNNERS:
        raise JobError(
            f"--runner {options.runner}: this version runs on DirectRunner only; leave it out"
        )
    if resolved.unable():
        raise JobError(resolved.unable())
    run = f"{datetime.datetime.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    started = time.monotonic()
    plan = RunPlan(
        run=run,
        rejects=os.path.join(options.rejects, f"{resolved.job.name}-{run}"),
        row_limit=options.limit,
        replay=options.replay,
    )
    state = run_state(run, resolved.job.setting.error_limit.record)
    try:
        if options.preflight:
            log.info("run %s: trying source, endpoint and target", run)
            try_ends(resolved, run, reader=options.replay is None)
        pipeline = beam.Pipeline("FnApiRunner", options=_beam_options(options))
        build(pipeline, resolved, plan)
        log.info("run %s: making the target ready", run)
        target = _target(resolved, run)
        target.prepare()
        size = _size(resolved, run) if options.replay is None else Size()
        log.info("run %s: %s bytes to read; rejects go to %s", run, size.bytes, plan.rejects)
        error = _follow(pipeline, state, size, options, on_progress)
        report = _conclude(resolved, plan, state, error, time.monotonic() - started)
        return _last_act(target, report)
    finally:
        end_run(run)


def _target(resolved: ResolvedJob, run: str) -> Any:
    return resolved.writer.logic(context_of(resolved, resolved.writer, run))


def _last_act(target: Any, report: Report) -> Report:
    """What a target has to do once a job is done, such as moving an alias."""
    conclude = getattr(target, "conclude", None)
    unfinished = getattr(target, "unfinished", lambda: None)()
    if conclude is None or report.state != "DONE":
        update = {"error": f"{report.error}; {unfinished}"} if unfinished else {}
        return report.model_copy(update=update)
    try:
        notes = conclude() or []
    except VecferryError as e:
        why = f"all rows are written, but the target's last step failed: {redact(str(e))}"
        return report.model_copy(update={"state": "FAILED", "error": why})
    return report.model_copy(update={"notes": notes})


def _size(resolved: ResolvedJob, run: str) -> Size:
    reader = resolved.reader.logic(context_of(resolved, resolved.reader, run))
    size: Size = reader.size()
    return size


def _beam_options(options: RunOptions) -> PipelineOptions:
    return PipelineOptions([*options.beam_options, "--direct_num_workers=1"])


def _follow(
    pipeline: beam.Pipeline,
    state: RunState,
    size: Size,
    options: RunOptions,
    on_progress: OnProgress,
) -> str | None:
    """Runs the pipeline in a thread of its own and gives its error, if any."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run().wait_until_finish()
        except BaseException as e:
            failure.append(e)

    thread = threading.Thread(target=work, name="vecferry-pipeline", daemon=True)
    with _interruptible(state):
        thread.start()
        while thread.is_alive():
            thread.join(options.poll_seconds)
            on_progress(state, size)
    if not failure:
        return None
    return state.failure or _last_words(failure[0])


@contextmanager
def _interruptible(state: RunState) -> Iterator[None]:
    """Within, the first Ctrl-C asks the readers to stop, the second raises KeyboardInterrupt."""

    def interrupt(*_: Any) -> None:
        if state.stopped_by == "interrupt":
            raise KeyboardInterrupt
        state.stopped_by = "interrupt"
        state.stop.set()
        log.warning("interrupted: what was read is finished; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _last_words(error: BaseException) -> str:
    """The message at the root of what Beam raises: the text of a traceback."""
    lines = [
        line for line in str(error).splitlines() if re.match(r"^[\w.]+(Error|Exception)\b", line)
    ]
    return redact(shorten(lines[-1] if lines else error, 500))


def _conclude(
    resolved: ResolvedJob, plan: RunPlan, state: RunState, error: str | None, seconds: float
) -> Report:
    def report(outcome: State, why: str | None) -> Report:
        return make_report(
            job=resolved.job.name,
            run=plan.run,
            state=outcome,
            run_state=state,
            rejects=plan.rejects,
            seconds=seconds,
            error=why,
        )

    if error is not None:
        return report("FAILED", error)
    outcome = report("DONE", None)
    over_budget = ledger_of(context_of(resolved, resolved.reader, plan.run)).verdict()
    if over_budget is not None:
        return report("FAILED", over_budget)
    limit = resolved.job.setting.error_limit
    broken = over_limit(outcome, limit.record, limit.percentage)
    if broken is not None:
        return report("FAILED", broken)
    if outcome.lost:
        return report(
            "FAILED", f"{outcome.lost} rows are unaccounted for: this is a fault of vecferry"
        )
    if state.stopped_by == "interrupt":
        return report("CANCELLED", "interrupted; what was read is written")
    return outcome
