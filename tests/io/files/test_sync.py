"""Files that are followed, on the ground of the syncs: see tests/contracts/sync.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.sync import DIMENSION, Asked, Broken, Killed, Script
from tests.contracts.sync_files import PLACES, Folder, Stored
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import PostgresPlace, StorePlace
from tests.io.files.stores.support import buckets_have_names

pytestmark = pytest.mark.slow


class TestFolder(Broken, Asked):
    """Files of this machine."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Script:
        """A folder."""
        return Folder(tmp_path)


@pytest.mark.service
@pytest.mark.long
class TestStores(Broken):
    """Objects of buckets, files of HDFS."""

    @pytest.fixture(params=PLACES)
    def script(self, request: pytest.FixtureRequest) -> Iterator[Script]:
        """A folder of the store."""
        with buckets_have_names():
            yield Stored(request.param)


@pytest.mark.service
@pytest.mark.long
class TestKilled(Killed):
    """Killed as whole processes, into PostgreSQL."""

    @pytest.fixture(params=["local", "s3", "hdfs", "gcs"])
    def script(self, request: pytest.FixtureRequest, tmp_path: Path) -> Script:
        """A folder of this machine, or of a store."""
        return Folder(tmp_path) if request.param == "local" else Stored(request.param)

    @pytest.fixture(scope="module")
    def nursery(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
        """Starts vecferry."""
        nursery = Nursery(tmp_path_factory.mktemp("nursery"))
        yield nursery
        nursery.close()

    @pytest.fixture
    def store(self) -> Iterator[StorePlace]:
        """An empty table."""
        place = PostgresPlace(DIMENSION)
        yield place
        place.close()
