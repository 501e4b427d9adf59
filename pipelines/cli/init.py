"""``vecferry init``: looks at a file or a data source, and writes a first job that reads it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError, near
from vecferry.pipelines.cli.options import ENV_FILES, env_file, json_option
from vecferry.pipelines.cli.output import say, say_result, warn
from vecferry.pipelines.job.draft import (
    PROVIDERS,
    Choices,
    FirstJob,
    first_job,
    guess_key,
    guess_texts,
    is_of_documents,
    require_columns,
)

if TYPE_CHECKING:
    from vecferry.browse import Browser, Draft
    from vecferry.pipelines.job.datasources import DataSources

Rows = list[dict[str, Any]]
Named = tuple[str, dict[str, Any]]
"""A data source: its name, and what a file says of it."""

_MADE_KEY = "(none)"


@click.command()
@click.argument("source", required=False, metavar="[FILE|DATASOURCE/PATH]")
@click.option("--data-sources", "-d", type=click.Path(), help="YAML or JSON: data sources.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; take what seems right.")
@click.option("--key", help="The column that tells rows apart.")
@click.option("--text", "texts", multiple=True, metavar="COLUMN", help="Embed it; repeatable.")
@click.option("--provider", type=click.Choice(list(PROVIDERS)), help="Who makes the vectors.")
@click.option("--target", metavar="ENDPOINT", help="A Milvus server, or a file that ends in .db.")
@click.option("--name", help="The name of the job, of its file and of its collection.")
@env_file
@json_option
@click.pass_context
def init(
    ctx: click.Context,
    source: str | None,
    data_sources: str | None,
    yes: bool,
    key: str | None,
    texts: tuple[str, ...],
    provider: str | None,
    target: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Write a first job by looking at a file, or at DATASOURCE/PATH. Overwrites nothing."""
    asks = not yes and sys.stdin.isatty()
    if not asks and not yes:
        raise click.UsageError("there is not a terminal to ask questions on; add --yes")
    if source is None:
        if not asks:
            raise click.UsageError("name the FILE, or the DATASOURCE/PATH, to begin with")
        source = str(click.prompt("File, or data source and path", err=True))
    reads, draft, rows = _looked(source, data_sources)
    chosen = _chosen(draft, rows, asks=asks, key=key, texts=texts, provider=provider)
    if not chosen.texts:
        raise JobError(f"{source}: there is not a column of texts to embed; name one with --text")
    named = _name(name or source)
    writes = ("Vectors", {"type": "milvus", "endpoint": target or f"./{named}.db"})
    made = first_job(named, draft, chosen, reads=reads, writes=writes)
    if is_of_documents(draft):
        chosen = Choices(key="chunk_id", texts=("chunk",), provider=chosen.provider)
    files, sources_file = _texts(named, made, source)
    _write(files)
    options = [] if sources_file == "datasources.yaml" else ["-d", sources_file]
    options += [word for path in ctx.meta.get(ENV_FILES, ()) for word in ("--env-file", path)]
    _tell(named, made, chosen, [*files], options, as_json=as_json)


def _looked(source: str, data_sources: str | None) -> tuple[Named, Draft, Rows]:
    """The data source to read, how a job reads it, and some rows."""
    from vecferry.browse import SAMPLE, SECONDS
    from vecferry.pipelines.job.datasources import read_data_sources
    from vecferry.pipelines.job.look import look

    sources = read_data_sources(data_sources, os.environ)
    reads, path = _place(source, sources)
    if reads[0] not in sources.entries():
        sources = sources.with_own(dict([reads]))

    def ask(browser: Browser) -> tuple[Draft, Rows]:
        draft = browser.draft(path)
        return draft, browser.sample(path, SAMPLE)

    draft, rows = look(sources, reads[0], path, ask, SECONDS)
    return reads, draft, rows


def _place(source: str, sources: DataSources) -> tuple[Named, str]:
    """The data source that is meant, and the path in it."""
    given, entries = Path(source).expanduser(), sources.entries()
    if given.is_file() or given.is_dir():
        folder, path = (given, ".") if given.is_dir() else (given.parent, given.name)
        here = os.path.relpath(folder)
        where = str(folder.resolve()) if here.startswith("..") else here
        return (_unused("Files", entries, where), {"type": "local", "path": where}), path
    name, _, path = source.partition("/")
    if name in entries:
        return (name, sources.as_written_here(name)), path
    files = [p.name for p in Path(given.parent).glob("*")] if given.parent.is_dir() else []
    raise JobError(
        f"{source}: is neither a file nor a data source of {sources.where}"
        f"{near(given.name, files) or near(name, entries)}"
    )


def _unused(name: str, entries: Mapping[str, Any], folder: str) -> str:
    """The name of a data source for a folder, which no other data source has."""
    taken = entries.get(name)
    if taken is None or taken == {"type": "local", "path": folder}:
        return name
    number = 2
    while f"{name}{number}" in entries:
        number += 1
    return f"{name}{number}"


