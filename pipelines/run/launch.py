"""Runs a job: tries its ends, plans it, prepares its target, submits its graph, follows it, judges.

What happens once in a job happens here, never in a DoFn: bundles are repeated. Apart from
`vecferry.pipelines.launch` because it knows no runner.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam

from vecferry.beam import ListSplits
from vecferry.budget import Ledger, ledger_of
from vecferry.errors import VecferryError, redact, shorten
from vecferry.pipelines.job.resolve import context_of
from vecferry.pipelines.run.base import JobRun, RunResult
from vecferry.pipelines.run.graph import RunPlan, build, require_no_secret
from vecferry.pipelines.run.interrupts import Interrupted, breakable, listening, told_to_end
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.preflight import preflight
from vecferry.pipelines.run.rejects import require_folder
from vecferry.pipelines.run.report import (
    Report,
    State,
    make_report,
    nothing_written,
    over_budget,
    over_limit,
)
from vecferry.process import RunStatus, end_run
from vecferry.steps import Budget, Plan, Size, Target

COUNTED_TWICE = (
    "errorLimit: a worker stopped reading, because it counted the rejects of a repeated bundle "
    "twice; no more rows than allowed were rejected. Run the job again"
)

log = logging.getLogger(__name__)

OnProgress = Callable[[RunStatus, Size], None]


@dataclass(frozen=True)
class _Prepared:
    """A job that is ready to be submitted."""

    pipeline: beam.Pipeline
    target: Target
    size: Size


def launch(run: JobRun, on_progress: OnProgress) -> Report:
    """Carries out a run from its first check to its report; JobError where nothing was written.

    The first Ctrl-C or SIGTERM ends the run early, whatever it does, and the report says so; the
    second one raises KeyboardInterrupt.
    """
    with listening():
        try:
            report = _carried_out(run, on_progress)
        finally:
            end_run(run.id)
        return at_the_end(report)


def _carried_out(run: JobRun, on_progress: OnProgress) -> Report:
    try:
        with breakable():
            prepared = _prepare(run)
    except Interrupted:
        run.abandon()
        return _report(run, "CANCELLED", "interrupted before a row was read; no row was written")
    except Exception:
        run.abandon()
        raise
    try:
        run.submit(prepared.pipeline)
        follow = run.left()
        if follow is not None and not told_to_end():
            return _report(run, "RUNNING", None).model_copy(update={"follow": follow})
        ended = settled(run, run.watch(lambda: on_progress(run.state, prepared.size)))
        return conclude(prepared.target, judge(run, ended))
    except Exception:
        run.abandon()
        raise


def at_the_end(report: Report) -> Report:
    """The report of a run that did all, though a signal came: it ends CANCELLED like any other."""
    if report.state != "DONE" or not told_to_end():
        return report
    why = "interrupted after the last row; all rows are written, and the run did its last step"
    return report.model_copy(update={"state": "CANCELLED", "error": why})


def settled(run: JobRun, ended: RunResult) -> RunResult:
    """How a run, or a round, ended; if its rejects can't be counted, it failed, with a report."""
    try:
        run.settle()
    except (OSError, VecferryError) as e:
        why = f"--rejects {run.rejects}: the rejects can't be counted: {shorten(e)}"
        error = f"{ended.error}; {why}" if ended.error else why
        return dataclasses.replace(ended, error=error, committed=False)
    return ended


def _prepare(run: JobRun) -> _Prepared:
    """All that can fail without a trace in the target, then the target."""
    resolved, options = run.resolved, run.options
    reads = run.replay is None
    require_folder(run.rejects)
    logic = JobLogic(resolved, run.id, row_limit=options.limit)
    try:
        if options.preflight:
            log.info("run %s: trying source, endpoint and target", run.id)
            preflight(resolved, logic, reader=reads)
            run.check_workers()
        run.accept(logic.target)
        plan = logic.source.plan() if reads else Plan(splits=[])
        pipeline = graph_of(run, hand_over(run, plan) if reads else None)
        log.info("run %s: making the target ready", run.id)
        logic.target.prepare()
    finally:
        with breakable(False):
            logic.close()
    log.info("run %s: %s bytes to read; rejects go to %s", run.id, plan.size.bytes, run.rejects)
    return _Prepared(pipeline, logic.target, plan.size)


