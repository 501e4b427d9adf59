"""Runs a job: tries its ends, plans it, prepares its target, submits its graph, follows it, judges.

What happens once in a job happens here, never in a DoFn: bundles are repeated. Apart from
`vecferry.pipelines.launch` because it knows no runner.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apache_beam as beam

from vecferry.beam import SPLITS_READ, ListSplits
from vecferry.budget import Ledger, ledger_of
from vecferry.errors import VecferryError, redact, shorten
from vecferry.pipelines.job.resolve import context_of
from vecferry.pipelines.run.base import JobRun, RunResult
from vecferry.pipelines.run.expectations import replaced, unmet
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
from vecferry.process import Phase, RunStatus, end_run
from vecferry.steps import Budget, OnWords, Plan, Size, Target, end_load

COUNTED_TWICE = (
    "errorLimit: a worker stopped reading, because it counted the rejects of a repeated bundle "
    "twice; no more rows than allowed were rejected. Run the job again"
)

log = logging.getLogger(__name__)

OnProgress = Callable[[RunStatus, Size], None]
"""Is called at each phase of a run, and a few times a second while rows flow."""


@dataclass(frozen=True)
class _Prepared:
    """A job that is ready to be submitted; `splits` is None in a replay."""

    pipeline: beam.Pipeline
    target: Target
    size: Size
    splits: int | None


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
        report = timed(run.state, at_the_end(report))
        enter(run.state, "ended", on_progress)
        return report


def enter(
    state: RunStatus, phase: Phase, on_progress: OnProgress, size: Size | None = None
) -> None:
    """Begins a phase of a run, and says so."""
    state.enter_phase(phase)
    on_progress(state, size or Size())


def timed(state: RunStatus, report: Report) -> Report:
    """The report with all the time that the run took, and the seconds of each phase."""
    phases = {phase: round(seconds, 3) for phase, seconds in state.phases().items()}
    seconds = round(time.monotonic() - state.started, 3)
    return report.model_copy(update={"seconds": seconds, "phases": phases})


def _carried_out(run: JobRun, on_progress: OnProgress) -> Report:
    try:
        with breakable():
            prepared = _prepare(run, on_progress)
    except Interrupted:
        run.abandon()
        return _report(run, "CANCELLED", "interrupted before a row was read; no row was written")
    except Exception:
        run.abandon()
        raise
    state, size = run.state, prepared.size
    try:
        enter(state, "running", on_progress, size)
        run.submit(prepared.pipeline)
        follow = run.left()
        if follow is not None and not told_to_end():
            return _report(run, "RUNNING", None).model_copy(update={"follow": follow})

        def look() -> None:
            if state.stop.is_set() or _is_read(state, prepared.splits):
                state.enter_phase("finishing")
            on_progress(state, size)

        ended = run.watch(look)
        enter(state, "finishing", on_progress, size)
        report = judge(run, settled(run, ended))
        if report.state == "DONE":
            enter(state, "indexing", on_progress, size)
        tell = lambda words: _tell(run, words, lambda: on_progress(state, size))  # noqa: E731
        return conclude(prepared.target, report, tell)
    except Exception:
        run.abandon()
        raise


def _is_read(state: RunStatus, splits: int | None) -> bool:
    """Whether the last row was read, as far as the splits tell."""
    return splits is not None and state.counts().get(SPLITS_READ, 0) >= splits


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


def _prepare(run: JobRun, on_progress: OnProgress) -> _Prepared:
    """All that can fail without a trace in the target, then the target."""
    resolved, options = run.resolved, run.options
    reads = run.replay is None
    require_folder(run.rejects)
    logic = JobLogic(
        resolved, run.id, row_limit=options.limit, load_ends=run.stays, readers=run.readers
    )
    try:
        if options.preflight:
            enter(run.state, "checking", on_progress)
            log.info("run %s: trying source, endpoint and target", run.id)
            preflight(resolved, logic, reader=reads)
            run.check_workers()
        enter(run.state, "preparing", on_progress)
        run.accept(logic.target)
        plan = logic.source.plan() if reads else Plan(splits=[])
        pipeline = graph_of(run, hand_over(run, plan) if reads else None)
        log.info("run %s: making the target ready", run.id)
        logic.target.prepare()
    finally:
        with breakable(False):
            logic.close()
    log.info("run %s: %s bytes to read; rejects go to %s", run.id, plan.size.bytes, run.rejects)
    splits = len(plan.splits) if reads else None
    return _Prepared(pipeline, logic.target, plan.size, splits)


def hand_over(run: JobRun, plan: Plan) -> ListSplits:
    """How the workers of a run get the splits of a plan; none holds a secret that they fill in."""
    if run.options.cluster.secrets == "worker":
        splits = run.resolved.referenced(plan.splits, run.id)
        plan = dataclasses.replace(plan, splits=splits)
    return run.hand_over(plan)


def graph_of(run: JobRun, splits: ListSplits | None) -> beam.Pipeline:
    """The graph of a run, which reads the splits that were handed over; None in a replay."""
    resolved = run.resolved
    by_workers = run.options.cluster.secrets == "worker"
    plan = RunPlan(
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
        count_keys=not run.rounds,  # in a sync, rows are to replace one another
        part=run.part,
    )
    pipeline = run.pipeline()
    build(pipeline, resolved.with_references(run.id) if by_workers else resolved, plan)
    if by_workers:
        require_no_secret(pipeline, resolved)
    for part in run.own_parts:
        own = run.part_pipeline(part)
        build(own, resolved, dataclasses.replace(plan, part=part))
        own.run()
    return pipeline


def conclude(target: Target, report: Report, on_progress: OnWords = lambda words: None) -> Report:
    """What a target has to do once a job is done, such as building an index or moving an alias.

    An alias is not moved to a target into which no row came, as all of them were rejected.
    """

    def ended(state: State, why: str, notes: Sequence[str] = ()) -> Report:
        unfinished = target.unfinished()
        error = f"{why}; {unfinished}" if unfinished else why
        return report.model_copy(update={"state": state, "error": error, "notes": [*notes]})

    if report.state != "DONE":
        quick = _broken_off(target, on_progress)
        unfinished = target.unfinished()
        error = f"{report.error}; {unfinished}" if unfinished else report.error
        return report.model_copy(update={"error": error, "notes": [*report.notes, *quick]})
    notes: list[str] = []
    loaded = False
    try:
        notes += end_load(target, on_progress)
        loaded = True
        barren = nothing_written(report)
        if barren and target.unfinished():
            return ended("FAILED", barren, notes)
        notes += [text for text in (barren, replaced(report)) if text]
        notes += target.conclude()
    except Interrupted:
        return ended("CANCELLED", "interrupted after the last row; all rows are written")
    except Exception as e:
        told = str(e) if isinstance(e, VecferryError) else f"{type(e).__name__}: {e}"
        why = f"all rows are written, but the target's last step failed: {redact(told)}"
        if not loaded:
            return ended("FAILED", why)
        return report.model_copy(update={"state": "FAILED", "error": why, "notes": notes})
    return report.model_copy(update={"notes": notes})


def _broken_off(target: Target, on_progress: OnWords) -> list[str]:
    """What a target does quickly at the end of a job that is not done."""
    try:
        return end_load(target, on_progress, whole=False)
    except (Interrupted, Exception) as e:  # why the job is not done is what matters
        log.warning("the target stays as it was for the load: %s", shorten(redact(str(e))))
        return []


def _tell(run: JobRun, words: str, on_progress: Callable[[], None]) -> None:
    """Shows what is done after the last row; raises Interrupted once a signal has come."""
    if not run.state.doing:
        log.info("run %s: %s", run.id, words)
    run.state.doing = words
    on_progress()
    if told_to_end():
        raise Interrupted


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
        currency=run.resolved.currency,
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
            nano=ledger.nano,
            currency=resolved.currency,
        )

    limit = resolved.job.setting.error_limit
    if ended.error is not None and state.passing and state.giving_up.begun:
        return _cancelled(report("CANCELLED", None), whole=False)
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
    # A round of a sync is never judged so: it may have no rows, and its changes may all be bad.
    stopped = state.stopped_by == "interrupt" or told_to_end()
    if not run.rounds and not stopped:
        broken = unmet(outcome, resolved.job.setting.expect, partial=run.one_stream)
        if broken is not None:
            return report("FAILED", broken)
    if state.stopped_by == "errorLimit":
        return report("FAILED", COUNTED_TWICE)
    if outcome.lost and ended.committed:
        return report(
            "FAILED", f"{outcome.lost} rows are unaccounted for: this is a fault of vecferry"
        )
    if state.stopped_by == "interrupt":
        return _cancelled(report("CANCELLED", None))
    if told_to_end():
        return report("CANCELLED", "interrupted after the last row; all rows are written")
    return outcome


def _cancelled(report: Report, *, whole: bool = True) -> Report:
    """The report of an interrupted run, which says what is unfinished.

    With `whole` False a bundle failed, and rows of which it told nothing are unfinished as well.
    """
    unfinished = report.rows_unfinished + (0 if whole else max(0, report.lost))
    why = "interrupted; what was read is written"
    if unfinished:
        why = (
            f"interrupted while a server was away: {unfinished:,} rows that were read are "
            "unfinished, and a run of the same job writes them"
        )
    update = {"state": "CANCELLED", "error": why, "rows_unfinished": unfinished}
    return report.model_copy(update=update)


def _budget_verdict(budget: Budget, ledger: Ledger, state: RunStatus) -> str | None:
    verdict = ledger.verdict()
    if verdict is None and state.stopped_by == "budget":  # a worker's own ledger refused
        verdict = over_budget(budget, state.counts())
    return verdict
