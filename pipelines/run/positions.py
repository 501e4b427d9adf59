"""The store of positions of a job: where `setting.positions` says, else in ``./positions/JOB``.

Apart from `vecferry.pipelines.launch` because commands that show or set a position ask as well.
"""

from __future__ import annotations

from vecferry.errors import JobError
from vecferry.pipelines.job.model import as_file_name
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.positions.folder import FolderPlace
from vecferry.positions.store import Positions

FOLDER = "positions"
"""Where positions are kept unless a job says; each job has a folder of its name within."""


def positions_of(resolved: ResolvedJob) -> Positions:
    """The positions of a job; nothing is connected to yet. Raises JobError for a wrong URI."""
    job = resolved.job
    where = job.setting.positions
    if where is None:
        return Positions(FolderPlace(f"{FOLDER}/{as_file_name(job.name)}"), job.name)
    if "://" in where:
        raise JobError(f"job.setting.positions: {where.partition('://')[0]} can't be used yet")
    return Positions(FolderPlace(where), job.name)
