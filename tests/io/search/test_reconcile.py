"""Documents that a source no longer has, and indices compared with it, on real servers."""

from __future__ import annotations

import pytest

from tests.contracts.verify import VerifyContract, found, mended
from tests.io.search.support import rows, write
from tests.io.search.test_contract import SearchPlace
from vecferry.pipelines.run.verify import next_epoch, verify
from vecferry.rows import Change
from vecferry.testing.reconciling import ReconcileContract, ReconcilePlace, changes
from vecferry.versions import pack

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.in_turn("kind")]


class TestReconcile(ReconcileContract):
    """What every store must show of rows that a source no longer has."""

    @pytest.fixture
    def place(self, store):
        return ReconcilePlace(SearchPlace(store), versioned=True)

    def test_an_index_of_several_shards_is_read_whole(self, store):
        """Places of documents are those of one shard in OpenSearch 2."""
        place = ReconcilePlace(SearchPlace(store), versioned=True)
        target = place.target(settings={"number_of_shards": 3})
        write(target, changes(12_000, 1))
        write(target, changes(7, 2))
        found = target.reconcile(2)
        assert (found.deleted, found.kept) == (11_993, 7)
        assert len(list(target.scan())) == 7

    def test_documents_with_a_routing_go_as_well(self, store):
        """And those that somebody wrote by hand, with versions of the server's own."""
        columns = [*store.columns, {"name": "shop", "type": "routing"}]
        more = {"settings": {"number_of_shards": 3}, "column": columns, "ownsTarget": True}
        target = store.target(**more)
        data = [{**row, "shop": f"s{i % 5}"} for i, row in enumerate(rows(60))]
        write(target, [Change(row, version=pack(1, 1)) for row in data])
        write(target, [Change(row, version=pack(2, 1)) for row in data[:20]])
        path = f"/{target.settings.index}/_doc"
        for n in range(3):
            store.server.request("PUT", f"{path}/mine{n}?refresh=true", {"text": "by hand"})
        found = target.reconcile(2)
        assert (found.deleted, found.kept) == (43, 20)
        ((key, _),) = {row.key for row in target.scan(()) if row.key[0] == "k7"}
        assert key == target.as_stored(Change(data[7])).key[0]


class TestVerify(VerifyContract):
    """What every store must show of a target that is compared with its source."""

    @pytest.fixture
    def place(self, store):
        return ReconcilePlace(SearchPlace(store), versioned=True)

    def test_a_document_that_somebody_raised_is_found_and_takes_changes_again(self, store):
        """Its own text and a version far beyond the sync's: the next change would be stale."""
        place = ReconcilePlace(SearchPlace(store), versioned=True)
        target = place.target()
        source = changes(10, 1)
        write(target, source)
        raised = {"version": pack(6, 3), "version_type": "external"}
        query = "&".join(f"{name}={value}" for name, value in raised.items())
        body = {**source[3], "vector": source[3]["vector"].tolist()}
        path = f"/{target.settings.index}/_doc/k000003?{query}"
        store.server.request("PUT", path, body)
        _, _, counts = write(target, [Change({**source[3], "text": "new"}, version=pack(1, 2))])
        assert counts["rows-stale"] == 1
        with verify(target, source) as comparison:
            assert found(comparison) == {"raised": 1}
            epoch = next_epoch(1, comparison.result.newest)
            assert mended(target, comparison, source, epoch).written == 0
        assert epoch == target.epoch() == 7
        written, _, _ = write(target, [Change({**source[3], "text": "new"}, version=pack(7, 2))])
        assert len(written) == 1
