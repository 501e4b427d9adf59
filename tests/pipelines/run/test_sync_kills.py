"""A sync of a scripted source whose process is killed, into the real stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.sync import DIMENSION, Killed, Script, Scripted
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, StorePlace
from tests.services.postgres import Postgres

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty table."""
    return Scripted(tmp_path / "table")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry with the scripted source."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.testing.scripted")
    yield nursery
    nursery.close()


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[] if server is Postgres else pytest.mark.heavy(server=server))
        for kind, (_, server) in STORES.items()
    ]
)
def store(request: pytest.FixtureRequest) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    place = STORES[request.param][0](DIMENSION)
    yield place
    place.close()


class TestKilled(Killed):
    """Killed as whole processes."""
