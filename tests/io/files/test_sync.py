"""Files that are followed, on the ground of the syncs: see tests/contracts/sync.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.sync import DIMENSION, Broken, Killed, Script
from tests.contracts.sync_files import Bucket, Folder
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import PostgresPlace, StorePlace

pytestmark = pytest.mark.slow


class TestFolder(Broken):
    """Files of this machine."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Script:
        """A folder."""
        return Folder(tmp_path)


@pytest.mark.service
@pytest.mark.long
class TestBucket(Broken):
    """Objects of a bucket."""

    @pytest.fixture
    def script(self) -> Script:
        """A folder of the bucket."""
        return Bucket(uuid.uuid4().hex)


@pytest.mark.service
@pytest.mark.long
class TestKilled(Killed):
    """Killed as whole processes, into PostgreSQL."""

    @pytest.fixture(params=["folder", "bucket"])
    def script(self, request: pytest.FixtureRequest, tmp_path: Path) -> Script:
        """A folder, or a folder of the bucket."""
        return Folder(tmp_path) if request.param == "folder" else Bucket(uuid.uuid4().hex)

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
