"""Tables of MySQL that a test writes to, and jobs that follow them into memory."""

from __future__ import annotations

import json
import random
import time
import uuid
from pathlib import Path
from typing import Any

from tests.contracts import sync_memory
from tests.contracts.sync import Script, differences, embedded, run_here, write_job
from tests.contracts.sync_memory import held
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8, Mysql8Plain, Mysql57, MysqlServer
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines.run.report import Report

SERVERS = {"mysql": Mysql8, "plain": Mysql8Plain, "mariadb": Mariadb}
"""MySQL with GTIDs and without, and MariaDB."""
ALL = {**SERVERS, "mysql57": Mysql57}
"""Also an old one, for long runs."""


class Followed(Script):
    """A table of its own in the database of the tests."""

    def __init__(self, server: MysqlServer) -> None:
        self.server, self.name = server, f"t_{uuid.uuid4().hex[:12]}"
        self.client = server.client(autocommit=True)
        self.run(
            f"CREATE TABLE {self.name} (id VARCHAR(64) PRIMARY KEY, text TEXT, n INT DEFAULT 0)"
        )

    def run(self, sql: str, *values: Any) -> None:
        """A statement; `{}` stands for the table."""
        with self.client.cursor() as cursor:
            cursor.execute(sql.replace("{}", self.name), values or None)

    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """In chunks of any size."""
        return {
            "stepType": "mysql-cdc",
            "category": "reader",
            "name": "Read",
            "parameter": {
                "datasource": "Database",
                "table": f"shop.{self.name}",
                "column": ["id", "text"],
                "chunkRows": least * chance.choice([1, 3, 10, 100]),
            },
        }

    def sources(self) -> dict[str, Any]:
        """The server."""
        return {"Database": self.server.source}

    def rows(self) -> dict[str, str]:
        """As a SELECT gives them."""
        with self.client.cursor() as cursor:
            cursor.execute(f"SELECT id, text FROM {self.name}")
            return dict(cursor.fetchall())

    def insert(self, key: str, text: str) -> None:
        self.run("INSERT INTO {} (id, text) VALUES (%s, %s)", key, text)

    def update(self, key: str, text: str) -> None:
        self.run("UPDATE {} SET text = %s WHERE id = %s", text, key)

    def delete(self, key: str) -> None:
        self.run("DELETE FROM {} WHERE id = %s", key)

    def move(self, key: str, to: str, text: str) -> None:
        self.run("UPDATE {} SET id = %s, text = %s WHERE id = %s", to, text, key)

    def truncate(self) -> None:
        self.run("TRUNCATE TABLE {}")


class Job:
    """A sync of a table into memory."""

    def __init__(
        self, script: Followed, folder: Path, endpoint: EndpointServer, **reader: Any
    ) -> None:
        self.script, self.endpoint = script, endpoint
        self.name = uuid.uuid4().hex
        owns = reader.pop("ownsTarget", True)
        parameter = {"name": self.name, "column": ["id", "text", "vector"], "ownsTarget": owns}
        step = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
        self.path = write_job(folder, script, step, endpoint.url, random.Random(1))
        if reader:
            self.change(**reader)
        self.sources = folder / "sources.json"
        self.sources.write_text(json.dumps(script.sources()))

    def change(self, **reader: Any) -> None:
        """Other parameters of the reader."""
        job = json.loads(self.path.read_text())
        job["steps"][0]["parameter"].update(reader)
        self.path.write_text(json.dumps(job))

    def run(self, **options: Any) -> Report:
        """All that has happened."""
        return run_here(self.path, sync_memory.KINDS, sources=self.sources, **options)

    def command(self, name: str) -> list[str]:
        """A command of vecferry about the job."""
        return [name, str(self.path), "-d", str(self.sources)]

    def move_to(self, server: MysqlServer) -> None:
        """From now on the data source is another server."""
        self.sources.write_text(json.dumps({"Database": server.source}))

    def log_in(self, user: str, password: str) -> None:
        """From now on as another user."""
        given = {**self.script.server.source, "username": user, "password": password}
        self.sources.write_text(json.dumps({"Database": given}))

    def differences(self, where: str = "TRUE") -> list[str]:
        """How the target differs from the table."""
        there = {k: (r["text"], r["vector"]) for k, r in held(self.name).there().items()}
        with self.script.client.cursor() as cursor:
            cursor.execute(f"SELECT id, text FROM {self.script.name} WHERE {where}")
            return differences(dict(cursor.fetchall()), there)

    def paid(self) -> int:
        """How many texts were embedded."""
        return len(embedded(self.endpoint))


def purge(script: Followed) -> None:
    """Removes all of the log but its last file, once no reader is in it any more."""
    deadline = time.monotonic() + 120
    while True:
        with script.client.cursor() as cursor:
            cursor.execute("SHOW BINARY LOGS")
            names = [row[0] for row in cursor.fetchall()]
            if len(names) == 1:
                return
            assert time.monotonic() < deadline, names
            cursor.execute(f"PURGE BINARY LOGS TO '{names[-1]}'")
        time.sleep(0.1)
