"""The contract of reconciling on tables and collections.

For indices see tests/io/search/test_reconcile.py.
"""

from __future__ import annotations

import pytest

from tests.io.postgresql.support import Tables
from tests.io.sink.test_contract import LitePlace
from vecferry.testing.reconciling import ReconcileContract, ReconcilePlace

VERSIONED = {"versionColumn": "version"}


@pytest.mark.service
class TestTables(ReconcileContract):
    """The writer `postgresql` with and without versionColumn, and `hologres` without."""

    @pytest.fixture(params=["versions", "keys", "hologres"])
    def place(self, request):
        place = Tables("hologres" if request.param == "hologres" else "postgresql")
        versioned = request.param == "versions"
        yield ReconcilePlace(place, versioned=versioned, **(VERSIONED if versioned else {}))
        place.close()


@pytest.mark.slow
class TestMilvusLite(ReconcileContract):
    """The writer `milvus` on a file."""

    @pytest.fixture
    def place(self, tmp_path):
        place = LitePlace(tmp_path)
        yield ReconcilePlace(place, versioned=False)
        place.close()
