"""A lease: the right to store positions of one sync, renewed by a thread until it is released.

Apart from `vecferry.positions.store` because a lease lives as long as a run. Fencing needs no
clock. Each entry has the next number after the one before, and a number is given once: whoever
takes the lease creates the next entry. A former holder that wakes can't create its own next entry.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vecferry.errors import FatalError, TransientError, VecferryError, redact, shorten
from vecferry.positions.entries import (
    Begun,
    Outcome,
    Progress,
    Sign,
    Stored,
    Why,
    encoded,
    entry_name,
    number_of,
    read_entry,
    sign_name,
    sign_of,
)
from vecferry.positions.holder import Holder
from vecferry.positions.place import Place
from vecferry.positions.position import Position

KEPT = 20
"""So many entries stay."""

log = logging.getLogger(__name__)


class LeaseLost(FatalError):
    """Another run has taken the lease; nothing was stored, and nothing can be."""


def create(place: Place, name: str, data: bytes, *, lasting: bool = True) -> bool:
    """As `Place.create`; True as well if these very bytes are there.

    A service may have taken them, and its answer may have been lost.
    """
    return place.create(name, data, lasting=lasting) or place.read(name) == data


@dataclass(frozen=True)
class _Waiting:
    """A position that is not stored yet, because one was stored just before."""

    position: Position
    counters: Mapping[str, int]
    request: str


class Lease:
    """The right to store positions; made by `Positions.take`, and safe for several threads.

    Attributes:
      lost: set once another run has taken the lease, or the positions were removed.
    """

    def __init__(self, place: Place, entry: Stored) -> None:
        self._place = place
        self._entry = entry
        self._lock = threading.RLock()
        self._waiting: _Waiting | None = None
        self._progress = Progress()
        self._signs = 0
        self._store_from = -float("inf")
        self._released = False
        self._answered: set[str] = set()
        self._wake = threading.Event()
        self._away_since: float | None = None
        self.lost = threading.Event()
        name = f"lease of {entry.job}"
        self._thread = threading.Thread(target=self._renew_on, name=name, daemon=True)
        self._thread.start()

    @property
    def fencing(self) -> int:
        """The number of this lease; it grows from lease to lease."""
        return self._entry.fencing

    @property
    def holder(self) -> Holder:
        """The process that took the lease."""
        assert self._entry.holder is not None
        return self._entry.holder

    @property
    def stored(self) -> Stored:
        """The newest entry; a position that waits is not in it."""
        return self._entry

    @property
    def epoch(self) -> int:
        """The greatest epoch that was ever stored here."""
        return self._entry.epoch

    def store(
        self,
        position: Position,
        *,
        counters: Mapping[str, int] | None = None,
        last: bool = False,
        request: str = "",
    ) -> bool:
        """Stores a position whose round is DONE; True if it is stored, False if it waits.

        One that waits is stored by the thread as soon as the pace of the place allows, or by
        `flush` or `release`. With `last` it never waits. `counters` replace the sync's sums.
        `request` is the id of the request that is carried out with it, stored in the same entry.
        Raises `LeaseLost`, and `TransientError` if the place is away; the position waits then.
        """
        with self._lock:
            self._require()
            sums = self._entry.counters if counters is None else counters
            self._waiting = _Waiting(position, dict(sums), request)
            if not last and time.monotonic() < self._store_from:
                return False
            self.flush()
            return True

    def flush(self) -> None:
        """Stores a position that waits, now; raises as `store` does."""
        with self._lock:
            self._require()
            if self._waiting is None:
                return
            waiting = self._waiting
            self._create(
                "round",
                waiting.request,
                position=waiting.position,
                counters=waiting.counters,
                begun=None,
            )

    def begin(self, begun: Begun) -> None:
        """Stores that an epoch is begun, after any position that waits; raises as `store`.

        The next position that is stored, set or reset ends what was begun.
        """
        with self._lock:
            self.flush()
            self._create("begun", begun=begun)

    def set(self, position: Position, *, request: str = "") -> None:
        """Stores a position that a user gave, in place of any that waits; otherwise as `store`."""
        with self._lock:
            self._require()
            self._create("set", request, position=position, begun=None)

    def reset(self, *, request: str = "") -> None:
        """Forgets the position: the next round is a full load; otherwise as `store`.

        The greatest epoch is kept, so that the next one can be greater.
        """
        with self._lock:
            self._require()
            self._create("reset", request, position=None, begun=None)

    def answered(self, request: str) -> None:
        """Forgets that a request was carried out, with the next entry: it has its last answer."""
        self._answered.add(request)

    def tell(self, progress: Progress) -> None:
        """What others see of the sync; they see it with the next sign of life."""
        self._progress = replace(progress, last_error=redact(progress.last_error))

    def renew(self) -> None:
        """Gives a sign of life, with what was last told; the thread calls this in time.

        Raises `LeaseLost` if another run has taken the lease.
        """
        with self._lock:
            self._require()
            self._signs += 1
            name = sign_name(self.fencing, self._signs)
            create(self._place, name, encoded(Sign(progress=self._progress)), lasting=False)
            names = self._place.names()
            self._require_newest(names)
            for other in names:
                sign = sign_of(other)
                if sign is not None and sign < (self.fencing, self._signs):
                    self._place.remove(other)

    def release(self, outcome: Outcome | None = None) -> None:
        """Gives the lease back and stores how the run ended; what waits is stored with it.

        Without an `outcome`, as of a command, the outcome of the last run stays. Nothing happens if
        the lease is lost or released. Raises `TransientError` if the place is away; the lease then
        ends by itself, because nobody renews it.
        """
        with self._lock:
            if self._released or self.lost.is_set():
                self._stop()
                return
            told: dict[str, Any] = {"holder": None}
            request = ""
            if self._waiting is not None:
                told |= {"position": self._waiting.position, "counters": self._waiting.counters}
                told["begun"], request = None, self._waiting.request
            if outcome is not None:
                told["outcome"] = replace(outcome, words=redact(outcome.words))
            try:
                with contextlib.suppress(TransientError):
                    self.renew()  # so that what was told last can be read afterwards
                self._create("released", request, **told)
            except LeaseLost as e:
                log.error("%s", e)
            finally:
                self._stop()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        """Releases the lease, unless that was done, without an outcome; a failure is a warning."""
        try:
            self.release()
        except VecferryError as e:
            log.warning("the lease could not be released, it ends by itself: %s", shorten(e))

    def _stop(self) -> None:
        self._released = True
        self._wake.set()

    def _create(self, why: Why, request: str = "", **told: Any) -> None:
        """Creates the next entry, and makes sure that it is the newest."""
        before = self._entry
        carried = [one for one in before.carried if one not in self._answered]
        if request and request not in carried:
            carried.append(request)
        reached = (told.get("position"), told.get("begun"))
        entry = Stored(
            **{
                "job": before.job,
                "fencing": before.fencing,
                "holder": before.holder,
                "position": before.position,
                "outcome": before.outcome,
                "counters": before.counters,
                "begun": before.begun,
                **told,
            },
            number=before.number + 1,
            why=why,
            epoch=max(before.epoch, *(one.epoch if one else 0 for one in reached)),
            carried=tuple(carried),
        )
        name = entry_name(entry.number)
        if not create(self._place, name, encoded(entry)):
            raise self._taken()
        names = self._place.names("entry-")
        # Others may have gone on for so long that this number is free again.
        self._require_newest([n for n in names if n != name], unless=name)
        self._entry, self._waiting = entry, None
        self._store_from = time.monotonic() + self._place.pace.store
        self._prune(names)

    def _require_newest(self, names: list[str], unless: str | None = None) -> None:
        """Raises `LeaseLost` unless the newest entry among `names` is the one that we know.

        `unless` names an entry that we have just created; it is removed if it came too late.
        """
        newest = max((n for n in map(number_of, names) if n is not None), default=0)
        if newest == self._entry.number:
            return
        if unless is not None:
            self._place.remove(unless)
        raise self._taken()

    def _prune(self, names: list[str]) -> None:
        """Removes all entries but the newest; what can't be removed now goes the next time."""
        try:
            for name in names:
                number = number_of(name)
                if number is not None and number <= self._entry.number - KEPT:
                    self._place.remove(name)
        except VecferryError as e:
            log.debug("old positions stay for a while: %s", e)

    def _require(self) -> None:
        if self.lost.is_set():
            raise self._taken()
        if self._released:
            raise FatalError(f"positions {self._place.where}: the lease was released")

    def _taken(self) -> LeaseLost:
        """The lease is lost: tells whom to."""
        self.lost.set()
        self._wake.set()
        by = "they were removed meanwhile"
        try:
            numbers = [n for n in map(number_of, self._place.names("entry-")) if n is not None]
            for number in sorted(numbers, reverse=True):
                entry = read_entry(self._place.read(entry_name(number)), self._place.where)
                if entry is not None and entry.fencing != self.fencing:
                    by = f"{entry.holder} has taken them over" if entry.holder else "others did"
                    break
        except VecferryError:
            by = "another run has taken them over"
        return LeaseLost(
            f"positions {self._place.where}: this {self.holder} holds them no longer: {by}; it "
            "stores nothing more"
        )

    def _renew_on(self) -> None:
        """The thread: signs of life, and positions that wait, until the lease ends."""
        pace = self._place.pace
        due = time.monotonic() + pace.renew
        while not self._released and not self.lost.is_set():
            # A position may begin to wait at any time.
            self._wake.wait(max(0.02, min(due - time.monotonic(), pace.store / 4)))
            try:
                with self._lock:
                    if self._released or self.lost.is_set():
                        return
                    if self._waiting is not None and time.monotonic() >= self._store_from:
                        self.flush()
                    if time.monotonic() >= due:
                        due = time.monotonic() + pace.renew
                        self.renew()
                        self._away_since = None
            except LeaseLost as e:
                log.error("%s", e)
            except Exception as e:
                self._store_from = time.monotonic() + pace.store
                self._tell_away(e)

    def _tell_away(self, error: Exception) -> None:
        """Warns once of a place that is away, when the lease may have ended meanwhile."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > self._place.pace.dead:
            log.warning(
                "the lease could not be renewed for %.0f s, another run may take it: %s",
                now - self._away_since,
                shorten(error),
            )
            self._away_since = now
        if not isinstance(error, TransientError):
            log.warning("the lease can't be renewed: %s", shorten(error))
