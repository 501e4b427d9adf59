"""The contract of sources on warehouses in a bucket and on tables of a REST catalog."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.io.paimon.support import WHY, Warehouse, row, rows_of
from tests.services.paimon import PaimonServer
from tests.services.server import running
from tests.services.versitygw import ACCESS_KEY, REGION, SECRET_KEY, Versitygw
from vecferry.errors import JobError
from vecferry.io.paimon import batches
from vecferry.io.paimon.settings import PaimonConnection
from vecferry.steps import Source, StepContext
from vecferry.testing import SourceContract, SourcePlace

pytest.importorskip("pypaimon", reason=WHY)
pytestmark = pytest.mark.service

MANY = 300
TOKEN = "token-of-the-test-catalog"


def s3_options(server: Versitygw, prefix: str = "fs.s3", key: str = SECRET_KEY) -> dict[str, str]:
    """A new warehouse in the bucket."""
    return {
        "warehouse": f"s3://{server.bucket}/{uuid.uuid4().hex}",
        f"{prefix}.endpoint": server.url,
        f"{prefix}.region": REGION,
        f"{prefix}.accessKeyId": ACCESS_KEY,
        f"{prefix}.accessKeySecret": key,
    }


class Remote(SourcePlace):
    """A table with a key, a part of which was written twice."""

    def __init__(self, warehouse: Warehouse, login: dict[str, str], secret: str) -> None:
        self.warehouse, self._login, self._secret = warehouse, login, secret
        self.table = warehouse.make("books", keys=["id"], bucket="3")
        self.table.write(row(i) for i in range(MANY))
        self.table.write(row(i, "new") for i in range(100))

    def source(self, parts: int = 1) -> Source:
        size = self.table.source().plan().size.bytes or 0
        return self.table.source(split_bytes=size // parts)

    def rows(self) -> list[dict[str, Any]]:
        return [row(i, "new" if i < 100 else "row") for i in range(MANY)]

    def missing(self) -> Source:
        return self.warehouse.source("no_such_table")

    def locked_out(self) -> tuple[Source, str]:
        options = {**self.warehouse.options, **self._login}
        connection = PaimonConnection.model_validate({"options": options})
        return self.warehouse.source("books", connection=connection), self._secret


class TestS3(SourceContract):
    """A warehouse in a bucket of versitygw."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Remote:
        warehouse = Warehouse(tmp_path, s3_options(running(Versitygw)))
        wrong = "quite-wrong-secret-key"
        return Remote(warehouse, {"fs.s3.accessKeySecret": wrong}, wrong)


class TestRest(SourceContract):
    """A table of a REST catalog."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Remote]:
        catalog = running(PaimonServer).rest(tmp_path / "lake", TOKEN)
        wrong = "quite-wrong-token"
        yield Remote(Warehouse(tmp_path, catalog.options), {"token": wrong}, wrong)
        catalog.close()


@pytest.mark.parametrize(
    ("more", "native"),
    [
        ({}, False),
        (
            {
                "s3.endpoint": "{url}",
                "s3.region": REGION,
                "s3.access-key": ACCESS_KEY,
                "s3.secret-key": SECRET_KEY,
                "s3.path-style-access": "true",
            },
            True,
        ),
    ],
    ids=["python", "native"],
)
def test_the_native_reader_is_left_alone_where_it_fails(
    tmp_path: Path, more: dict[str, str], native: bool
) -> None:
    """Its options of S3 have names of their own; the rows are the same with and without it."""
    server = running(Versitygw)
    given = {name: value.format(url=server.url) for name, value in more.items()}
    warehouse = Warehouse(tmp_path, {**s3_options(server), **given})
    table = warehouse.make("books", keys=["id"], bucket="1").write(map(row, range(50)))
    table.write(row(i, "new") for i in range(10))
    context = StepContext(step="Reader", step_type="paimon")
    rows = rows_of(table.source(context=context))
    assert rows == [row(i, "new" if i < 10 else "row") for i in range(50)]
    assert context.once("native", batches._Native).works is native


def test_keys_that_a_bucket_refuses_are_told_at_once(tmp_path: Path) -> None:
    """They are not waited for as an outage is."""
    server = running(Versitygw)
    warehouse = Warehouse(tmp_path, s3_options(server))
    table = warehouse.make("books").write([row(1)])
    options = {**warehouse.options, "fs.s3.accessKeySecret": "quite-wrong-secret-key"}
    source = table.source(connection=PaimonConnection.model_validate({"options": options}))
    with pytest.raises(JobError) as caught:
        source.check()
    told = str(caught.value)
    assert "the warehouse denies access" in told
    assert "correct the keys of the data source" in told
    assert "gave up" not in told
