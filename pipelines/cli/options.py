"""What commands share: the arguments of a job, the options of Beam and of what is told."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError, near
from vecferry.numbers import whole_number
from vecferry.pipelines.cli.completion import complete_job, complete_set
from vecferry.pipelines.cli.logs import FORMATS, use_log_format
from vecferry.pipelines.cli.output import warn
from vecferry.pipelines.cli.telling import TellOptions
from vecferry.pipelines.job.placeholders import Values, parse_assignments
from vecferry.pipelines.job.schedule import scheduled_time
from vecferry.pipelines.run.options import ClusterOptions

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob

AFTER_DASHES = "after dashes"
JAVA_OPTIONS = {
    f"--{name}"
    for name in (
        "allow_non_restored_state",
        "checkpointing_interval",
        "finish_bundle_before_checkpointing",
        "max_bundle_size",
        "max_bundle_time_mills",
        "savepoint_path",
        "streaming_timeout_ms",
    )
}
"""Options that a job server knows and Beam's Python does not."""


MOST_WORKERS = 256
"""More processes than a machine has use for are a mistake."""

TIME_ZONE = "VECFERRY_TIME_ZONE"
"""The variable that names the time zone of ``--at``."""


@dataclass(frozen=True)
class JobArguments:
    """A job as the command line names it."""

    job: str
    data_sources: str | None
    parameters: tuple[str, ...]
    assignments: tuple[str, ...]
    template_folders: tuple[str, ...] = ()
    at: str | None = None
    time_zone: str | None = None
    relative_to: str = "file"

    def values(self) -> Values:
        """What fills the placeholders of the job. Raises JobError."""
        if self.at is None and self.time_zone is not None and not os.environ.get(TIME_ZONE):
            raise JobError(f"--time-zone {self.time_zone}: give --at TIME as well")
        at = None if self.at is None else scheduled_time(self.at, self.time_zone)
        return Values(
            parse_assignments(self.parameters, "-p"),
            at,
            paths_from_here=self.relative_to == "cwd",
        )

    @property
    def is_template(self) -> bool:
        """Whether the job is ``template:NAME``."""
        return self.job.startswith("template:")

    def resolve(self) -> ResolvedJob:
        """The job, checked; warnings go to standard error. Raises JobError."""
        resolved = self._resolved()
        for warning in resolved.warnings:
            warn(warning)
        return resolved

    def _resolved(self) -> ResolvedJob:
        from vecferry.pipelines.autoetl.resolve import resolve_file
        from vecferry.pipelines.templates.job import resolve_template

        parameters = self.values()
        assignments = parse_assignments(self.assignments, "--set")
        if not self.is_template:
            return resolve_file(
                self.job,
                data_sources=self.data_sources,
                parameters=parameters,
                assignments=assignments,
            )
        return resolve_template(
            self.job,
            folders=self.template_folders,
            data_sources=self.data_sources,
            parameters=parameters,
            assignments=assignments,
        )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--json``; the command gets it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")(command)


ENV_FILES = "vecferry.env_files"
"""Under this name the context of a command has the files of ``--env-file``."""


def _read_env_files(ctx: click.Context, _: click.Parameter, paths: tuple[str, ...]) -> None:
    from vecferry.pipelines.job.env_file import read_env_files

    read_env_files(paths)
    ctx.meta[ENV_FILES] = paths


env_file = click.option(
    "--env-file",
    multiple=True,
    type=click.Path(),
    is_eager=True,
    expose_value=False,
    callback=_read_env_files,
    help="A .env file: variables that the environment does not have.",
)
"""The option of every command that fills placeholders; files are read before other options."""

template_folders = click.option(
    "--template-dir",
    "template_dirs",
    multiple=True,
    type=click.Path(),
    envvar="VECFERRY_TEMPLATES",
    help="A folder of your own templates; default: the folders in VECFERRY_TEMPLATES.",
)
"""The option of every command that finds templates."""


