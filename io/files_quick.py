"""What the quick ways of parsing share: they take blocks, and give up where any line is bad."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

from vecferry.rows import Row


class Patience:
    """Whether a quick way that fails now and then is worth trying.

    Each failure in a row doubles the number of blocks for which it is not tried.
    """

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    def tries(self) -> bool:
        """Whether to try it on the next block."""
        self._left -= 1
        return self._left < 0

    def failed(self) -> None:
        """It was tried in vain."""
        self._pause = min(2 * self._pause + 1, 255)
        self._left = self._pause

    def passed(self) -> None:
        """It was tried, and did."""
        self._pause = 0


class NotPlain(ValueError):
    """A block that has to be parsed line by line."""


def plain_lines(block: bytes, *, blank: bool) -> tuple[list[bytes], int]:
    """The lines of a block, and where to cut them to leave out their ends, which are all alike.

    Raises NotPlain where they are not, where the last one has none, and, unless `blank` ones are
    records, where a line holds nothing.
    """
    lines = list(io.BytesIO(block))
    cut = -1
    if b"\r" in block:
        cut = -2
        if any(line.find(b"\r", 0, cut) >= 0 or line[cut:] != b"\r\n" for line in lines):
            raise NotPlain("a carriage return alone")
    if not block.endswith(b"\n") or (not blank and min(map(len, lines)) <= -cut):
        raise NotPlain("a line that is blank, or has no end")
    return lines, cut


@functools.lru_cache(maxsize=256)
def row_maker(labels: tuple[str, ...]) -> Callable[..., Row]:
    """A function from the values of a row to the row: for ``map(row_maker(labels), *columns)``.

    It is compiled as a dict display, which takes less than half the time of ``dict(zip(…))``.
    """
    keys = {f"k{i}": label for i, label in enumerate(labels)}
    arguments = ", ".join(f"v{i}" for i in range(len(labels)))
    body = ", ".join(f"k{i}: v{i}" for i in range(len(labels)))
    made: Callable[..., Row] = eval(f"lambda {arguments}: {{{body}}}", keys)
    return made
