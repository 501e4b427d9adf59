"""OpenSearch with k-NN out of Maven: the core, and the modules that the plugin needs, put together.

The plugin comes without its native libraries, so an index must never build a graph of the
engine faiss. A template keeps every index to exact search, which needs none.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

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
SECURITY = """\
plugins.security.allow_default_init_securityindex: true
plugins.security.nodes_dn: ["CN=127.0.0.1"]
plugins.security.ssl.transport.enforce_hostname_verification: false
plugins.security.ssl.http.enabled: true
""" + "".join(
    f"plugins.security.ssl.{layer}.{key}_filepath: {name}.pem\n"
    for layer in ("transport", "http")
    for key, name in (("pemcert", "server"), ("pemkey", "server-key"), ("pemtrustedcas", "ca"))
)
ML_PLUGINS = {
    "opensearch-job-scheduler": "opensearch-job-scheduler",
    "opensearch-ml-plugin": "opensearch-ml",
    "neural-search": "opensearch-neural-search",
}
"""The plugins that embed on the server: their names in Maven, and those of their folders."""
_HASH = "$2b$12$xgUwfkpF3vCgDJ2HWz2A7uXtSxcZsdVRPWy.pHpTjg9ZezEaK5BQy"  # of the password below
USERS = {
    "internal_users": f"""\
_meta: {{type: internalusers, config_version: 2}}
etl: {{hash: "{_HASH}", backend_roles: [admin]}}
clerk: {{hash: "{_HASH}"}}
""",
    "roles": """\
_meta: {type: roles, config_version: 2}
clerks:
  cluster_permissions: ["indices:data/write/bulk"]
  index_permissions:
    - {index_patterns: ["t*"], allowed_actions: [read, write, "indices:admin/mappings/get"]}
""",
    "roles_mapping": """\
_meta: {type: rolesmapping, config_version: 2}
all_access: {backend_roles: [admin]}
clerks: {users: [clerk]}
""",
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


class OpenSearchMlServer(OpenSearchServer):
    """A node with ml-commons and neural-search, which embed on the server.

    Its connectors may call servers of this machine alone.
    """

    name = "opensearch-ml"
    more = """\
plugins.ml_commons.only_run_on_ml_node: false
plugins.ml_commons.connector.private_ip_enabled: true
plugins.ml_commons.native_memory_threshold: 100
plugins.ml_commons.jvm_heap_memory_threshold: 100
"""

    def install(self) -> None:
        """Adds the plugins to a copy of the server."""
        super().install()
        plain = self.folder
        self.folder = package(f"opensearch-ml-{self.version}", lambda f: self._add(plain, f))

    def ready(self) -> None:
        """The plugin answers as well."""
        super().ready()
        self.request("GET", "/_plugins/_ml/stats")

    def _add(self, plain: Path, folder: Path) -> None:
        shutil.copytree(plain, folder, copy_function=os.link, dirs_exist_ok=True)
        for name, plugin in ML_PLUGINS.items():
            artifact(folder, f"org.opensearch.plugin:{name}:{self.version}.0:zip")
            (folder / "plugins" / plugin).mkdir()
            unzip(folder / f"{name}-{self.version}.0.zip", folder / "plugins" / plugin)


class TightOpenSearchServer(OpenSearchServer):
    """A server that turns much away, speaks TLS, and wants to know who comes."""

    name = "opensearch-tight"
    has_tls = True
    user, password = "etl", "a-test's pässword"
    clerk = "clerk"
    """Another user, of the same password, who may read and write indices named ``t…``, no more."""
    login = (user, password.encode())
    more = SECURITY + TIGHT

    def install(self) -> None:
        """Adds the security plugin to a copy of the server."""
        super().install()
        plain = self.folder
        self.folder = package(
            f"opensearch-security-{self.version}", lambda f: self._guard(plain, f)
        )

    def prepare(self) -> None:
        """Writes its users."""
        super().prepare()
        # The plugin reads keys in this form only.
        key = self.certificates / "server-key.pem"
        key.write_bytes(
            load_pem_private_key(key.read_bytes(), None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        users = self.certificates / "opensearch-security"
        shutil.copytree(self.folder / "plugins/opensearch-security/config", users)
        for name, text in USERS.items():
            (users / f"{name}.yml").write_text(text)

    def _guard(self, plain: Path, folder: Path) -> None:
        shutil.copytree(plain, folder, copy_function=os.link, dirs_exist_ok=True)
        artifact(folder, f"org.opensearch.plugin:opensearch-security:{self.version}.0:zip")
        plugin = folder / "plugins/opensearch-security"
        plugin.mkdir()
        unzip(folder / f"opensearch-security-{self.version}.0.zip", plugin)