def job_arguments(command: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """Adds JOB and the options that fill it; the command gets them as `arguments`.

    If JOB is not required, `JobArguments.job` is empty without one.
    """

    # A default of None would count as given.
    otherwise: dict[str, Any] = {} if required else {"default": None}

    @click.argument("job", required=required, shell_complete=complete_job, **otherwise)
    @click.option("--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources.")
    @click.option(
        "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fill ${NAME}."
    )
    @click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="PATH=VALUE",
        help="Set a value in JOB.",
        shell_complete=complete_set,
    )
    @click.option("--at", metavar="TIME", help="Tell $bizdate, $[yyyymmdd] and alike of TIME.")
    @click.option("--time-zone", metavar="ZONE", envvar=TIME_ZONE, help="The zone of --at.")
    @click.option(
        "--relative-to",
        type=click.Choice(["file", "cwd"]),
        default="file",
        show_default=True,
        help="What paths of data sources are relative to: their file, or the current folder.",
    )
    @env_file
    @template_folders
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        job: str | None,
        data_sources: str | None,
        params: tuple[str, ...],
        assignments: tuple[str, ...],
        template_dirs: tuple[str, ...],
        at: str | None,
        time_zone: str | None,
        relative_to: str,
        **rest: Any,
    ) -> Any:
        arguments = JobArguments(
            os.path.expanduser(job or ""),
            data_sources,
            params,
            assignments,
            template_dirs,
            at,
            time_zone,
            relative_to,
        )
        return command(*args, arguments=arguments, **rest)

    return wrapped


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a cluster; the command gets them as `cluster`."""

    @click.option("--shared-files", is_flag=True, help="Workers see this machine's files.")
    @click.option("--detach", is_flag=True, help="Leave when the job runs, and say how to go on.")
    @click.option(
        "--secrets",
        type=click.Choice(["job", "worker"]),
        default="job",
        show_default=True,
        help="Where secrets are filled in: here, or from each worker's environment.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, shared_files: bool, detach: bool, secrets: str, **rest: Any) -> Any:
        cluster = ClusterOptions(shared_files=shared_files, detach=detach, secrets=secrets)
        return command(*args, cluster=cluster, **rest)

    return wrapped


def log_format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--log-format``, which takes effect where it stands; the command does not get it."""
    return click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        expose_value=False,
        callback=lambda _ctx, _param, value: use_log_format(value) if value else None,
        help="How log lines, warnings and errors are written; default: text.",
    )(command)


def tell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say how a run tells what happens; the command gets `telling`."""

    @click.option(
        "--events", metavar="FILE|-", help="Write what happens, a line of JSON each second."
    )
    @click.option(
        "--metrics", metavar="[HOST]:PORT|URL", help="Metrics for Prometheus, or to a collector."
    )
    @log_format_option
    @functools.wraps(command)
    def wrapped(*args: Any, events: str | None, metrics: str | None, **rest: Any) -> Any:
        return command(*args, telling=TellOptions(events=events, metrics=metrics), **rest)

    return wrapped


def workers_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--workers``; the command gets a number, or None of ``auto``, as `workers`."""
    return click.option(
        "--workers",
        metavar="N|auto",
        default="auto",
        show_default=True,
        callback=_workers,
        help="How many processes of this machine do the work.",
    )(command)


def _workers(ctx: click.Context, _: click.Parameter, given: str) -> int | None:
    if given.strip().casefold() == "auto":
        return None
    try:
        number = whole_number(given)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_WORKERS:
        raise click.UsageError(
            f"--workers {given}: must be auto, or a number from 1 to {MOST_WORKERS}", ctx
        )
    return number


def passed_through(ctx: click.Context) -> tuple[str, ...]:
    """The options of Beam on a command line; raises UsageError for an unknown name."""
    own = {o for p in ctx.command.params for o in p.opts}
    extra, known = list(ctx.args), None
    for argument in extra:
        if not argument.startswith("-"):
            continue
        name = argument.partition("=")[0]
        if known is None:
            known = _beam_option_names()
        if name not in known:
            raise click.UsageError(
                f"unknown option {name!r}{near(name, own | known)}; put an option of Beam that "
                "vecferry does not know behind --",
                ctx,
            )
    if extra and not extra[0].startswith("-"):
        raise click.UsageError(f"unexpected argument {extra[0]!r}", ctx)
    return (*extra, *ctx.obj[AFTER_DASHES])


def _beam_option_names() -> set[str]:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.pipeline_options import _BeamArgumentParser as Parser

    parser = Parser(allow_abbrev=False)
    for cls in PipelineOptions.__subclasses__():
        adder = inspect.getattr_static(cls, "_add_argparse_args", None)
        if adder is not None:
            cls._add_argparse_args(parser)
    return {option for action in parser._actions for option in action.option_strings} | JAVA_OPTIONS
