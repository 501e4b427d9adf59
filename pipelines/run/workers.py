"""Runs a job in several processes of this machine: one launcher, and workers that share its splits.

Apart from `vecferry.pipelines.run.local` because one process needs nothing of it. Each worker runs
the graph of a local run. Whatever happens once in a job happens in the launcher.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineState

from vecferry.beam import ListSplits
from vecferry.budget import ledger_of
from vecferry.errors import JobError
from vecferry.pipelines.job.resolve import ResolvedJob, context_of
from vecferry.pipelines.run.base import RunResult
from vecferry.pipelines.run.local import LocalRun
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.processes import Workers, WorkersState, cores
from vecferry.pipelines.run.rejects import tidy_rejects
from vecferry.pipelines.run.splits import as_asked
from vecferry.steps import Plan

log = logging.getLogger(__name__)


def workers_for(resolved: ResolvedJob, options: RunOptions) -> int:
    """How many processes a run on this machine may have, before its splits are known.

    Without a number from the command line, several where a step computes.

    Raises JobError where the command line asks for several, and a step can't be done by several.
    """
    asked = options.workers
    if asked == 1 or resolved.reader.settings.endless:
        return 1
    if asked is None and not _least_bytes(resolved):
        return 1
    concurrent = resolved.job.setting.speed.concurrent
    most = cores() if asked is None else asked
    problems = _unshareable(resolved) if most > 1 else []
    if problems and asked is not None:
        raise JobError([f"--workers {asked}: {problem}" for problem in problems])
    if problems:
        return 1
    return min(most, concurrent) if concurrent else most


def _unshareable(resolved: ResolvedJob) -> list[str]:
    parts = [(s.name, part) for s in resolved.steps for part in (s.settings, s.connection)]
    told = [(name, part.unshareable()) for name, part in parts if part is not None]
    return [f"step {name!r}: {why}" for name, why in told if why is not None]


def _least_bytes(resolved: ResolvedJob) -> int | None:
    """From how many bytes of source on several processes pay; None where no step computes."""
    known = [s.settings.computes_from() for s in resolved.transformers]
    return min((least for least in known if least is not None), default=None)


class WorkersRun(LocalRun):
    """A run whose rows flow in `most` worker processes at most.

    Where a source has one split, or one process must read, the run is that of one process. Of a
    sync the parts of full loads have workers.
    """

    def __init__(
        self, resolved: ResolvedJob, options: RunOptions, beam_options: tuple[str, ...], most: int
    ) -> None:
        super().__init__(resolved, options, beam_options)
        self.most = most
        self._workers: Workers | None = None
        self._full = not self.rounds
        self._alone = self.spread

    def begin_round(self, number: int, *, full: bool = False) -> WorkersRun:
        """This run; a part of a full load is read by several, changes by this process in order."""
        super().begin_round(number)
        self._workers, self._full = None, full
        self.parallelism, self.streams, self.spread = 1, None, self._alone
        return self

    def submit_again(self) -> bool:
        """Keeps the graph of changes; each part of a full load has workers of its own."""
        return self._workers is None and super().submit_again()

    @property
    def readers(self) -> int:
        """The source should have splits for so many processes."""
        return self.most if self._full and not self.one_stream else 1

    def hand_over(self, plan: Plan) -> ListSplits:
        """Starts the workers, which ask for the splits; or keeps to this process."""
        number = self.number(plan)
        if number < 2:
            return super().hand_over(plan)
        self.parallelism = self.streams = number
        self.spread = False
        state = WorkersState(self.resolved.job.setting.error_limit.record)
        state.go_on_from(self.state)
        self.state = state
        ledger = ledger_of(context_of(self.resolved, self.resolved.reader, self.id))
        log.info("run %s: %d worker processes read %d splits", self.id, number, len(plan.splits))
        self._workers = Workers(self.id, number, plan.splits, state, ledger, again=self.rounds)
        return as_asked(self.id)

    def number(self, plan: Plan) -> int:
        """How many processes read a plan; logs where they are fewer than was asked for."""
        number = min(self.readers, len(plan.splits))
        asked = self.options.workers
        if not self._full:
            return 1
        if asked is None:
            least, size = _least_bytes(self.resolved) or 0, plan.size
            known = size.bytes if size.bytes is not None else size.rows and size.rows * ROW_BYTES
            return 1 if known is not None and known < least else number
        if number < asked and not self.rounds:
            why = "--limit and --replay are read by one process"
            if not self.one_stream:
                why = f"the source has {len(plan.splits)} splits, and setting.speed.concurrent"
                why = f"{why} is {self.resolved.job.setting.speed.concurrent or 'not given'}"
            log.warning("--workers %d: %s; %d read", asked, why, max(1, number))
        return number

    def pipeline(self) -> beam.Pipeline:
        """A pipeline whose graph goes to the workers."""
        if self._workers is None:
            return super().pipeline()
        runner = _HandingRunner(self._workers, self._beam_options)
        return beam.Pipeline(runner, options=PipelineOptions(list(self._beam_options)))

    def watch(self, on_progress: Callable[[], None]) -> RunResult:
        """Follows the workers; a second signal ends them and raises KeyboardInterrupt."""
        try:
            return super().watch(on_progress)
        finally:
            self.abandon()

    def settle(self) -> None:
        """Counts the keys that the workers have told; the rejects of a worker that was lost."""
        if self._workers is not None and self._workers.any_lost:
            self.state.settle_rejects(tidy_rejects(self.rejects))
        else:
            self.state.gather()

    def abandon(self) -> None:
        """Ends the workers that are still there."""
        if self._workers is not None:
            self._workers.kill()

    def _interrupt(self) -> None:
        """Asks the readers of all processes to stop, from a thread that may wait."""
        if self._workers is None:
            super()._interrupt()
            return
        asked = {"why": "interrupt", "give_up": True}
        threading.Thread(target=self.state.request_stop, kwargs=asked, daemon=True).start()
        log.warning("interrupted: what was read is finished; a second time ends at once")


ROW_BYTES = 256
"""What a row is taken to have, of a source that tells only how many there are."""


class _HandingRunner(FnApiRunner):
    """Hands the graph that it is given to workers, and waits for them."""

    def __init__(self, workers: Workers, beam_options: tuple[str, ...]) -> None:
        super().__init__()
        self._workers, self._given = workers, beam_options

    def run_via_runner_api(
        self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> PipelineResult:
        """Called by the runner with the pipeline that is run."""
        self._workers.work(pipeline_proto.SerializeToString(), self._given)
        return _Done(PipelineState.DONE)


class _Done(PipelineResult):  # type: ignore[misc]
    """The result of a graph that was run elsewhere."""

    def wait_until_finish(self, duration: object = None) -> str:
        """It is over."""
        return str(PipelineState.DONE)
