"""The libraries that a job needs beyond those of vecferry itself, and those that are missing.

Apart from `vecferry.pipelines.job.resolve` because it asks what is installed, not what is written.
No library is imported here, so that `vecferry check` stays quick.
"""

from __future__ import annotations

from collections.abc import Iterator

from vecferry.errors import JobError
from vecferry.kinds import Client
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.registry import default
from vecferry.redis_access import is_redis
from vecferry.settings import Connection

_REDIS = Client("redis", "vecferry[redis]")


def clients_of(resolved: ResolvedJob) -> Iterator[tuple[str, Client]]:
    """Each library that workers need, with who needs it, such as ``step 'Embed'``."""
    for step in resolved.steps:
        where = f"step {step.name!r}"
        if step.kind.client is not None:
            yield where, step.kind.client
        for client in step.settings.clients():
            yield where, client
        for client in _of_connection(step.connection):
            yield f"the data source of {where}", client
    cache = resolved.job.setting.vector_cache
    if cache is not None and is_redis(cache.uri):
        yield "setting.vectorCache", _REDIS


def lacking(resolved: ResolvedJob) -> list[str]:
    """A problem for each place of the job whose libraries this machine lacks."""
    found: dict[tuple[str, str], list[str]] = {}
    for where, client in (*clients_of(resolved), *_of_launcher(resolved)):
        modules = found.setdefault((where, client.install), [])
        if client.module not in modules and not client.is_there:
            modules.append(client.module)
    return [
        f"{where} needs {', '.join(modules)}: pip install '{install}'"
        for (where, install), modules in found.items()
        if modules
    ]


def require_clients(resolved: ResolvedJob) -> None:
    """Raises JobError if a step can't run in this version, or not without what is missing here."""
    problems = [*resolved.unable(), *lacking(resolved)]
    if problems:
        raise JobError(problems)


def _of_launcher(resolved: ResolvedJob) -> Iterator[tuple[str, Client]]:
    """What this process needs alone: where positions are kept, the proxies of its environment."""
    place = resolved.positions
    if place is not None:
        if is_redis(place.where):
            yield "setting.positions", _REDIS
        for client in _of_connection(place.connection):
            yield "setting.positions", client
    for step in resolved.steps:
        for client in step.settings.clients_here():
            yield f"step {step.name!r}", client


def _of_connection(connection: Connection | None) -> Iterator[Client]:
    """The libraries of a data source."""
    if connection is None:
        return
    kind = default().connection(connection.type)
    if kind is not None and kind.client is not None:
        yield kind.client
    yield from connection.clients()
