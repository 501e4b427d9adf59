"""What `vecferry verify` must show over each store: `VerifyContract`.

A module of tests makes a subclass whose fixture `place` gives a `ReconcilePlace`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vecferry.pipelines.run.verify import Comparison, next_epoch, repair, through, verify
from vecferry.rows import Change, Reject
from vecferry.steps import Target
from vecferry.testing.reconciling import ReconcilePlace, changes
from vecferry.testing.sinks import rows, vector, write
from vecferry.versions import pack

ROWS = 40


def pairs(items: list[Change | Reject]) -> Iterator[tuple[Change | None, Change | Reject]]:
    """Rows of a reader whose steps add nothing."""
    for item in items:
        yield (item if isinstance(item, Change) else None), item


def mended(target: Target, comparison: Comparison, source: list[Change | Reject], epoch: int):
    """What a repair of a target did, whose rows need no step but the writer."""
    operator = target.operator()
    return repair(
        target, comparison, pairs(source), lambda some: through(some, [operator]), epoch=epoch
    )


def found(comparison: Comparison) -> dict[str, int]:
    """How many rows have which fault."""
    return {kind: n for kind, n in comparison.result.found.items() if n}


class VerifyContract:
    """The tests. `has_null_vectors` says whether a row may be stored without its vector."""

    has_null_vectors = True

    def _faulty(self, place: ReconcilePlace) -> tuple[Target, list[Change | Reject], dict]:
        """A target with a fault of each kind, its source, and the faults with their keys."""
        target = place.target()
        source: list[Change | Reject] = list(changes(ROWS, 1))
        there = [dict(change) for change in changes(ROWS, 1)]
        del there[10]
        there.append(rows(1, 900)[0])
        there[11] = {**there[11], "text": "another", "number": -1}  # k000012
        there[13] = {**there[13], "vector": vector(999)}  # k000014
        faults = {
            "missing": {"k000010"}, "ghost": {"k000900"}, "different": {"k000012"},
            "wrongVector": {"k000014"},
        }  # fmt: skip
        if self.has_null_vectors:
            there[14]["vector"] = None  # k000015
            faults["withoutVector"] = {"k000015"}
        write(target, [Change(row, version=pack(1, 1)) for row in there])
        if place.versioned:
            write(target, [Change(rows(1, 20)[0], version=pack(1, 50))])
            faults["raised"] = {"k000020"}
        return target, source, faults

    def test_a_target_that_equals_its_source_has_no_fault(self, place: ReconcilePlace) -> None:
        """In whatever order the rows come; a vector that no cache knows is told of."""
        target = place.target()
        source: list[Change | Reject] = list(changes(700, 1))
        write(target, source)
        del source[3]["vector"]
        with verify(target, reversed(source)) as comparison:
            result = comparison.result
        assert result.same, result.to_json()
        assert (result.source, result.target, result.equal) == (700, 700, 700)
        assert (result.unknown, result.refused, result.unread) == (1, 0, 0)

    def test_each_kind_of_fault_is_found_and_mended(self, place: ReconcilePlace) -> None:
        """And nothing else is written; what comes later is newer than the repair."""
        target, source, faults = self._faulty(place)
        with verify(target, source) as comparison:
            result = comparison.result.to_json()
            examples = {kind: {e["key"] for e in some} for kind, some in result["examples"].items()}
            assert examples == faults
            assert found(comparison) == {kind: len(some) for kind, some in faults.items()}
            (different,) = result["examples"]["different"]
            assert set(different["fields"]) == {"text", "number"}
            epoch = next_epoch(1, comparison.result.newest)
            assert epoch == 2
            done = mended(target, comparison, source, epoch)
        assert done.written == len(faults.keys() - {"ghost", "raised"})
        assert (done.removed.deleted, done.rejected, done.note) == (1, 0, "")
        assert target.epoch() == 2
        later = [Change(row, version=pack(2, 2)) for row in rows(ROWS)]
        with verify(target, later) as comparison:
            assert comparison.result.same, comparison.result.to_json()
        again = [Change({**row, "text": "later"}, version=pack(2, 3)) for row in rows(ROWS)]
        assert len(write(target, again)[0]) == ROWS
        if place.versioned:
            assert write(target, changes(ROWS, 1, ordinal=99)) == ([], [])

    def test_a_row_that_the_target_can_not_take_is_a_ghost_there(
        self, place: ReconcilePlace
    ) -> None:
        """Its old text must not be searchable; a repair removes it."""
        target = place.target()
        source: list[Change | Reject] = list(changes(10, 1))
        write(target, source)
        source[4] = Change({**rows(1, 4)[0], "vector": np.zeros(3, np.float32)})
        with verify(target, source) as comparison:
            assert found(comparison) == {"ghost": 1}
            assert comparison.result.refused == 1
            assert mended(target, comparison, source, 2).removed.deleted == 1
        assert "k000004" not in place.read(target)

    def test_nothing_is_removed_where_the_source_can_not_be_read_whole(
        self, place: ReconcilePlace
    ) -> None:
        """A record that can't be read may be the row that seems to be missing there."""
        target = place.target()
        write(target, changes(5, 1))
        source: list[Change | Reject] = [*changes(4, 1), Reject("R", "file", "bad", "cut")]
        with verify(target, source) as comparison:
            assert (found(comparison), comparison.result.unread) == ({"ghost": 1}, 1)
            done = mended(target, comparison, source, 2)
        assert done.removed.deleted == 0
        assert "can't be read" in done.note
        assert len(place.read(target)) == 5

    def test_rows_of_others_stay_where_the_job_does_not_own_the_target(
        self, place: ReconcilePlace
    ) -> None:
        """They are told of, and the rest is mended."""
        target = place.target(ownsTarget=False)
        write(target, changes(6, 1))
        source: list[Change | Reject] = list(changes(8, 1)[1:])
        with verify(target, source) as comparison:
            assert found(comparison) == {"ghost": 1, "missing": 2}
            done: Any = mended(target, comparison, source, 2)
        assert (done.written, done.removed.deleted) == (2, 0)
        assert "ownsTarget: true" in done.note
        assert len(place.read(target)) == 8
