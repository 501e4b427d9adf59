"""Runs a pipeline in this process, and follows it through what the process counts."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam

from vecferry.pipelines.following import Ended
from vecferry.pipelines.words import last_words
from vecferry.process import RunState

log = logging.getLogger(__name__)


def run_here(
    pipeline: beam.Pipeline, state: RunState, on_progress: Callable[[], None], poll_seconds: float
) -> Ended:
    """Runs the pipeline in a thread of its own and tells how it ended."""
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
            thread.join(poll_seconds)
            on_progress()
    if not failure:
        return Ended(committed=True)
    return Ended(error=state.failure or last_words(failure[0]))


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
