"""Hands the splits that a launcher has listed to whoever reads them.

A plan is made once, by the launcher. Up to `INLINE_BYTES` of pickled splits travel in the pipeline.
More splits would make the pipeline's description too large for a runner. If workers are threads of
this process, the scope of the run hands the splits over. Worker processes of this machine ask their
launcher for them. On a cluster, files in the folder of rejects do, since all workers reach that
folder. Each stream has one file. Its digest travels in the pipeline, so a worker unpickles only
what the launcher wrote.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from vecferry.beam import Dealt, ListSplits, deal
from vecferry.errors import FatalError, redact
from vecferry.process import run_scope
from vecferry.run.link import link_of
from vecferry.steps import Split

FOLDER = "splits"
"""Within a run's folder of rejects."""
INLINE_BYTES = 1 << 20
_LEAST_BYTES = 16
"""A pickled split takes more than this."""


def here(run: str, splits: list[Split]) -> ListSplits:
    """Hands splits to workers that are threads of this process."""
    if _small(splits):
        return functools.partial(list, splits)
    return round_by_round(run, splits)


def round_by_round(run: str, splits: list[Split]) -> ListSplits:
    """Hands splits over by the scope of the run, so that the next round has the same graph."""
    run_scope(run).round.get("splits", lambda: splits)
    return functools.partial(_from_scope, run)


def as_asked(run: str) -> ListSplits:
    """Lets worker processes of this machine ask their launcher for one split after the other."""
    return functools.partial(list, [AskedSplits(run)])


def elsewhere(folder: str, splits: list[Split], streams: int) -> ListSplits:
    """Hands splits to workers that reach `folder`, dealt out to `streams` of them.

    Raises OSError where the folder can't be written to.
    """
    if _small(splits):
        return functools.partial(list, splits)
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(f"{path.rstrip('/')}/{FOLDER}", exist_ok=True)
    stored: list[Any] = []
    for number, dealt in enumerate(deal(splits, streams)):
        content = pickle.dumps(list(dealt), pickle.HIGHEST_PROTOCOL)
        place = f"{folder.rstrip('/')}/{FOLDER}/{number:05}.pickle"
        with fsspec.open(place, "wb") as file:
            file.write(content)
        stored.append(StoredSplits(place, _digest(content)))
    return functools.partial(list, stored)


def remove_splits(folder: str) -> None:
    """Removes what `elsewhere` has written."""
    fs, path = fsspec.core.url_to_fs(folder)
    place = f"{path.rstrip('/')}/{FOLDER}"
    if fs.exists(place):
        fs.rm(place, recursive=True)


@dataclass(frozen=True)
class StoredSplits(Dealt):
    """The splits of one stream, in a file."""

    place: str
    digest: str

    def __iter__(self) -> Iterator[Any]:
        try:
            with fsspec.open(self.place, "rb") as file:
                content: bytes = file.read()
        except OSError as e:
            raise FatalError(
                f"the list of what to read, {self.place}, can't be read: {redact(str(e))}; workers "
                "must reach the folder of rejects"
            ) from e
        if _digest(content) != self.digest:
            raise FatalError(
                f"the list of what to read, {self.place}, was changed since it was written; run "
                "the job again with a folder of rejects of its own"
            )
        yield from pickle.loads(content)


@dataclass(frozen=True)
class AskedSplits(Dealt):
    """The splits that the launcher deals to this process, each when the last one is read."""

    run: str

    def __iter__(self) -> Iterator[Any]:
        link = link_of(self.run)
        if link is None:
            raise FatalError("this process has no launcher to ask for what to read")
        while (found := link.next_split()) is not None:
            yield found[0]


def _from_scope(run: str) -> list[Any]:
    def absent() -> list[Any]:
        raise FatalError(
            "the list of what to read is in another process: leave out --direct_running_mode"
        )

    return run_scope(run).round.get("splits", absent)


def _small(splits: list[Split]) -> bool:
    if len(splits) * _LEAST_BYTES > INLINE_BYTES:
        return False
    return len(pickle.dumps(splits, pickle.HIGHEST_PROTOCOL)) <= INLINE_BYTES


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=32).hexdigest()
