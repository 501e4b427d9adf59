"""OpenSearch with k-NN out of Maven: the core, and the modules that the plugin needs, put together.

The plugin comes without its native libraries, so that an index must never build a graph of the
engine faiss: a template keeps every index to exact search, which needs none.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.services.elasticsearch import TIGHT
from tests.services.install import artifact, jars, java_home, package, unzip
from tests.services.server import Server, free_port, not_root

GROUP = "org.opensearch.distribution.integ-test-zip"
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
"""
DESCRIPTOR = """\
description={name}
version={version}
name={name}
classname=org.opensearch.{entry}
java.version=11
opensearch.version={version}
extended.plugins={extends}
has.native.controller=false
"""
PAINLESS_POLICY = """\
grant {
  permission java.lang.RuntimePermission "createClassLoader";
  permission java.lang.RuntimePermission "getClassLoader";
};
"""
EXACT_SEARCH = {
    "index_patterns": ["*"],
    "priority": 1,
    "template": {
        "settings": {
            "index.knn.advanced.approximate_threshold": -1,
            "index.number_of_replicas": 0,
        }
    },
}


class OpenSearchServer(Server):
    """One node without a password, empty; `more` are further lines of its settings."""

    name = "opensearch"
    version: ClassVar[str] = "2.19.1"
    heap: ClassVar[str] = "1g"
    more: ClassVar[str] = ""

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def install(self) -> None:
        """Gets the server, its modules and the k-NN plugin, once."""
        self._java = java_home(17)
        self._folder = package(f"opensearch-{self.version}", self._unpack)

    def prepare(self) -> None:
        """Writes its settings."""
        config = self.data / "config"
        shutil.copytree(self._folder / "config", config)
        (self.data / "tmp").mkdir()
        (self.data / "logs").mkdir()
        filled = SETTINGS.format(data=self.data, port=self.port, transport=free_port())
        (config / "opensearch.yml").write_text(filled + self.more)
        options = (config / "jvm.options").read_text()
        for before in ("=", ":"):
            options = options.replace(f"{before}logs/", f"{before}{self.data}/logs/")
        (config / "jvm.options").write_text(options)
        (config / "jvm.options.d").mkdir(exist_ok=True)
        (config / "jvm.options.d/heap.options").write_text(f"-Xms{self.heap}\n-Xmx{self.heap}\n")

    def command(self) -> list[str]:
        """The server, which refuses to run as root."""
        return [*not_root(), str(self._folder / "bin/opensearch")]

    def environment(self) -> Mapping[str, str]:
        """Its Java, its configuration and its temporary folder."""
        return {
            "OPENSEARCH_JAVA_HOME": str(self._java),
            "OPENSEARCH_PATH_CONF": str(self.data / "config"),
            "OPENSEARCH_TMPDIR": str(self.data / "tmp"),
        }

    def ready(self) -> None:
        """The cluster is yellow or better, and its template is in place."""
        self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=2s")
        self.request("PUT", "/_index_template/exact-search", EXACT_SEARCH)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """A call of its REST interface; raises for a status that tells a fault."""
        answer = requests.request(method, self.url + path, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _unpack(self, folder: Path) -> None:
        artifact(folder, f"{GROUP}:opensearch:{self.version}:zip")
        unzip(folder / f"opensearch-{self.version}.zip", folder, f"opensearch-{self.version}")
        self._module(folder, "lang-painless", "painless.PainlessPlugin")
        policy = folder / "modules/lang-painless/plugin-security.policy"
        policy.write_text(PAINLESS_POLICY)
        self._module(folder, "mapper-extras", "index.mapper.MapperExtrasModulePlugin")
        self._module(folder, "analysis-common", "analysis.common.CommonAnalysisModulePlugin")
        artifact(folder, f"org.opensearch.plugin:opensearch-knn:{self.version}.0:zip")
        plugin = folder / "plugins/opensearch-knn"
        plugin.mkdir(parents=True)
        unzip(folder / f"opensearch-knn-{self.version}.0.zip", plugin)

    def _module(self, folder: Path, name: str, entry: str) -> None:
        """Makes a module of the jars that Maven has of it."""
        client = "-client" if name == "mapper-extras" else ""
        got = folder / "got"
        got.mkdir()
        jars(got, f"org.opensearch.plugin:{name}{client}:{self.version}")
        module = folder / "modules" / name
        module.mkdir()
        have = {jar.name for jar in (folder / "lib").glob("*.jar")}
        painless = {jar.name for jar in (folder / "modules/lang-painless").glob("*.jar")}
        for jar in got.glob("*.jar"):
            if jar.name not in have | painless:
                jar.rename(module / jar.name)
        shutil.rmtree(got)
        if self.version.startswith("2."):
            entry = entry.replace("ModulePlugin", "Plugin")
        extends = "lang-painless" if name == "analysis-common" else ""
        text = DESCRIPTOR.format(name=name, version=self.version, entry=entry, extends=extends)
        (module / "plugin-descriptor.properties").write_text(text)


class TightOpenSearchServer(OpenSearchServer):
    """A server that turns much away."""

    name = "opensearch-tight"
    more = TIGHT
