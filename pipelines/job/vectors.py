"""The vector cache of a sync that names none: beside its positions.

Apart from `vecferry.pipelines.launch` because commands that compare or mend a target ask as well.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.transforms.embed.cache.settings import cache_settings

FILE = "vectors.db"
"""The file in the folder of the positions."""

TAKES = "vectorCache"
"""What a kind of steps takes that embeds by a service."""

log = logging.getLogger(__name__)


def with_vectors_kept(resolved: ResolvedJob, *, here: bool) -> ResolvedJob:
    """The job with a vector cache beside its positions, unless it names one or embeds nothing.

    `here` tells whether all workers are on this machine. If workers or positions are elsewhere, the
    job stays as it is, and a warning says what a sync without a vector cache costs.
    """
    embeds = [s for s in resolved.steps if TAKES in s.kind.takes and s.settings.calls()]
    named = resolved.job.setting.vector_cache is not None
    if named or not embeds or resolved.positions is None:
        return resolved
    folder = _folder(resolved)
    if folder is None or not here:
        why = "its workers are elsewhere" if folder is not None else "its positions are elsewhere"
        log.warning(
            "setting.vectorCache is missing, and %s: a full load that is begun again, a resync and "
            "a repair send all texts again, and pay for them; name a cache that all workers reach, "
            "such as redis://host:6379/0",
            why,
        )
        return resolved
    cache = cache_settings(f"sqlite:///{folder / FILE}")
    steps = tuple(
        dataclasses.replace(step, settings=step.settings.model_copy(update={"vector_cache": cache}))
        if step in embeds
        else step
        for step in resolved.steps
    )
    setting = resolved.job.setting.model_copy(update={"vector_cache": cache})
    job = resolved.job.model_copy(update={"setting": setting})
    return dataclasses.replace(resolved, job=job, steps=steps)


def _folder(resolved: ResolvedJob) -> Path | None:
    """The folder of the positions on this machine; None where they are elsewhere."""
    place = resolved.positions
    if place is None or place.connection is not None or "://" in place.where:
        return None
    return Path(place.where)
