"""Runs a pipeline in this process, and follows it through what the process counts.

Apart from `vecferry.pipelines.launch` because it is one of the places where a job runs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.base import JobRun, RunResult
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import on_interrupt
from vecferry.pipelines.run.options import RunOptions

log = logging.getLogger(__name__)


class LocalRun(JobRun):
    """A run on Beam's own runner, with a thread of its own; `beam_options` are Beam's."""

    def __init__(
        self, resolved: ResolvedJob, options: RunOptions, beam_options: tuple[str, ...]
    ) -> None:
        super().__init__(resolved, options)
        self._beam_options = beam_options
        self._failure: list[BaseException] = []

    def pipeline(self) -> beam.Pipeline:
        """A pipeline of the runner that works in this process."""
        return beam.Pipeline("FnApiRunner", options=PipelineOptions(list(self._beam_options)))

    def submit(self, pipeline: beam.Pipeline) -> None:
        """Keeps the pipeline: it is run while it is watched."""

        def work() -> None:
            try:
                pipeline.run().wait_until_finish()
            except BaseException as e:
                self._failure.append(e)

        self._thread = threading.Thread(target=work, name="vecferry-pipeline", daemon=True)

    def watch(self, on_progress: Callable[[], None]) -> RunResult:
        """Runs the pipeline and tells how it ended."""
        with on_interrupt(self._interrupt):
            self._thread.start()
            while self._thread.is_alive():
                self._thread.join(self.options.poll_seconds)
                on_progress()
        if not self._failure:
            return RunResult(committed=True)
        return RunResult(error=self.state.failure or root_cause(self._failure[0]))

    def _interrupt(self) -> None:
        """The first Ctrl-C asks the readers to stop, the second ends the run at once."""
        state = self.state
        if state.stopped_by == "interrupt":
            raise KeyboardInterrupt
        state.stopped_by = "interrupt"
        state.stop.set()
        log.warning("interrupted: what was read is finished; Ctrl-C again stops at once")
