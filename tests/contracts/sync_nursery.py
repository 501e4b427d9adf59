"""Processes that run ``vecferry`` with the kinds of a test, started in no time, to be killed.

Importing all that a run needs takes seconds. A nursery imports it once and forks a process for each
command line that it is given. Such a process may be told to kill itself at a step of the loop, or
to stop there until it is woken. It can also do so in the middle of storing a position, before a
file gets its name.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services.cluster import ROOT
from tests.services.server import eventually


class Nursery:
    """Starts command lines of vecferry; `kinds` are modules with `KINDS` to register.

    All that the processes print goes to the file `log`.
    """

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.log = folder / "nursery.log"
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._log = self.log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.sync_nursery", *kinds],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.alive: list[int] = []

    def start(
        self,
        *arguments: str,
        at: str = "",
        times: int = 1,
        kind: signal.Signals = signal.SIGKILL,
    ) -> int:
        """Starts a command line; gives the id of its process.

        With `at` the process sends itself this signal there, at the `times`th time.
        """
        order = {
            "arguments": arguments,
            "at": at,
            "times": times,
            "kind": int(kind),
            "log": str(self.log),
        }
        told = self._ask(order)
        self.alive.append(told["process"])
        return int(told["process"])

    def status(self, process: int) -> int | None:
        """The exit status of a process, negative for a signal; None while the process lives."""
        status: int | None = self._ask({"process": process})["status"]
        if status is not None and process in self.alive:
            self.alive.remove(process)
        return status

    def end(self, process: int, kind: signal.Signals) -> int:
        """Sends a signal to a process, and waits until it has ended; gives its status."""
        os.kill(process, kind)
        return self.ended(process)

    def ended(self, process: int) -> int:
        """Waits until a process has ended; gives its status."""
        eventually(lambda: self.status(process) is not None)
        status = self.status(process)
        assert status is not None
        return status

    def close(self) -> None:
        """Ends all processes."""
        for process in self.alive:
            os.kill(process, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve(kinds: list[str]) -> None:
    from vecferry.pipelines import registry

    for module in kinds:
        for kind in importlib.import_module(module).KINDS:
            registry.register(kind)
    _load()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "process" in order:
            answer = {"status": _status(order["process"], ended)}
        else:
            answer = {"process": _fork(order)}
        print(json.dumps(answer), flush=True)


def _load() -> None:
    """Imports what a run imports, which starts no thread."""
    for name in (
        "vecferry.pipelines.cli.app",
        "vecferry.pipelines.launch",
        "vecferry.pipelines.run.progress",
        "vecferry.pipelines.run.summary",
        "vecferry.transforms.embed.transform",
        "vecferry.transforms.embed.cache.sqlite",
        "vecferry.testing.scripted",
    ):
        importlib.import_module(name)


def _status(process: int, ended: dict[int, int]) -> int | None:
    if process not in ended:
        found, status = os.waitpid(process, os.WNOHANG)
        if not found:
            return None
        ended[process] = os.waitstatus_to_exitcode(status)
    return ended[process]


def _fork(order: dict[str, Any]) -> int:
    process = os.fork()
    if process:
        return process
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        _end_itself(order["at"], order["times"], order["kind"])
        from vecferry.pipelines.main import main

        sys.argv[1:] = order["arguments"]
        main()
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_itself(at: str, times: int, kind: int) -> None:
    """From now on, this process signals itself at the `times`th time that it comes to `at`."""
    if not at:
        return
    from vecferry.pipelines import launch

    left = [times]

    def here(step: str) -> None:
        left[0] -= step == at
        if step == at and not left[0]:
            os.kill(os.getpid(), kind)

    link = os.link

    def linked(*arguments: Any, **named: Any) -> None:
        here("link")
        link(*arguments, **named)

    os.link = linked
    launch.follow = functools.partial(launch.follow, on_step=here)


if __name__ == "__main__":
    _serve(sys.argv[1:])
