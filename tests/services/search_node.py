"""What Elasticsearch and OpenSearch have in common as servers: one Java node, and its settings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.services.certificates import make_certificates
from tests.services.server import Server, free_port, not_root

SETTINGS = """\
cluster.name: tests
node.name: one
path.data: {data}/data
path.logs: {data}/logs
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
cluster.routing.allocation.disk.reroute_interval: 1s
cluster.info.update.interval: 10s
"""
TIGHT = """\
http.max_content_length: 1mb
indexing_pressure.memory.limit: 400kb
thread_pool.write.size: 1
thread_pool.write.queue_size: 1
"""
"""Little room: requests of more than 1 MiB are answered by 413, of more than 400 kB by 429."""

SOON_READY = ["-XX:TieredStopAtLevel=1"]
"""A server that lives for minutes compiles longer than it gains by it."""


class SearchNode(Server):
    """One empty node. `more` are further lines of its settings, `login` what its calls carry.

    `install` of a subclass sets `folder`, where its software is, and `java`, the JDK that it needs.
    """

    program: ClassVar[str]
    prefix: ClassVar[str]
    version: ClassVar[str]
    heap: ClassVar[str] = "1g"
    more: ClassVar[str] = ""
    login: ClassVar[tuple[str, bytes] | None] = None
    has_tls: ClassVar[bool] = False
    folder: Path
    java: Path

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{'https' if self.has_tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def certificates(self) -> Path:
        """The folder of its certificate, and of `ca.pem` that signed it: its configuration."""
        return self.data / "config"

    def prepare(self) -> None:
        """Writes its settings."""
        config = self.data / "config"
        shutil.copytree(self.folder / "config", config)
        if self.has_tls:
            make_certificates(config)
        (self.data / "tmp").mkdir()
        (self.data / "logs").mkdir()
        filled = SETTINGS.format(data=self.data, port=self.port, transport=free_port())
        (config / f"{self.program}.yml").write_text(filled + self.more)
        options = (config / "jvm.options").read_text()
        for before in "=:":
            options = options.replace(f"{before}logs/", f"{before}{self.data}/logs/")
        (config / "jvm.options").write_text(options)
        (config / "jvm.options.d").mkdir(exist_ok=True)
        ours = [f"-Xms{self.heap}", f"-Xmx{self.heap}", *SOON_READY]
        (config / "jvm.options.d/ours.options").write_text("\n".join(ours) + "\n")

    def command(self) -> list[str]:
        """The server, which refuses to run as root."""
        return [*not_root(), str(self.folder / "bin" / self.program)]

    def environment(self) -> Mapping[str, str]:
        """Its Java, its configuration and its temporary folder."""
        return {
            f"{self.prefix}_JAVA_HOME": str(self.java),
            f"{self.prefix}_PATH_CONF": str(self.data / "config"),
            f"{self.prefix}_TMPDIR": str(self.data / "tmp"),
        }

    def ready(self) -> None:
        """The cluster is yellow or better."""
        self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s")

    def needs_room(self, free: str | None) -> None:
        """Lets it think its disk full while less than `free` is left, such as ``100000gb``.

        It looks every ten seconds. None lets it look no more, as it was started.
        """
        disk = "cluster.routing.allocation.disk"
        marks = dict.fromkeys(("low", "high", "flood_stage"), free)
        settings = {f"{disk}.watermark.{mark}": value for mark, value in marks.items()}
        settings[f"{disk}.threshold_enabled"] = None if free is None else "true"
        self.request("PUT", "/_cluster/settings", {"persistent": settings})

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """A call of its REST interface; raises for a status that tells a fault."""
        url = self.url + path
        trust = str(self.certificates / "ca.pem") if self.has_tls else True
        answer = requests.request(
            method, url, json=body, auth=self.login, timeout=120, verify=trust
        )
        answer.raise_for_status()
        return answer.json()
