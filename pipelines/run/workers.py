"""Runs a job in several processes of this machine: one launcher, and workers that share its splits.

Apart from `vecferry.pipelines.run.local` because one process needs nothing of it. Each worker runs
the graph of a local run. Whatever happens once in a job happens in the launcher.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineState

from vecferry.beam import ListSplits
from vecferry.budget import ledger_of
from vecferry.errors import JobError
from vecferry.pipelines.job.feeds import dealt_by
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep, context_of
from vecferry.pipelines.run.base import RunResult
from vecferry.pipelines.run.local import LocalRun, run_graph
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.parts import IN, OUT, WHOLE, Part
from vecferry.pipelines.run.processes import Own, Workers, WorkersState, cores
from vecferry.pipelines.run.rejects import tidy_rejects
from vecferry.pipelines.run.splits import as_asked
from vecferry.process import run_scope, run_state
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
    problems = unshareable(resolved) if most > 1 else []
    if problems and asked is not None:
        raise JobError([f"--workers {asked}: {problem}" for problem in problems])
    if problems:
        return 1
    return min(most, concurrent) if concurrent else most


def unshareable(resolved: ResolvedJob) -> list[str]:
    """Why several processes can't share a job; the launcher alone may write, and read and deal."""
    problems = []
    for step in resolved.steps[:-1]:
        why = _alone(step)
        if why is not None and not (step is resolved.reader and _dealt(resolved)):
            problems.append(f"step {step.name!r}: {why}")
    return problems


def _alone(step: ResolvedStep) -> str | None:
    """Why one process alone can carry out a step; None if several can."""
    why = step.settings.unshareable()
    return why if why is not None or step.connection is None else step.connection.unshareable()


def _dealt(resolved: ResolvedJob) -> tuple[int, Sequence[str]] | None:
    """The step before which rows can be dealt, and by what columns; None where they can't be."""
    dealt = dealt_by([step.settings for step in resolved.steps])
    if dealt is None or any(_alone(step) for step in resolved.transformers[: dealt[0] - 1]):
        return None
    return dealt


def _least_bytes(resolved: ResolvedJob) -> int | None:
    """From how many bytes of source on several processes pay; None where no step computes."""
    known = [s.settings.computes_from() for s in resolved.transformers]
    return min((least for least in known if least is not None), default=None)


class WorkersRun(LocalRun):
    """A run whose rows flow in `most` worker processes at most.

    The launcher reads a source of one split, and deals its rows; it writes to what one process
    alone can write to. Where one process must do all, the run is that of one process. Of a sync the
    parts of full loads have workers.
    """

    def __init__(
        self, resolved: ResolvedJob, options: RunOptions, beam_options: tuple[str, ...], most: int
    ) -> None:
        super().__init__(resolved, options, beam_options)
        self.most = most
        self._workers: Workers | None = None
        self._full = not self.rounds
        self._alone = self.spread
        self._parts: dict[Part, bytes] = {}

    def begin_round(self, number: int, *, full: bool = False) -> WorkersRun:
        """This run; a part of a full load is read by several, changes by this process in order."""
        super().begin_round(number)
        self._workers, self._full = None, full
        self.parallelism, self.streams, self.spread = 1, None, self._alone
        self.part, self.own_parts = WHOLE, ()
        self._parts = {}
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
        own = run_state(self.id)
        state = WorkersState(self.resolved.job.setting.error_limit.record)
        state.go_on_from(self.state)
        self.state = state
        ledger = ledger_of(context_of(self.resolved, self.resolved.reader, self.id))
        dealt = self._deals(plan)
        self._share_steps(0 if dealt is None else dealt[0])
        what = f"read {len(plan.splits)} splits" if dealt is None else "are dealt rows"
        log.info("run %s: %d worker processes %s", self.id, number, what)
        self._workers = workers = Workers(
            self.id,
            number,
            plan.splits,
            state,
            ledger,
            again=self.rounds,
            own=own,
            dealt_by=None if dealt is None else dealt[1],
        )
        scope = run_scope(self.id).round
        scope.get(IN, lambda: workers.gathered)
        if dealt is None:
            return as_asked(self.id)
        scope.get(OUT, lambda: workers.dealer)
        return super().hand_over(plan)

    def _deals(self, plan: Plan) -> tuple[int, Sequence[str]] | None:
        """How the rows of a plan are dealt; None where the workers read it, or one process does."""
        return _dealt(self.resolved) if len(plan.splits) == 1 else None

    def _share_steps(self, first: int) -> None:
        """Leaves the steps before `first` to this process, and a writer that is for one alone."""
        end = len(self.resolved.steps) - 1 if _alone(self.resolved.writer) else None
        self.part = Part(first, end)
        before, behind = Part(0, first, here=True), Part(end or 0, here=True)
        self.own_parts = (*([before] if first else []), *([behind] if end else []))

    def number(self, plan: Plan) -> int:
        """How many processes read a plan; logs where they are fewer than was asked for."""
        asked, splits = self.options.workers, len(plan.splits)
        dealt = self._deals(plan) is not None
        number = self.readers if dealt else min(self.readers, splits)
        if not self._full:
            return 1
        if asked is None:
            least, size = _least_bytes(self.resolved) or 0, plan.size
            known = size.bytes if size.bytes is not None else size.rows and size.rows * ROW_BYTES
            if known is None and splits == 1:
                return 1  # nothing tells that it is large
            return 1 if known is not None and known < least else number
        if number < asked and not self.rounds:
            why = "--limit and --replay are read by one process"
            if not self.one_stream:
                why = f"the source has {splits} splits, and setting.speed.concurrent"
                why = f"{why} is {self.resolved.job.setting.speed.concurrent or 'not given'}"
            if not self.one_stream and splits == 1 and not dealt:
                why = f"the source has 1 split, and its rows can't be dealt: {UNDEALT}"
            log.warning("--workers %d: %s; %d read", asked, why, max(1, number))
        return number

    def pipeline(self) -> beam.Pipeline:
        """A pipeline whose graph goes to the workers."""
        if self._workers is None:
            return super().pipeline()
        return self._handed(self._work)

    def part_pipeline(self, part: Part) -> beam.Pipeline:
        """A pipeline whose graph is kept for this process."""
        return self._handed(functools.partial(self._parts.__setitem__, part))

    def _handed(self, take: Callable[[bytes], None]) -> beam.Pipeline:
        options = PipelineOptions(list(self._beam_options))
        return beam.Pipeline(_HandingRunner(take), options=options)

    def _work(self, graph: bytes) -> None:
        """Has the workers do their part, and does the others."""
        assert self._workers is not None
        own = {
            "write" if part.first else "read": functools.partial(
                run_graph, graph_, self._beam_options
            )
            for part, graph_ in self._parts.items()
        }
        self._workers.work(graph, self._beam_options, Own(**own))

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


UNDEALT = (
    "the job does not tell which columns make the id of a row, or a step that makes it must be "
    "carried out by several"
)
ROW_BYTES = 256
"""What a row is taken to have, of a source that tells only how many there are."""


class _HandingRunner(FnApiRunner):
    """Hands on the graph that it is given, and does not run it."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take

    def run_via_runner_api(
        self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> PipelineResult:
        """Called by the runner with the pipeline that is run."""
        self._take(pipeline_proto.SerializeToString())
        return _Done(PipelineState.DONE)


class _Done(PipelineResult):  # type: ignore[misc]
    """The result of a graph that was run elsewhere."""

    def wait_until_finish(self, duration: object = None) -> str:
        """It is over."""
        return str(PipelineState.DONE)
