"""Follows a job on a portable runner: progress, stop, cancel and the final counts.

Apart from `vecferry.pipelines.cluster.launch` because a run is followed in the same way
wherever its workers are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.portability.api import beam_job_api_pb2

from vecferry.errors import JobError, redact, shorten
from vecferry.pipelines.cluster.flink import Flink, FlinkError
from vecferry.pipelines.cluster.runners import RunnerConfig, value_of
from vecferry.pipelines.run.base import RunResult
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import on_interrupt
from vecferry.process import RunStatus

SILENT_SECONDS = 30.0
ERROR = beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR
LOOK_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""A stopped job without an end counts as ended if nothing was counted for this long."""
FAILURES = 3
"""Give up after this many failures if no worker has reported."""

log = logging.getLogger(__name__)


class JobWatcher:
    """One job on a portable runner, from its submission to its end.

    `written_rejects` counts the rejects of the run, each once even if its bundle was repeated. It
    serves runs whose readers cannot keep the limit of rejects, because no reader knows all rejects.
    """

    def __init__(
        self,
        pipeline: beam.Pipeline,
        where: RunnerConfig,
        name: str,
        state: RunStatus,
        written_rejects: Callable[[], int] | None = None,
    ) -> None:
        self._pipeline, self._where, self._name, self.state = pipeline, where, name, state
        self._written_rejects = written_rejects
        self._result: Any = None
        self._failure: BaseException | None = None
        self._given_up = False
        self._cancelled = False
        self._submitted = threading.Event()
        self._next_look = 0.0
        self._last_counts: dict[str, int] = {}
        self._quiet_since: float | None = None
        self._counted = 0
        self._drained = False
        self._thread = threading.Thread(target=self._work, name="vecferry-pipeline", daemon=True)

    def to_its_end(self, on_progress: Callable[[], None], poll_seconds: float) -> RunResult:
        """Follows the job that was submitted; a second signal cancels it and raises."""
        thread = self._thread
        begun = time.monotonic()
        with on_interrupt(self._interrupt, self._give_up):
            while thread.is_alive():
                thread.join(poll_seconds)
                self._look()
                on_progress()
                if self._given_up:
                    self.cancel()
                    raise KeyboardInterrupt
                begun = self._warn_of_silence(begun)
        self.state.refresh(now=True)
        return self._ended()

    def running(self, seconds: float = 120.0) -> str:
        """Waits until the job runs; gives its id. JobError where it fails before."""
        thread = self._thread
        end = time.monotonic() + seconds
        while time.monotonic() < end and thread.is_alive():
            if self._submitted.wait(0.1) and self._runs():
                return self._id()
        self.state.refresh(now=True)
        error = self._ended().error
        if thread.is_alive():
            error = f"the job did not begin to run within {seconds:.0f} s; it may still do so"
        if error is not None:
            raise JobError(error)
        return self._id()

    def cancel(self) -> None:
        """Ends the job now, wherever it is. What fails of this is logged."""
        self._cancelled = True
        flink = self._where.flink
        try:
            job = flink.find(self._name) if flink is not None else None
            if flink is not None and job is not None:
                flink.cancel(job)
            elif self._result is not None:
                self._result.cancel()
        except Exception as e:
            log.error("the job could not be cancelled: %s", redact(shorten(e, 500)))

    def submit(self) -> None:
        """Hands the job to its runner, from a thread of its own where that is possible."""
        if not self._where.job_server:  # Beam starts one, and asks for signals in doing so
            self._submit()
        self._thread.start()

    def _submit(self) -> None:
        try:
            self._result = self._pipeline.run()
        except Exception as e:
            self._failure = e
        self._submitted.set()

    def _work(self) -> None:
        if not self._submitted.is_set():
            self._submit()
        if self._failure is not None:
            return
        try:
            self._result.wait_until_finish()
        except BaseException as e:
            self._failure = e

    def _runs(self) -> bool:
        flink = self._where.flink
        if flink is None:
            return self._result is not None and self._result.state == "RUNNING"
        try:
            job = flink.find(self._name)
            return job is not None and flink.state(job) == "RUNNING"
        except FlinkError:
            return False

    def _id(self) -> str:
        flink: Flink | None = self._where.flink
        return str(flink.find(self._name) if flink is not None else self._result._job_id)

    def _look(self) -> None:
        """Reads what the workers tell, and asks them to stop, or ends the job, where need be."""
        state = self.state
        state.refresh()
        if self._written_rejects is not None and state.over_limit and not state.stop.is_set():
            self._look_at_rejects(self._written_rejects)
        if state.stopped_by == "rejects" and not state.stop.is_set():
            state.request_stop("rejects")  # one worker can't keep them, and has stopped
        self._look_at_failures()
        if self._where.endless and state.stop.is_set():
            self._end_when_quiet()
        if state.fatal and not self._cancelled and self._submitted.is_set():
            log.info("the job can't succeed, and is ended: %s", state.failure)
            self.cancel()

    def _look_at_rejects(self, written_rejects: Callable[[], int]) -> None:
        """Stops the readers where there are too many, those of repeated bundles counted once."""
        state = self.state
        counted = sum(state.rejects().values())
        if counted == self._counted or state.reject_limit is None:
            return
        self._counted = counted
        try:
            written = written_rejects()
        except Exception as e:
            log.warning("the rejects can't be read: %s", redact(shorten(e)))
            written = counted
        if written > state.reject_limit:
            state.request_stop("errorLimit")

    def _end_when_quiet(self) -> None:
        """Cancels a job without an end once its readers have stopped and nothing moves any more.

        A runner keeps the sources of such a job alive, so that it can be checkpointed.
        """
        counts, moment = self.state.counts(), time.monotonic()
        if counts != self._last_counts or self._quiet_since is None:
            self._last_counts, self._quiet_since = counts, moment
        elif moment - self._quiet_since > QUIET_SECONDS and not self._cancelled:
            self._drained = True
            self.cancel()

    def _look_at_failures(self) -> None:
        """Takes a job for failed that fails again and again before any worker has come up."""
        flink, state = self._where.flink, self.state
        moment = time.monotonic()
        if flink is None or not self._submitted.is_set() or moment < self._next_look:
            return
        if state.has_workers:
            return
        self._next_look = moment + LOOK_SECONDS
        try:
            job = flink.find(self._name)
            failures = flink.failures(job) if job is not None else []
        except FlinkError as e:
            log.info("%s", e)
            return
        if len(failures) >= FAILURES:
            state.fail(root_cause(RuntimeError(failures[0])), fatal=True)

    def _warn_of_silence(self, begun: float) -> float:
        if self.state.has_workers or not self._submitted.is_set():
            return begun
        if time.monotonic() - begun < SILENT_SECONDS:
            return begun
        log.warning(
            "no worker has told anything for %.0f s; the runner's own log says why, such as the "
            "log of a TaskManager or executor",
            SILENT_SECONDS,
        )
        return time.monotonic() + 10 * SILENT_SECONDS

    def _interrupt(self) -> None:
        """Asks the readers to stop."""
        asked = {"why": "interrupt", "give_up": True}
        threading.Thread(target=self.state.request_stop, kwargs=asked, daemon=True).start()
        log.warning("interrupted: what was read is finished; a second time cancels the job")

    def _give_up(self) -> None:
        """Lets the thread that follows the job cancel it."""
        self._given_up = True

    def _ended(self) -> RunResult:
        state = self.state
        if self._drained:
            return RunResult()
        if self._failure is None:
            return RunResult(committed=self._settle())
        error = state.failure or self._explained(root_cause(self._told()))
        return RunResult(error=error, cancelled=self._cancelled)

    def _explained(self, error: str) -> str:
        """With what was to be started, where a runner says no more than that it was not there."""
        if not error.startswith("error=") or self._where.environment != "PROCESS":
            return error
        return (
            f"{error}: a worker's machine can't start the program of --environment_config "
            f"{value_of(self._where.options, 'environment_config')}"
        )

    def _told(self) -> BaseException:
        """The failure with all errors that the runner told of: the last may say little."""
        told = [
            m.message_response.message_text
            for m in getattr(self._result, "_messages", ())
            if m.HasField("message_response") and m.message_response.importance == ERROR
        ]
        return RuntimeError("\n".join([*told, str(self._failure)]))

    def _settle(self) -> bool:
        """Takes the runner's own counters where it has them; whether they are committed."""
        try:
            counters = self._result.metrics().query()["counters"]
        except Exception as e:
            log.info("the runner gives no counters: %s", shorten(e))
            return False
        ours = [m for m in counters if m.key.metric.namespace.startswith("vecferry.")]
        committed = bool(ours) and all(m.committed is not None for m in ours)
        total: Counter[str] = Counter()
        for m in ours:
            total[m.key.metric.name] += m.committed if committed else (m.attempted or 0)
        if ours:
            self.state.settle(dict(total))
        return committed
