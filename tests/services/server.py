"""Real servers for tests, installed on first use and started on loopback.

A server is a subclass of `Server` in a module of its own beside this one. A fixture calls
`running(ThatServer)`, which installs the server once into the cache folder (`VECFERRY_SERVICES`, by
default in the user's cache). The server starts once a test session, with an empty data folder, and
stops with the session. `running` waits until the server answers in its own protocol. What a machine
lacks is the reason of a skipped test. In continuous integration a skip is a failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, ClassVar, TypeVar

import pytest

from tests.services.install import Unavailable, cache_folder

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 20.0


class Server:
    """A server of one test session.

    A subclass says `name`, and how to `install`, `command` and `ready`. `port` is a free port that
    was chosen for the server, `data` its empty folder, `log` what it prints.
    """

    name: ClassVar[str]
    wait_seconds: ClassVar[float] = 300.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        folder = cache_folder() / "data"
        folder.mkdir(parents=True, exist_ok=True)
        self.data = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder))
        self.log = self.data.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Puts the software into the cache folder, once; raises Unavailable where it can't."""

    def prepare(self) -> None:
        """Makes what must be in `data` before the first start."""

    def command(self) -> list[str]:
        """What to run, in the folder `data`."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What to add to the environment."""
        return {}

    def ready(self) -> None:
        """Asks the server something in its own protocol; raises until it answers."""
        raise NotImplementedError

    def start(self, tries: int = 3) -> None:
        """Starts it, with the data that it has, and waits until it answers.

        A process that ends at once is started again: gRPC's threads may fail a fork of this one.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.data,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        end = time.monotonic() + self.wait_seconds
        while True:
            try:
                self.ready()
                return
            except Exception as e:
                ended = self.process.poll() is not None
                if ended and tries > 1:
                    self.kill()
                    self.start(tries - 1)
                    return
                if ended or time.monotonic() > end:
                    self.kill()
                    raise RuntimeError(f"{self.name} did not start ({e}):\n{self.tail()}") from e
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks it to end, its children with it, and kills what is left."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Kills it as a crash would."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Removes its data and log."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _end(self, sig: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for one in (sig, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, one)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


AnyServer = TypeVar("AnyServer", bound=Server)
_running: dict[type[Server], Server] = {}
_refused: dict[type[Server], str] = {}


def running(kind: type[AnyServer]) -> AnyServer:
    """The server of this session, started on first use; skips the test where it can't be had."""
    if kind in _refused:
        pytest.skip(_refused[kind])
    if kind not in _running:
        server = kind()
        try:
            server.install()
            server.prepare()
            server.start()
        except Unavailable as e:
            server.remove()
            _refused[kind] = f"{kind.name} can't be had here: {e}"
            pytest.skip(_refused[kind])
        _running[kind] = server
    return _running[kind]  # type: ignore[return-value]


def stop(kind: type[Server]) -> None:
    """Stops one server of this session, if it runs, to make room for others."""
    server = _running.pop(kind, None)
    if server is not None:
        server.stop()
        server.remove()


def stop_all() -> None:
    """Stops every server of this session and removes its data."""
    for kind in list(_running):
        stop(kind)


_PORTS = range(10_000, 32_000)
_held: list[IO[bytes]] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for this process alone.

    It lies below the ports that the system gives to clients: none of them can take the port before
    its server does. A locked file keeps other processes of tests from the port.
    """
    folder = Path(tempfile.gettempdir()) / f"vecferry-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        port = secrets.choice(_PORTS)
        file = (folder / str(port)).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            file.close()
            continue
        _held.append(file)
        return port


def not_root() -> list[str]:
    """What to put before the command of a server that refuses to run as root."""
    if os.geteuid():
        return []
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def eventually(check: Callable[[], bool], seconds: float = 300.0) -> None:
    """Waits until `check` is true; fails the test when it stays false.

    The time is for a busy machine: a test that passes never waits longer than it must.
    """
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not true after {seconds:g} s"
        time.sleep(0.02)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
