"""What is kept of a sync, as bytes: entries, signs of life, requests and their answers.

Entries are numbered. Each holds all that is known at its time, so the newest one is enough. A sign
of life belongs to a lease, whose fencing number its name begins with.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from time import time as now
from typing import Any, Literal

from vecferry.errors import JobError
from vecferry.positions.holder import Holder
from vecferry.positions.position import Position

FORMAT = 1
"""Grows with each change that an older version would misread."""

_ENTRY = re.compile(r"entry-(\d{10,})")
_SIGN = re.compile(r"sign-(\d{10,})-(\d{10,})")

Why = Literal["taken", "begun", "round", "set", "reset", "released"]
"""What an entry was created for."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An epoch that was begun, and whose first position is not stored yet.

    Whoever finds it after a kill goes on in this epoch, and needs no further one.

    Attributes:
      epoch: the epoch.
      identity: the source that a full load reads; empty where only the epoch is raised.
      load: what the full load reads first (`vecferry.steps.Span`, as JSON); None where only the
        epoch is raised.
      request: the id of the request for which the epoch was begun, or an empty text.
    """

    epoch: int
    identity: str = ""
    load: Mapping[str, Any] | None = None
    request: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run of a sync ended.

    Attributes:
      run: the id of the run.
      status: its exit status; None if the run never said, because its process died.
      words: the last error, or an empty text.
      time: when the run ended, in seconds since 1970; when that was noticed, if it died.
    """

    run: str
    status: int | None
    words: str = ""
    time: float = field(default_factory=now)

    @property
    def ended_well(self) -> bool:
        """Whether the exit status was 0."""
        return self.status == 0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the holder of a lease tells of its sync; `Lag` and counters as of the last round.

    Attributes:
      phase: what the sync does: ``full``, ``changes``, ``waiting``, ``resync``, …
      behind: how far the position is behind the source, in `unit`; None if unknown.
      unit: the source's own unit.
      behind_seconds: the same in seconds.
      rows: the rows read by the run so far.
      rows_per_second: how fast, lately.
      rejects: the rows rejected by the run so far.
      rounds: the rounds that were DONE.
      restarts: how often a round was begun again.
      last_error: the last error in words, or an empty text.
      loaded: how much of a full load is done, in `load_unit`; None where nothing is loaded.
      load_size: how much it is in all, as far as the source knows.
      load_unit: ``rows`` or ``parts``.
      load_seconds: how long the rest takes, as fast as it went since the run began; None at first.
    """

    phase: str = ""
    behind: int | None = None
    unit: str = ""
    behind_seconds: float | None = None
    rows: int = 0
    rows_per_second: float = 0.0
    rejects: int = 0
    rounds: int = 0
    restarts: int = 0
    last_error: str = ""
    loaded: int | None = None
    load_size: int | None = None
    load_unit: str = ""
    load_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One entry: all that was known of a sync when the entry was created.

    Attributes:
      number: its place among the entries; it grows.
      fencing: the number of the entry that took the lease under which this one was created.
      job: the name of the job that these positions are of.
      why: what the entry was created for.
      time: when, in seconds since 1970 by the clock of its creator.
      holder: who holds the lease; None once it was released.
      position: how far the source was read; None before the first round and after a reset.
      epoch: the greatest epoch that was ever stored here; a reset keeps it.
      outcome: how the last run that ended, ended; None if none has.
      counters: the sync's sums over all runs, by name.
      begun: the epoch that was begun since the position; None if there is none.
      carried: the ids of the requests whose effect is stored, until they are answered.
      ticks: when, by the clock that all processes of one boot share.
      nonce: tells this entry from any other one.
    """

    number: int
    fencing: int
    job: str
    why: Why
    time: float = field(default_factory=now)
    holder: Holder | None = None
    position: Position | None = None
    epoch: int = 0
    outcome: Outcome | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    begun: Begun | None = None
    carried: tuple[str, ...] = ()
    ticks: float = field(default_factory=monotonic)
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A sign of life of the holder of a lease, with what it tells."""

    progress: Progress
    time: float = field(default_factory=now)
    ticks: float = field(default_factory=monotonic)


def entry_name(number: int) -> str:
    """The name of an entry."""
    return f"entry-{number:010d}"


def number_of(name: str) -> int | None:
    """The number of an entry; None of another name."""
    found = _ENTRY.fullmatch(name)
    return int(found[1]) if found else None


def sign_name(fencing: int, number: int) -> str:
    """The name of a sign of life of a lease."""
    return f"sign-{fencing:010d}-{number:010d}"


def sign_of(name: str) -> tuple[int, int] | None:
    """The fencing number of a sign of life, and its own; None of another name."""
    found = _SIGN.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def encoded(value: Stored | Sign) -> bytes:
    """An entry or a sign of life as JSON."""
    told = {"format": FORMAT, **asdict(value)}
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1).encode()


_PARTS: dict[str, Callable[..., object]] = {
    "holder": Holder,
    "position": Position,
    "outcome": Outcome,
    "begun": Begun,
}
"""The objects within an entry."""


def read_entry(data: bytes | None, where: str) -> Stored | None:
    """An entry; None if the bytes are not a whole one. Raises JobError for a newer version's."""
    told = _told(data, where)
    if told is None:
        return None
    try:
        for name, kind in _PARTS.items():
            if told.get(name) is not None:
                told[name] = kind(**told[name])
        return Stored(**{**told, "carried": tuple(told.get("carried", ()))})
    except (KeyError, TypeError):
        return None


def read_sign(data: bytes | None, where: str) -> Sign | None:
    """A sign of life; None if the bytes are not a whole one."""
    told = _told(data, where)
    if told is None:
        return None
    try:
        return Sign(**{**told, "progress": Progress(**told["progress"])})
    except (KeyError, TypeError):
        return None


def _told(data: bytes | None, where: str) -> dict[str, Any] | None:
    """The object that bytes hold, without its format; None if they hold none."""
    try:
        told = json.loads(data or b"")
    except ValueError:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("format"), int):
        return None
    if told.pop("format") > FORMAT:
        raise JobError(
            f"positions {where}: a newer version of vecferry wrote them; use that version, or "
            "name another place"
        )
    return told
