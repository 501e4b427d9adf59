"""What happens in a run, once a second and at each phase, as one object for whoever tells of it.

A `Narrator` is the `OnProgress` of a run. It has a thread of its own, because the launcher itself
may wait for a server for minutes. Apart from `vecferry.pipelines.cli.commands` because it knows no
command line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol

import orjson

from vecferry.errors import hide_secrets, shorten
from vecferry.process import RunStatus
from vecferry.steps import Size
from vecferry.waits import Wait

SECOND = 1.0
LOOKS = 4
"""How often a second the narrator looks for a new phase, and a terminal is renewed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """How a run stands at a moment.

    Attributes:
      kind: why it is told: a phase began, or a second is over.
      at: the moment, as `time.time` tells it.
      phase: what the run does, see `vecferry.run.state.Phase`.
      doing: what the launcher does after the last row, in words; else empty.
      stopping: whether the readers were asked to stop.
      seconds: since the run began.
      counts: all counters of the run so far, by name.
      rejects: the rejects so far, by (step, reason).
      latency: how often an answer to an embedding request took so many milliseconds, of the answers
        since the event before.
      write_latency: the same of requests to the target.
      in_flight: embedding requests under way.
      size: what is known of the size of the source.
      waits: the servers that are waited for.
    """

    kind: str
    at: float
    phase: str
    doing: str = ""
    stopping: bool
    seconds: float
    counts: dict[str, int]
    rejects: dict[tuple[str, str], int]
    latency: Counter[int] = field(default_factory=Counter)
    write_latency: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    size: Size = field(default_factory=Size)
    waits: Sequence[Wait] = ()

    @property
    def share(self) -> float | None:
        """Which part of the source is read, up to 1; None where its size is not known."""
        if self.size.rows:
            return min(1.0, self.counts.get("rows-read", 0) / self.size.rows)
        if self.size.bytes:
            return min(1.0, self.counts.get("bytes-read", 0) / self.size.bytes)
        return None

    @property
    def eta(self) -> float | None:
        """How many seconds the run takes from now on, as far as its source tells."""
        share = self.share
        if not share or self.stopping or self.phase != "running":
            return None
        return self.seconds / share - self.seconds

    def line(self) -> dict[str, Any]:
        """The event as values of JSON."""
        return {
            "event": self.kind,
            "time": iso(self.at),
            "phase": self.phase,
            "doing": self.doing,
            "seconds": round(self.seconds, 3),
            "counts": {name.replace("-", "_"): n for name, n in sorted(self.counts.items())},
            "rejects": [
                {"step": step, "reason": reason, "rows": n}
                for (step, reason), n in sorted(self.rejects.items())
            ],
            "latency_ms": {str(ms): n for ms, n in sorted(self.latency.items())},
            "write_latency_ms": {str(ms): n for ms, n in sorted(self.write_latency.items())},
            "in_flight": self.in_flight,
            "bytes_read": self.counts.get("bytes-read", 0),
            "source": {"rows": self.size.rows, "bytes": self.size.bytes},
            "eta_seconds": None if self.eta is None else round(self.eta, 1),
            "waits": [
                {
                    "who": wait.who,
                    "why": wait.why,
                    "since": iso(wait.since),
                    "until": None if wait.until is None else iso(wait.until),
                    "tries": wait.tries,
                }
                for wait in self.waits
            ],
        }


def iso(moment: float) -> str:
    """A moment of `time.time` as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


class Teller(Protocol):
    """Takes the events of a run; called by one thread at a time."""

    every: float
    """How many seconds it wants between two events of one phase."""

    def take(self, event: Event) -> None:
        """Tells of an event; what it raises is logged, and ends nothing."""

    def close(self) -> None:
        """Called once, after the last event."""


class Narrator:
    """Tells several tellers how a run stands, as long as the context lasts.

    Each teller gets an event at each phase, and one in `Teller.every` seconds.
    """

    def __init__(self, tellers: Sequence[Teller]) -> None:
        self._tellers = tellers
        self._lock = threading.Lock()
        self._state: RunStatus | None = None
        self._size = Size()
        self._phase = ""
        self._due = [0.0] * len(tellers)
        self._seen = [_Seen() for _ in tellers]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="vecferry-events", daemon=True)

    def __enter__(self) -> Narrator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        for teller in self._tellers:
            _tell(teller.close)

    def __call__(self, state: RunStatus, size: Size) -> None:
        """What a launcher calls at each phase, and a few times a second."""
        self._state = state
        if size != Size():
            self._size = size
        if state.phase != self._phase:
            self._look()

    def _go_on(self) -> None:
        while not self._over.wait(SECOND / LOOKS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            state = self._state
            if state is None or not state.phase:
                return
            now, new = time.monotonic(), state.phase != self._phase
            self._phase = state.phase
            due = [i for i in range(len(self._tellers)) if new or now >= self._due[i]]
            if not due:
                return
            kind = "phase" if new else "progress"
            whole = _event(state, self._size, kind)
            for i in due:
                teller = self._tellers[i]
                # As the look itself may be late, the next event is due from this one on.
                self._due[i] = now + teller.every - SECOND / LOOKS / 2
                event = self._seen[i].since(whole)
                _tell(lambda t=teller, e=event: t.take(e))  # type: ignore[misc]


def _tell(what: Any) -> None:
    try:
        what()
    except Exception as e:
        log.warning("what happens can't be told: %s", shorten(e))


class _Seen:
    """The answers that a teller has been told of."""

    def __init__(self) -> None:
        self._latency: Counter[int] = Counter()
        self._writes: Counter[int] = Counter()

    def since(self, event: Event) -> Event:
        """The event with the answers that are new."""
        latency, writes = event.latency - self._latency, event.write_latency - self._writes
        self._latency, self._writes = event.latency, event.write_latency
        return Event(**{**vars(event), "latency": latency, "write_latency": writes})


def _event(state: RunStatus, size: Size, kind: str) -> Event:
    return Event(
        kind=kind,
        at=time.time(),
        phase=state.phase,
        doing=state.doing,
        stopping=state.stop.is_set(),
        seconds=time.monotonic() - state.started,
        counts=state.counts(),
        rejects=state.rejects(),
        latency=state.samples("embed-msec"),
        write_latency=state.samples("write-msec"),
        in_flight=state.in_flight,
        size=size,
        waits=state.waits(),
    )


class EventLines:
    """Writes each event as a line of JSON, at least one a second; what can't be written is left.

    `write` takes a line. The first OSError of it ends the lines, and nothing else: a full disk does
    not fail a run.
    """

    every = SECOND

    def __init__(self, where: str, write: Callable[[str], object]) -> None:
        self._where, self._write = where, write
        self._broken = False

    def take(self, event: Event) -> None:
        """Writes an event."""
        self.put(event.line())

    def put(self, line: dict[str, Any]) -> None:
        """Writes a line that tells something else, such as the report."""
        if self._broken:
            return
        try:
            self._write(hide_secrets(orjson.dumps(line).decode()) + "\n")
        except OSError as e:
            self._broken = True
            log.warning(
                "--events %s: can't be written, and ends here; the run goes on: %s",
                self._where,
                shorten(e),
            )

    def close(self) -> None:
        """Nothing: the report is still to come."""
