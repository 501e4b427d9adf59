"""What is known of a sync: the sums of the rounds that were DONE, and the round under way.

Apart from `vecferry.pipelines.run.sync` because progress and report ask it as they ask any run.
"""

from __future__ import annotations

import threading
from collections import Counter

from vecferry.process import RunStatus
from vecferry.waits import WAITS, Wait


class SyncStatus(RunStatus):
    """The counts of a sync. A round that failed leaves no trace in them: it is read again.

    Attributes:
      current: the state of the round that is under way; None between two rounds.
      rounds: how many rounds were DONE.
      restarts: how often a round was begun again.
      committed: whether no round may have counted some work twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current: RunStatus | None = None
        self.rounds = self.restarts = 0
        self.committed = True
        self._sums = threading.RLock()  # whoever tells of the sync asks from a thread of its own
        self._counts: Counter[str] = Counter()
        self._rejects: Counter[tuple[str, str]] = Counter()
        self._samples: dict[str, Counter[int]] = {}
        self._most: dict[str, int] = {}

    def add(self, state: RunStatus, *, committed: bool) -> None:
        """Adds a round that is DONE; it is under way no longer."""
        with self._sums:
            self._counts.update(state.counts())
            self._rejects.update(state.rejects())
            for name in _DISTRIBUTIONS:
                self._samples.setdefault(name, Counter()).update(state.samples(name))
                self._most[name] = max(self._most.get(name, 0), state.most(name))
            self.current = None
        self.rounds += 1
        self.committed = self.committed and committed

    def counted(self) -> dict[str, int]:
        """The counters of all rounds together, of the one under way as well."""
        with self._sums:
            total, current = Counter(self._counts), self.current
            if current is not None:
                total.update(current.counts())
        return dict(total)

    def rejected(self) -> dict[tuple[str, str], int]:
        """The rejects of all rounds together, of the one under way as well."""
        with self._sums:
            total, current = Counter(self._rejects), self.current
            if current is not None:
                total.update(current.rejects())
        return dict(total)

    def samples(self, name: str) -> Counter[int]:
        """A distribution over the rounds that were DONE."""
        with self._sums:
            return Counter(self._samples.get(name))

    def most(self, name: str) -> int:
        """The greatest value of a distribution in a round that was DONE."""
        return self._most.get(name, 0)

    @property
    def in_flight(self) -> int:
        """The requests of the round under way."""
        current = self.current
        return 0 if current is None else current.in_flight

    def waits(self) -> list[Wait]:
        """The servers that the round under way waits for, or the sync between two rounds."""
        current = self.current
        return WAITS.of("") if current is None else current.waits()


_DISTRIBUTIONS = ("embed-msec", "embed-in-flight", "write-msec")
"""What a report or an event tells of distributions."""
