"""Which data source reaches the place of a job's positions.

Stands apart from `vecferry.pipelines.job.resolve` because commands name places without a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from vecferry.errors import JobError
from vecferry.pipelines.job.datasources import DataSources
from vecferry.pipelines.job.problems import validate
from vecferry.pipelines.registry import connection_of, default
from vecferry.positions.settings import FILES, place_fault
from vecferry.settings import Connection

_KEYLESS = ("s3", "gcs")
"""Types of data sources whose clients look for keys in places of their own."""


@dataclass(frozen=True)
class ResolvedPlace:
    """A place of positions, and the data source that reaches it, at the very folder.

    A folder of this machine and Redis need no data source.
    """

    where: str
    connection: Connection | None = None


def resolve_place(where: str, sources: DataSources, told: str) -> ResolvedPlace:
    """The place that `where` names; `told` is what names it, such as ``job.setting.positions``.

    Raises JobError for a wrong URI, and if no data source reaches it.
    """
    fault = place_fault(where)
    if fault is not None:
        raise JobError(f"{told}: {fault}")
    kind = FILES.get(where.partition("://")[0])
    if kind is None:
        return ResolvedPlace(where)
    connection = sources.reaching(where, kind, told)
    if connection is None and kind in _KEYLESS:
        connection = _keyless(where, kind, told)
    if connection is None:
        raise JobError(
            f"{told}: {where!r} is reached by no data source of type {kind!r} in {sources.where}; "
            f"add one for {urlsplit(where).netloc or 'it'}"
        )
    return ResolvedPlace(where, connection)


def _keyless(where: str, kind: str, told: str) -> Connection:
    """A data source without keys; its client finds them, in the environment say."""
    known = default().connection(kind)
    assert known is not None
    parts = urlsplit(where)
    entry = {"type": kind, "bucket": parts.netloc, "path": parts.path}
    settings, problems = validate(connection_of(known), entry, told)
    if settings is None:
        raise JobError(problems)
    return settings
