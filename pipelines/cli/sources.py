"""``vecferry sources``: what the data sources hold, read-only, a page at a time."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vecferry.browse import PAGE, SECONDS, Browser
from vecferry.errors import shorten
from vecferry.pipelines.cli.completion import complete_data_source
from vecferry.pipelines.cli.options import env_file, json_option
from vecferry.pipelines.cli.output import say, say_result
from vecferry.pipelines.cli.table import as_table

if TYPE_CHECKING:
    from vecferry.pipelines.job.datasources import DataSources

T = TypeVar("T")


@click.group()
def sources() -> None:
    """Look at data sources. Nothing is changed, and a look takes 20 s at most."""


data_sources_option = click.option(
    "--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources."
)
wide_option = click.option("--wide", is_flag=True, help="Cut no value to fit the terminal.")


def _named(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.argument("path", required=False, default="")(command)
    return _of_one(command)


def _of_one(command: Callable[..., Any]) -> Callable[..., Any]:
    named = click.argument("name", shell_complete=complete_data_source)(command)
    return data_sources_option(env_file(json_option(named)))


@sources.command("list")
@data_sources_option
@json_option
def list_(data_sources: str | None, as_json: bool) -> None:
    """List the data sources by name, with their types. Nothing is connected to."""
    from vecferry.pipelines.job.look import browsed

    given = _read(data_sources)
    known = browsed()
    found = []
    for name, entry in given.entries().items():
        kind = str(entry.get("type", "")) if isinstance(entry, dict) else ""
        found.append({"name": name, "type": kind, "browsable": kind in known})
    if as_json:
        say_result({"file": given.where, "sources": found})
    elif found:
        say(as_table([{"name": s["name"], "type": s["type"]} for s in found], str))
    else:
        say(f"{given.where} has no data source")


@sources.command()
@_of_one
def test(name: str, data_sources: str | None, as_json: bool) -> None:
    """Connect to the data source NAME, and say what answers."""
    answer = _look(name, data_sources, "", lambda browser: browser.test())
    if as_json:
        say_result({"name": name, "answers": answer})
    else:
        say(f"{name}: {answer}")


@sources.command()
@_named
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=PAGE,
    show_default=True,
    help="A page's size.",
)
@click.option("--after", metavar="ENTRY", help="Begin behind this entry; the last page names it.")
@wide_option
def browse(
    name: str,
    path: str,
    data_sources: str | None,
    limit: int,
    after: str | None,
    wide: bool,
    as_json: bool,
) -> None:
    """Show what is at PATH of the data source NAME: folders, files, tables, collections, …"""
    page = _look(name, data_sources, path, lambda browser: browser.browse(path, limit, after))
    if as_json:
        entries = [dataclasses.asdict(entry) for entry in page.entries]
        say_result({"name": name, "path": path, "entries": entries, "next": page.next})
        return
    lines = [
        {
            "kind": entry.kind,
            "path": entry.path + ("/" if entry.holds else ""),
            "rows": "" if entry.rows is None else f"{entry.rows:,}",
            "bytes": "" if entry.bytes is None else f"{entry.bytes:,}",
        }
        for entry in page.entries
    ]
    say(as_table(lines, str, wide=wide) if lines else "nothing is there")
    if page.next is not None:
        say(f"more: --after {page.next}")


@sources.command()
@_named
@wide_option
def columns(name: str, path: str, data_sources: str | None, wide: bool, as_json: bool) -> None:
    """Show the columns of the file or table at PATH: type, key, nullable."""
    found = _look(name, data_sources, path, lambda browser: browser.columns(path))
    if as_json:
        listed = [dataclasses.asdict(column) for column in found.columns]
        say_result({"name": name, "path": path, "columns": listed, "details": found.details})
        return
    words = {True: "yes", False: "no", None: ""}
    lines = [
        {
            "column": column.name,
            "type": column.type,
            "key": "key" if column.key else "",
            "nullable": words[column.nullable],
        }
        for column in found.columns
    ]
    say(as_table(lines, str, wide=wide) if lines else "it has no columns")
    for detail, value in found.details.items():
        say(f"  {detail}: {value}")


@sources.command()
@_named
@click.option(
    "--rows", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many rows."
)
@wide_option
def sample(
    name: str, path: str, data_sources: str | None, rows: int, wide: bool, as_json: bool
) -> None:
    """Show some rows of the file or table at PATH."""
    from vecferry.rows import encode_value

    found = _look(name, data_sources, path, lambda browser: browser.sample(path, rows))
    if as_json:
        say_result({"name": name, "path": path, "rows": encode_value(found)})
    else:
        say(as_table(found, _shown, wide=wide) if found else "it has no rows")


def _shown(value: object) -> str:
    if hasattr(value, "shape"):
        return f"[{value.shape[0]} floats]"
    return shorten(value, 2000, repr)


def _read(data_sources: str | None) -> DataSources:
    from vecferry.pipelines.job.datasources import read_data_sources

    return read_data_sources(data_sources, os.environ)


def _look(name: str, data_sources: str | None, path: str, ask: Callable[[Browser], T]) -> T:
    from vecferry.pipelines.job.look import look

    return look(_read(data_sources), name, path, ask, SECONDS)
