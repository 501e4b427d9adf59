"""Runs a pipeline in this process, and follows it through what the process counts.

Apart from `vecferry.pipelines.launch` because it is one of the places where a job runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import RunnerResult

from vecferry.beam import ListSplits
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.base import JobRun, RunResult
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import on_interrupt
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.splits import round_by_round
from vecferry.process import run_scope
from vecferry.steps import Plan

log = logging.getLogger(__name__)


class LocalRun(JobRun):
    """A run on Beam's own runner, with a thread of its own; `beam_options` are Beam's.

    The rounds of a sync are this one run: they share its scope, and run its graph again.
    """

    def __init__(
        self, resolved: ResolvedJob, options: RunOptions, beam_options: tuple[str, ...]
    ) -> None:
        super().__init__(resolved, options)
        self._beam_options = beam_options
        self._runner = _KeepingRunner()
        self._given_up = False
        self.spread = not self.rounds

    def begin_round(self, number: int, *, full: bool = False) -> LocalRun:
        """This run, whose counts begin anew."""
        run_scope(self.id).next_round()
        self.state = self.open_state()
        return self

    def hand_over(self, plan: Plan) -> ListSplits:
        """The splits in the graph; those of a round beside it."""
        return round_by_round(self.id, plan.splits) if self.rounds else super().hand_over(plan)

    def pipeline(self) -> beam.Pipeline:
        """A pipeline of the runner that works in this process."""
        return beam.Pipeline(self._runner, options=PipelineOptions(list(self._beam_options)))

    def submit(self, pipeline: beam.Pipeline) -> None:
        """Keeps the pipeline: it is run while it is watched."""
        self._work_at(lambda: pipeline.run())

    def submit_again(self) -> bool:
        """Keeps the graph of the first round; False before the first."""
        if not self._runner.kept:
            return False
        self._work_at(self._runner.run_again)
        return True

    def _work_at(self, run: Callable[[], Any]) -> None:
        failure: list[BaseException] = []

        def work() -> None:
            try:
                run().wait_until_finish()
            except BaseException as e:
                failure.append(e)

        self._failure = failure
        self._thread = threading.Thread(target=work, name="vecferry-pipeline", daemon=True)

    def watch(self, on_progress: Callable[[], None]) -> RunResult:
        """Runs the pipeline and tells how it ended."""
        with on_interrupt(self._interrupt):
            self._thread.start()
            while self._thread.is_alive() and not self._given_up:
                self._thread.join(self.options.poll_seconds)
                on_progress()
        if self._given_up:
            return RunResult(error="interrupted while it waited", cancelled=True)
        if not self._failure:
            return RunResult(committed=True)
        return RunResult(error=self.state.failure or root_cause(self._failure[0]))

    def _interrupt(self) -> None:
        """Asks the readers to stop."""
        state = self.state
        state.stopped_by = "interrupt"
        state.stop.set()
        state.giving_up.soon()
        log.warning("interrupted: what was read is finished; a second time ends at once")

    def give_up(self) -> None:
        """Leaves the pipeline to its thread, which ends with the process."""
        self._given_up = True


def run_graph(graph: bytes, options: Sequence[str]) -> None:
    """Runs, in this process, the graph that a launcher has built in another one."""
    proto = beam_runner_api_pb2.Pipeline.FromString(graph)
    given = PipelineOptions([*options, "--experiments=beam_fn_api"])
    FnApiRunner().run_via_runner_api(proto, given).wait_until_finish()


class _KeepingRunner(FnApiRunner):
    """Keeps the graph that it was given, as what it makes of the pipeline, and runs it again.

    Building a graph anew takes three times as long as running it without rows.
    """

    kept = False

    def run_via_runner_api(
        self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> RunnerResult:
        """As the runner does; called by it when a pipeline is run."""
        self._proto, self._options, self.kept = pipeline_proto, options, True
        return super().run_via_runner_api(pipeline_proto, options)

    def run_again(self) -> RunnerResult:
        """Runs the graph once more; gives its result."""
        return super().run_via_runner_api(self._proto, self._options)
