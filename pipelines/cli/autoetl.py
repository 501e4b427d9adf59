"""``vecferry sync-by-map``, ``sync-by-table``, ``sync-by-view``: AutoETL's calls, as jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli import commands
from vecferry.pipelines.cli.options import env_file
from vecferry.pipelines.cli.output import say_json, warn
from vecferry.pipelines.job.placeholders import parse_assignments
from vecferry.pipelines.run.options import ClusterOptions


@dataclass(frozen=True)
class Call:
    """What the options of a call say, beside the mapping."""

    mapping: dict[str, Any]
    data_sources: str | None
    params: tuple[str, ...]
    assignments: tuple[str, ...]
    until: str | None
    rejects: str
    report: str | None
    as_json: bool
    print_job: bool

    def run(self, mapping: dict[str, Any]) -> int:
        """Writes the job of a mapping, and runs the job or prints it; gives the exit status."""
        from vecferry.pipelines.autoetl.resolve import resolve_mapping, written_job

        raw = {"mapping": {**self.mapping, **mapping}}
        parameters = parse_assignments(self.params, "-p")
        assignments = parse_assignments(self.assignments, "--set")
        if self.print_job:
            job, warnings = written_job(
                raw,
                data_sources=self.data_sources,
                parameters=parameters,
                assignments=assignments,
            )
            for warning in warnings:
                warn(warning)
            say_json(job)
            return 0
        resolved = resolve_mapping(
            raw,
            "sync",
            data_sources=self.data_sources,
            parameters=parameters,
            assignments=assignments,
        )
        for warning in resolved.warnings:
            warn(warning)
        return commands.run(
            resolved,
            limit=None,
            report=self.report,
            rejects=self.rejects,
            replay=None,
            continuous=self.until is None,
            until=self.until,
            preflight=True,
            runner="DirectRunner",
            cluster=ClusterOptions(),
            beam_options=(),
            as_json=self.as_json,
        )


_OPTIONS = (
    click.option("--source", required=True, help="The data source of the database."),
    click.option("--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources."),
    click.option("--connector", type=click.Path(), help="JSON: the connector of the model."),
    click.option(
        "--pipeline",
        help="The ingest pipeline that tells what is embedded: a .json file, or its name.",
    ),
    click.option(
        "--index", "index_body", type=click.Path(), help="JSON: the body of a missing index."
    ),
    click.option(
        "--embed",
        type=click.Choice(["here", "server"]),
        default="here",
        show_default=True,
        help="Who makes the vectors that the pipeline tells of.",
    ),
    click.option(
        "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fill ${NAME}."
    ),
    click.option(
        "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set a value in the job."
    ),
    click.option(
        "--until", metavar="now|TIME|PLACE", help="End there; without it the sync never ends."
    ),
    click.option(
        "--rejects", default="rejects", show_default=True, help="Folder for rejected rows."
    ),
    click.option("--report", type=click.Path(dir_okay=False), help="Write the report here."),
    env_file,
    click.option("--print-job", is_flag=True, help="Print the job, and do not run it."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
)


def call_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of every call; the command gets them as `call`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        source: str,
        connector: str | None,
        pipeline: str | None,
        index_body: str | None,
        embed: str,
        data_sources: str | None,
        params: tuple[str, ...],
        assignments: tuple[str, ...],
        until: str | None,
        rejects: str,
        report: str | None,
        print_job: bool,
        as_json: bool,
        **rest: Any,
    ) -> Any:
        given = {
            "source": source,
            "connector": connector,
            "pipeline": pipeline,
            "indexBody": index_body,
            "embed": embed,
        }
        mapping = {name: value for name, value in given.items() if value is not None}
        call = Call(
            mapping,
            data_sources,
            params,
            assignments,
            until,
            rejects,
            report,
            as_json,
            print_job,
        )
        return command(*args, call=call, **rest)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@click.command("sync-by-map")
@click.argument("target")
@click.argument("fields")
@click.argument("keys")
@click.argument("fourth", default="")
@click.argument("fifth", default="")
@call_options
@click.pass_context
def sync_by_map(
    ctx: click.Context, target: str, fields: str, keys: str, fourth: str, fifth: str, call: Call
) -> None:
    """Follow a table into an index of the data source TARGET, field by field.

    FIELDS is "idx.f(db.t.c),…", KEYS is "idx.id=db.t.id". Two empty arguments may follow.
    """
    if fourth.strip() or fifth.strip():
        raise JobError(
            "sync-by-map: an argument behind the keys is not empty, and its form is not public: "
            'leave both empty (""), and map one table'
        )
    ctx.exit(call.run({"target": target, "fields": fields, "keys": keys}))


@click.command("sync-by-table")
@click.argument("target")
@click.argument("table")
@click.argument("index")
@click.argument("columns", default="")
@click.option("--key", help="The columns of the id: c1,c2; else the database tells its key.")
@call_options
@click.pass_context
def sync_by_table(
    ctx: click.Context,
    target: str,
    table: str,
    index: str,
    columns: str,
    key: str | None,
    call: Call,
) -> None:
    """Follow TABLE, db.t, into INDEX of the data source TARGET, under the names of the columns.

    COLUMNS is "c1,c2", or empty for all.
    """
    mapping = {"target": target, "table": table, "index": index, "columns": columns}
    ctx.exit(call.run({**mapping, **({} if key is None else {"key": key})}))


@click.command("sync-by-view")
@click.argument("statement")
@click.option("--target", default="search", show_default=True, help="The data source of the index.")
@click.option("--key", help="The columns of the id: c1,c2; else the database tells its key.")
@call_options
@click.pass_context
def sync_by_view(
    ctx: click.Context, statement: str, target: str, key: str | None, call: Call
) -> None:
    """Follow what a view selects into the index that the view names.

    STATEMENT is "CREATE SEARCH VIEW v [(c, …, PRIMARY KEY (c))] AS SELECT … FROM db.t [WHERE …]".
    """
    mapping = {"target": target, "view": statement}
    ctx.exit(call.run({**mapping, **({} if key is None else {"key": key})}))
