"""What a launcher needs of the place where a job runs: this process, or a cluster."""

from __future__ import annotations

import datetime
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam

from vecferry.beam import ListSplits
from vecferry.errors import JobError
from vecferry.pipelines.job.model import as_file_name
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.options import RunOptions, is_sync
from vecferry.pipelines.run.parts import WHOLE, Part
from vecferry.pipelines.run.splits import here
from vecferry.process import RunStatus, run_state
from vecferry.steps import RETRY_SECONDS, Plan, Target


@dataclass
class RunResult:
    """How a job ended: an error or none, whether it was cancelled, whether counts are exact."""

    error: str | None = None
    cancelled: bool = False
    committed: bool = False


SYNC_RETRY_SECONDS = 300.0
"""How long a step of a sync waits for a server that is away: then the round is begun again."""


class JobRun(ABC):
    """One run of a job. `LocalRun`, `PortableRun` and `ClusterRun` say what each runner needs.

    A launcher calls, in this order: `check_workers`, `accept`, `hand_over`, `pipeline`, `submit`,
    `left`, `watch`, `settle`. Where the job is refused before it was submitted, it calls `abandon`.

    A sync calls `check_workers`, `accept_rounds`, and for each round `begin_round`. It calls
    `hand_over`, `pipeline`, `submit`, `watch` and `settle` of what `begin_round` gives. Where a
    round's graph is kept, `submit_again` takes the place of `pipeline` and `submit`.

    Attributes:
      id: the name of this run in its report and its rejects.
      name: the name of the job on its runner.
      rejects: the folder of this run's rejects.
      state: what is known of the run.
      replay: the folder whose rejects are read in place of the source.
      parallelism: the number of streams that the runner works with.
      streams: the most bundles that may read at a time; None where there is nothing to bound.
      reports: the folder through which workers and launcher speak; None in one process.
      rounds: whether the run is a sync, a chain of rounds.
      spread: whether several streams may read, so that the graph spreads the splits.
      retry_deadline: how many seconds a step waits for a server that is away.
      part: which steps the graph has that the workers are given.
      own_parts: the steps that the launcher of workers carries out itself.

    Args:
      resolved: the job.
      options: what the command line says.
      part_of: the sync whose round this is, and the number of the round.
    """

    spread = True
    part: Part = WHOLE
    own_parts: tuple[Part, ...] = ()

    def __init__(
        self,
        resolved: ResolvedJob,
        options: RunOptions,
        part_of: tuple[JobRun, int] | None = None,
    ) -> None:
        self.resolved, self.options = resolved, options
        if part_of is None:
            self.id = f"{datetime.datetime.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
            folder = self.folder(options.rejects)
        else:
            whole, number = part_of
            self.id, folder = f"{whole.id}-{number}", whole.rejects
        self.name = f"{as_file_name(resolved.job.name)}-{self.id}"
        self.rejects: str = os.path.join(folder, self.name)
        self.rounds = is_sync(resolved, options)
        self.retry_deadline = SYNC_RETRY_SECONDS if self.rounds else RETRY_SECONDS
        self.replay = options.replay and self.folder(options.replay)
        self.parallelism = 1
        self.streams: int | None = None
        self.reports: str | None = None
        self.state = self.open_state()

    @property
    def one_stream(self) -> bool:
        """Whether one stream reads: a part of the rows, or the rejects of another run."""
        return self.options.limit is not None or self.replay is not None

    @property
    def stays(self) -> bool:
        """Whether the launcher stays until the job has ended, and then does its last step."""
        endless = self.resolved.reader.settings.endless
        return not (endless or self.options.cluster.detach)

    def folder(self, folder: str) -> str:
        """A folder of rejects, as the workers name it."""
        return folder

    def open_state(self) -> RunStatus:
        """Where the counts of the run are seen. JobError where workers can't tell anything."""
        return run_state(self.id, self.resolved.job.setting.error_limit.record)

    def check_workers(self) -> None:
        """Raises JobError where the workers can't run the job."""
        return

    def accept(self, target: Target) -> None:
        """Raises JobError where the run can't do what the target asks for at the end of a job."""
        return

    def accept_rounds(self) -> None:
        """Raises JobError where a sync can't be run here as asked."""
        return

    def begin_round(self, number: int, *, full: bool = False) -> JobRun:
        """The run of one round of this sync, with counts of its own; `full` of a full load."""
        raise JobError(f"a job whose source is followed can't be run by {type(self).__name__}")

    def end_round(self) -> None:
        """Lets go of what belongs to this round, once all is known of it."""
        return

    @property
    def readers(self) -> int:
        """How many processes or streams the source should have splits for, if it can choose."""
        return 1

    def hand_over(self, plan: Plan) -> ListSplits:
        """How the workers get the splits that were listed; also chooses the number of streams."""
        return here(self.id, plan.splits)

    @abstractmethod
    def pipeline(self) -> beam.Pipeline:
        """An empty pipeline of the runner."""

    def part_pipeline(self, part: Part) -> beam.Pipeline:
        """An empty pipeline for one of `own_parts`, whose graph is kept when it is run."""
        raise NotImplementedError

    @abstractmethod
    def submit(self, pipeline: beam.Pipeline) -> None:
        """Starts the job."""

    def submit_again(self) -> bool:
        """Starts the graph that was submitted before; False where a round needs one of its own."""
        return False

    def give_up(self) -> None:
        """Ends a job that has been interrupted and does not move any more."""
        return

    def left(self) -> list[str] | None:
        """How to follow a job that the launcher leaves, a line each; None where it stays."""
        return None

    @abstractmethod
    def watch(self, on_progress: Callable[[], None]) -> RunResult:
        """Follows the job to its end; a second signal raises KeyboardInterrupt."""

    def settle(self) -> None:
        """Counts once what a runner repeated, after the job's end."""
        return

    def abandon(self) -> None:
        """Removes what was written for the workers of a job that was refused."""
        return
