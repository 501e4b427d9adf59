"""The store of positions of a job: where `setting.positions` says, else in ``./positions/JOB``.

Apart from `vecferry.pipelines.launch` because commands that show or set a position ask as well.
"""

from __future__ import annotations

import logging
from typing import Protocol, cast

from vecferry.errors import JobError, VecferryError, shorten
from vecferry.pipelines.job.model import as_file_name
from vecferry.pipelines.job.positions import ResolvedPlace
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.options import RunOptions, is_sync
from vecferry.positions.files import Files, FilesPlace
from vecferry.positions.folder import FolderPlace
from vecferry.positions.place import Place
from vecferry.positions.redis import RedisPlace
from vecferry.positions.settings import redis_parts, shown
from vecferry.positions.store import LeaseHeld, Positions
from vecferry.redis_access import is_redis

log = logging.getLogger(__name__)

FOLDER = "positions"
"""Where positions are kept unless a job says; each job has a folder of its name within."""

RETRY_SECONDS = 20.0
"""So long a call to an object store is repeated; a lease must be renewed before it is dead."""


class _OpensFiles(Protocol):
    """A data source that holds files."""

    def open_files(self, retry_seconds: float | None) -> Files:
        """The store behind the data source."""


def positions_of(resolved: ResolvedJob) -> Positions:
    """The positions of a job. Nothing is connected to yet; raises JobError for a missing client."""
    name = resolved.job.name
    if resolved.positions is None:
        return Positions(FolderPlace(f"{FOLDER}/{as_file_name(name)}"), name)
    return positions_at(resolved.positions, name)


def require_free(resolved: ResolvedJob, options: RunOptions) -> None:
    """Raises LeaseHeld where a run is a sync that another process holds.

    A command asks this before it imports what a run needs, which takes seconds. Any other fault of
    the positions is told when the run takes the lease.
    """
    if not is_sync(resolved, options) or resolved.lacks_positions() is not None:
        return
    try:
        positions = positions_of(resolved)
        try:
            positions.require_free()
        finally:
            positions.place.close()
    except LeaseHeld:
        raise
    except VecferryError as e:
        log.debug("the lease was not looked at: %s", shorten(e))


def positions_at(place: ResolvedPlace, job: str) -> Positions:
    """The positions in a place, of the job called `job`; empty for somebody who only looks.

    Raises JobError for a missing client, and if `job` is needed to tell which positions.
    """
    return Positions(_place(place, job), job)


def _place(place: ResolvedPlace, job: str) -> Place:
    if place.connection is not None:
        return FilesPlace(cast(_OpensFiles, place.connection).open_files(RETRY_SECONDS))
    if not is_redis(place.where):
        return FolderPlace(place.where)
    server, name = redis_parts(place.where)
    if not (name or job):
        raise JobError(
            f"positions {shown(place.where)!r}: which ones? Write their name behind the database, "
            "redis://host:port/0/name; without one, it is the job's name"
        )
    return RedisPlace(server, name or job)
