"""The store of positions of one sync, in whatever place they are kept.

Apart from `vecferry.pipelines.run.positions` because a store of positions knows no job.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Literal

from vecferry.errors import JobError
from vecferry.positions.entries import (
    Outcome,
    Progress,
    Sign,
    Stored,
    encoded,
    entry_name,
    number_of,
    read_entry,
    read_sign,
    sign_name,
    sign_of,
)
from vecferry.positions.holder import Holder
from vecferry.positions.lease import Lease, create
from vecferry.positions.place import Place
from vecferry.positions.requests import Requests

State = Literal["Scheduled", "Running", "Run Failed"]

TRIES = 20
"""So often is read again what others change meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a sync stands, as anybody may see it.

    Attributes:
      state: ``Running`` while a lease lives. ``Run Failed`` if the last run ended with a status
        other than 0, or its lease died. ``Scheduled`` otherwise.
      stored: the newest entry; None if there is none.
      holder: who holds the lease; None if nobody does. A dead holder is named.
      renewed: seconds since the last sign of life of the holder; None without one.
      progress: what the last holder told last; None if it told nothing.
    """

    state: State
    stored: Stored | None = None
    holder: Holder | None = None
    renewed: float | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class _View:
    """What one look at a place shows.

    Attributes:
      number: the greatest number of an entry, whether it can be read or not.
      stored: the newest entry that can be read.
      sign: the last sign of life of the lease of `stored`.
      dead: whether the holder is dead; False without one.
      renewed: seconds since the last sign of life of the holder.
    """

    number: int = 0
    stored: Stored | None = None
    sign: Sign | None = None
    dead: bool = False
    renewed: float | None = None


class LeaseHeld(JobError):
    """Another process holds the lease, and lives."""


class _Changed(Exception):
    """A name that was listed is gone: others have gone on."""


class Positions:
    """The positions of one job's sync.

    Attributes:
      place: where they are kept.
      job: the job's name; the positions of another job are refused.
      requests: what commands ask of the holder of the lease.
    """

    def __init__(self, place: Place, job: str) -> None:
        self.place, self.job = place, job
        self.requests = Requests(place)

    @property
    def where(self) -> str:
        """What messages call the place."""
        return self.place.where

    def load(self) -> Stored | None:
        """The newest entry that can be read; None if nothing was ever stored here."""
        return self._look().stored

    def history(self) -> list[Stored]:
        """The entries that are kept and can be read, oldest first."""
        found = []
        for number in self._numbers(self.place.names("entry-")):
            entry = read_entry(self.place.read(entry_name(number)), self.where)
            if entry is not None:
                found.append(entry)
        return found

    def standing(self) -> Standing:
        """How the sync stands now."""
        view = self._look()
        stored = view.stored
        if stored is None:
            return Standing(state="Scheduled")
        well = stored.outcome is None or stored.outcome.ended_well
        state: State = "Scheduled" if well else "Run Failed"
        if stored.holder is not None:
            state = "Run Failed" if view.dead else "Running"
        return Standing(
            state=state,
            stored=stored,
            holder=stored.holder,
            renewed=view.renewed,
            progress=view.sign.progress if view.sign else None,
        )

    def take(self, holder: Holder) -> Lease:
        """The lease; raises `LeaseHeld` at once if another process holds it, and names the process.

        Taking creates the next entry, with the position of the one before.
        """
        before = self._free()
        self.place.check()
        for _ in range(TRIES):
            entry = self._following(before, holder)
            if create(self.place, entry_name(entry.number), encoded(entry)):
                return Lease(self.place, entry)
            before = self._free()
        raise JobError(f"positions {self.where}: others take them all the time; try again")

    def require_free(self) -> None:
        """Raises what `take` raises where the lease is held, or another job's; changes nothing."""
        self._free()

    def _free(self) -> _View:
        """What is stored here; raises JobError if it is another job's, or a lease lives."""
        view = self._look()
        stored = view.stored
        self.require_own(stored)
        if stored is not None and stored.holder is not None and not view.dead:
            raise LeaseHeld(
                f"positions {self.where}: {stored.holder} holds them, renewed "
                f"{view.renewed:.0f} s ago; wait until it ends, or end it; a lease is dead "
                f"{self.place.pace.dead:g} s after it was renewed last"
            )
        return view

    def require_own(self, stored: Stored | None) -> None:
        """Raises JobError if an entry is another job's."""
        if stored is not None and stored.job != self.job:
            raise JobError(
                f"positions {self.where}: they are of the job {stored.job!r}, and this is "
                f"{self.job!r}; name another place as setting.positions, or give the job its "
                "former `name`"
            )

    def _following(self, view: _View, holder: Holder) -> Stored:
        """The entry that takes the lease."""
        before, number = view.stored, view.number + 1
        taken = Stored(number=number, fencing=number, job=self.job, why="taken", holder=holder)
        if before is None:
            return taken
        outcome = before.outcome
        if before.holder is not None:
            gone = before.holder.is_gone
            words = "its process ended without a word" if gone else "its lease was not renewed"
            outcome = Outcome(run=before.holder.run, status=None, words=words)
        return replace(
            taken,
            position=before.position,
            epoch=before.epoch,
            outcome=outcome,
            counters=before.counters,
            begun=before.begun,
            carried=before.carried,
        )

    def _look(self) -> _View:
        """What is there; looks again if others change it meanwhile."""
        for _ in range(TRIES):
            with contextlib.suppress(_Changed):
                return self._once()
        raise JobError(f"positions {self.where}: others change them all the time; try again")

    def _once(self) -> _View:
        names = self.place.names()
        numbers = self._numbers(names)
        for number in reversed(numbers):
            stored = read_entry(self._there(entry_name(number)), self.where)
            if stored is None:
                continue
            mine = max(
                (s for s in map(sign_of, names) if s and s[0] == stored.fencing), default=None
            )
            name = sign_name(*mine) if mine else None
            sign = read_sign(self._there(name), self.where) if name else None
            if stored.holder is None:
                return _View(numbers[-1], stored, sign)
            age = self._age(stored, sign, name)
            dead = stored.holder.is_gone or age > self.place.pace.dead
            return _View(numbers[-1], stored, sign, dead, age)
        return _View(numbers[-1] if numbers else 0)

    def _age(self, stored: Stored, sign: Sign | None, name: str | None) -> float:
        """Seconds since the last sign of life of a holder; raises `_Changed`.

        Clocks of two machines differ. The processes of one boot share a clock that never jumps;
        from elsewhere the clock of the place tells how old a name is.
        """
        assert stored.holder is not None
        if stored.holder.is_near and (sign or name is None):
            return max(0.0, time.monotonic() - max(stored.ticks, sign.ticks if sign else 0.0))
        names = [entry_name(stored.number), *([name] if name else [])]
        ages = [self.place.age(one) for one in names]
        if None in ages:
            raise _Changed
        return max(0.0, min(age for age in ages if age is not None))

    def _there(self, name: str) -> bytes:
        """What is under a name that was listed; raises `_Changed` if it is gone since."""
        data = self.place.read(name)
        if data is None:
            raise _Changed
        return data

    @staticmethod
    def _numbers(names: list[str]) -> list[int]:
        return sorted(n for n in map(number_of, names) if n is not None)
