"""The contract of sources on files, on MaxCompute and on tables of each database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.files import BAD, COLUMNS, _jsonl, table
from tests.io.odps.server import OdpsServer
from tests.io.odps.support import reader, talks
from tests.io.tables.support import Place, place
from tests.services.mariadb import Mariadb
from tests.services.postgres import Postgres
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.steps import Source, StepContext
from vecferry.testing import SourceContract, SourcePlace

MANY = 300


class Lines(SourcePlace):
    """A file of JSON lines, three of which have a text where a number is due."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = _jsonl()
        (folder / "a.jsonl").write_bytes(self.data)

    def _source(self, path: str, column: list[Any], split_bytes: int) -> FileSource:
        settings = FilesSettings.model_validate(
            {"path": path, "fileFormat": "jsonl", "column": column}
        )
        context = StepContext(step="Reader", step_type="file")
        folder = LocalConnection(path=str(self.folder))
        return FileSource(settings, folder, context, split_bytes=split_bytes)

    def source(self, parts: int = 1) -> Source:
        return self._source("a.jsonl", COLUMNS, -(-len(self.data) // parts))

    def rows(self) -> list[dict[str, Any]]:
        good = (row for i, row in enumerate(table()) if i not in BAD)
        return [{**row, "id": int(row["id"]), "n": int(row["n"])} for row in good]

    def reasons(self) -> list[str]:
        return ["wrong-type"] * len(BAD)

    def mended(self) -> Source:
        return self._source("a.jsonl", ["id", "title", "n"], 1 << 20)

    def missing(self) -> Source:
        return self._source("b.jsonl", COLUMNS, 1 << 20)


class TestFiles(SourceContract):
    """A folder of this machine."""

    @pytest.fixture
    def place(self, tmp_path):
        return Lines(tmp_path)


class Talks(SourcePlace):
    """A partition of a table of MaxCompute."""

    def __init__(self, server: OdpsServer) -> None:
        self.server = server
        server.add(talks(MANY))

    def source(self, parts: int = 1) -> Source:
        return reader(self.server, splitRows=-(-MANY // parts))

    def rows(self) -> list[dict[str, Any]]:
        return [{"id": i, "sentence": f"sentence {i}"} for i in range(MANY)]

    def missing(self) -> Source:
        return reader(self.server, table="walks")

    def locked_out(self) -> tuple[Source, str]:
        wrong = "quite-wrong-key"
        login = {**self.server.connection(), "accessKey": wrong}
        return reader(self.server, connection=login), wrong


class TestOdps(SourceContract):
    """The server of the tests."""

    @pytest.fixture
    def place(self):
        with OdpsServer() as server:
            yield Talks(server)


class Rows(SourcePlace):
    """A table of a database."""

    def __init__(self, db: Place) -> None:
        self.db = db
        self.table = db.table(
            "id INT PRIMARY KEY, t VARCHAR(20)", *(f"{i * 3}, 'row {i}'" for i in range(MANY))
        )

    def source(self, parts: int = 1) -> Source:
        made: Source = self.db.reader({"table": self.table}, parts)
        return made

    def rows(self) -> list[dict[str, Any]]:
        return [{"id": i * 3, "t": f"row {i}"} for i in range(MANY)]

    def missing(self) -> Source:
        made: Source = self.db.reader({"table": "no_such_table"})
        return made

    def locked_out(self) -> tuple[Source, str]:
        wrong = "guessed-wrong-77"
        given = self.db.connection(password=wrong)
        return self.db.reader({"table": self.table}, connection=given), wrong


@pytest.mark.service
class TestTables(SourceContract):
    """MariaDB as a MySQL, and PostgreSQL."""

    @pytest.fixture(params=[Mariadb, Postgres], ids=lambda kind: kind.name)
    def place(self, request):
        return Rows(place(request.param))
