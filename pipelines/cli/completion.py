"""What a shell completes: files and templates as jobs, paths into a job, data sources.

Stands apart from `vecferry.pipelines.cli.options` because only a shell asks for it. Nothing here
fails: a shell that completes has nobody to tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, split_arg_string

from vecferry.errors import JobError


def complete_job(ctx: click.Context, parameter: object, incomplete: str) -> list[CompletionItem]:
    """Files, and ``template:NAME``."""
    from vecferry.pipelines.templates.library import PREFIX, find_templates

    folders = ctx.params.get("template_dirs") or os.environ.get("VECFERRY_TEMPLATES", "").split(
        os.pathsep
    )
    try:
        names = [f"{PREFIX}{name}" for name in find_templates(tuple(filter(None, folders)))]
    except (JobError, OSError):
        names = []
    found = [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
    return (
        [CompletionItem(incomplete, type="file"), *found] if not found or not incomplete else found
    )


def complete_set(ctx: click.Context, parameter: object, incomplete: str) -> list[CompletionItem]:
    """The next part of a path into the job: ``steps.``, the names of steps, their parameters."""
    before, dot, last = incomplete.rpartition(".")
    at: Any = _document(ctx.params.get("job") or _job_of_the_line())
    for part in before.split(".") if dot else ():
        at = dict(_children(at)).get(part)
    return [
        CompletionItem(f"{before}{dot}{name}{'.' if isinstance(value, dict | list) else '='}")
        for name, value in _children(at)
        if name.startswith(last)
    ]


def complete_data_source(
    ctx: click.Context, parameter: object, incomplete: str
) -> list[CompletionItem]:
    """The names of data sources."""
    from vecferry.pipelines.job.datasources import read_data_sources

    try:
        names = read_data_sources(ctx.params.get("data_sources"), {}).entries()
    except JobError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _job_of_the_line() -> str | None:
    """The first job file on the line: click drops all arguments if an option lacks its value."""
    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    endings = (".yaml", ".yml", ".json")
    return next((w for w in words if w.endswith(endings) and os.path.isfile(w)), None)


def _document(job: object) -> object:
    from vecferry.pipelines.job.documents import parse_document

    try:
        return parse_document(Path(job), "job") if isinstance(job, str) else None
    except JobError:
        return None


def _children(value: object) -> Iterator[tuple[str, Any]]:
    """What is within a mapping or a list; an item of a list goes by its name or its number."""
    if isinstance(value, dict):
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, list):
        for number, part in enumerate(value):
            name = part.get("name") if isinstance(part, dict) else None
            yield str(name or number), part
