"""Elasticsearch out of Maven: the core with vectors and security, without some of its modules.

It has no ``GET /``, no scripts and no ingest processors; all that a sink needs is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from tests.services.install import artifact, java_home, package, unzip
from tests.services.search_node import TIGHT, SearchNode
from tests.services.server import not_root

GROUP = "org.elasticsearch.distribution.integ-test-zip"
KEYSTORE = "elasticsearch.keystore"
SECURITY = """\
xpack.security.enabled: true
xpack.security.autoconfiguration.enabled: false
xpack.security.http.ssl.enabled: false
xpack.security.transport.ssl.enabled: false
"""
TLS = """\
xpack.security.http.ssl.certificate: server.pem
xpack.security.http.ssl.key: server-key.pem
"""


class ElasticsearchServer(SearchNode):
    """One node with a password."""

    name = "elasticsearch"
    program = "elasticsearch"
    prefix = "ES"
    version = "8.19.9"
    user: ClassVar[str] = "elastic"
    password: ClassVar[str] = "a-test's pässword"
    login = (user, password.encode())
    more = SECURITY

    def install(self) -> None:
        """Gets the zip, once for each version."""
        self.java = java_home(25)
        self.folder = package(f"elasticsearch-{self.version}", self._unpack)

    def prepare(self) -> None:
        """Writes its settings, and the password of its first user."""
        super().prepare()
        made = package(f"elasticsearch-{self.version}-keystore", self._make_keystore)
        shutil.copy(made / KEYSTORE, self.data / "config")

    def _make_keystore(self, folder: Path) -> None:
        """Two programs of Java take longer than the server: its keystore is also kept."""
        self._keystore("create")
        self._keystore("add", "-x", "bootstrap.password", given=self.password)
        (self.data / "config" / KEYSTORE).rename(folder / KEYSTORE)

    def _unpack(self, folder: Path) -> None:
        artifact(folder, f"{GROUP}:elasticsearch:{self.version}:zip")
        unzip(folder / f"elasticsearch-{self.version}.zip", folder, f"elasticsearch-{self.version}")

    def _keystore(self, *words: str, given: str = "") -> None:
        subprocess.run(
            [*not_root(), str(self.folder / "bin/elasticsearch-keystore"), *words],
            input=given.encode(),
            env={**os.environ, **self.environment()},
            check=True,
            capture_output=True,
        )


class Elasticsearch9Server(ElasticsearchServer):
    """The first version that takes vectors as base64 and leaves them out of `_source`."""

    name = "elasticsearch9"
    version = "9.3.2"


class TightElasticsearchServer(ElasticsearchServer):
    """A server that turns much away, and speaks TLS."""

    name = "elasticsearch-tight"
    has_tls = True
    more = SECURITY.replace("http.ssl.enabled: false", "http.ssl.enabled: true") + TLS + TIGHT
