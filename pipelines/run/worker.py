"""A worker process of a run on this machine: runs the launcher's graph over the splits it is given.

Stands apart from `vecferry.pipelines.run.processes` because it is the program of another process.
What that process needs comes by a pipe, secrets among it: neither its command line nor its
environment holds one. It ends with the launcher, however the launcher ends, because the system and
the closed pipe tell.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

from vecferry.errors import keep_secret, redact
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import SIGNALS
from vecferry.process import end_run, run_scope, run_state
from vecferry.run.link import Connected, Link, LinkHandler, leave

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """What a worker is told before it imports Beam.

    Attributes:
      run: the name of the run.
      launcher: the process that started this one.
      reject_limit: as `RunStatus` has it.
      secrets: what logs and errors must not show.
      environment: the variables that hold a secret.
      levels: the levels of loggers by name; the root is called "".
    """

    run: str
    launcher: int
    reject_limit: int | None
    secrets: tuple[str, ...] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    levels: dict[str, int]


def main(connection: Connected) -> None:
    """Serves the launcher at the other end of `connection` to the end of its run."""
    _settle_in()
    try:
        told: Bootstrap = connection.recv()
        if os.getppid() != told.launcher:
            leave()
        _serve(connection, told)
    except (EOFError, OSError):
        leave()


def _serve(connection: Connected, told: Bootstrap) -> None:
    os.environ.update(told.environment)
    for secret in told.secrets:
        keep_secret(secret)
    state = run_state(told.run, told.reject_limit)
    link = run_scope(told.run).get("link", lambda: Link(connection, state))
    _log_to(link, told.levels)
    error = None
    try:
        from vecferry.pipelines.run.local import run_graph  # Beam logs what it lacks

        run_graph(*link.graph())
    except BaseException as e:
        error = state.failure or redact(root_cause(e))
    end_run(told.run)
    link.end(error)


def _settle_in() -> None:
    """Leaves the signals to the launcher, and ends with it."""
    os.dup2(2, 1)  # what the launcher prints may be read by a program
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _log_to(link: Link, levels: dict[str, int]) -> None:
    root = logging.getLogger()
    root.handlers[:] = [LinkHandler(link.send)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def bootstrap_levels() -> dict[str, int]:
    """The levels of the loggers of this process, for `Bootstrap.levels`."""
    named: dict[str, Any] = logging.root.manager.loggerDict
    loggers = {n: one for n, one in named.items() if isinstance(one, logging.Logger)}
    return {"": logging.root.level, **{n: one.level for n, one in loggers.items() if one.level}}
