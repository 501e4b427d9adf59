"""A target compared with its source, over tables and collections; and the parts of it.

For indices see tests/io/search/test_reconcile.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.contracts.verify import VerifyContract
from tests.io.postgresql.support import Tables
from tests.io.sink.test_contract import LitePlace
from vecferry.errors import JobError
from vecferry.pipelines.run.verify import TOLERANCE, next_epoch, shown_key, sketch
from vecferry.testing.reconciling import ReconcilePlace
from vecferry.versions import MAX_EPOCH, MAX_VERSION, pack


@pytest.mark.service
class TestTables(VerifyContract):
    """The writer `postgresql` with and without versionColumn, and `hologres` without."""

    @pytest.fixture(params=["versions", "keys", "hologres"])
    def place(self, request):
        place = Tables("hologres" if request.param == "hologres" else "postgresql")
        versioned = request.param == "versions"
        more = {"versionColumn": "version"} if versioned else {}
        yield ReconcilePlace(place, versioned=versioned, **more)
        place.close()


@pytest.mark.slow
class TestMilvusLite(VerifyContract):
    """The writer `milvus` on a file."""

    has_null_vectors = False

    @pytest.fixture
    def place(self, tmp_path):
        place = LitePlace(tmp_path)
        yield ReconcilePlace(place, versioned=False)
        place.close()


@pytest.mark.parametrize(
    ("current", "newest", "epoch"),
    [(0, None, 1), (3, None, 4), (3, pack(2, 9), 4), (3, pack(7, 9), 8), (MAX_EPOCH - 1, 0, 2047)],
)
def test_a_repair_takes_an_epoch_that_is_greater_than_all(current, newest, epoch):
    """The sync's own, and that of each row in the target."""
    assert next_epoch(current, newest) == epoch


@pytest.mark.parametrize(("current", "newest"), [(MAX_EPOCH, None), (1, MAX_VERSION)])
def test_an_epoch_that_overflows_is_told_with_the_way_out(current, newest):
    """Before anything is written."""
    with pytest.raises(JobError, match="fill a new target"):
        next_epoch(current, newest)


@pytest.mark.parametrize("dimension", [2, 8, 256, 1024, 4096])
def test_a_rounded_vector_has_nearly_the_same_sketch_and_another_has_not(dimension):
    """16 bits of either kind round it by less than is allowed; near texts differ by more."""
    chance = np.random.default_rng(5)
    for _ in range(200):
        one = chance.standard_normal(dimension).astype(np.float32)
        one /= np.linalg.norm(one)
        bits = one.view(np.uint32)
        brain = ((bits + 0x8000) & 0xFFFF0000).view(np.float32)
        for rounded in (one.astype(np.float16).astype(np.float32), brain):
            gap = np.linalg.norm(sketch(one) - sketch(rounded))
            assert gap <= TOLERANCE * np.linalg.norm(sketch(one))
        near = one + chance.standard_normal(dimension).astype(np.float32) * 0.1 / dimension**0.5
        gap = np.linalg.norm(sketch(one) - sketch(near))
        assert gap > TOLERANCE * np.linalg.norm(sketch(one))


def test_the_key_of_a_row_is_shown_without_the_parts_that_it_has_not():
    """As people write it."""
    assert [shown_key(k) for k in [("a", None), ("a", "s1"), 7, "b"]] == ["a", "a, s1", "7", "b"]
