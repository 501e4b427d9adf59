"""Who holds a lease: the process, and whether it still runs on this machine."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")


def _machine() -> str:
    """This boot of this machine and this process's space of ids; empty where neither is told.

    Containers of one machine share the boot, and each has ids of its own: process 7 of one is
    unknown in another.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _begun(process: int) -> str | None:
    """When a process of this machine began, in ticks since the boot; None if it is gone.

    A process that has ended, and that its parent has not asked for yet, is gone.
    """
    try:
        told = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = told.rpartition(")")[2].split()  # the name before may hold anything
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds a lease; without arguments but `run`, this process.

    Attributes:
      run: the id of the run.
      host: the name of the machine.
      process: the id of the process.
      machine: the boot and the space of ids that `process` is of; empty where none is told.
      begun: when the process began, as the machine counts; an id may be given away again.
      since: when the lease was taken, in seconds since 1970 by the holder's own clock.
    """

    run: str
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=_machine)
    begun: str = field(default_factory=lambda: _begun(os.getpid()) or "")
    since: float = field(default_factory=time.time)

    @property
    def is_near(self) -> bool:
        """Whether the process is, or was, one whose id this process can look up."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended; False of another machine's process."""
        return self.is_near and _begun(self.process) != self.begun

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.since))
        return f"run {self.run} (process {self.process} on {self.host}, since {since} UTC)"
