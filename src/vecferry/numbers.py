"""The one reading of numbers: in texts, and of whole numbers in other types.

Python's own `int` and `float` also take underscores and the digits of all scripts, so that "7_0"
would become 70, the key of another row. Only ASCII is a number here. Blanks around a number are
left out.
"""

from __future__ import annotations

import decimal
import math
import re

from vecferry.errors import shorten

MOST_DIGITS = 4000
"""A longer text is not read as a whole number: no type holds one, and Python refuses it itself."""

_BLANKS = " \t\r\n\f\v"
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NAMED = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def whole_number(text: str) -> int:
    """The whole number that a text writes, ``[+-]?[0-9]+``; ValueError for any other text."""
    bare = text.strip(_BLANKS)
    if not _WHOLE.fullmatch(bare):
        raise ValueError(f"{shorten(text, 60)!r} is not a whole number")
    if len(bare) > MOST_DIGITS:
        raise ValueError(f"{shorten(bare, 60)!r} has {len(bare)} digits, {MOST_DIGITS} at most")
    return int(bare)


def digits_of(text: str) -> int | None:
    """The number of a text that is ``[0-9]+`` and not too long; None for any other text.

    Blanks and signs make it another text, such as a name or a time.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        return None
    return int(text)


def real_number(text: str) -> float:
    """The finite number that a text writes: ``-1``, ``.5``, ``1.5e3``; else ValueError.

    Names of numbers, such as ``NaN`` and ``infinity``, are not numbers here.
    """
    number = float(_digits(text))
    if not math.isfinite(number):
        raise ValueError(f"{shorten(text, 60)!r} is not a finite number")
    return number


def decimal_number(text: str) -> decimal.Decimal:
    """The number that a text writes, all its digits kept; ValueError as `real_number` has it."""
    try:
        return decimal.Decimal(_digits(text))
    except decimal.InvalidOperation:  # an exponent of more than 18 digits
        raise ValueError(f"{shorten(text, 60)!r} is not a finite number") from None


def names_no_finite(text: str) -> bool:
    """Whether a text names NaN or infinity, or writes a number that 64 bits don't hold."""
    bare = text.strip(_BLANKS)
    return bool(_NAMED.fullmatch(bare) or (_REAL.fullmatch(bare) and math.isinf(float(bare))))


def _digits(text: str) -> str:
    bare = text.strip(_BLANKS)
    if not _REAL.fullmatch(bare):
        raise ValueError(f"{shorten(text, 60)!r} is not a finite number")
    return bare


def whole_of(value: float | decimal.Decimal) -> int | None:
    """The whole number that a float or a Decimal is; None where there is a fraction, or no end."""
    if isinstance(value, decimal.Decimal):
        # A short Decimal may stand for a number of a million digits.
        if not value.is_finite() or value.adjusted() >= MOST_DIGITS:
            return None
        return int(value) if value == value.to_integral_value() else None
    return int(value) if math.isfinite(value) and value == math.floor(value) else None
