"""Stores how far an endless pipeline has read, once its runner has made that last.

Stands apart from `vecferry.io.mysql_cdc.endless` because a store of positions knows no Beam.

A runner calls back after a checkpoint, or after a bundle. Callbacks of one checkpoint come in any
order, and those behind the last checkpoint never. So what is stored is a lower bound.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from vecferry.errors import FatalError, JobError, TransientError, VecferryError, shorten
from vecferry.io.mysql_cdc.tail import Begin, place_of
from vecferry.positions import Position
from vecferry.positions.entries import Outcome, Stored
from vecferry.positions.folder import FolderPlace
from vecferry.positions.holder import Holder
from vecferry.positions.place import Place
from vecferry.positions.redis import RedisPlace
from vecferry.positions.settings import place_fault, redis_parts, shown
from vecferry.positions.store import LeaseHeld, Positions
from vecferry.redis_access import is_redis
from vecferry.retry import call_with_retries

log = logging.getLogger(__name__)

NAME = "ReadMySQLChanges"
STORE_SECONDS = 5.0
"""A position is stored at most so often, but for the last one."""
PATIENCE_SECONDS = 20.0
"""Another process of the same pipeline holds the lease for a moment only."""


def place_at(where: str) -> Place:
    """The place of positions: a folder, or a Redis. Raises JobError for anything else."""
    fault = place_fault(where)
    if fault is not None:
        raise JobError(fault)
    if is_redis(where):
        server, name = redis_parts(where)
        return RedisPlace(server, name or NAME)
    if "://" in where:
        raise JobError(
            f"positions {shown(where)!r}: ReadMySQLChanges keeps them in a folder that all workers "
            "see, or in a Redis; name one of these"
        )
    return FolderPlace(where)


class Keeper:
    """Stores positions of one pipeline; safe for several threads.

    The lease is taken for each position, because the workers of a pipeline come and go. A pipeline
    that was started later takes the positions over, and this one fails.
    """

    def __init__(self, where: str, run: str) -> None:
        self._positions, self._run = Positions(place_at(where), NAME), run
        self._lock = threading.Lock()
        self._mine: int | None = None
        self._due = 0.0
        self._kept: dict[str, Any] | None = None
        self._failure: FatalError | None = None

    def load(self) -> Position | None:
        """The position that was stored last; None without one."""
        stored = self._positions.load()
        return None if stored is None else stored.position

    def begin(self, begin: Begin) -> None:
        """Stores where a pipeline begins, so that a second beginning is not further on."""
        with self._lock:
            self._store(begin.at, begin.epoch, patience=PATIENCE_SECONDS)

    def require(self) -> None:
        """Raises FatalError if positions can't be stored any more."""
        if self._failure is not None:
            raise self._failure

    def has_stored(self, at: dict[str, Any]) -> bool:
        """Whether this place is what was stored last."""
        return self._kept == at

    def reached(self, at: dict[str, Any], epoch: int, *, last: bool = False) -> None:
        """Called back by a runner: all up to `at` was handed on, and will not come again."""
        with self._lock:
            if self._kept is not None and place_of(at) <= place_of(self._kept):
                return
            if self._failure is not None or (not last and time.monotonic() < self._due):
                return
            try:
                self._store(at, epoch, patience=PATIENCE_SECONDS if last else 0.0)
            except FatalError as e:
                self._failure = e
            except VecferryError as e:
                log.warning("the position is not stored yet: %s", shorten(e))

    def _store(self, at: dict[str, Any], epoch: int, *, patience: float) -> None:
        self._due = time.monotonic() + STORE_SECONDS
        call_with_retries(
            lambda: self._stored(at, epoch),
            deadline=patience,
            what=f"positions {self._positions.where}",
        )
        self._kept = at

    def _stored(self, at: dict[str, Any], epoch: int) -> None:
        stored = self._positions.load()
        ours = stored is not None and _run_of(stored) == self._run
        if stored is not None and not ours and stored.number > (self._mine or stored.number):
            raise FatalError(
                f"positions {self._positions.where}: another pipeline stores its positions here "
                "now; stop one of the two, or give each a place of its own"
            )
        known = stored.position if ours and stored is not None else None
        if stored is not None and known is not None and place_of(known.at) >= place_of(at):
            self._mine = stored.number
            return
        try:
            lease = self._positions.take(Holder(run=self._run))
        except LeaseHeld as e:
            raise TransientError(str(e)) from e
        try:
            position = Position(epoch=epoch, identity="mysql-cdc", phase="changes", at=at)
            lease.store(position, last=True)
        finally:
            lease.release(Outcome(run=self._run, status=0))
        self._mine = lease.stored.number


def _run_of(stored: Stored) -> str:
    """The run that an entry was created by."""
    if stored.holder is not None:
        return stored.holder.run
    return "" if stored.outcome is None else stored.outcome.run
