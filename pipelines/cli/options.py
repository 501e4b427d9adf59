"""What commands share: the arguments of a job, the options of Beam, logging."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import RedactingFilter, near
from vecferry.pipelines.cli.output import tell
from vecferry.pipelines.job.placeholders import parse_assignments
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


@dataclass(frozen=True)
class JobArguments:
    """A job as the command line names it."""

    job: str
    data_sources: str | None
    parameters: tuple[str, ...]
    assignments: tuple[str, ...]
    template_folders: tuple[str, ...] = ()

    @property
    def is_template(self) -> bool:
        """Whether the job is ``template:NAME``."""
        return self.job.startswith("template:")

    def resolve(self) -> ResolvedJob:
        """The job, checked; warnings go to standard error. Raises JobError."""
        resolved = self._resolved()
        for warning in resolved.warnings:
            tell(f"warning: {warning}")
        return resolved

    def _resolved(self) -> ResolvedJob:
        from vecferry.pipelines.job.resolve import read_and_resolve
        from vecferry.pipelines.templates.job import resolve_template

        parameters = parse_assignments(self.parameters, "-p")
        assignments = parse_assignments(self.assignments, "--set")
        if not self.is_template:
            return read_and_resolve(
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


template_folders = click.option(
    "--template-dir",
    "template_dirs",
    multiple=True,
    type=click.Path(),
    envvar="VECFERRY_TEMPLATES",
    help="A folder of your own templates; default: the folders in VECFERRY_TEMPLATES.",
)
"""The option of every command that finds templates."""


def job_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds JOB and the options that fill it; the command gets them as `arguments`."""

    @click.argument("job")
    @click.option("--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources.")
    @click.option(
        "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fill ${NAME}."
    )
    @click.option(
        "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set a value in JOB."
    )
    @template_folders
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        job: str,
        data_sources: str | None,
        params: tuple[str, ...],
        assignments: tuple[str, ...],
        template_dirs: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        arguments = JobArguments(job, data_sources, params, assignments, template_dirs)
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


def set_up_logging(verbose: int) -> None:
    """Shows warnings; with -v also vecferry's messages, with -vv all. Secrets are never shown."""
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)
    # Milvus Lite lacks calls that its client tries first; grpc logs a traceback for each call.
    logging.getLogger("grpc").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    # The report says what failed a run; Beam would print the traceback of each layer first.
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    logging.getLogger("vecferry").setLevel(logging.DEBUG if verbose else logging.WARNING)
