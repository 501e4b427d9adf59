"""How the launcher and the worker processes of a run on a cluster tell each other what happens.

They share one folder, the folder of rejects. Each worker process keeps a file there, with its
counts and errors. The launcher reads these files, and leaves a file that asks the readers to stop.
Runners tell less: Flink tells nothing of a streaming job, and Spark nothing of a failed job. No
runner can be told to stop reading and finish what was read.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import fsspec

from vecferry.errors import redact, shorten
from vecferry.run.scope import run_scope
from vecferry.run.state import RunState, RunStatus

SECONDS = 0.5
REMOTE_SECONDS = 2.0
_STOP = "stop.json"
LAUNCHER = "launcher.json"
"""A file that the launcher writes first, to see whether it can write."""

log = logging.getLogger(__name__)


class Channel:
    """The folder ``workers`` inside a run's folder of rejects, local or of any fsspec URL."""

    def __init__(self, folder: str) -> None:
        self._fs, path = fsspec.core.url_to_fs(folder)
        self._folder = f"{path.rstrip('/')}/workers"
        self.seconds = REMOTE_SECONDS if "://" in folder else SECONDS

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Writes a file as a whole; raises OSError if that fails."""
        self._fs.makedirs(self._folder, exist_ok=True)
        self._fs.pipe_file(f"{self._folder}/{name}", json.dumps(content).encode())

    def read(self) -> dict[str, dict[str, Any]]:
        """Every file, by name; a file that is being written is left out."""
        try:
            paths = self._fs.ls(self._folder, detail=False, refresh=True)
        except FileNotFoundError:
            return {}
        found = {}
        for path in paths:
            try:
                found[path.rpartition("/")[2]] = json.loads(self._fs.cat_file(path))
            except (ValueError, OSError):
                continue
        return found

    def stop(self, why: str) -> None:
        """Asks the readers of all workers to stop; rows that were read are finished."""
        self.write(_STOP, {"why": why})

    def stopped(self) -> str | None:
        """Why the readers are to stop, or None."""
        try:
            told = json.loads(self._fs.cat_file(f"{self._folder}/{_STOP}"))
        except (OSError, ValueError):
            return None
        return str(told["why"])

    def remove(self) -> None:
        """Removes the folder; also removes the run's folder if it has no rejects."""
        if self._fs.exists(self._folder):
            self._fs.rm(self._folder, recursive=True)
        parent = self._folder.rpartition("/")[0]
        if self._fs.isdir(parent) and not self._fs.ls(parent, detail=False, refresh=True):
            self._fs.rmdir(parent)


class WorkerReporter:
    """A worker's end of the channel: a thread that reports changes and looks for a stop."""

    def __init__(self, state: RunState, folder: str) -> None:
        self._state, self._channel = state, Channel(folder)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}.json"
        self._lock = threading.Lock()
        self._last: dict[str, Any] = {}
        self._due = 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._go_on, name="vecferry-reports", daemon=True).start()

    def tell(self) -> None:
        """Writes the counts of this process if they changed; logs a failure.

        A call right after another does nothing, so reports take at most a tenth of the time; the
        thread catches up.
        """
        with self._lock:
            begun = time.monotonic()
            tally = self._state.tally()
            if tally == self._last or begun < self._due:
                return
            try:
                self._channel.write(self._name, tally)
                self._last = tally
            except Exception as e:
                log.warning("the launcher can't be told of progress: %s", redact(str(e)))
            ended = time.monotonic()
            self._due = ended + 9 * (ended - begun)

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def _go_on(self) -> None:
        while not self._ended.wait(self._channel.seconds):
            self.tell()
            why = None if self._state.stop.is_set() else self._channel.stopped()
            if why is not None:
                self._state.end(why)


def told(run: str, state: RunState, folder: str) -> WorkerReporter:
    """This process's end of the channel of a run, made on first use."""
    return run_scope(run).get("reports", lambda: WorkerReporter(state, folder))


def complain(folder: str, message: str) -> None:
    """Leaves a message of a worker that cannot start; logs a failure."""
    try:
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}.json"
        Channel(folder).write(name, {"failure": message, "fatal": True})
    except Exception as e:
        log.warning("the launcher can't be told: %s", redact(str(e)))


class ClusterState(RunStatus):
    """What all worker processes of a run have reported, as the launcher sees it."""

    def __init__(self, reject_limit: int | None, folder: str) -> None:
        super().__init__(reject_limit)
        self.folder = folder
        self.channel = Channel(folder)
        self._tallies: dict[str, dict[str, Any]] = {}
        self._due = 0.0

    @property
    def workers(self) -> int:
        """How many worker processes have reported."""
        return len(self._tallies)

    @property
    def has_workers(self) -> bool:
        """Whether a worker has reported."""
        return self.workers > 0

    def refresh(self, *, now: bool = False) -> None:
        """Reads the workers' files, at most once in some time; keeps errors for the end."""
        moment = time.monotonic()
        if not now and moment < self._due:
            return
        try:
            found = self.channel.read()
        except Exception as e:
            log.warning("what the workers tell can't be read: %s", redact(str(e)))
            found = {}
        self._due = time.monotonic() + self.channel.seconds
        for name in (_STOP, LAUNCHER):
            found.pop(name, None)
        self._tallies.update(found)
        for tally in self._tallies.values():
            if tally.get("failure"):
                fatal, passing = bool(tally.get("fatal")), bool(tally.get("passing"))
                self.fail(tally["failure"], fatal=fatal, passing=passing)
            if tally.get("stopped_by"):
                self.stopped_by = self.stopped_by or tally["stopped_by"]
        rejected = sum(self.rejects().values())
        if self.reject_limit is not None and rejected > self.reject_limit:
            self.over_limit = True

    def request_stop(self, why: str) -> None:
        """Asks the workers through their folder to stop; logs a failure."""
        self.end(why)
        try:
            self.channel.stop(why)
        except Exception as e:
            log.error("the workers can't be asked to stop: %s", redact(shorten(e)))

    def counted(self) -> dict[str, int]:
        """The counters of all workers together."""
        return self._sum(tally.get("counts", {}) for tally in self._tallies.values())

    def rejected(self) -> dict[tuple[str, str], int]:
        """The rejects of all workers together."""
        total: Counter[tuple[str, str]] = Counter()
        for tally in self._tallies.values():
            for step, reason, rows in tally.get("rejects", []):
                total[step, reason] += rows
        return dict(total)

    def samples(self, name: str) -> Counter[int]:
        """A distribution over all workers."""
        total = self._sum(self._samples(name))
        return Counter({int(value): n for value, n in total.items()})

    def most(self, name: str) -> int:
        """The sum over the workers of the greatest value of a distribution."""
        return sum(max(map(int, samples), default=0) for samples in self._samples(name))

    def _samples(self, name: str) -> list[dict[str, int]]:
        return [tally.get("samples", {}).get(name, {}) for tally in self._tallies.values()]

    @staticmethod
    def _sum(parts: Iterable[dict[str, int]]) -> Counter[str]:
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part)
        return total
