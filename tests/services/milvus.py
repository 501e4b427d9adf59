"""Milvus 2.3.5, the newest server that comes in a wheel, reachable from this machine only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from tests.services.certificates import make_certificates
from tests.services.install import Unavailable, package
from tests.services.server import Server

WHEEL = "milvus==2.3.5"
INNER_PORT = 19530
SOON_LOADED = dict.fromkeys(
    (
        "QUERYCOORD_CHECKSEGMENTINTERVAL",
        "QUERYCOORD_CHECKCHANNELINTERVAL",
        "QUERYCOORD_DISTPULLINTERVAL",
    ),
    "50",
)
"""Milliseconds after which a server looks again at what it loads: a collection takes 2 s, not 3."""


class MilvusServer(Server):
    """A standalone Milvus with its metadata and log store inside."""

    name = "milvus"

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> MilvusClient:
        """A client for tests."""
        return MilvusClient(self.uri, **more)

    def install(self) -> None:
        """Unpacks the wheel, without what it depends on: the server is a program of its own."""
        self._folder = package("milvus-2.3.5", _unpack)
        self._programs = package("milvus-2.3.5-programs", self._decompress)

    def prepare(self) -> None:
        """Puts its programs where it would decompress them at each first start."""
        (self.data / "milvus").mkdir()
        (self.data / "milvus" / "bin").symlink_to(self._programs / "bin")

    def _decompress(self, folder: Path) -> None:
        start = "import sys, milvus; milvus._initialize_data_files(sys.argv[1])"
        env = {**os.environ, **self.environment()}
        subprocess.run([sys.executable, "-c", start, str(folder)], env=env, check=True)

    def command(self) -> list[str]:
        """The server, in a network namespace: it listens on every interface there is."""
        loopback = Path(__file__).with_name("loopback.py")
        inside = [sys.executable, str(loopback), f"{self.port}:{INNER_PORT}"]
        start = "import sys, milvus; sys.exit(milvus.main())"
        server = [sys.executable, "-c", start, "--data", str(self.data / "milvus")]
        return [*inside, *server, "--proxy-port", str(INNER_PORT), *self.options()]

    def options(self) -> list[str]:
        """More settings of the server, as its command line has them."""
        return []

    def environment(self) -> dict[str, str]:
        """The folder of the wheel, and settings that its configuration file has no place for."""
        return {"PYTHONPATH": str(self._folder), **SOON_LOADED}

    def ready(self) -> None:
        """Lists the collections."""
        client = self.client(timeout=20)
        client.list_collections()
        client.close()

    def kill(self) -> None:
        """Kills the server itself too, which is in a process group of its own."""
        for pid in self._family():
            os.kill(pid, signal.SIGKILL)
        super().kill()

    def _family(self) -> list[int]:
        if self.process is None:
            return []
        found, new = [], [self.process.pid]
        while new:
            children = [
                int(word)
                for pid in new
                for word in _read(f"/proc/{pid}/task/{pid}/children").split()
            ]
            found += children
            new = children
        return found


class LockedMilvusServer(MilvusServer):
    """The same with a login."""

    name = "milvus-locked"
    user, password = "root", "Milvus"

    def options(self) -> list[str]:
        """Whoever comes must say who it is."""
        return ["--authorization-enabled", "true"]

    def client(self, **more: Any) -> MilvusClient:
        """A client that has logged in."""
        return MilvusClient(self.uri, token=f"{self.user}:{self.password}", **more)


class TlsMilvusServer(MilvusServer):
    """The same with TLS; `ca` is the authority that signed its certificate."""

    name = "milvus-tls"

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate of the authority."""
        return self.data / "ca.pem"

    def client(self, **more: Any) -> MilvusClient:
        """A client that trusts it."""
        return MilvusClient(self.uri, server_pem_path=str(self.ca), **more)

    def prepare(self) -> None:
        """Makes its certificate."""
        make_certificates(self.data)

    def options(self) -> list[str]:
        """Its certificate, and that it is used."""
        given = {
            "common.security.tlsMode": "1",
            "tls.serverPemPath": self.data / "server.pem",
            "tls.serverKeyPath": self.data / "server-key.pem",
        }
        return [
            part for name, value in given.items() for part in ("--extra-config", f"{name}={value}")
        ]


class TightMilvusServer(MilvusServer):
    """A server that takes no more than 50 KB of changes a second."""

    name = "milvus-tight"

    def options(self) -> list[str]:
        """Its limits are on, and low."""
        rates = ("insertRate", "upsertRate", "deleteRate")
        given = {"enabled": "true"} | {f"{rate}.max": "0.05" for rate in rates}
        return [
            part
            for name, value in given.items()
            for part in ("--extra-config", f"quotaAndLimits.dml.{name}={value}")
        ]


def _unpack(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, WHEEL], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"pip install {WHEEL} failed: {done.stderr.strip()[-300:]}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
