"""What is known of a run: counters, rejects, its first failure, and whether it is to stop."""

from __future__ import annotations

import dataclasses
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vecferry.errors import redact
from vecferry.run.giving_up import GivingUp
from vecferry.run.scope import run_scope
from vecferry.waits import WAITS, Wait

Phase = Literal["checking", "preparing", "running", "finishing", "indexing", "ended"]
"""What a run does now.

It tries its ends, makes the target ready, and reads. After the last row it finishes what was read.
Then it does the target's last step and closes what is open, and is over.
"""

if TYPE_CHECKING:
    from vecferry.distinct import DistinctKeys, KeyCount

GRACE_ROWS = 1000
"""How many rows a failing run reads on, to show more than its first bad row."""


class RunStatus(ABC):
    """What a launcher asks about a run, whether its workers are here or elsewhere.

    Attributes:
      started: when the run began, as `time.monotonic` tells it.
      reject_limit: the most rejects that the job allows; None without a limit.
      stop: is set once the readers have been asked to stop.
      stopped_by: who asked the readers to stop first, such as ``interrupt``; else empty.
      failure: what a step failed with, in its own words; else empty.
      fatal: whether a second attempt would fail as well.
      passing: whether a later attempt may well pass, as a server was away.
      anew: whether a sync must read its whole source before it can go on.
      over_limit: whether more rejects were counted than `reject_limit` allows.
      phase: what the run does now, one of `Phase`; empty before the first.
      giving_up: tells the operators of this process, in an interrupted run, to wait no longer.
      doing: what the launcher does after the last row, in words; else empty.
    """

    def __init__(self, reject_limit: int | None = None) -> None:
        self.started = time.monotonic()
        self.giving_up = GivingUp()
        self.phase: Phase | Literal[""] = ""
        self._phases: dict[str, float] = {}
        self._phase_began = self.started
        self.reject_limit = reject_limit
        self.stop = threading.Event()
        self.stopped_by = ""
        self.failure = ""
        self.fatal = False
        self.passing = False
        self.anew = False
        self.over_limit = False
        self.doing = ""
        self._lock = threading.Lock()
        self._settled: dict[str, int] = {}
        self._settled_rejects: dict[tuple[str, str], int] | None = None

    @abstractmethod
    def counted(self) -> dict[str, int]:
        """The counters by name, as the workers counted."""

    @abstractmethod
    def rejected(self) -> dict[tuple[str, str], int]:
        """The rejects by (step, reason), as the workers counted."""

    @abstractmethod
    def samples(self, name: str) -> Counter[int]:
        """A distribution: how often each value was observed."""

    @abstractmethod
    def most(self, name: str) -> int:
        """The greatest value of a distribution, 0 without any."""

    def keys(self) -> KeyCount | None:
        """How many distinct keys were written; None where nobody counted them all."""
        return None

    def gather(self) -> None:
        """Reads what is to be known of the workers' keys; called once, after the end of a run."""
        return

    @property
    def in_flight(self) -> int:
        """How many requests to endpoints are under way now."""
        return 0

    def waits(self) -> list[Wait]:
        """The servers that the run waits for now."""
        return []

    def enter_phase(self, phase: Phase) -> None:
        """Begins a phase, and ends the one before; nothing happens if it is under way."""
        if phase != self.phase:
            self._phases = self.phases()
            self.phase, self._phase_began = phase, time.monotonic()

    def go_on_from(self, other: RunStatus) -> None:
        """Takes over when the run began, and the phases that it has been through."""
        self.started, self.phase = other.started, other.phase
        self._phases, self._phase_began = dict(other._phases), other._phase_began

    def phases(self) -> dict[str, float]:
        """How many seconds each phase took, the one under way included."""
        passed = time.monotonic() - self._phase_began
        if not self.phase or self.phase == "ended":
            return dict(self._phases)
        return {**self._phases, self.phase: self._phases.get(self.phase, 0.0) + passed}

    @property
    def has_workers(self) -> bool:
        """Whether a worker has started."""
        return True

    def refresh(self, *, now: bool = False) -> None:
        """Takes in what remote workers reported; `now` reads at once."""
        return

    def request_stop(self, why: str, *, give_up: bool = False) -> None:
        """Asks the readers of all workers to stop; rows that were read are finished.

        With `give_up` no row waits for a server that is away: it is left unfinished.
        """
        self.end(why)
        if give_up:
            self.giving_up.soon()

    def end(self, why: str) -> None:
        """Asks the readers of this process to stop; rows that were read are finished."""
        self.stopped_by = self.stopped_by or why
        self.stop.set()

    def fail(
        self, message: str, *, fatal: bool = False, passing: bool = False, anew: bool = False
    ) -> None:
        """Keeps the first error of a step, whose own words a runner may bury.

        After a `fatal` error, another try is useless. After a `passing` error, one may pass. After
        an error that is `anew`, a sync may go on once it has read its whole source.
        """
        if not self.failure or (fatal and not self.fatal):
            self.failure = redact(message)
            self.passing, self.anew = passing, anew
        self.fatal = self.fatal or fatal

    def counts(self) -> dict[str, int]:
        """The counters by name; settled counters keep their settled values."""
        return {**self.counted(), **self._settled}

    def rejects(self) -> dict[tuple[str, str], int]:
        """The rejects by (step, reason), settled or else counted."""
        settled = self._settled_rejects
        return self.rejected() if settled is None else dict(settled)

    def settle(self, counts: dict[str, int]) -> None:
        """Replaces the workers' counters, which may hold repeated work, by the runner's."""
        self._settled = counts

    def settle_rejects(self, rejects: dict[tuple[str, str], int]) -> None:
        """Replaces the rejects that were counted by the rejects that were written."""
        self._settled_rejects = rejects


