"""Runs a pipeline in this process, and follows it through what the process counts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import apache_beam as beam

from vecferry.pipelines.cluster.watch import RunResult
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import on_interrupt
from vecferry.process import RunState

log = logging.getLogger(__name__)


def run_here(
    pipeline: beam.Pipeline, state: RunState, on_progress: Callable[[], None], poll_seconds: float
) -> RunResult:
    """Runs the pipeline in a thread of its own and tells how it ended."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run().wait_until_finish()
        except BaseException as e:
            failure.append(e)

    def interrupt() -> None:
        """The first Ctrl-C asks the readers to stop, the second ends the run at once."""
        if state.stopped_by == "interrupt":
            raise KeyboardInterrupt
        state.stopped_by = "interrupt"
        state.stop.set()
        log.warning("interrupted: what was read is finished; Ctrl-C again stops at once")

    thread = threading.Thread(target=work, name="vecferry-pipeline", daemon=True)
    with on_interrupt(interrupt):
        thread.start()
        while thread.is_alive():
            thread.join(poll_seconds)
            on_progress()
    if not failure:
        return RunResult(committed=True)
    return RunResult(error=state.failure or root_cause(failure[0]))
