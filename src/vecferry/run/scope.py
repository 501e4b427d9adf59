"""Objects that must exist once in a worker process: clients, caches, limits.

Bundles and DoFn instances come and go, on Flink dozens of times a minute; objects made here stay.
Beam's own ``Shared`` keeps only the object that was acquired last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar, runtime_checkable

from vecferry.redaction import shorten
from vecferry.waits import WAITS

log = logging.getLogger(__name__)

T = TypeVar("T")


class Scope:
    """Objects that are made once and shared by all threads, until the scope is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Hashable, tuple[threading.Lock, list[Any]]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object made under `key`; only the first call uses `make`.

        Two threads that ask for different keys do not wait for each other. If `make` raises,
        nothing stays behind: the next caller tries again.
        """
        with self._lock:
            lock, box = self._made.setdefault(key, (threading.Lock(), []))
        with lock:
            if not box:
                box.append(make())
            return box[0]  # type: ignore[no-any-return]

    def take(self, wanted: Callable[[Hashable], bool] = lambda key: True) -> list[Any]:
        """Removes the objects whose keys are `wanted`, and returns them, to be closed."""
        with self._lock:
            keys = [k for k in self._made if wanted(k)]
            return [self._made.pop(k)[1][0] for k in keys if self._made[k][1]]

    def _all(self) -> list[Any]:
        """Removes all objects, and returns them."""
        return self.take()

    def close(self) -> None:
        """Removes all objects, and closes those that can be closed.

        An object that cannot be closed keeps no other one open. After all are closed, their errors
        are raised: one alone, several as an ExceptionGroup.
        """
        errors: list[Exception] = []
        for made in self._all():
            if isinstance(made, _Closable):
                try:
                    made.close()
                except Exception as e:
                    errors.append(e)
        if len(errors) > 1:
            raise ExceptionGroup(f"{len(errors)} objects could not be closed", errors)
        for error in errors:
            raise error


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> object: ...


PROCESS = Scope()
"""Objects that outlive runs: tokenizers, clients of object stores. Keys start with the owner."""

_RUNS = Scope()


class RunScope(Scope):
    """Objects of one run in this process: clients, stores, caches; closed when the run ends.

    A sync is a run of many rounds. What belongs to one round, such as its counts, is in `round`,
    and gone with the next round; all else stays.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run
        self.round = Scope()

    def next_round(self) -> None:
        """Begins a round: what belonged to the last one is closed and forgotten."""
        last, self.round = self.round, Scope()
        last.close()

    def note_once(self, logger: logging.Logger, step: str, text: str) -> bool:
        """Logs a warning about a step, the first time only; returns True if it was logged."""
        noted = False

        def note() -> bool:
            nonlocal noted
            logger.warning("step %r: %s", step, text)
            noted = True
            return True

        self.get(("note", step, text), note)
        return noted

    def _all(self) -> list[Any]:
        return [*self.round.take(), *self.take()]


def run_scope(run: str) -> RunScope:
    """The scope of `run` in this process, made on first use."""
    return _RUNS.get(run, lambda: RunScope(run))


def end_run(run: str) -> None:
    """Forgets what belongs to `run` and closes what can be closed: clients, caches, files.

    What cannot be closed is told in a warning, since the run is over and its outcome is known.
    """
    WAITS.forget(run)
    for scope in _RUNS.take(lambda key: key == run):
        try:
            scope.close()
        except ExceptionGroup as group:
            for error in group.exceptions:
                log.warning("run %s: could not be closed: %s", run, shorten(error))
        except Exception as e:
            log.warning("run %s: could not be closed: %s", run, shorten(e))
