"""Where a job runs: sets what each runner needs, and refuses in words what cannot work there."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)

from vecferry.errors import JobError, near
from vecferry.numbers import whole_number
from vecferry.pipelines.cluster.flink import Flink
from vecferry.pipelines.cluster.reachable import unreachable
from vecferry.pipelines.cluster.worker import OPTION
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.options import RunOptions

log = logging.getLogger(__name__)

RUNNERS = ("DirectRunner", "FnApiRunner", "FlinkRunner", "SparkRunner", "PrismRunner")
PORTABLE = "PortableRunner"
OF_A_CLUSTER = {
    "flink_master": "FlinkRunner",
    "spark_master_url": "SparkRunner",
    "prism_location": "PrismRunner",
    "job_endpoint": PORTABLE,
}
STREAMS = 4
"""The streams of a job on a cluster, if neither the job nor the command line says."""
WORKER_CACHE_MILLIS = 0
"""Spark: workers end with their stage, since Spark reuses a cached worker even after it was killed.

Spark gives a task up after four attempts within a second. Starting two more workers takes some
seconds.
"""


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    """The runner of a job.

    `options` are Beam's, completed by ours. `apart` says that workers are other processes than the
    launcher, perhaps elsewhere. `parallelism` is the number of streams. `job_server` is empty if
    Beam starts a job server itself. `flink` is the cluster, if known.
    """

    runner: str
    options: tuple[str, ...]
    local: bool = False
    apart: bool = False
    endless: bool = False
    parallelism: int = 1
    environment: str = ""
    job_server: str = ""
    flink: Flink | None = field(default=None, compare=False)

    def beam_options(self, name: str, needs: str) -> PipelineOptions:
        """Beam's options of a job called `name`; `needs` is told to its workers."""
        more = [] if self.local else [f"--job_name={name}", f"--{OPTION}={needs}"]
        return PipelineOptions([*self.options, *more])


