"""The runs of a job on a portable runner: with workers in this process, and with workers apart.

Stands apart from `vecferry.pipelines.launch` because a local run does not load it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any

import apache_beam as beam

from vecferry.beam import ListSplits
from vecferry.errors import JobError, redact
from vecferry.pipelines.cluster.requirements import packed, worker_requirements
from vecferry.pipelines.cluster.runners import RunnerConfig
from vecferry.pipelines.cluster.watch import JobWatcher
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.base import JobRun, RunResult
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.rejects import count_rejects, tidy_rejects
from vecferry.pipelines.run.splits import elsewhere, remove_splits
from vecferry.process import end_run
from vecferry.run.channel import LAUNCHER, ClusterState
from vecferry.steps import Plan, Target

log = logging.getLogger(__name__)


class PortableRun(JobRun):
    """A run on a portable runner whose workers are threads of this process, such as Prism's."""

    def __init__(
        self,
        resolved: ResolvedJob,
        options: RunOptions,
        where: RunnerConfig,
        part_of: tuple[JobRun, int] | None = None,
    ) -> None:
        self.where = where
        super().__init__(resolved, options, part_of)
        self.parallelism = self.streams = 1 if self.one_stream else where.parallelism
        self._needs: dict[str, Any] | None = None

    @property
    def needs(self) -> dict[str, Any]:
        """What the workers of the run must have."""
        if self._needs is None:
            secrets = self.options.cluster.secrets
            self._needs = worker_requirements(self.resolved, self.reports or "", secrets)
        return self._needs

    def check_workers(self) -> None:
        """Looks at the workers first, where one that dies would leave the job hanging."""
        if self.where.environment == "EXTERNAL":
            from vecferry.pipelines.cluster.probe import probe

            log.info("asking the workers what they have")
            probe(self.where, f"{self.name}-probe", {**self.needs, "reports": ""})

    def accept_rounds(self) -> None:
        """JobError where the launcher would leave: it stores the position after each round."""
        if self.options.cluster.detach:
            raise JobError(
                "--detach: a sync stores its position after each round, which this process does: "
                "leave the option out, and let this process run on"
            )

    def begin_round(self, number: int, *, full: bool = False) -> PortableRun:
        """A job of its own on the runner, with a folder of rejects within that of the sync."""
        return type(self)(self.resolved, self.options, self.where, (self, number))

    def end_round(self) -> None:
        """Removes what launcher and workers have told each other, and the scope of the round."""
        self.abandon()
        end_run(self.id)

    def give_up(self) -> None:
        """Cancels the job."""
        self._watcher.cancel()

    def hand_over(self, plan: Plan) -> ListSplits:
        """As many streams as can work, and the splits for them."""
        self._bound_streams(len(plan.splits))
        return super().hand_over(plan)

    def _bound_streams(self, splits: int) -> None:
        """No more streams than there are splits.

        A stream that has nothing to read would keep its share of the requests in flight.
        """
        if not self.one_stream and splits:
            self.parallelism = self.streams = min(self.where.parallelism, splits)

    def pipeline(self) -> beam.Pipeline:
        """A pipeline of the runner, which tells workers what they need."""
        where = self.where
        return beam.Pipeline(
            where.runner, options=where.beam_options(self.name, packed(self.needs))
        )

    def submit(self, pipeline: beam.Pipeline) -> None:
        """Hands the job to its runner."""
        self._watcher = self._watched(pipeline)
        self._watcher.submit()

    def _watched(self, pipeline: beam.Pipeline) -> JobWatcher:
        return JobWatcher(pipeline, self.where, self.name, self.state)

    def watch(self, on_progress: Callable[[], None]) -> RunResult:
        """Follows the job to its end; a second signal cancels it and raises KeyboardInterrupt."""
        return self._watcher.to_its_end(on_progress, self.options.poll_seconds)

    def settle(self) -> None:
        """Counts the rejects that were written, each once."""
        try:
            self.state.gather()
            self.state.settle_rejects(tidy_rejects(self.rejects))
            self.clean_up()
        except Exception as e:
            log.warning("%s can't be read to its end: %s", self.rejects, redact(str(e)))

    def clean_up(self) -> None:
        """Removes what launcher and workers have told each other."""


class ClusterRun(PortableRun):
    """A run whose workers are other processes, perhaps elsewhere.

    Workers and launcher speak through the run's folder of rejects, which all of them reach.
    """

    state: ClusterState

    def __init__(
        self,
        resolved: ResolvedJob,
        options: RunOptions,
        where: RunnerConfig,
        part_of: tuple[JobRun, int] | None = None,
    ) -> None:
        super().__init__(resolved, options, where, part_of)
        self.reports = self.rejects

    def folder(self, folder: str) -> str:
        """The folder in full, as workers start in other folders."""
        return folder if "://" in folder else os.path.abspath(folder)

    def open_state(self) -> ClusterState:
        """The counts of the run, gathered from its workers."""
        try:
            state = ClusterState(self.resolved.job.setting.error_limit.record, self.rejects)
            state.channel.write(LAUNCHER, {})
        except Exception as e:
            raise JobError(
                f"--rejects {self.rejects}: can't be written to: {redact(str(e))}"
            ) from None
        return state

    def accept(self, target: Target) -> None:
        """JobError where the launcher leaves, and would have to do something at the end."""
        if not self.options.cluster.detach:
            return
        problems = []
        limit = self.resolved.job.setting.error_limit
        judged = {
            "errorLimit": limit.record is not None or limit.percentage is not None,
            "expect": not self.resolved.job.setting.expect.is_empty,
        }
        problems += [
            f"--detach: setting.{name} is judged by this process at the end: leave one out"
            for name, there in judged.items()
            if there
        ]
        if target.concludes:
            problems.append(
                "--detach: this job's target has a last step once all rows are written (an alias, "
                "a statement), which this process does: leave one out"
            )
        if problems:
            raise JobError(problems)

    def hand_over(self, plan: Plan) -> ListSplits:
        """The splits in the pipeline, or in files where they are many."""
        self._bound_streams(len(plan.splits))
        try:
            return elsewhere(self.rejects, plan.splits, self.parallelism)
        except OSError as e:
            raise JobError(
                f"--rejects {self.rejects}: can't be written to: {redact(str(e))}"
            ) from None

    def _watched(self, pipeline: beam.Pipeline) -> JobWatcher:
        return JobWatcher(pipeline, self.where, self.name, self.state, self._written_rejects)

    def _written_rejects(self) -> int:
        # On an object store they are written when a bundle ends: too late to ask for them.
        remote = "://" in self.rejects
        return sum((self.state.rejects() if remote else count_rejects(self.rejects)).values())

    def left(self) -> list[str] | None:
        """With ``--detach``, how to follow the job, once it runs."""
        if not self.options.cluster.detach:
            return None
        return how_to_follow(self.where, self._watcher.running(), self.rejects)

    def clean_up(self) -> None:
        """Tells nothing more to the workers."""
        remove_splits(self.rejects)
        self.state.channel.remove()

    def abandon(self) -> None:
        """Removes what a run that was refused has written for its workers."""
        with contextlib.suppress(Exception):  # why it was refused is what matters
            self.clean_up()


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