def _chosen(
    draft: Draft,
    rows: Rows,
    *,
    asks: bool,
    key: str | None,
    texts: tuple[str, ...],
    provider: str | None,
) -> Choices:
    """What the command line says; else what a person answers, or what seems right."""
    columns = draft.columns
    if is_of_documents(draft):
        if key is not None or texts:
            raise JobError(
                "--key and --text are for rows, and these are documents: their chunks are "
                "embedded, and chunk_id is the key; leave both out, and change the job as you like"
            )
        return Choices(key="path", texts=("text",), provider=provider or _provider(asks))
    require_columns("--key", [key] if key else [], columns)
    require_columns("--text", texts, columns)
    if key is None:
        key = guess_key(columns, rows)
        if asks:
            names = [c.name for c in columns if c.type in ("long", "string")]
            key = _ask("Key column", key or _MADE_KEY, [_MADE_KEY, *names])
            key = None if key == _MADE_KEY else key
    if not texts:
        texts = guess_texts(columns, rows, key)
        if asks:
            names = [c.name for c in columns if c.type == "string"]
            given = click.prompt(
                "Columns to embed, with commas between them", ",".join(texts) or None, err=True
            )
            texts = tuple(part.strip() for part in str(given).split(","))
            require_columns("Columns to embed", texts, [c for c in columns if c.name in names])
    return Choices(key=key, texts=texts, provider=provider or _provider(asks))


def _provider(asks: bool) -> str:
    return _ask("Who makes the vectors", "local", list(PROVIDERS)) if asks else "local"


def _ask(question: str, default: str, choices: Sequence[str]) -> str:
    return str(click.prompt(question, default, type=click.Choice(choices), err=True))


def _name(given: str) -> str:
    """A name for the job from a path: its last part, without endings and odd characters."""
    last = Path(given.rstrip("/")).name or "job"
    stem = last.partition(".")[0] or last
    return re.sub(r"[^\w-]+", "_", stem).strip("_") or "job"


def _texts(name: str, made: FirstJob, source: str) -> tuple[dict[str, str], str]:
    """The text of each file that is to be written, and the file of data sources.

    A file of data sources that has the same ones already is used; one with others stays as it is.
    """
    sources_file, env_file = "datasources.yaml", ".env.example"
    if os.path.exists(sources_file) and not _has(sources_file, made.sources):
        sources_file = f"{name}.datasources.yaml"
    env = _env(made.variables)
    if os.path.exists(env_file) and Path(env_file).read_text(encoding="utf-8") != env:
        env_file = f"{name}.env.example"
    files = {
        f"{name}.yaml": f"# A first job, drafted from {source}. Change it as you like.\n"
        + _yaml(made.job),
        sources_file: "# Connections, kept apart from jobs. ${NAME} comes from the environment.\n"
        + _yaml(made.sources),
        env_file: env,
    }
    if sources_file == "datasources.yaml" and os.path.exists(sources_file):
        del files[sources_file]
    if os.path.exists(env_file) and env_file == ".env.example":
        del files[env_file]
    return files, sources_file


def _has(file: str, wanted: Mapping[str, Any]) -> bool:
    """Whether a file of data sources says the same of these."""
    from vecferry.pipelines.job.documents import parse_document

    entries = parse_document(Path(file), "data sources")
    return isinstance(entries, dict) and all(entries.get(n) == e for n, e in wanted.items())


def _env(variables: Sequence[str]) -> str:
    if not variables:
        return "# The job needs no variable. Write secrets into the environment, not into files.\n"
    lines = [f"{name}=" for name in variables]
    return "\n".join(["# Copy to .env, fill in, and load with: set -a; . ./.env", *lines, ""])


def _yaml(document: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )


def _write(files: Mapping[str, str]) -> None:
    there = [file for file in files if os.path.exists(file)]
    if there:
        raise JobError(
            f"{' and '.join(there)} would be lost: choose another --name, or another folder"
        )
    try:
        for file, text in files.items():
            with open(file, "x", encoding="utf-8") as new:
                new.write(text)
    except OSError as e:
        raise JobError(f"{e.filename}: can't be written: {e.strerror}; see the folder") from e


def _tell(
    name: str,
    made: FirstJob,
    chosen: Choices,
    files: Sequence[str],
    options: Sequence[str],
    *,
    as_json: bool,
) -> None:
    words = shlex.join([f"{name}.yaml", *options])
    commands = [f"vecferry run {words}", f'vecferry query {words} "what to search for"']
    if chosen.key is None:
        warn("no column is a key, so the store makes keys, and a second run adds all rows")
    for column in made.left_out:
        warn(f"column {column!r} is left out, as a first job can't store its type")
    if as_json:
        say_result(
            {"files": list(files), "key": chosen.key, "texts": list(chosen.texts), "next": commands}
        )
        return
    say(f"wrote {', '.join(files)}")
    say(f"  key: {chosen.key or 'made by the store'}")
    say(f"  embedded: {', '.join(chosen.texts)}, by {chosen.provider}")
    for variable in made.variables:
        say(f"  set {variable} first")
    say("next:")
    for command in commands:
        say(f"  {command}")
