"""Elasticsearch out of Maven: the core with vectors and security, without some of its modules.

It has no ``GET /``, no scripts and no ingest processors; all that a sink needs is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.services.install import artifact, java_home, package, unzip
from tests.services.server import Server, free_port, not_root

GROUP = "org.elasticsearch.distribution.integ-test-zip"
SETTINGS = """\
cluster.name: tests
node.name: one
path.data: {data}/data
path.logs: {data}/logs
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
discovery.type: single-node
xpack.security.enabled: true
xpack.security.autoconfiguration.enabled: false
xpack.security.http.ssl.enabled: false
xpack.security.transport.ssl.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""


class ElasticsearchServer(Server):
    """One node with a password, empty; `more` are further lines of its settings."""

    name = "elasticsearch"
    version: ClassVar[str] = "8.19.9"
    user: ClassVar[str] = "elastic"
    password: ClassVar[str] = "a-test's pässword"
    heap: ClassVar[str] = "1g"
    more: ClassVar[str] = ""

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def install(self) -> None:
        """Gets the zip, once for each version."""
        self._java = java_home(25)
        self._folder = package(f"elasticsearch-{self.version}", self._unpack)

    def prepare(self) -> None:
        """Writes its settings, and the password of its first user."""
        config = self.data / "config"
        shutil.copytree(self._folder / "config", config)
        (self.data / "tmp").mkdir()
        (self.data / "logs").mkdir()
        filled = SETTINGS.format(data=self.data, port=self.port, transport=free_port())
        (config / "elasticsearch.yml").write_text(filled + self.more)
        options = (config / "jvm.options").read_text().replace("=logs/", f"={self.data}/logs/")
        (config / "jvm.options").write_text(options)
        (config / "jvm.options.d").mkdir(exist_ok=True)
        (config / "jvm.options.d/heap.options").write_text(f"-Xms{self.heap}\n-Xmx{self.heap}\n")
        self._keystore("create")
        self._keystore("add", "-x", "bootstrap.password", given=self.password)

    def command(self) -> list[str]:
        """The server, which refuses to run as root."""
        return [*not_root(), str(self._folder / "bin/elasticsearch")]

    def environment(self) -> Mapping[str, str]:
        """Its Java, its configuration and its temporary folder."""
        return {
            "ES_JAVA_HOME": str(self._java),
            "ES_PATH_CONF": str(self.data / "config"),
            "ES_TMPDIR": str(self.data / "tmp"),
        }

    def ready(self) -> None:
        """The cluster is yellow or better."""
        self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s")

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """A call of its REST interface by its first user; raises for a fault."""
        answer = requests.request(
            method, self.url + path, json=body, auth=(self.user, self.password.encode()), timeout=30
        )
        answer.raise_for_status()
        return answer.json()

    def _unpack(self, folder: Path) -> None:
        artifact(folder, f"{GROUP}:elasticsearch:{self.version}:zip")
        unzip(folder / f"elasticsearch-{self.version}.zip", folder, f"elasticsearch-{self.version}")

    def _keystore(self, *words: str, given: str = "") -> None:
        tool = str(self._folder / "bin/elasticsearch-keystore")
        environment = {**os.environ, **self.environment()}
        subprocess.run(
            [*not_root(), tool, *words],
            input=given.encode(),
            env=environment,
            check=True,
            capture_output=True,
        )


class Elasticsearch9Server(ElasticsearchServer):
    """The first version that takes vectors as base64 and leaves them out of `_source`."""

    name = "elasticsearch9"
    version = "9.3.2"


TIGHT = """\
http.max_content_length: 1mb
indexing_pressure.memory.limit: 400kb
thread_pool.write.size: 1
thread_pool.write.queue_size: 1
"""
"""Little room: requests of more than 1 MiB are answered by 413, of more than 400 kB by 429."""


class TightElasticsearchServer(ElasticsearchServer):
    """A server that turns much away."""

    name = "elasticsearch-tight"
    more = TIGHT
