"""Numbers and times as a log stores them, to the values that a SELECT gives.

What a SELECT of `io/mysql` rejects is written as the server would write it, and goes through the
same converter. So the `UnfitValue` is the same; it stands in place of the value.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql.values import converter

DATE, TIME, DATETIME, TIMESTAMP = 10, 11, 12, 7
"""The numbers of these types in a result."""

_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""So many bytes hold up to nine decimal digits."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

_from_bytes = int.from_bytes
_date, _datetime, _time = datetime.date, datetime.datetime, datetime.time

Convert = Callable[[bytes], object]


def as_selected(kind: int, text: str) -> object:
    """What a SELECT makes of a text of the server, by the type's number; `UnfitValue` is given."""
    try:
        return converter(kind, 63, "")([text.encode()])[0]
    except UnfitValue as e:
        return e


def single(value: float) -> float:
    """A FLOAT, which the server shows with six digits."""
    return float("%.6g" % value)  # noqa: UP031


def rounded(scale: int) -> Callable[[float], float]:
    """Reads a FLOAT(m, d) or DOUBLE(m, d), which the server shows with `d` digits."""
    form = f"%.{scale}f"
    return lambda value: float(form % value)


def decimal_size(precision: int, scale: int) -> int:
    """The bytes of a DECIMAL."""
    whole = precision - scale
    return whole // 9 * 4 + _DIGIT_BYTES[whole % 9] + scale // 9 * 4 + _DIGIT_BYTES[scale % 9]


