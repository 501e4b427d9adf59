"""Redis 7 of Debian, in memory."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from tests.services.install import debian, library_path, package
from tests.services.server import Server


class RedisServer(Server):
    """An empty Redis without a password."""

    name = "redis"

    @property
    def uri(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def install(self) -> None:
        """Unpacks Debian's package; redis-check-rdb is the server under another name."""
        self._folder = package("redis", lambda f: debian(f, "redis-tools"))
        link = self._folder / "redis-server"
        if not link.is_symlink():
            link.symlink_to(self._folder / "usr/bin/redis-check-rdb")

    def command(self) -> list[str]:
        """Nothing is written to disk."""
        bind = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [str(self._folder / "redis-server"), *bind, "--save", "", "--appendonly", "no"]

    def environment(self) -> Mapping[str, str]:
        """Its libraries."""
        return {"LD_LIBRARY_PATH": library_path(self._folder)}

    def ready(self) -> None:
        """PING."""
        with socket.create_connection(("127.0.0.1", self.port), 1) as s:
            s.sendall(b"PING\r\n")
            if not s.recv(16).startswith(b"+PONG"):
                raise ConnectionError("no PONG")
