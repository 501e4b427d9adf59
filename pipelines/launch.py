"""Runs a job where its options say: in this process, or on a cluster.

Apart from `vecferry.pipelines.cli` because every face runs jobs by it.
"""

from __future__ import annotations

from vecferry.errors import JobError
from vecferry.pipelines.cluster.launch import ClusterRun, PortableRun
from vecferry.pipelines.cluster.runners import choose
from vecferry.pipelines.job.clients import require_clients
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.job.vectors import with_vectors_kept
from vecferry.pipelines.run.alone import alone
from vecferry.pipelines.run.base import JobRun
from vecferry.pipelines.run.launch import OnProgress, launch
from vecferry.pipelines.run.local import LocalRun
from vecferry.pipelines.run.options import RunOptions, is_sync
from vecferry.pipelines.run.positions import positions_of
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.sync import follow
from vecferry.pipelines.run.workers import WorkersRun, workers_for


def run_job(
    resolved: ResolvedJob, options: RunOptions, on_progress: OnProgress = lambda state, size: None
) -> Report:
    """Runs a job to its end and tells how it went.

    `on_progress` is called a few times a second from the calling thread. In the main thread, the
    first Ctrl-C or SIGTERM ends the run after what was read; the second raises KeyboardInterrupt.

    Raises:
      JobError: the job can't run at all; nothing was written.
    """
    if resolved.unable():
        raise JobError(resolved.unable())
    if is_sync(resolved, options):
        if (missing := resolved.lacks_positions()) is not None:
            raise JobError(missing)
        return follow(open_run(resolved, options), positions_of(resolved), on_progress)
    _refuse_rounds(options)
    with alone(resolved, concurrent=options.concurrent_runs):
        return launch(open_run(resolved, options), on_progress)


def carry_out(
    resolved: ResolvedJob, options: RunOptions, on_progress: OnProgress = lambda state, size: None
) -> Report:
    """Carries out what commands ask of a sync that no run holds, and ends; otherwise as `run_job`.

    Raises:
      LeaseHeld: a run holds the sync.
      JobError: it can't be carried out at all; nothing was written.
    """
    if resolved.unable():
        raise JobError(resolved.unable())
    return follow(open_run(resolved, options), positions_of(resolved), on_progress, alone=True)


def open_run(resolved: ResolvedJob, options: RunOptions) -> JobRun:
    """A run in the place that the options name; JobError holds all that can't work there."""
    where = choose(options, resolved)
    if where.local:
        require_clients(resolved)
    if is_sync(resolved, options):
        resolved = with_vectors_kept(resolved, here=where.local)
    if where.local:
        most = workers_for(resolved, options)
        if most < 2:
            return LocalRun(resolved, options, where.options)
        return WorkersRun(resolved, options, where.options, most)
    return (ClusterRun if where.apart else PortableRun)(resolved, options, where)


def _refuse_rounds(options: RunOptions) -> None:
    """Raises JobError for options of a sync in a run that reads once."""
    given = {"--continuous": options.continuous, "--until": options.until is not None}
    problems = [
        f"{option}: this run reads its source once: leave the option out, or use a reader that "
        "follows its source, without --limit, --replay and --into"
        for option, there in given.items()
        if there
    ]
    if problems:
        raise JobError(problems)
