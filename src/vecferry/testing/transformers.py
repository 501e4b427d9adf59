"""What every transformer must show: `TransformerContract`, a class of tests, and an adapter.

A module of tests makes a subclass of `TransformerContract` whose fixture `place` gives a
`TransformerPlace`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import pytest

from vecferry.rows import DELETE, UPDATE, Change, Reject, Row
from vecferry.settings import StepSettings
from vecferry.steps import Emitted, Operator


class TransformerPlace(ABC):
    """A transformer, as the contract sees it."""

    settings: StepSettings
    """The parameters of the step."""

    @abstractmethod
    def operator(self) -> Operator:
        """A new operator for `settings`, in a run of its own."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """A few rows that the transformer takes; each has more columns than the step needs."""

    def bad_rows(self) -> list[tuple[Row, str]]:
        """Rows that the transformer can't take, each with the reason of its reject."""
        return []


def transform(operator: Operator, changes: Iterable[Change]) -> list[Emitted]:
    """What comes out of one bundle; the stamp of each row is its place in `changes`."""
    emitted: list[Emitted] = []
    for stamp, change in enumerate(changes):
        emitted += operator.process(change, stamp)
    return emitted + operator.finish()


def changes_of(rows: Iterable[Row]) -> list[Change]:
    """Rows as a source gives them, each with an origin and a version of its own."""
    return [
        Change(copy.deepcopy(dict(row)), kind=UPDATE, version=i, origin=f"rows:{i}")
        for i, row in enumerate(rows)
    ]


class TransformerContract:
    """The tests. A subclass gives the fixture `place`."""

    def test_each_row_comes_out_once_with_its_own_stamp(self, place: TransformerPlace) -> None:
        """With its kind, version and origin, whenever the row comes out."""
        changes = changes_of(place.rows())
        out = transform(place.operator(), changes)
        assert sorted(stamp for _, stamp in out) == list(range(len(changes)))
        for item, stamp in out:
            given = changes[stamp]
            assert isinstance(item, Change), item
            assert (item.kind, item.version, item.origin) == (UPDATE, stamp, given.origin)

    def test_the_columns_that_the_settings_promise_are_added(self, place: TransformerPlace) -> None:
        """Vectors have their dimension; the other columns are as they were."""
        promised = place.settings.outputs() or {}
        rows = place.rows()
        for item, stamp in transform(place.operator(), changes_of(rows)):
            assert isinstance(item, Change), item
            assert item.keys() == rows[stamp].keys() | promised.keys()
            for name, dimension in promised.items():
                if dimension is not None:
                    assert isinstance(item[name], np.ndarray)
                    assert (item[name].shape, item[name].dtype) == ((dimension,), np.float32)
            kept = rows[stamp].keys() - promised.keys()
            assert {n: item[n] for n in kept} == {n: rows[stamp][n] for n in kept}

    def test_the_row_that_is_given_is_not_changed(self, place: TransformerPlace) -> None:
        """A runner may hand the same row to a repeated bundle."""
        changes = changes_of(place.rows())
        transform(place.operator(), changes)
        assert [dict(change) for change in changes] == [dict(row) for row in place.rows()]

    def test_the_columns_that_the_settings_need_are_enough(self, place: TransformerPlace) -> None:
        """The check of a job follows columns by `inputs`."""
        needed = place.settings.inputs()
        rows = [{n: row[n] for n in needed if n in row} for row in place.rows()]
        out = transform(place.operator(), changes_of(rows))
        assert [item for item, _ in out if isinstance(item, Reject)] == []

    def test_a_delete_passes_with_its_key(self, place: TransformerPlace) -> None:
        """A delete may hold nothing but its key, and must reach the target."""
        ((item, stamp),) = transform(place.operator(), [Change({"id": "gone"}, kind=DELETE)])
        assert isinstance(item, Change), item
        assert (item.kind, item["id"], stamp) == (DELETE, "gone", 0)

    def test_a_bad_row_costs_only_itself(self, place: TransformerPlace) -> None:
        """It is rejected with its reason and origin; the other rows come out."""
        bad = place.bad_rows()
        if not bad:
            pytest.skip("not for this store: it takes every row")
        good = place.rows()
        changes = changes_of([*good, *(row for row, _ in bad), *good])
        out = [item for item, _ in transform(place.operator(), changes)]
        rejects = {item.origin: item.reason for item in out if isinstance(item, Reject)}
        first = len(good)
        assert rejects == {f"rows:{first + i}": reason for i, (_, reason) in enumerate(bad)}
        assert len([item for item in out if isinstance(item, Change)]) == 2 * len(good)

    def test_an_operator_is_ready_for_the_next_bundle(self, place: TransformerPlace) -> None:
        """After `finish` nothing of the bundle before is left."""
        operator = place.operator()
        first, second = (transform(operator, changes_of(place.rows())) for _ in range(2))
        assert len(first) == len(second) == len(place.rows())
        assert operator.finish() == []
        operator.close()
