"""What every source must show, stated once: `SourceContract`, a class of tests, and an adapter.

A module of tests makes a subclass of `SourceContract` whose fixture `place` gives a `SourcePlace`.
"""

from __future__ import annotations

import itertools
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import pytest

from vecferry.errors import JobError
from vecferry.rows import Change, Reject, Row
from vecferry.steps import Source

PARTS = (1, 7, 64)
"""Into how many splits the contract asks a source to cut its data."""


class SourcePlace(ABC):
    """A source over data that stays the same during a test. A good size is 100 to 1,000 rows."""

    @abstractmethod
    def source(self, parts: int = 1) -> Source:
        """A new source over the data, which cuts the data into about `parts` splits."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """The rows that the source gives, in any order."""

    def reasons(self) -> list[str]:
        """The reason of each reject that the source gives, in any order."""
        return []

    def mended(self) -> Source | None:
        """A source that takes the records which `source` rejects; None if no record is rejected."""
        return None

    def missing(self) -> Source | None:
        """A source of something that does not exist; None if that can't be."""
        return None

    def locked_out(self) -> tuple[Source, str] | None:
        """A source with a wrong password, and that password; None without a login."""
        return None


def read_all(source: Source, splits: Iterable[Any] | None = None) -> list[Change | Reject]:
    """The rows and rejects of all splits, each split read by itself."""
    splits = source.plan().splits if splits is None else splits
    return [item for split in splits for item in source.read(split)]


def by_origin(items: Iterable[Change | Reject]) -> dict[str, Any]:
    """Rows, and the reasons and raw records of rejects, by origin. Each origin may come once."""
    found: dict[str, Any] = {}
    for item in items:
        assert item.origin, f"{item!r} has no origin"
        assert item.origin not in found, f"{item.origin} came twice"
        found[item.origin] = (
            (item.reason, item.raw) if isinstance(item, Reject) else (item.kind, dict(item))
        )
    return found


def same_rows(some: Iterable[Row], others: Iterable[Row]) -> bool:
    """Whether these are the same rows, in whatever order."""
    return sorted(repr(dict(r)) for r in some) == sorted(repr(dict(r)) for r in others)


class SourceContract:
    """The tests. A subclass gives the fixture `place`."""

    def test_all_rows_come_once_however_the_source_is_cut(self, place: SourcePlace) -> None:
        """Each cut gives the same rows and rejects, under the same origins."""
        read = [by_origin(read_all(place.source(parts))) for parts in PARTS]
        assert read[0] == read[1] == read[2]
        items = read_all(place.source())
        assert same_rows((i for i in items if isinstance(i, Change)), place.rows())
        reasons = [i.reason for i in items if isinstance(i, Reject)]
        assert sorted(reasons) == sorted(place.reasons())

    def test_a_split_is_read_on_another_machine(self, place: SourcePlace) -> None:
        """Splits are pickled; another source reads each of them, in whatever order."""
        splits = pickle.loads(pickle.dumps(place.source(7).plan().splits))
        there = by_origin(read_all(place.source(7), reversed(splits)))
        assert there == by_origin(read_all(place.source()))

    def test_a_split_that_is_read_again_gives_the_same(self, place: SourcePlace) -> None:
        """A runner repeats a bundle that has failed; the target must get no second copy."""
        source = place.source(7)
        for split in source.plan().splits:
            assert by_origin(source.read(split)) == by_origin(source.read(split))

    def test_each_record_is_counted(self, place: SourcePlace) -> None:
        """Also a record that becomes a reject, and no record twice."""
        source = place.source(7)
        items = read_all(source)
        assert source.counts.values["rows-read"] == len(items)

    def test_the_plan_tells_what_is_read(self, place: SourcePlace) -> None:
        """Another source makes the same plan. A size that is told is the size of the data."""
        plan, other = place.source(7).plan(), place.source(7).plan()
        assert len(plan.splits) == len(other.splits)
        assert plan.size == other.size
        assert plan.size.rows in (None, len(place.rows()) + len(place.reasons()))

    def test_a_source_that_is_there_passes_the_check(self, place: SourcePlace) -> None:
        """The check takes no row away."""
        source = place.source()
        source.check()
        source.check()
        assert len(read_all(source)) == len(place.rows()) + len(place.reasons())

    def test_a_source_that_is_missing_is_told_before_the_run(self, place: SourcePlace) -> None:
        """As a JobError with every reason in words."""
        missing = place.missing()
        if missing is None:
            pytest.skip("not for this store: nothing can be missing")
        with pytest.raises(JobError) as caught:
            missing.check()
        assert all(problem.strip() for problem in caught.value.problems)

    def test_the_first_rows_can_be_read_without_the_rest(self, place: SourcePlace) -> None:
        """A preview leaves a split half read; the same source then reads all of it."""
        source = place.source()
        splits = source.plan().splits
        begun = list(itertools.islice(source.read(splits[0]), 2))
        assert begun == list(itertools.islice(source.read(splits[0]), 2))
        assert by_origin(read_all(source)) == by_origin(read_all(place.source()))

    def test_a_reject_is_read_again_by_its_raw_record(self, place: SourcePlace) -> None:
        """A replay gives the row under its old origin, once the job is corrected."""
        mended = place.mended()
        if mended is None:
            pytest.skip("not for this store: it rejects no record")
        rejects = [i for i in read_all(place.source()) if isinstance(i, Reject)]
        assert rejects
        for reject in rejects:
            assert reject.raw is not None
            again = mended.reread(reject.raw, reject.origin)
            assert isinstance(again, Change), again
            assert again.origin == reject.origin

    def test_a_wrong_password_is_told_before_the_run_and_never_shown(
        self, place: SourcePlace
    ) -> None:
        """The launcher's check refuses the job."""
        locked_out = place.locked_out()
        if locked_out is None:
            pytest.skip("not for this store: it has no login here")
        source, password = locked_out
        with pytest.raises(JobError) as caught:
            source.check()
        assert password not in str(caught.value) + repr(vars(source))
