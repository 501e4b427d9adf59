"""The file reader's claims on real servers: S3 as OSS has it, HDFS, Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.files import FormatCases, Place
from tests.io.files.stores.support import buckets_have_names, gcs_place, hdfs_place, s3_place

pytestmark = pytest.mark.service


class TestOss(FormatCases):
    """versitygw, the bucket as a virtual host; path style differs in nothing but the address."""

    @pytest.fixture
    def place(self) -> Iterator[Place]:
        """A folder of the bucket."""
        with buckets_have_names():
            yield s3_place("oss")


@pytest.mark.slow
class TestHdfs(FormatCases):
    """A cluster of one data node."""

    @pytest.fixture
    def place(self) -> Place:
        """A folder that belongs to somebody else."""
        return hdfs_place()


class TestGcs(FormatCases):
    """The emulator."""

    @pytest.fixture
    def place(self) -> Place:
        """A folder of the bucket."""
        return gcs_place()
