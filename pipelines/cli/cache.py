"""``vecferry cache``: what a vector cache holds, and making it smaller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli.options import JobArguments, job_arguments, json_option
from vecferry.pipelines.cli.output import say, say_result
from vecferry.pipelines.job.placeholders import parse_assignments
from vecferry.transforms.embed.cache.settings import (
    VectorCacheSettings,
    cache_settings,
    shown_uri,
)

if TYPE_CHECKING:
    from vecferry.pipelines.job.model import Job
    from vecferry.transforms.embed.cache.store import Backend, StoreStats


@click.group()
def cache() -> None:
    """See and prune vector caches."""


@cache.command()
@job_arguments
@json_option
def stats(arguments: JobArguments, as_json: bool) -> None:
    """Show what a vector cache holds. JOB is a job file or the URI of a cache. Changes nothing."""
    settings = _settings_of(arguments)
    found = _with_backend(settings, lambda backend: backend.stats())
    shown = {"uri": shown_uri(settings.uri), **asdict(found)}
    _print(shown, f"{shown['uri']}: {_described(found)}", as_json)


@cache.command()
@job_arguments
@click.option(
    "--max-bytes",
    type=click.IntRange(0),
    help="Bytes that may remain; default: JOB's, or 4 GiB.",
)
@json_option
def prune(arguments: JobArguments, max_bytes: int | None, as_json: bool) -> None:
    """Remove the vectors unused for longest until the cache fits. JOB as for stats."""
    settings = _settings_of(arguments)
    most = settings.max_bytes if max_bytes is None else max_bytes
    removed, left = _with_backend(settings, lambda b: (b.prune(most), b.stats()))
    shown = {"uri": shown_uri(settings.uri), "removed": removed, **asdict(left)}
    _print(shown, f"{shown['uri']}: {removed:,} removed; {_described(left)}", as_json)


def _settings_of(arguments: JobArguments) -> VectorCacheSettings:
    """The vector cache that is named, or that a job names."""
    if "://" in arguments.job:
        return cache_settings(arguments.job)
    job = arguments.resolve().job if _is_made(arguments) else _read(arguments)
    if job.setting.vector_cache is None:
        raise JobError(
            f"{arguments.job}: the job has no setting.vectorCache: add one, or name a cache by its "
            "URI, sqlite:///folder/cache.db or redis://host:6379/0"
        )
    return job.setting.vector_cache


def _is_made(arguments: JobArguments) -> bool:
    """Whether the steps of the job don't stand in its file."""
    from vecferry.pipelines.autoetl.resolve import has_mapping
    from vecferry.pipelines.job.documents import parse_document

    return arguments.is_template or has_mapping(parse_document(Path(arguments.job), "job"))


def _read(arguments: JobArguments) -> Job:
    """The job without its data sources, which the command does not need."""
    from vecferry.pipelines.job.model import read_job

    return read_job(
        arguments.job,
        parameters=arguments.values(),
        assignments=parse_assignments(arguments.assignments, "--set"),
    )[0]


def _with_backend(settings: VectorCacheSettings, action: Callable[[Backend], Any]) -> Any:
    from vecferry.transforms.embed.cache.store import StoreError, open_backend

    try:
        with closing(open_backend(settings.uri, create=False)) as backend:
            return action(backend)
    except StoreError as e:
        raise JobError(f"vector cache {shown_uri(settings.uri)}: {e}") from e


def _described(found: StoreStats) -> str:
    since = f", the oldest last used on {found.oldest}" if found.oldest else ""
    noun = "vector" if found.entries == 1 else "vectors"
    return f"{found.entries:,} {noun} in {found.bytes:,} bytes{since}"


def _print(shown: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        say_result(shown)
    else:
        say(text)
