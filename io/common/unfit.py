"""A value that a row can't hold, and what turns the columns of a client into those of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class UnfitValue(ValueError):
    """A value, or a whole record, that becomes a reject.

    `message` says what is wrong with the value, `reason` is the short word of the reject. A
    converter raises the error; a batch may hold one in place of a value, until its row is made.
    """

    def __init__(self, message: str, reason: str = "unfit-value") -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


Convert = Callable[[Any], Sequence[Any]]
"""Turns a column as a client gives it into as many values of rows; raises `UnfitValue`."""
