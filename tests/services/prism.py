"""Prism 2.77: Beam's portable local runner, a program written in Go."""

from __future__ import annotations

import socket

from tests.services.install import go_program, package
from tests.services.server import Server

VERSION = "v2.77.0"


class Prism(Server):
    """A job server that runs jobs itself, one process."""

    name = "prism"

    @property
    def beam_options(self) -> list[str]:
        """What names it on the command line."""
        return [f"--job_endpoint=127.0.0.1:{self.port}"]

    def install(self) -> None:
        """Builds it, which takes some minutes."""
        module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{VERSION}"
        self._folder = package(f"prism-{VERSION}", lambda f: go_program(f, module))

    def command(self) -> list[str]:
        """It stays until it is stopped."""
        program = str(self._folder / "prism")
        return [
            program,
            f"--job_port={self.port}",
            "--serve_http=false",
            "--idle_shutdown_timeout=-1ns",
        ]

    def ready(self) -> None:
        """Somebody listens."""
        with socket.create_connection(("127.0.0.1", self.port), 1):
            pass
