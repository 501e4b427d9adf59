"""How many rows a round of a full load reads: as many as take some seconds, whatever they cost."""

from __future__ import annotations

import itertools

import pytest

from vecferry.io.mysql_cdc.chunks import AIM_SECONDS, FIRST_ROWS, Pace

MOST = 8192 * 32


class Load:
    """A load whose rounds take `fixed` seconds, and `each` second a row more."""

    def __init__(self, fixed: float, each: float) -> None:
        self.fixed, self.each, self.now, self.place = fixed, each, 0.0, 0
        self.pace = Pace(lambda: self.now)

    def round(self, *, ends: bool = True) -> int:
        """How many rows it reads; time passes."""
        rows = self.pace.begins(self.place, MOST)
        self.now += self.fixed + self.each * rows
        if ends:
            self.place += 1
            self.pace.ends()
        self.now += 1000  # changes are read, which is nothing to the load
        return rows

    def rounds(self, count: int) -> list[int]:
        return [self.round() for _ in range(count)]


@pytest.mark.parametrize("fixed", [0.0, 0.3, 2.0, 30.0])
@pytest.mark.parametrize("each", [0.5, 0.01, 0.001, 0.0001])
def test_rows_of_a_round_take_about_as_long_as_they_are_to(fixed: float, each: float) -> None:
    """Slow embedding or fast, and however long a round takes without a row."""
    rows = Load(fixed, each).rounds(20)[10:]
    assert all(0.75 * AIM_SECONDS <= n * each <= 1.3 * AIM_SECONDS for n in rows), rows


def test_the_first_round_is_small_and_the_largest_one_is_not_exceeded() -> None:
    """Rows that cost nothing."""
    rows = Load(0.1, 0.0).rounds(15)
    assert rows[0] == FIRST_ROWS
    assert rows[-1] == MOST
    assert all(after <= 2 * before for before, after in itertools.pairwise(rows))


def test_a_round_that_gets_slower_is_followed_by_smaller_ones() -> None:
    """The endpoint is throttled in the middle of the load."""
    load = Load(0.3, 0.001)
    load.rounds(10)
    load.each = 0.02
    rows = load.rounds(8)
    assert rows[-1] * load.each <= 1.3 * AIM_SECONDS


def test_a_part_that_is_planned_again_has_half_the_rows() -> None:
    """Its round failed; no time is taken from it."""
    load = Load(0.3, 0.001)
    load.rounds(10)
    first = load.round(ends=False)
    assert load.round(ends=False) == first // 2
    assert load.round() == first // 4
