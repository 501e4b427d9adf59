"""What every writer must show of rows that a source no longer has: `ReconcileContract`.

A module of tests makes a subclass of `ReconcileContract` whose fixture `place` gives a
`ReconcilePlace`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecferry.errors import JobError, TransientError
from vecferry.rows import DELETE, UPDATE, Change, Reject
from vecferry.steps import Target
from vecferry.stored import Stored
from vecferry.testing.sinks import SinkPlace, rows, write
from vecferry.versions import MAX_EPOCH, pack

MANY = 20_000
VERY_MANY = 100_000


class ReconcilePlace:
    """A place whose targets a sync fills.

    `versioned` says whether a later request with an older version is refused there; `settings` are
    those that a sync into the store needs.
    """

    def __init__(self, place: SinkPlace, *, versioned: bool, **settings: object) -> None:
        self.place, self.versioned, self._settings = place, versioned, settings

    def target(self, **more: object) -> Target:
        """A prepared target of a new run, which the job owns unless `more` says otherwise."""
        return self.place.target(**{"ownsTarget": True, **self._settings, **more})

    def read(self, target: Target) -> dict[str, dict[str, Any]]:
        """All rows by `id`."""
        return self.place.read(target)


def changes(n: int, epoch: int, first: int = 0, ordinal: int = 1) -> list[Change]:
    """Rows as a full load of an epoch gives them."""
    return [Change(row, version=pack(epoch, ordinal)) for row in rows(n, first)]


def keys(n: int, first: int = 0) -> Iterator[Change]:
    """The keys of rows, the last first: no store has them in this order."""
    for row in reversed(rows(n, first)):
        yield Change({"id": row["id"]})


def names(n: int, first: int = 0) -> set[str]:
    """The keys of rows, as texts."""
    return {f"k{i:06}" for i in range(first, first + n)}


def stored(target: Target) -> dict[Any, Stored]:
    """All that a scan gives, by key."""
    return {row.key: row for row in target.scan()}


class ReconcileContract:
    """The tests. A subclass gives the fixture `place`."""

    def test_rows_that_the_source_no_longer_has_go_after_a_full_load(
        self, place: ReconcilePlace
    ) -> None:
        """And no other row; a second time nothing is left to do."""
        target = place.target()
        write(target, changes(300, 1))
        write(target, changes(200, 2, 100))
        found = target.reconcile(2, lambda: keys(200, 100))
        assert (found.deleted, found.kept, found.note) == (100, 200, "")
        assert place.read(target).keys() == names(200, 100)
        again = target.reconcile(2, lambda: keys(200, 100))
        assert (again.deleted, again.kept) == (0, 200)

    def test_rows_of_a_job_that_is_no_sync_are_older_than_the_first_epoch(
        self, place: ReconcilePlace
    ) -> None:
        """A sync that takes over a target leaves nothing in it that its source has not."""
        target = place.target()
        write(target, [Change(row) for row in rows(30)])
        write(target, changes(20, 1))
        found = target.reconcile(1, lambda: keys(20))
        assert (found.deleted, found.kept) == (10, 20)
        assert place.read(target).keys() == names(20)

    def test_rows_of_others_stay_where_the_job_does_not_own_the_target(
        self, place: ReconcilePlace
    ) -> None:
        """That they stay is told, with what would let them go; the same for single rows."""
        target = place.target(ownsTarget=False)
        write(target, [Change(row) for row in rows(5, 900)])
        write(target, changes(20, 1))
        found = target.reconcile(1, lambda: keys(20))
        assert (found.deleted, found.kept) == (0, 25)
        assert "ownsTarget: true" in found.note
        assert target.remove(list(target.scan(())), 2).deleted == 0
        assert len(place.read(target)) == 25

    def test_a_row_that_is_written_meanwhile_survives(self, place: ReconcilePlace) -> None:
        """A new row, and one that was gone and comes back, before the deletes are sent."""
        target = place.target()
        write(target, changes(50, 1))
        write(target, changes(30, 2))
        old = [row for row in target.scan(()) if row.version is None or row.version < pack(2, 0)]
        late = [*changes(1, 2, 40, ordinal=7), *changes(1, 2, 700, ordinal=7)]
        if place.versioned:
            write(target, late)
            found = target.remove(old, 2)
            assert (found.deleted, found.kept) == (19, 1)
        else:

            def read() -> Iterator[Change]:
                yield from keys(30)
                write(target, late)
                yield from keys(1, 40)

            assert target.reconcile(2, read).deleted == 19
        assert place.read(target).keys() == names(30) | names(1, 40) | names(1, 700)

    def test_what_was_deleted_can_be_written_again_and_older_changes_can_not(
        self, place: ReconcilePlace
    ) -> None:
        """A row that comes back in the same epoch is not stale, whatever its place there."""
        target = place.target()
        write(target, changes(10, 1))
        target.reconcile(2, lambda: iter(()))
        assert place.read(target) == {}
        written, rejects = write(target, changes(5, 2, ordinal=0))
        assert (len(written), rejects) == (5, [])
        if place.versioned:
            assert write(target, changes(5, 1, ordinal=9)) == ([], [])
        assert place.read(target).keys() == names(5)

    @pytest.mark.parametrize("how", ["breaks", "rejects", "lacks the key", "is stopped"])
    def test_nothing_goes_where_the_keys_can_not_be_read_whole(
        self, place: ReconcilePlace, how: str
    ) -> None:
        """Whatever part of them was read."""
        if place.versioned:
            pytest.skip("not for this store: it goes by versions")
        target = place.target()
        write(target, changes(20, 1))

        def broken() -> Iterator[Change | Reject]:
            yield from keys(10)
            if how == "breaks":
                raise TransientError("the source is away")
            if how == "rejects":
                yield Reject("Reader", "file", "bad-record", "line 3 is cut")
            if how == "lacks the key":
                yield Change({"other": "k000011"})
            if how == "is stopped":
                target.context.state.stop.set()  # type: ignore[attr-defined]

        if how == "rejects":  # one record that can't be read does not end a sync
            assert "line 3 is cut" in target.reconcile(2, broken).note
        else:
            with pytest.raises((JobError, TransientError)):
                target.reconcile(2, broken)
        assert len(place.read(target)) == 20

    def test_a_store_without_versions_says_so_and_asks_for_keys(
        self, place: ReconcilePlace
    ) -> None:
        """A store with versions needs no keys."""
        target = place.target()
        write(target, changes(3, 1))
        told = target.unversioned()
        if place.versioned:
            assert told is None
            assert target.reconcile(2).deleted == 3
        else:
            assert "keeps no versions" in (told or "")
            with pytest.raises(JobError, match="must tell all its keys"):
                target.reconcile(2)

    def test_an_epoch_is_remembered_and_only_grows(self, place: ReconcilePlace) -> None:
        """By another run as well, and beside what made the vectors; an empty target has none."""
        target = place.target()
        assert not target.epoch()
        assert target.remember_epoch(3) == []
        assert place.target().epoch() == 3
        assert target.remember_epoch(2) == []
        assert place.target().epoch() == 3
        assert target.remember_epoch(MAX_EPOCH) == []
        for beyond in (MAX_EPOCH + 1, -1):
            with pytest.raises(JobError, match="fill a new target"):
                target.remember_epoch(beyond)
        assert place.target().epoch() == MAX_EPOCH

    def test_a_target_without_an_epoch_in_its_mark_tells_that_of_its_rows(
        self, place: ReconcilePlace
    ) -> None:
        """So that not every change of a sync that lost its position is stale."""
        target = place.target()
        write(target, [*changes(3, 4), *changes(1, 6, 9), Change(rows(1, 20)[0])])
        assert target.epoch() == (6 if place.versioned else None)

    def test_a_scan_gives_each_row_as_its_change_would_be_stored(
        self, place: ReconcilePlace
    ) -> None:
        """Key, version, values and vectors, in all scripts, over several pages."""
        target = place.target()
        texts = ["a'b\"c\\d", "漢字 ≠ é", "\U0010ffff\u2028", "{1}\t\x01 %s", "\\u0041", "~" * 60]
        given = changes(1100, 1)
        given += [
            Change({**row, "id": text}, version=pack(1, 2))
            for text, row in zip(texts, rows(len(texts), 2000), strict=True)
        ]
        for change in given:
            change["text"] = f"{change['id']} text"
        assert write(target, given)[1] == []
        found = stored(target)
        assert len(found) == len(given)
        for change in given:
            expected = target.as_stored(change)
            assert isinstance(expected, Stored)
            row = found[expected.key]
            assert row.values == expected.values
            assert set(row.values) >= {"text", "number"}
            found_vector, sent = row.vectors["vector"], expected.vectors["vector"]
            assert found_vector is not None
            assert sent is not None
            assert np.allclose(found_vector, sent, rtol=1e-4)
            if place.versioned:
                assert row.version == change.version
        without = Change({k: v for k, v in given[0].items() if k != "vector"})
        expected = target.as_stored(without)
        assert isinstance(expected, Stored)
        assert expected.vectors == {}
        assert {row.key for row in target.scan(())} == found.keys()

    def test_a_row_that_the_target_can_not_take_is_a_reject(self, place: ReconcilePlace) -> None:
        """With the key, by which the row that is there is known."""
        target = place.target()
        bad = {**rows(1)[0], "vector": np.zeros(3, np.float32)}
        reject = target.as_stored(Change(bad))
        assert isinstance(reject, Reject)
        (kept,) = [k for k in [reject.key] if k is not None]
        assert kept == target.as_stored(Change(rows(1)[0])).key  # type: ignore[union-attr]

    def test_deletes_and_updates_of_the_same_epoch_stay_as_they_are(
        self, place: ReconcilePlace
    ) -> None:
        """What the changes of an epoch did beside its full load is newer than the load."""
        target = place.target()
        write(target, changes(10, 2))
        log = [
            Change({**rows(1, 3)[0], "text": "newer"}, kind=UPDATE, version=pack(2, 8)),
            Change({"id": "k000004"}, kind=DELETE, version=pack(2, 9)),
        ]
        write(target, log)
        left = [change for change in keys(10) if change["id"] != "k000004"]
        assert target.reconcile(2, lambda: iter(left)).deleted == 0
        found = place.read(target)
        assert found.keys() == names(10) - {"k000004"}
        assert found["k000003"]["text"] == "newer"

    @pytest.mark.slow
    def test_twenty_thousand_rows_lose_a_half(self, place: ReconcilePlace) -> None:
        """Over many pages and deletes."""
        self._halve(place, MANY)

    @pytest.mark.long
    def test_a_hundred_thousand_rows_lose_a_half(self, place: ReconcilePlace) -> None:
        """As above."""
        self._halve(place, VERY_MANY)

    def _halve(self, place: ReconcilePlace, n: int) -> None:
        target = place.target(**place.place.without_index())
        write(target, changes(n, 1))
        write(target, changes(n // 2, 2))
        found = target.reconcile(2, lambda: keys(n // 2))
        assert (found.deleted, found.kept, found.note) == (n // 2, n // 2, "")
        assert target.row_count() == n // 2