def decimal_number(precision: int, scale: int) -> Callable[[bytes], int]:
    """What makes a whole number of a DECIMAL's bytes: the value times 10 to the `scale`.

    Nine digits stand in four bytes. The first bit is set for a number that is not negative; all
    bits of a negative one are the other way round.
    """
    whole = precision - scale
    groups = [_DIGIT_BYTES[whole % 9]] * bool(whole % 9) + [4] * (whole // 9)
    digits = [whole % 9] * bool(whole % 9) + [9] * (whole // 9)
    groups += [4] * (scale // 9) + [_DIGIT_BYTES[scale % 9]] * bool(scale % 9)
    digits += [9] * (scale // 9) + [scale % 9] * bool(scale % 9)
    size = sum(groups)
    top, ones = 1 << 8 * size - 1, (1 << 8 * size) - 1
    shift, steps = 8 * size, []
    for count, width in zip(groups, digits, strict=True):
        shift -= 8 * count
        steps.append((shift, (1 << 8 * count) - 1, 10**width))

    def read(data: bytes) -> int:
        raw = _from_bytes(data, "big") ^ top
        minus = raw & top
        if minus:
            raw ^= ones
        number = 0
        for shift, mask, power in steps:
            number = number * power + (raw >> shift & mask)
        return -number if minus else number

    return read


def decimal(precision: int, scale: int) -> Callable[[bytes], Decimal]:
    """Reads a DECIMAL, with all digits behind its point."""
    number = decimal_number(precision, scale)
    if not scale:
        return lambda data: Decimal(number(data))
    return lambda data: Decimal(number(data)).scaleb(-scale, _EXACT)


def date(data: bytes) -> object:
    """Reads a DATE of three bytes."""
    n = _from_bytes(data, "little")
    try:
        return _date(n >> 9, n >> 5 & 15, n & 31)
    except ValueError:
        return as_selected(DATE, f"{n >> 9:04}-{n >> 5 & 15:02}-{n & 31:02}")


def datetime_of(digits: int) -> Convert:
    """Reads a DATETIME with so many digits of a second, 0 to 6."""
    size = (digits + 1) // 2
    bits, unit = 8 * size, 10 ** (6 - 2 * size)
    base = 1 << 39

    def read(data: bytes) -> object:
        n = _from_bytes(data, "big")
        micros = (n & (1 << bits) - 1) * unit
        n = (n >> bits) - base
        year, month = divmod(n >> 22, 13)
        parts = year, month, n >> 17 & 31, n >> 12 & 31, n >> 6 & 63, n & 63
        try:
            return _datetime(*parts, micros)
        except ValueError:
            return as_selected(DATETIME, _moment(parts, micros, digits))

    return read


def timestamp_of(digits: int) -> Convert:
    """Reads a TIMESTAMP with so many digits of a second, 0 to 6."""
    size = (digits + 1) // 2
    bits, unit = 8 * size, 10 ** (6 - 2 * size)

    def read(data: bytes) -> object:
        n = _from_bytes(data, "big")
        return moment(n >> bits, (n & (1 << bits) - 1) * unit, digits)

    return read


def moment(seconds: int, micros: int, digits: int) -> object:
    """A TIMESTAMP from seconds since 1970; zero is the date that is none."""
    if not seconds:
        return as_selected(TIMESTAMP, _moment((0, 0, 0, 0, 0, 0), micros, digits))
    return _EPOCH + datetime.timedelta(seconds=seconds, microseconds=micros)


def _moment(parts: tuple[int, ...], micros: int, digits: int) -> str:
    shown = "{:04}-{:02}-{:02} {:02}:{:02}:{:02}".format(*parts)
    return shown + fraction(micros, digits)


def fraction(micros: int, digits: int) -> str:
    """A dot and so many digits of a second; empty for none."""
    return f".{micros:06}"[: digits + 1] if digits else ""


def time_of(digits: int) -> Convert:
    """Reads a TIME with so many digits of a second, 0 to 6."""
    size = (digits + 1) // 2
    bits, unit = 8 * size, 10 ** (6 - 2 * size)
    base = 0x800000 << bits

    def read(data: bytes) -> object:
        n = _from_bytes(data, "big") - base
        whole = abs(n)
        micros = (whole & (1 << bits) - 1) * unit
        whole >>= bits
        return span(n < 0, whole >> 12 & 0x3FF, whole >> 6 & 63, whole & 63, micros, digits)

    return read


def span(minus: bool, hours: int, minutes: int, seconds: int, micros: int, digits: int) -> object:
    """A TIME from its parts: the time of a day, or what SELECT says of one that is longer."""
    if not minus and hours < 24:
        return _time(hours, minutes, seconds, micros)
    sign = "-" if minus else ""
    text = f"{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction(micros, digits)}"
    return as_selected(TIME, text)


def year(value: int) -> int:
    """A YEAR from its byte."""
    return value + 1900 if value else 0


def old_datetime(data: bytes) -> object:
    """Reads a DATETIME of before MySQL 5.6: a number whose digits are the parts."""
    day, clock = divmod(_from_bytes(data, "little"), 1_000_000)
    parts = (
        day // 10000,
        day // 100 % 100,
        day % 100,
        clock // 10000,
        clock // 100 % 100,
        clock % 100,
    )
    try:
        return _datetime(*parts)
    except ValueError:
        return as_selected(DATETIME, _moment(parts, 0, 0))


_PART_BYTES = (0, 1, 1, 2, 2, 3, 3)
_LONGEST_TIME = 839 * 3600


def old_part_size(whole: int, digits: int) -> int:
    """The bytes of an old TIMESTAMP (4), DATETIME (5) or TIME (3) of MariaDB with such digits."""
    if whole == 4:
        return 4 + _PART_BYTES[digits]
    return whole + (0, 1, 1, 2, 2, 2, 3)[digits]


def old_parts(kind: int, digits: int) -> Convert:
    """Reads an old type of MariaDB with digits of a second: one number, the greatest byte first."""
    unit = 10**digits

    def read(data: bytes) -> object:
        n = _from_bytes(data, "big")
        if kind == TIMESTAMP:
            seconds, part = _from_bytes(data[:4], "big"), _from_bytes(data[4:], "big")
            return moment(seconds, part * 1_000_000 // unit, digits)
        if kind == TIME:
            n -= _LONGEST_TIME * unit
        whole, part = divmod(abs(n), unit)
        micros = part * 1_000_000 // unit
        minutes, seconds = divmod(whole, 60)
        hours, minutes = divmod(minutes, 60)
        if kind == TIME:
            return span(n < 0, hours, minutes, seconds, micros, digits)
        days, hours = divmod(hours, 24)
        months, day = divmod(days, 32)
        parts = months // 13, months % 13, day, hours, minutes, seconds
        try:
            return _datetime(*parts, micros)
        except ValueError:
            return as_selected(DATETIME, _moment(parts, micros, digits))

    return read


def old_timestamp(data: bytes) -> object:
    """Reads a TIMESTAMP of before MySQL 5.6."""
    return moment(_from_bytes(data, "little"), 0, 0)


def old_time(data: bytes) -> object:
    """Reads a TIME of before MySQL 5.6: a number whose digits are the parts."""
    n = _from_bytes(data, "little", signed=True)
    whole = abs(n)
    return span(n < 0, whole // 10000, whole // 100 % 100, whole % 100, 0, 0)
