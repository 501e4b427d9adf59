"""A REST catalog of the reference implementation: logins, rights, and a catalog that is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pypaimon", reason="not ours: the environment with the lake's client runs this")

from tests.io.paimon.support import read, rows_of
from tests.services.paimon import PaimonServer, RestCatalog, Table
from tests.services.server import running
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.source import PaimonSource
from vecferry.steps import StepContext

pytestmark = pytest.mark.service

TOKEN = "token-that-nobody-sees-4711"
COLUMNS = {"id": "BIGINT NOT NULL", "text": "STRING"}


@pytest.fixture(scope="module")
def server() -> PaimonServer:
    return running(PaimonServer)


@pytest.fixture
def catalog(server: PaimonServer, tmp_path: Path) -> Iterator[RestCatalog]:
    """A catalog of its own, with the table `shop.things` of three rows."""
    catalog = server.rest(tmp_path, TOKEN)
    table = Table(server, catalog.options, "shop.things", COLUMNS, ["id"], options={"bucket": "1"})
    table.create().upsert([1, "a"], [2, "b"], [3, "c"])
    yield catalog
    catalog.close()


def source(catalog: RestCatalog, *, deadline: float = 5, **options: str) -> PaimonSource:
    """The reader of the table, in full."""
    given = {"database": "shop", "table": "things", "scanMode": "full"}
    return PaimonSource(
        PaimonSettings.model_validate(given),
        PaimonConnection.model_validate({"options": {**catalog.options, **options}}),
        StepContext(step="Reader", step_type="paimon", retry_deadline=deadline),
    )


def test_a_table_is_read_by_its_catalog(catalog: RestCatalog) -> None:
    """With the token that its data source has."""
    reader = source(catalog)
    reader.check()
    assert [row["text"] for row in rows_of(reader)] == ["a", "b", "c"]


def test_a_wrong_token_is_told_before_the_run_and_never_shown(catalog: RestCatalog) -> None:
    """Nor is the right one, in whatever the source shows of itself."""
    wrong = "another-token-0815"
    reader = source(catalog, token=wrong)
    with pytest.raises(JobError, match="refuses the login") as caught:
        reader.check()
    shown = str(caught.value) + repr(vars(reader)) + repr(vars(source(catalog)))
    assert wrong not in shown
    assert TOKEN not in shown


def test_a_table_without_a_right_to_it_is_told(catalog: RestCatalog) -> None:
    """With the right that is lacking."""
    catalog.deny("shop.things")
    with pytest.raises(JobError, match="denies access"):
        source(catalog).check()


def test_a_missing_table_is_told_with_the_nearest_name(catalog: RestCatalog) -> None:
    """As the catalog lists them."""
    reader = source(catalog)
    reader.settings = reader.settings.model_copy(update={"table": "thing"})
    with pytest.raises(JobError, match="did you mean 'things'"):
        reader.check()


def test_a_catalog_that_is_away_for_a_while_is_waited_for(catalog: RestCatalog) -> None:
    """The read begins while nobody answers, and gives all rows once somebody does."""
    catalog.close()
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.extend(read(source(catalog, deadline=300))), daemon=True
    )
    waiting.start()
    with pytest.raises((JobError, TransientError, FatalError), match="does not answer"):
        read(source(catalog, deadline=0.5))
    catalog.open()
    waiting.join(300)
    assert len(found) == 3


def test_a_catalog_that_stays_away_is_told(catalog: RestCatalog) -> None:
    """By its address, before the run."""
    catalog.close()
    try:
        with pytest.raises((JobError, TransientError), match=f"127.0.0.1:{catalog.port}"):
            source(catalog, deadline=0.5).plan()
    finally:
        catalog.open()
