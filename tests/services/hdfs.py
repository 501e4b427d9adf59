"""HDFS 3.4: one name node and one data node in one Java process, with WebHDFS."""

from __future__ import annotations

import getpass
from typing import Any
from urllib.parse import quote

import requests

from tests.services.install import jars, java, package
from tests.services.server import Server, free_port

JARS = (
    "org.apache.hadoop:hadoop-client-minicluster:3.4.2",
    "javax.xml.bind:jaxb-api:2.3.1",  # else WebHDFS answers 500 to everything
    "org.slf4j:slf4j-simple:1.7.36",
)


class Hdfs(Server):
    """A cluster whose superuser is the user of this process."""

    name = "hdfs"

    @property
    def url(self) -> str:
        """The name node's HTTP address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def rpc(self) -> str:
        """The name of the file system, as Hadoop's own clients write it."""
        return f"hdfs://127.0.0.1:{self._rpc_port}"

    def install(self) -> None:
        """Twelve jars of Maven Central."""
        self._java = java(11)
        self._folder = package("hdfs-3.4.2", lambda f: jars(f, *JARS))
        self._rpc_port = free_port()

    def command(self) -> list[str]:
        """Hadoop's own runner of small clusters; it formats the first time only."""
        begun = (self.data / "dfs").exists()
        return [
            self._java,
            "-Xmx512m",
            f"-Dhdfs.minidfs.basedir={self.data / 'dfs'}",
            f"-Dtest.build.data={self.data}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{self._folder}/*",
            "org.apache.hadoop.test.MiniDFSClusterManager",
            *("-datanodes", "1", "-httpport", str(self.port), "-nnport", str(self._rpc_port)),
            *([] if begun else ["-format"]),
        ]

    def call(self, method: str, path: str, user: str | None = None, **query: Any) -> Any:
        """A request of WebHDFS, as `user` or the superuser."""
        data = query.pop("data", None)
        answer = requests.request(
            method,
            f"{self.url}/webhdfs/v1/{quote(path)}",
            params={**query, "user.name": user or getpass.getuser()},
            data=data,
            timeout=30,
        )
        answer.raise_for_status()
        return answer

    def put(self, path: str, data: bytes) -> None:
        """Writes a file."""
        self.call("PUT", path, op="CREATE", overwrite="true", data=data)

    def delete(self, path: str) -> None:
        """Removes a file or folder."""
        self.call("DELETE", path, op="DELETE", recursive="true")

    def ready(self) -> None:
        """A file is written, so the data node also answers."""
        self.put("tmp/ready", b"ok")
