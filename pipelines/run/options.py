"""How a job is run, apart from what the job says."""

from __future__ import annotations

from dataclasses import dataclass, field

from vecferry.pipelines.job.resolve import ResolvedJob


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a job runs if its workers are other processes.

    `shared_files` says that workers see this machine's files. `detach` says that the launcher
    leaves once the job runs. If `secrets` is ``worker``, what is submitted holds no secret.
    """

    shared_files: bool = False
    detach: bool = False
    secrets: str = "job"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says of a run.

    Attributes:
      runner: the runner of Beam, by its name.
      beam_options: what is handed to Beam, as words of a command line.
      rejects: the folder of the rejects of all runs; any fsspec URL on a cluster.
      replay: the folder of the run whose rejects are read in place of the source.
      limit: how many rows are read at most.
      preflight: whether source, endpoints and target are tried first.
      poll_seconds: how often progress is told.
      continuous: whether a sync goes on for ever, or ends once nothing is left to read.
      concurrent_runs: whether another run of the job into its target may be at work.
      workers: how many processes of this machine read at most; None where the job decides.
      until: ``now``, a time or a place of the source where a sync ends; None without a bound.
    """

    runner: str = "DirectRunner"
    beam_options: tuple[str, ...] = ()
    rejects: str = "rejects"
    replay: str | None = None
    limit: int | None = None
    preflight: bool = True
    poll_seconds: float = 0.1
    continuous: bool = False
    until: str | None = None
    concurrent_runs: bool = False
    workers: int | None = None
    cluster: ClusterOptions = field(default_factory=ClusterOptions)


def is_sync(resolved: ResolvedJob, options: RunOptions) -> bool:
    """Whether a run is a sync: a chain of rounds that stores how far its source was read.

    A run of some rows, of rejects, or into a new target reads once and stores no position.
    """
    once = options.limit is not None or options.replay is not None
    return resolved.reader.settings.follows and not once and resolved.instead_of is None
