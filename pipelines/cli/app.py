"""The command line: ``vecferry run|check|preview|query|verify|status|schema|…``; see `app`.

Exit status: 0 done; 1 the job ran and failed; 2 the command line or the job is invalid;
130 interrupted, by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

import click

from vecferry import __version__
from vecferry.errors import JobError, VecferryError, shorten
from vecferry.pipelines.cli import asking, autoetl, commands
from vecferry.pipelines.cli import cache as cache_command
from vecferry.pipelines.cli import doctor as doctor_command
from vecferry.pipelines.cli import export as export_command
from vecferry.pipelines.cli import init as init_command
from vecferry.pipelines.cli import polarsearch as polarsearch_commands
from vecferry.pipelines.cli import positions as positions_commands
from vecferry.pipelines.cli import rejects as rejects_command
from vecferry.pipelines.cli import report as report_command
from vecferry.pipelines.cli import sources as sources_command
from vecferry.pipelines.cli import templates as templates_command
from vecferry.pipelines.cli.completion import complete_job
from vecferry.pipelines.cli.logs import FORMATS, set_up_logging, use_log_format
from vecferry.pipelines.cli.options import (
    AFTER_DASHES,
    JobArguments,
    cluster_options,
    job_arguments,
    passed_through,
    tell_options,
    workers_option,
)
from vecferry.pipelines.cli.output import (
    begin,
    flush,
    in_json,
    say,
    say_errors,
    set_up_streams,
    tell,
)
from vecferry.pipelines.cli.telling import TellOptions
from vecferry.pipelines.job.retarget import TargetOptions, target_options
from vecferry.pipelines.run.interrupts import breakable, listening
from vecferry.pipelines.run.options import ClusterOptions

DONE, FAILED, INVALID = 0, 1, 2


class _Group(click.Group):
    """If a command is unknown, names the nearest one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from vecferry.errors import near

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            ctx.fail(f"unknown command {args[0]!r}{near(args[0], self.commands)}")


def _say_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    """Prints the version, with those that a report of a fault needs; Beam is not imported."""
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import version
    from platform import python_version

    beam = version("apache-beam")
    click.echo(f"vecferry {__version__} (Python {python_version()}, apache-beam {beam})")
    ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the versions of vecferry, Python and Beam, and exit.",
)
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all of them.")
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    envvar="VECFERRY_LOG_FORMAT",
    help="How log lines, warnings and errors are written.",
)
@click.pass_context
def app(ctx: click.Context, verbose: int, log_format: str) -> None:
    """Ferry rows into vector stores, embedding them on the way."""
    set_up_logging(verbose)
    use_log_format(log_format)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@job_arguments
