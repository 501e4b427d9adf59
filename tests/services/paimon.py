"""Apache Paimon 1.3.1 itself: makes tables, compacts and reads them, and serves a REST catalog.

Stands apart from the client that vecferry reads tables with, which cannot compact. Its program is
`PaimonServer.java` beside this module.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.services.beam_java import SMALL
from tests.services.install import Unavailable, artifact, jars, java, package, tool
from tests.services.server import Server, free_port

VERSION = "1.3.1"
JARS = (
    f"org.apache.paimon:paimon-bundle:{VERSION}",
    "org.apache.hadoop:hadoop-client-api:3.3.4",
    "org.apache.hadoop:hadoop-client-runtime:3.3.4",
    "org.slf4j:slf4j-simple:1.7.36",
    "com.github.luben:zstd-jni:1.5.5-11",
    "org.xerial.snappy:snappy-java:1.1.10.7",
)
REST_JARS = "com.squareup.okhttp3:mockwebserver:4.12.0"
REST_TESTS = f"org.apache.paimon:paimon-core:{VERSION}:jar:tests"
PROGRAM = Path(__file__).with_name("PaimonServer.java")
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
SECONDS = 300

Change = tuple[str, Sequence[Any]]
"""A row kind, such as ``+I``, and the values of a row in the order of the columns."""


class PaimonServer(Server):
    """A process that carries out commands on tables, wherever they lie."""

    name = "paimon"

    def install(self) -> None:
        """Gets the jars of Paimon and of its own tests, and compiles the program against them."""
        self._java = java(17)
        folders = (
            package(f"paimon-{VERSION}", lambda folder: jars(folder, *JARS)),
            package(f"paimon-rest-{VERSION}", _rest_jars),
        )
        path = ":".join(f"{folder}/*" for folder in folders)
        mark = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()[:12]
        made = package(f"paimon-{VERSION}-program-{mark}", lambda folder: _compile(folder, path))
        self._path = f"{made}:{path}"

    def command(self) -> list[str]:
        """A small JVM; what it sorts goes into its own folder."""
        options = [*SMALL, "-Xmx512m", QUIET, f"-Djava.io.tmpdir={self.data}"]
        return [self._java, *options, "-cp", self._path, "tests.PaimonServer", str(self.port)]

    def ready(self) -> None:
        """Says a word."""
        self.carry_out(do="ping")

    def carry_out(self, **command: Any) -> Any:
        """The answer to a command; AssertionError with the reason where it failed."""
        answer = requests.post(f"http://127.0.0.1:{self.port}", json=command, timeout=SECONDS)
        assert answer.status_code == 200, answer.text[:2000]
        return answer.json()

    def rest(self, warehouse: Path, token: str) -> RestCatalog:
        """A REST catalog over a folder, which asks for a token."""
        return RestCatalog(self, warehouse, token)


@dataclass
class Table:
    """A table that the reference implementation writes: `catalog` are the options of its catalog.

    `columns` are names and types as SQL writes them.
    """

    server: PaimonServer
    catalog: Mapping[str, str]
    name: str
    columns: Mapping[str, str]
    primary_key: Sequence[str] = ()
    partitions: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def create(self) -> Table:
        """Makes the table, and its database where there is none; gives itself."""
        self._do(
            "create",
            columns=dict(self.columns),
            primaryKey=list(self.primary_key),
            partitions=list(self.partitions),
            options=dict(self.options),
        )
        return self

    def drop(self) -> None:
        """Removes the table and its files."""
        self._do("drop")

    def alter(self, *changes: Sequence[str]) -> None:
        """Changes columns: ``("add", name, type)``, ``drop``, ``rename`` to a name, ``widen``."""
        self._do("alter", changes=changes)

    def commit(self, *rows: Change) -> None:
        """One commit of these rows."""
        self._do("write", rows=rows)

    def upsert(self, *rows: Sequence[Any]) -> None:
        """One commit of these rows as inserts."""
        self.commit(*(("+I", row) for row in rows))

    def overwrite(self, partition: Mapping[str, str], *rows: Sequence[Any]) -> None:
        """One commit of rows in place of a partition, or of all that is there."""
        self._do("write", rows=[("+I", row) for row in rows], overwrite=dict(partition))

    def compact(self) -> None:
        """Merges each bucket whole; a table that is `write-only` is compacted by this alone."""
        self._do("compact")

    def truncate(self) -> None:
        """Removes all rows in one commit."""
        self._do("truncate")

    def expire(self, retain: int = 1) -> int:
        """Forgets all snapshots but the newest, and those that consumers need; tells how many."""
        return int(self._do("expire", retain=retain))

    def rollback(self, snapshot: int) -> None:
        """Lets an earlier snapshot be the last one."""
        self._do("rollback", snapshot=snapshot)

    def rows(self, snapshot: int | None = None) -> list[dict[str, Any]]:
        """The rows as the reference implementation reads them, in any order.

        Bytes are base64, dates and times are texts. Of a table with deletion vectors, rows that
        were not compacted are not among them.
        """
        at = {} if snapshot is None else {"snapshot": snapshot}
        return [dict(zip(self.columns, row, strict=True)) for row in self._do("read", **at)]

    def snapshots(self) -> list[tuple[int, str]]:
        """The number and the kind of each snapshot, such as ``COMPACT``."""
        return [(number, kind) for number, kind in self._do("snapshots")]

    def _do(self, what: str, **more: Any) -> Any:
        return self.server.carry_out(do=what, catalog=dict(self.catalog), table=self.name, **more)


class RestCatalog:
    """The catalog server of the reference implementation's own tests, on loopback.

    Its tables lie in a folder. It knows only tables that were made through it.
    """

    def __init__(self, server: PaimonServer, warehouse: Path, token: str) -> None:
        self._server, self._token = server, token
        self._warehouse, self.port = warehouse, free_port()
        self.open()

    @property
    def options(self) -> dict[str, str]:
        """What a catalog is opened with."""
        return {
            "metastore": "rest",
            "uri": f"http://127.0.0.1:{self.port}",
            "warehouse": "lake",
            "token.provider": "bear",
            "token": self._token,
        }

    def open(self) -> None:
        """Listens, as it does from the beginning; nothing was forgotten while it was away."""
        more = {"warehouse": str(self._warehouse), "token": self._token}
        self._server.carry_out(do="rest-open", port=self.port, **more)

    def close(self) -> None:
        """Is away: connections are refused."""
        self._server.carry_out(do="rest-close", port=self.port)

    def deny(self, table: str) -> None:
        """Lets nobody read a table from now on."""
        self._server.carry_out(do="rest-deny", port=self.port, table=table)


def _rest_jars(folder: Path) -> None:
    jars(folder, REST_JARS)
    artifact(folder, REST_TESTS)


def _compile(folder: Path, path: str) -> None:
    compiler = [tool("javac", "install a JDK 17 or newer"), "-nowarn", "-cp", path]
    done = subprocess.run(
        [*compiler, "-d", str(folder), str(PROGRAM)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"javac failed: {done.stderr[-500:]}")
