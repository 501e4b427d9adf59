"""How far a full load is and what is left of it, from the spans of a sync."""

from __future__ import annotations

from typing import Any

import pytest

from vecferry.pipelines.run.loading import Loading
from vecferry.steps import Span


class Load:
    """A load whose clock a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.loading = Loading(lambda: self.now)

    def at(self, now: float, span: Span | None, read: int = 0) -> tuple[Any, ...]:
        self.now = now
        told = self.loading.told(span, read)
        return tuple(told[k] for k in ("loaded", "load_size", "load_unit", "load_seconds") if told)


def part(before: int, of: int = 1000, **more: Any) -> Span:
    return Span(kind="full", until={}, phase="full", part=(0, 9), rows=(before, of), **more)


CHANGES = Span(kind="changes", until={}, phase="full")


def test_the_rest_takes_as_long_as_what_was_loaded_lets_expect() -> None:
    """100 rows in 10 s, then as many more; what a round has read so far counts."""
    load = Load()
    assert load.at(0, part(0)) == (0, 1000, "rows", None)
    assert load.at(10, part(0), 100) == (100, 1000, "rows", 90)
    assert load.at(20, part(100), 150) == (250, 1000, "rows", 60)


def test_between_the_parts_of_a_load_it_is_told_as_it_was() -> None:
    """Changes are read in between, and some time passes between rounds."""
    load = Load()
    load.at(0, part(0))
    told = load.at(10, part(0), 100)
    assert load.at(11, None) == told
    assert load.at(12, CHANGES, 77) == told


def test_a_load_that_goes_on_is_measured_from_where_this_run_began() -> None:
    """What an earlier run has loaded took none of this run's time."""
    load = Load()
    load.at(0, part(800))
    assert load.at(10, part(800), 100) == (900, 1000, "rows", 10)


def test_a_table_that_has_more_rows_than_was_thought_is_never_loaded_to_more_than_all() -> None:
    """The server tells about how many rows a table has."""
    load = Load()
    load.at(0, part(0, 50))
    assert load.at(10, part(0, 50), 100) == (100, 100, "rows", 0)


@pytest.mark.parametrize("end", ["changes", "ends"])
def test_nothing_is_told_once_all_is_loaded(end: str) -> None:
    """When the launcher says so, and when changes are read outside a load."""
    load = Load()
    load.at(0, part(0))
    if end == "ends":
        load.loading.ends()
        assert load.at(1, None) == ()
    assert load.at(2, Span(kind="changes", until={}, phase="changes")) == ()


def test_a_source_that_counts_no_rows_is_told_in_parts() -> None:
    """As far as parts are known."""
    load = Load()

    def span(number: int) -> Span:
        return Span(kind="full", until={}, phase="full", part=(number, 4))

    assert load.at(0, span(0), 55) == (0, 4, "parts", None)
    assert load.at(30, span(1)) == (1, 4, "parts", 90)


def test_another_load_is_measured_anew() -> None:
    """In another epoch, or from the beginning once more."""
    load = Load()
    load.at(0, part(500, epoch=1))
    assert load.at(100, part(0, epoch=2)) == (0, 1000, "rows", None)
    assert load.at(110, part(0, epoch=2), 500) == (500, 1000, "rows", 10)
    assert load.at(120, part(0, epoch=2)) == (0, 1000, "rows", None)


def test_a_range_that_is_read_again_is_not_a_load() -> None:
    """Of a request."""
    span = Span(kind="full", until={}, keys=("a", "b"), part=(0, 1))
    assert Load().at(0, span, 10) == ()