@target_options
@cluster_options
@tell_options
@click.option("--limit", type=click.IntRange(1), help="Read at most this many rows.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write the report to this file.")
@click.option("--rejects", default="rejects", show_default=True, help="Folder for rejected rows.")
@click.option("--replay", help="Run the rejects in this folder again.")
@click.option("--continuous", is_flag=True, help="Follow the source for ever, round by round.")
@click.option("--until", metavar="now|TIME|PLACE", help="Follow the source up to there, and end.")
@click.option("--no-preflight", is_flag=True, help="Do not try source, endpoint and target first.")
@click.option("--concurrent-runs", is_flag=True, help="Do not mind other runs of this job.")
@click.option("--runner", default="DirectRunner", show_default=True, help="Beam's runner.")
@workers_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def run(
    ctx: click.Context,
    arguments: JobArguments,
    target: TargetOptions,
    cluster: ClusterOptions,
    telling: TellOptions,
    limit: int | None,
    report: str | None,
    rejects: str,
    replay: str | None,
    continuous: bool,
    until: str | None,
    no_preflight: bool,
    concurrent_runs: bool,
    runner: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run JOB to its end. Options of Beam may follow; vecferry does not check those after --."""
    beam_options = passed_through(ctx)
    target.refuse_parts(limit=limit, replay=replay, detached=cluster.detach)
    resolved = target.apply(arguments.resolve())
    ctx.exit(
        commands.run(
            resolved,
            limit=limit,
            report=report,
            rejects=rejects,
            replay=replay,
            continuous=continuous,
            until=until,
            preflight=not no_preflight,
            concurrent_runs=concurrent_runs,
            runner=runner,
            workers=workers,
            cluster=cluster,
            beam_options=beam_options,
            telling=telling,
            as_json=as_json,
        )
    )


@app.command()
@job_arguments
@click.argument("others", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@target_options
@click.option("--connect", is_flag=True, help="Also try source, endpoint (one text) and target.")
@click.option("--estimate", is_flag=True, help="Read and count rows, texts, tokens, money.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Estimate from about N rows of a source."
)
@click.option(
    "--rejects",
    default="rejects",
    show_default=True,
    help="Folder for rejected rows, tried as by run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(
    arguments: JobArguments,
    others: tuple[str, ...],
    target: TargetOptions,
    connect: bool,
    estimate: bool,
    sample: int | None,
    rejects: str,
    as_json: bool,
) -> None:
    """Parse, fill and validate each JOB. Changes nothing."""
    if others and as_json:
        raise click.UsageError("--json takes one JOB: check several in several calls")
    problems: list[str] = []
    for job in (arguments.job, *others):
        try:
            resolved = target.apply(dataclasses.replace(arguments, job=job).resolve())
            commands.check(
                resolved,
                connect=connect,
                estimate=estimate,
                sample=sample,
                rejects=rejects,
                as_json=as_json,
            )
        except JobError as e:
            if not others:
                raise
            problems += (p if p.startswith(job) else f"{job}: {p}" for p in e.problems)
    if problems:
        raise JobError(problems)


@app.command()
@job_arguments
@click.option("--rows", type=click.IntRange(1), default=3, show_default=True, help="How many rows.")
@click.option("--source", is_flag=True, help="Show only what the reader gives.")
@click.option("--wide", is_flag=True, help="Cut no value to fit the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps with their rows as JSON.")
@click.pass_context
def preview(
    ctx: click.Context, arguments: JobArguments, rows: int, source: bool, wide: bool, as_json: bool
) -> None:
    """Show the first rows after each step, and as the writer would get them. Writes nothing.

    Exit status 1: every row is rejected.
    """
    resolved = arguments.resolve()
    ctx.exit(commands.preview(resolved, rows, source_only=source, as_json=as_json, wide=wide))


@app.command()
@job_arguments
@click.argument("text", required=False)
@click.option("--image", type=click.File("rb"), help="Search by this image instead of TEXT.")
@click.option(
    "-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many rows."
)
@click.option("--column", help="The vector column, if the job makes several.")
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON.")
def query(
    arguments: JobArguments,
    text: str | None,
    image: IO[bytes] | None,
    k: int,
    column: str | None,
    as_json: bool,
) -> None:
    """Embed TEXT, or an image, with JOB's model and search JOB's target."""
    if (text is None) == (image is None):
        raise click.UsageError("give either TEXT or --image FILE")
    if text is not None and not text.strip():
        raise click.UsageError("TEXT is empty: write what to search for")
    wanted = text if image is None else image.read()
    assert wanted is not None
    commands.query(arguments.resolve(), wanted, k, column, as_json=as_json)


@app.command()
@click.option(
    "--data-sources",
    "what",
    flag_value="data-sources",
    help="Print the schema of a file of data sources.",
)
@click.option(
    "--form",
    "what",
    flag_value="form",
    help="Print strict schemas of all steps and data sources, for a generator of forms.",
)
def schema(what: str | None) -> None:
    """Print the JSON Schema of job files, for an editor."""
    commands.schema(what or "job")


@app.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Show what COMMAND takes, as COMMAND --help does; without one, all commands."""
    shown = ctx.find_root()
    for name in names:
        group = shown.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{group.name} has no command {name!r}; leave it out")
        _, command, _ = group.resolve_command(shown, [name])
        assert command is not None
        shown = click.Context(command, info_name=name, parent=shown)
    say(shown.get_help())


app.add_command(init_command.init)
app.add_command(sources_command.sources)
app.add_command(rejects_command.rejects)
app.add_command(doctor_command.doctor)
app.add_command(templates_command.templates)
app.add_command(cache_command.cache)
app.add_command(report_command.report)
app.add_command(positions_commands.status)
app.add_command(positions_commands.position)
app.add_command(asking.verify)
app.add_command(asking.resync)
app.add_command(autoetl.sync_by_map)
app.add_command(autoetl.sync_by_table)
app.add_command(autoetl.sync_by_view)
app.add_command(polarsearch_commands.polarsearch)
app.add_command(export_command.export)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits."""
    sys.exit(run_line(argv))


def run_line(
    argv: list[str] | None = None, told: Callable[[int], None] = lambda status: None
) -> int:
    """Runs a command line; gives the exit status, after `told` has got it.

    Until then, Ctrl-C and SIGTERM end a command with status 130; see `run.interrupts`.
    """
    set_up_streams()
    status = FAILED
    with listening(leave=commands.leave_at_once):
        try:
            status = _status(list(sys.argv[1:] if argv is None else argv))
        finally:
            flush()
        told(status)
    return status


def _status(arguments: list[str]) -> int:
    """Runs a command; gives the exit status, and says in words why it is not 0."""
    after: list[str] = []
    if "--" in arguments:
        position = arguments.index("--")
        arguments, after = arguments[:position], arguments[position + 1 :]
    begin(as_json="--json" in arguments)
    printed_to = sys.stdout
    try:
        with breakable():
            status = app.main(
                arguments, prog_name="vecferry", standalone_mode=False, obj={AFTER_DASHES: after}
            )
    except click.ClickException as e:
        shown = io.StringIO()
        e.show(file=shown)
        tell(shown.getvalue().rstrip())
        in_json([e.format_message()])
        return INVALID
    except JobError as e:
        say_errors(e.problems)
        return INVALID
    except VecferryError as e:
        say_errors([str(e)])
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted")
        in_json(["interrupted"])
        commands.leave()
    except SystemExit as e:
        if sys.stdout is not printed_to:  # click's mark: its own help was not read to its end
            return DONE
        return e.code if isinstance(e.code, int) else DONE
    except Exception as e:
        return _unforeseen(e)
    return status if isinstance(status, int) else DONE


def _unforeseen(error: Exception) -> int:
    """Says in one line what nobody foresaw; with -v, where it was."""
    if logging.getLogger("vecferry").isEnabledFor(logging.DEBUG):
        tell("".join(traceback.format_exception(error)).rstrip())
    told = shorten(error, 400) or "no reason given"
    if isinstance(error, OSError):  # of the machine: a full disk, a file that may not be read
        say_errors([f"{told}; -v shows where"])
    else:
        say_errors(
            [
                f"{type(error).__name__}: {told}; this is a fault of vecferry: run the command "
                "again as vecferry -v … to see where, and report it"
            ]
        )
    return FAILED


if __name__ == "__main__":
    main()
