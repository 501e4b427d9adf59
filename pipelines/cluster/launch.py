"""What a launcher does for a run on a cluster, beside what it does for every run."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

from vecferry.errors import JobError, redact
from vecferry.pipelines.cluster import requirements
from vecferry.pipelines.cluster.runners import RunnerConfig
from vecferry.pipelines.job.resolve import ResolvedJob, context_of
from vecferry.pipelines.run.rejects import tidy_rejects
from vecferry.process import RunState, run_state
from vecferry.reporting import LAUNCHER, ClusterState

log = logging.getLogger(__name__)


def open_state(resolved: ResolvedJob, where: RunnerConfig, run: str, rejects: str) -> RunState:
    """Where the counts of a run are seen: in this process, or gathered from its workers."""
    limit = resolved.job.setting.error_limit.record
    if not where.apart:
        return run_state(run, limit)
    try:
        state = ClusterState(limit, rejects)
        state.channel.write(LAUNCHER, {})
    except Exception as e:
        raise JobError(f"--rejects {rejects}: can't be written to: {redact(str(e))}") from None
    return state


def leave_nothing(state: RunState) -> None:
    """Removes what a run that was refused has written for its workers."""
    if isinstance(state, ClusterState):
        with contextlib.suppress(Exception):  # why it was refused is what matters
            state.channel.remove()


def worker_requirements(
    resolved: ResolvedJob, where: RunnerConfig, rejects: str, secrets: str
) -> dict[str, Any]:
    """What the workers of a run must have, and where they complain."""
    return requirements.worker_requirements(resolved, rejects if where.apart else "", secrets)


def ask_workers(where: RunnerConfig, name: str, wanted: dict[str, Any]) -> None:
    """Looks at the workers first, where one that dies would leave the job hanging."""
    if where.environment == "EXTERNAL":
        from vecferry.pipelines.cluster.probe import probe

        log.info("asking the workers what they have")
        probe(where, f"{name}-probe", {**wanted, "reports": ""})


def streams_of(resolved: ResolvedJob, where: RunnerConfig, run: str) -> int:
    """How many streams can work: no more than there are files to read, or parts of them.

    A stream that has nothing to read would keep its share of the requests in flight.
    """
    if where.local or "local" not in resolved.reader.kind.sources:
        return where.parallelism
    reader = resolved.reader.logic(context_of(resolved, resolved.reader, run))
    return max(1, min(where.parallelism, len(reader.splits())))


def rejects_folder(folder: str, where: RunnerConfig) -> str:
    """A run's folder of rejects, as workers in other folders name it."""
    return os.path.abspath(folder) if where.apart and "://" not in folder else folder


def settle_rejects(state: RunState, rejects: str) -> None:
    """Counts the rejects that were written, each once, and tells nothing more to the workers."""
    try:
        state.settle_rejects(tidy_rejects(rejects))
        if isinstance(state, ClusterState):
            state.channel.remove()
    except Exception as e:
        log.warning("%s can't be read to its end: %s", rejects, redact(str(e)))


def refuse_detaching(resolved: ResolvedJob, target: Any) -> None:
    """JobError where the launcher would have to do something at the end of a job."""
    problems = []
    limit = resolved.job.setting.error_limit
    if limit.record is not None or limit.percentage is not None:
        problems.append(
            "--detach: setting.errorLimit is judged by this process at the end: leave one out"
        )
    if getattr(target, "concludes", False):
        problems.append(
            "--detach: this job's target has a last step once all rows are written (an alias, a "
            "statement), which this process does: leave one out"
        )
    if problems:
        raise JobError(problems)


def how_to_follow(where: RunnerConfig, job: str, rejects: str) -> list[str]:
    """What to do with a job that was left running, a line each."""
    if where.flink is None:
        return [
            f"job {job} runs on; follow and cancel it with the tools of the runner",
            f"rejects: {rejects}",
        ]
    url = where.flink.url
    lines = [
        f"follow: {where.flink.job_url(job)}  or  curl {url}/jobs/{job}",
        f"cancel: curl -X PATCH '{url}/jobs/{job}?mode=cancel'",
    ]
    if where.endless:
        lines += [
            "stop with a savepoint: curl -X POST -H 'Content-Type: application/json' -d "
            f"'{{\"cancel-job\": true}}' {url}/jobs/{job}/savepoints",
            "resume: the same command with --savepoint_path=PATH, which the JobManager tells "
            f"under {url}/jobs/{job}/checkpoints",
        ]
    else:
        lines.append("resume: run the job again; rows that are there are written over")
    return [*lines, f"rejects: {rejects}"]
