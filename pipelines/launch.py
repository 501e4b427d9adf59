"""Runs a job where its options say: in this process, or on a cluster.

Apart from `vecferry.pipelines.cli` because every face runs jobs by it.
"""

from __future__ import annotations

from vecferry.errors import JobError
from vecferry.pipelines.cluster.launch import ClusterRun, PortableRun
from vecferry.pipelines.cluster.runners import choose
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.base import JobRun
from vecferry.pipelines.run.launch import OnProgress, launch
from vecferry.pipelines.run.local import LocalRun
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.report import Report


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
    return launch(open_run(resolved, options), on_progress)


def open_run(resolved: ResolvedJob, options: RunOptions) -> JobRun:
    """A run in the place that the options name; JobError holds all that can't work there."""
    where = choose(options, resolved)
    if where.local:
        return LocalRun(resolved, options, where.options)
    return (ClusterRun if where.apart else PortableRun)(resolved, options, where)
