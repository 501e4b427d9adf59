"""Servers of several processes: each part is started, waited for and killed alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.server import Server, free_port

ROOT = Path(__file__).parent.parent.parent


class Part(Server):
    """One process of a cluster: its command and how it shows that it is ready."""

    name = "part"

    def __init__(self, name: str, command: list[str], port: int | None = None) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__()
        self.port = port or self.port
        self._command = command

    def command(self) -> list[str]:
        """As given."""
        return self._command

    def environment(self) -> Mapping[str, str]:
        """Workers that it starts find the modules of these tests."""
        return worker_environment()

    def ready(self) -> None:
        """Somebody listens on its port."""
        with socket.create_connection(("127.0.0.1", self.port), 1):
            pass


class Cluster(Server):
    """A server of several parts, started in order and stopped in the other one."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Part] = []
        self.job_port = free_port()

    @property
    def job_endpoint(self) -> str:
        """Where jobs are submitted."""
        return f"127.0.0.1:{self.job_port}"

    def stop(self) -> None:
        """Stops every part."""
        for part in reversed(self.parts):
            part.stop()

    def kill(self) -> None:
        """Kills every part."""
        for part in self.parts:
            part.kill()

    def remove(self) -> None:
        """Removes what the parts wrote."""
        for part in self.parts:
            part.remove()
        super().remove()

    def tail(self) -> str:
        """The end of what each part printed."""
        return "\n".join(f"--- {part.name}\n{part.tail()}" for part in self.parts)


def worker_environment() -> dict[str, str]:
    """What a worker needs to find this checkout, its tests and this Python."""
    known = os.environ.get("PYTHONPATH", "")
    folder = str(Path(sys.executable).parent)
    return {
        "PYTHONPATH": f"{ROOT}:{known}".rstrip(":"),
        "PATH": f"{folder}:{os.environ.get('PATH', '')}",
    }