def hand_over(run: JobRun, plan: Plan) -> ListSplits:
    """How the workers of a run get the splits of a plan; none holds a secret that they fill in."""
    by_workers = run.options.cluster.secrets == "worker"
    return run.hand_over(
        run.resolved.referenced(plan.splits, run.id) if by_workers else plan.splits
    )


def graph_of(run: JobRun, splits: ListSplits | None) -> beam.Pipeline:
    """The graph of a run, which reads the splits that were handed over; None in a replay."""
    resolved = run.resolved
    by_workers = run.options.cluster.secrets == "worker"
    pipeline = run.pipeline()
    build(
        pipeline,
        resolved.with_references(run.id) if by_workers else resolved,
        RunPlan(
            run=run.id,
            rejects=run.rejects,
            row_limit=run.options.limit,
            replay=run.replay,
            parallelism=run.parallelism,
            reports=run.reports,
            streams=run.streams,
            splits=splits,
            spread=run.spread,
            retry_deadline=run.retry_deadline,
        ),
    )
    if by_workers:
        require_no_secret(pipeline, resolved)
    return pipeline


def conclude(target: Target, report: Report) -> Report:
    """What a target has to do once a job is done, such as moving an alias.

    An alias is not moved to a target into which no row came, as all of them were rejected.
    """
    unfinished = target.unfinished()
    if report.state != "DONE":
        update = {"error": f"{report.error}; {unfinished}"} if unfinished else {}
        return report.model_copy(update=update)
    barren = nothing_written(report)
    if barren and unfinished:
        why = f"{barren}; {unfinished}"
        return report.model_copy(update={"state": "FAILED", "error": why})
    try:
        notes = [*([barren] if barren else []), *target.conclude()]
    except Exception as e:
        told = str(e) if isinstance(e, VecferryError) else f"{type(e).__name__}: {e}"
        why = f"all rows are written, but the target's last step failed: {redact(told)}"
        return report.model_copy(update={"state": "FAILED", "error": why})
    return report.model_copy(update={"notes": notes})


def _report(run: JobRun, state: State, error: str | None) -> Report:
    """The report of a run that did not come to its end here."""
    return make_report(
        job=run.resolved.job.name,
        run=run.id,
        state=state,
        run_state=run.state,
        rejects=run.rejects,
        seconds=time.monotonic() - run.state.started,
        error=error,
        committed=False,
    )


def judge(run: JobRun, ended: RunResult) -> Report:
    """The report of a job, or of a round, that has ended, and whether it is DONE."""
    resolved, state = run.resolved, run.state
    seconds = time.monotonic() - state.started
    context = context_of(resolved, resolved.reader, run.id)
    ledger = ledger_of(context)

    def report(outcome: State, why: str | None) -> Report:
        return make_report(
            job=resolved.job.name,
            run=run.id,
            state=outcome,
            run_state=state,
            rejects=run.rejects,
            seconds=seconds,
            error=why,
            committed=ended.committed,
            requests=ledger.requests,
        )

    limit = resolved.job.setting.error_limit
    if ended.error is not None:
        broken = over_limit(report("FAILED", None), limit.record, None) if ended.cancelled else None
        return report("FAILED", broken or ended.error)
    unkept = state.counts().get("rows-unkept", 0)
    if unkept:
        why = state.failure or f"--rejects {run.rejects}: can't be written to"
        return report("FAILED", f"{why}; {unkept:,} refused rows are in neither target nor rejects")
    outcome = report("DONE", None)
    verdict = _budget_verdict(context.shared.budget, ledger, state)
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
    if told_to_end():
        return report("CANCELLED", "interrupted after the last row; all rows are written")
    return outcome


def _budget_verdict(budget: Budget, ledger: Ledger, state: RunStatus) -> str | None:
    verdict = ledger.verdict()
    if verdict is None and state.stopped_by == "budget":  # a worker's own ledger refused
        counts = state.counts()
        requests, tokens = counts.get("embed-requests", 0), counts.get("embed-tokens", 0)
        verdict = over_budget(budget, requests, tokens)
    return verdict
