"""``vecferry templates``: lists templates, shows their parameters, renders their jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError, printable
from vecferry.pipelines.cli.options import template_folders
from vecferry.pipelines.cli.output import say, say_result, say_styled
from vecferry.pipelines.job.placeholders import parse_assignments

if TYPE_CHECKING:
    from vecferry.pipelines.templates.metadata import Parameter

Folders = tuple[str, ...]


@click.group()
def templates() -> None:
    """Jobs to start from, with described parameters."""


def _as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@templates.command("list")
@template_folders
@_as_json
def list_(template_dirs: Folders, as_json: bool) -> None:
    """List the templates."""
    from rich.table import Table

    found = _found(template_dirs)
    if as_json:
        say_result({"templates": found})
        return
    table = Table("template", "what it does", "where it is", box=None, padding=(0, 2, 1, 0))
    for entry in found:
        what = entry.get("description") or f"can't be used: {entry['problem']}"
        table.add_row(_plain(entry["name"]), _plain(what), _plain(entry["path"]))
    _print(table)


def _found(folders: Folders) -> list[dict[str, Any]]:
    """All templates; a template that cannot be used comes with its problem."""
    from vecferry.pipelines.templates.library import OWN_FOLDER, find_templates, read_template

    entries = []
    for name, path in sorted(find_templates(folders).items()):
        entry: dict[str, Any] = {"name": name}
        try:
            metadata = read_template(path).metadata
        except JobError as e:
            entry["problem"] = str(e)
        else:
            entry |= {"title": metadata.name, "description": metadata.description}
        entry["path"] = "comes with vecferry" if path.parent == OWN_FOLDER else str(path)
        entries.append(entry)
    return entries


@templates.command()
@click.argument("name")
@template_folders
@_as_json
def show(name: str, template_dirs: Folders, as_json: bool) -> None:
    """Describe the parameters of template NAME. JSON has the form of Dataflow's flex templates."""
    from rich.table import Table

    from vecferry.pipelines.templates.library import PREFIX, load_template

    metadata = load_template(name.removeprefix(PREFIX), template_dirs).metadata
    if as_json:
        say_result(metadata.as_flex())
        return
    _print(_plain(f"{metadata.name}: {metadata.description}\n"))
    table = Table("parameter", "type", "default", "what it is", box=None, padding=(0, 2, 0, 0))
    for parameter in metadata.parameters:
        default = parameter.default_value
        if default is None:
            default = "optional" if parameter.is_optional else "required"
        table.add_row(
            _plain(parameter.name), parameter.type_shown, _plain(default), _plain(_told(parameter))
        )
    _print(table)


def _told(parameter: Parameter) -> str:
    """A parameter in a few sentences."""
    told = [f"{parameter.label}: {parameter.help_text}"]
    if parameter.enum_options:
        told.append("one of " + ", ".join(o.value for o in parameter.enum_options))
    if parameter.parent_name:
        told.append(f"for {parameter.parent_name} {' or '.join(parameter.parent_trigger_values)}")
    if parameter.secret:
        told.append("a secret, never shown")
    if parameter.custom_metadata.environment:
        told.append(f"else taken from ${parameter.custom_metadata.environment}")
    return "; ".join(told)


@templates.command()
@click.argument("name")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option(
    "--output", type=click.Path(file_okay=False), help="Write the job and its data sources here."
)
@template_folders
@_as_json
def render(
    name: str, params: tuple[str, ...], output: str | None, template_dirs: Folders, as_json: bool
) -> None:
    """Show the job of template NAME, with a placeholder for each secret."""
    import yaml

    from vecferry.pipelines.templates.job import render_template

    job, sources = render_template(
        name, folders=template_dirs, parameters=parse_assignments(params, "-p")
    )
    if as_json:
        say_result({"job": job, "dataSources": sources})
        return
    documents = {f"{job['name']}.yaml": job, "datasources.yaml": sources}
    texts = {
        file: yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        for file, document in documents.items()
        if document
    }
    if output is None:
        say("---\n".join(f"# {file}\n{text}" for file, text in texts.items()), end="")
        return
    write_new(Path(output), texts)


def write_new(folder: Path, texts: dict[str, str]) -> None:
    """Writes texts into files of a folder and says their paths; JobError if one exists."""
    there = [str(folder / file) for file in texts if (folder / file).exists()]
    if there:
        raise JobError(f"--output {folder}: {' and '.join(there)} would be lost: name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as e:
        raise JobError(f"--output {folder}: can't be written to: {e}") from e
    for file in texts:
        say(str(folder / file))


def _print(shown: Any) -> None:
    """Prints what rich has laid out; as any text, so that a closed pipe is not a failure."""
    from rich.console import Console

    console = Console()
    with console.capture() as captured:
        console.print(shown)
    say_styled(captured.get())


def _plain(text: str) -> Any:
    """`text` for a table, unchanged: rich would take square brackets for styles."""
    from rich.text import Text

    return Text(printable(text))