class WorkerOptions(PipelineOptions):
    """What travels to the workers of a job, beside what Beam itself tells them."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument(f"--{OPTION}", default=None, help="set by vecferry itself")


def choose(options: RunOptions, resolved: ResolvedJob) -> RunnerConfig:
    """The runner that the command line asks for; raises JobError with all that cannot work."""
    name = _runner_name(options.runner)
    endless = resolved.reader.settings.endless
    if name in ("DirectRunner", "FnApiRunner"):
        _refuse_local(options)
        given = (*options.beam_options, "--direct_num_workers=1")
        return RunnerConfig(runner="FnApiRunner", options=given, local=True, endless=endless)
    if options.workers is not None:
        raise JobError(
            f"--workers {options.workers}: is about processes of this machine: leave it out, and "
            "say --parallelism=N where the runner takes it"
        )
    beam_options = PipelineOptions(list(options.beam_options))
    portable = beam_options.view_as(PortableOptions)
    more = _environment(name, portable)
    kind = portable.environment_type or value_of(more, "environment_type")
    where = RunnerConfig(
        runner=name,
        options=(*options.beam_options, *more),
        apart=kind not in ("LOOPBACK", "EMBEDDED"),
        endless=endless,
        environment=kind,
        job_server=str(portable.job_endpoint or ""),
    )
    problems = [
        *_unrunnable(name, where, options),
        *(_unshared(options, resolved) if where.apart else ()),
        *unreachable(name, beam_options),
    ]
    if problems:
        raise JobError(problems)
    if name == "FlinkRunner":
        return _on_flink(where, beam_options, resolved)
    if name == "SparkRunner":
        where = _with(where, environment_cache_millis=WORKER_CACHE_MILLIS)
    usual = (_concurrent(resolved) or STREAMS) if where.apart else 1  # threads of one process
    streams = _number(where.options, "parallelism") or usual
    return replace(where, parallelism=_streams(streams, resolved))


def _runner_name(given: str) -> str:
    known = {name.casefold(): name for name in (*RUNNERS, PORTABLE)}
    found = known.get(given.casefold())
    if found is None:
        meant = near(given, known.values(), 0.9)  # they are all alike at their end
        raise JobError(
            f"--runner {given}: jobs are run on {', '.join(RUNNERS)}, or on {PORTABLE} through the "
            f"job server of another one{meant}"
        )
    return found


def _refuse_local(options: RunOptions) -> None:
    cluster = options.cluster
    given = {
        "--detach": cluster.detach and "the job would end with this process",
        "--shared-files": cluster.shared_files and "it is about workers elsewhere",
        "--secrets worker": cluster.secrets == "worker" and "it is about workers elsewhere",
    }
    problems = [
        f"{option}: {why}; it needs a cluster: name one with --runner, or leave it out"
        for option, why in given.items()
        if why
    ]
    if problems:
        raise JobError(problems)
    for option, runner in OF_A_CLUSTER.items():
        if value_of(options.beam_options, option):
            raise JobError(
                f"--{option}: is of {runner}, and this job would run on this machine: add "
                f"--runner {runner}, or leave it out"
            )


def _environment(name: str, portable: Any) -> list[str]:
    """Where workers come from, unless the command line says."""
    if portable.environment_type or portable.environment_config:
        return []
    if name == "PrismRunner":
        return ["--environment_type=LOOPBACK"]
    command = json.dumps({"command": "vecferry-worker"})
    return ["--environment_type=PROCESS", f"--environment_config={command}"]


def value_of(options: Sequence[str], name: str) -> str:
    """The value of an option of Beam, as ``--name=value`` or in two words; the last one counts."""
    found = ""
    for i, option in enumerate(options):
        key, equals, value = option.partition("=")
        if key == f"--{name}":
            found = value if equals else next(iter(options[i + 1 : i + 2]), "")
    return found


def _number(options: Any, name: str) -> int | None:
    value = value_of(options, name)
    if not value:
        return None
    try:
        number = whole_number(value)
    except ValueError:
        number = 0
    if number < 1:
        raise JobError(f"--{name} {value}: must be a whole number of 1 or more")
    return number


def _with(where: RunnerConfig, **values: Any) -> RunnerConfig:
    """`where` with options that the command line does not give; True is a bare flag."""
    given = {option.partition("=")[0] for option in where.options}
    more = tuple(
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in values.items()
        if f"--{name}" not in given
    )
    return replace(where, options=(*where.options, *more))


def _unrunnable(name: str, where: RunnerConfig, options: RunOptions) -> list[str]:
    problems = []
    if where.endless and name == "SparkRunner":
        problems.append(
            "--runner SparkRunner: this source has no end, and Spark can neither pause it nor keep "
            "its position; use FlinkRunner, or repeat a catch-up run that ends"
        )
    if not value_of(options.beam_options, "job_endpoint") and name != "PrismRunner":
        jar = f"{name.removesuffix('Runner').lower()}_job_server_jar"
        if name == PORTABLE:
            problems.append(f"--runner {name}: needs --job_endpoint=HOST:PORT of a job server")
        elif not value_of(options.beam_options, jar):
            problems.append(
                f"--runner {name}: needs --job_endpoint=HOST:PORT of Beam's job server for it, or "
                f"--{jar}=PATH, from which one is started"
            )
    if name == "FlinkRunner" and not value_of(options.beam_options, "flink_master"):
        problems.append(
            "--runner FlinkRunner: needs --flink_master=HOST:8081, the REST address of the "
            "JobManager: without it a job can be neither followed nor cancelled"
        )
    if options.cluster.detach and not where.apart:
        problems.append(
            f"--detach: with --environment_type={where.environment} the workers are in this process"
        )
    return problems


def _unshared(options: RunOptions, resolved: ResolvedJob) -> list[str]:
    """A problem for each thing that only this machine or this process has."""
    problems = []
    for step in resolved.steps:
        alone = step.settings.unshareable()
        if alone is not None:
            problems.append(f"step {step.name!r}: {alone}")
        if step.connection is None:
            continue
        why, path = step.connection.unshareable(), step.connection.local_path()
        if why is not None:
            problems.append(f"step {step.name!r}: {why}")
        if path is not None:
            problems += _local_path(f"step {step.name!r}: data source path", path, options)
    cache = resolved.job.setting.vector_cache
    if cache is not None and cache.uri.startswith("sqlite:"):
        path = cache.uri.removeprefix("sqlite:///")
        problems += _local_path("setting.vectorCache", path, options, "a redis:// URI")
    if options.replay is not None and not options.cluster.shared_files:
        problems.append(
            f"--replay {options.replay}: workers elsewhere can't read it: say --shared-files where "
            "they see this machine's files"
        )
    if "://" not in options.rejects and not options.cluster.shared_files:
        problems.append(
            f"--rejects {options.rejects}: is a folder of this machine, and workers elsewhere "
            "cannot write to it; name a folder that all reach, such as s3://bucket/rejects, or say "
            "--shared-files if workers see this machine's files"
        )
    return problems


def _local_path(
    what: str, path: str, options: RunOptions, better: str = "an object store"
) -> list[str]:
    if not options.cluster.shared_files:
        return [
            f"{what} {path}: is on this machine, and workers elsewhere have no such file: use "
            f"{better}, or say --shared-files where workers see this machine's files"
        ]
    if not path.startswith("/"):
        return [f"{what} {path}: workers start in another folder: write it from / on"]
    return []


def _on_flink(where: RunnerConfig, options: PipelineOptions, resolved: ResolvedJob) -> RunnerConfig:
    master = str(options.view_as(FlinkRunnerOptions).flink_master)
    flink = None if master.startswith("[") else Flink(master)
    asked, concurrent = _number(where.options, "parallelism"), _concurrent(resolved)
    overview = flink.overview() if flink else {}
    slots = int(overview["slots-total"]) if flink else None
    if slots == 0:
        raise JobError(
            f"--flink_master {master}: no TaskManager has joined this cluster yet; start one, or "
            "wait until it has joined"
        )
    if asked and slots and asked > slots:
        raise JobError(
            f"--parallelism {asked}: this cluster has {slots} slots, and the job would wait for "
            "the others: ask for no more, or add TaskManagers"
        )
    parallelism = asked or min(concurrent or slots or STREAMS, slots or STREAMS)
    streams = _streams(parallelism, resolved)
    free = int(overview.get("slots-available", streams))
    if free < streams:
        log.warning("%d slots are free, and the job needs %d: it waits for others", free, streams)
    where = _with(replace(where, flink=flink, parallelism=streams), parallelism=streams)
    if where.endless:
        where = _with(
            where,
            streaming=True,
            finish_bundle_before_checkpointing=True,  # else a job may stand still from its start
            checkpointing_interval=10_000,
            max_bundle_time_mills=100,
        )
    return where


def _concurrent(resolved: ResolvedJob) -> int | None:
    return resolved.job.setting.speed.concurrent


def _streams(most: int, resolved: ResolvedJob) -> int:
    """Streams: no more than `speed.concurrent`, which also bounds requests in flight."""
    concurrent = _concurrent(resolved)
    return min(most, concurrent) if concurrent else most
