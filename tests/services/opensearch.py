"""OpenSearch with k-NN out of Maven: the core, and the modules that the plugin needs, put together.

The plugin comes without its native libraries, so that an index must never build a graph of the
engine faiss: a template keeps every index to exact search, which needs none.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.services.install import artifact, jars, java_home, package, unzip
from tests.services.search_node import TIGHT, SearchNode

GROUP = "org.opensearch.distribution.integ-test-zip"
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


class OpenSearchServer(SearchNode):
    """One node without a password."""

    name = "opensearch"
    program = "opensearch"
    prefix = "OPENSEARCH"
    version = "2.19.1"

    def install(self) -> None:
        """Gets the server, its modules and the k-NN plugin, once."""
        self.java = java_home(17)
        self.folder = package(f"opensearch-{self.version}", self._unpack)

    def ready(self) -> None:
        """It answers, and its template is in place."""
        super().ready()
        self.request("PUT", "/_index_template/exact-search", EXACT_SEARCH)

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
