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
from typing import Any

import fsspec

from vecferry.errors import redact, shorten
from vecferry.run.scope import run_scope
from vecferry.run.state import RunState
from vecferry.run.summed import SummedState

SECONDS = 0.5
REMOTE_SECONDS = 2.0
_STOP = "stop.json"
_KEYS = ".keys"
LAUNCHER = "launcher.json"
"""A file that the launcher writes first, to see whether it can write."""

_LOG_KEYS = 14
"""Of many workers each keeps, and tells, fewer keys than a process that runs alone."""

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
            if path.endswith(_KEYS):
                continue
            try:
                found[path.rpartition("/")[2]] = json.loads(self._fs.cat_file(path))
            except (ValueError, OSError):
                continue
        return found

    def write_keys(self, name: str, sketch: bytes) -> None:
        """Writes the keys that a worker has written, beside its file."""
        self._fs.makedirs(self._folder, exist_ok=True)
        self._fs.pipe_file(f"{self._folder}/{name}{_KEYS}", sketch)

    def read_keys(self) -> list[bytes]:
        """The keys that each worker has written; raises OSError if that fails."""
        paths = self._fs.ls(self._folder, detail=False, refresh=True)
        return [bytes(self._fs.cat_file(path)) for path in paths if path.endswith(_KEYS)]

    def stop(self, why: str, *, give_up: bool = False) -> None:
        """Asks the readers of all workers to stop; see `RunStatus.request_stop`."""
        self.write(_STOP, {"why": why, "give_up": give_up})

    def stopped(self) -> tuple[str, bool] | None:
        """Why the readers are to stop, and whether servers are given up; None if neither."""
        try:
            told = json.loads(self._fs.cat_file(f"{self._folder}/{_STOP}"))
        except (OSError, ValueError):
            return None
        return str(told["why"]), bool(told.get("give_up"))

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
        self._keys = 0
        state.log_keys = _LOG_KEYS
        self._ended = threading.Event()
        threading.Thread(target=self._go_on, name="vecferry-reports", daemon=True).start()

    def tell(self) -> None:
        """Writes the counts of this process if they changed; logs a failure.

        A call right after another does nothing, so reports take at most a tenth of the time; the
        thread catches up. Keys are told at once: nobody else knows them, and once the job has
        ended, its runner stops this process.
        """
        with self._lock:
            begun = time.monotonic()
            tally = self._state.tally()
            keys = self._state.keys_told(self._keys)
            # Keys that were told while their rows were not counted yet: nobody else tells of them.
            behind = self._last.get("counts", {}).get("rows-keyed", 0) < self._keys
            if keys is None and (tally == self._last or (begun < self._due and not behind)):
                return
            try:
                # Before the counts, so that keys are never fewer than the rows that are told.
                if keys is not None:
                    self._channel.write_keys(self._name, keys[1])
                    self._keys = keys[0]
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
            asked = None if self._state.giving_up.begun else self._channel.stopped()
            if asked is None:
                continue
            why, give_up = asked
            self._state.end(why)
            if give_up:
                self._state.giving_up.soon()


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


class ClusterState(SummedState):
    """What all worker processes of a run have reported, as the launcher sees it."""

    def __init__(self, reject_limit: int | None, folder: str) -> None:
        super().__init__(reject_limit)
        self.folder = folder
        self.channel = Channel(folder)
        self._due = 0.0

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
        self.take(found)

    def gather(self) -> None:
        """Reads the keys that the workers have written; logs a failure."""
        self.refresh(now=True)
        if not self.counted().get("rows-keyed"):
            return
        try:
            self.count_keys(self.channel.read_keys())
        except Exception as e:
            log.warning("the keys that the workers tell can't be read: %s", redact(shorten(e)))

    def request_stop(self, why: str, *, give_up: bool = False) -> None:
        """Asks the workers through their folder to stop; logs a failure."""
        super().request_stop(why, give_up=give_up)
        try:
            self.channel.stop(why, give_up=give_up)
        except Exception as e:
            log.error("the workers can't be asked to stop: %s", redact(shorten(e)))