class RunState(RunStatus):
    """What this process knows of one run: counters, distributions, rejects, the stop flag.

    A run on one machine is followed through this state. FnApiRunner tells nothing until a run is
    done, and nothing at all if the run fails.

    `log_keys` is the binary logarithm of how many keys are counted exactly. `spent` are the
    requests of this process, their tokens, and what they cost in nano; the ledger sets it.
    """

    log_keys = 20

    def __init__(self, reject_limit: int | None = None, run: str = "") -> None:
        super().__init__(reject_limit)
        self._run = run
        self.requests_under_way = 0
        self.spent = (0, 0, 0)
        self._grace = GRACE_ROWS
        self._handed_out = 0
        self._counts: Counter[str] = Counter()
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._samples: dict[str, Counter[int]] = {}
        self._keys: DistinctKeys | None = None
        self._keys_lock = threading.Lock()
        self._streams: Counter[str] = Counter()
        self._most_streams: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """How many requests of this process are under way; the ledger sets the number."""
        return self.requests_under_way

    def waits(self) -> list[Wait]:
        """The servers that are waited for in this process."""
        return WAITS.of(self._run)

    def add(self, counts: dict[str, int]) -> None:
        """Adds to the counters, by name."""
        with self._lock:
            self._counts.update(counts)

    def add_keys(self, keys: Sequence[Hashable]) -> None:
        """Adds the keys of rows that were written."""
        with self._keys_lock:
            if self._keys is None:
                from vecferry.distinct import DistinctKeys

                self._keys = DistinctKeys(self.log_keys)
            self._keys.add(keys)

    def keys(self) -> KeyCount | None:
        """How many distinct keys this process has written; None if it counted none."""
        with self._keys_lock:
            return None if self._keys is None else self._keys.count()

    def keys_told(self, known: int) -> tuple[int, bytes] | None:
        """How many keys were added, and the sketch of them; None if no more than `known`."""
        with self._keys_lock:
            if self._keys is None or self._keys.added <= known:
                return None
            return self._keys.added, self._keys.to_bytes()

    def observe(self, samples: dict[str, list[int]]) -> None:
        """Adds samples to distributions, by name; keeps the first three digits of each."""
        with self._lock:
            for name, values in samples.items():
                kept = self._samples.setdefault(name, Counter())
                kept.update(v if v < 1000 else int(float(f"{v:.3g}")) for v in values)

    def reject(self, step: str, reason: str) -> None:
        """Counts a reject; past the limit, readers of this process hand out few more rows."""
        with self._lock:
            self._rejects[step, reason] += 1
            total = self._rejects.total()
        if self.reject_limit is not None and total > self.reject_limit:
            self.over_limit = True

    def unkept(self, rejects: Iterable[tuple[str, str]], why: str) -> None:
        """Counts rejects, by (step, reason), that could not be written: they are rejects no more.

        Readers of this process stop, since each further reject would be lost as well.
        """
        with self._lock:
            for reject in rejects:
                self._counts["rows-unkept"] += 1
                if self._rejects[reject] > 1:
                    self._rejects[reject] -= 1
                else:
                    del self._rejects[reject]
        self.fail(why)
        self.end("rejects")

    def goes_on(self) -> bool:
        """Counts a row handed out past the limit; False, and the end, after `GRACE_ROWS` rows."""
        with self._lock:
            self._grace -= 1
            left = self._grace
        if left <= 0:
            self.end("errorLimit")
        return left > 0

    def hand_out(self, limit: int) -> bool:
        """Counts a row handed out by a reader; False for the last one that `limit` allows."""
        with self._lock:
            self._handed_out += 1
            return self._handed_out < limit

    def counted(self) -> dict[str, int]:
        """A copy of the counters of this process."""
        with self._lock:
            return dict(self._counts)

    def samples(self, name: str) -> Counter[int]:
        """A copy of a distribution: how often each value was observed."""
        with self._lock:
            return Counter(self._samples.get(name))

    def rejected(self) -> dict[tuple[str, str], int]:
        """A copy of the rejects counted in this process."""
        with self._lock:
            return dict(self._rejects)

    def most(self, name: str) -> int:
        """The greatest value of a distribution, 0 without any."""
        return max(self.samples(name), default=0)

    def enter(self, step: str) -> None:
        """Counts a bundle of `step` that begins work in this process; `leave` follows."""
        with self._lock:
            self._streams[step] += 1
            self._most_streams[step] = max(self._most_streams[step], self._streams[step])

    def leave(self, step: str) -> None:
        """Ends what `enter` began."""
        with self._lock:
            self._streams[step] -= 1

    def share(self, step: str, streams: int) -> float:
        """This process's share, up to 1, of what `streams` bundles may use together."""
        return min(1.0, max(1, self._most_streams[step]) / streams)

    def tally(self) -> dict[str, Any]:
        """Everything counted here, and what went wrong, as values of JSON."""
        with self._lock:
            return {
                "counts": dict(self._counts),
                "rejects": [[step, reason, n] for (step, reason), n in self._rejects.items()],
                "samples": {
                    name: {str(value): n for value, n in samples.items()}
                    for name, samples in self._samples.items()
                },
                "failure": self.failure,
                "fatal": self.fatal,
                "passing": self.passing,
                "anew": self.anew,
                "stopped_by": self.stopped_by,
                "in_flight": self.in_flight,
                "spent": list(self.spent),
                "waits": [dataclasses.asdict(wait) for wait in self.waits()],
            }


def run_state(run: str, reject_limit: int | None = None) -> RunState:
    """The state of `run` in this process, made on first use with `reject_limit`.

    In a sync, the state of the round that is under way.
    """
    return run_scope(run).round.get("state", lambda: RunState(reject_limit, run))
