"""The forms of values that a mapping asks for: dates in its `format`, whole numbers in its range.

A date field takes nothing but its formats, which are Java's. A date is written in the first of
them that keeps all of it, else in the first. Where a format takes ISO 8601, or is not known here,
dates are written in ISO 8601.

Apart from `vecferry.io.search.values` because these rules are the server's, and know no rows.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vecferry.errors import shorten
from vecferry.io.sink.values import bad, wrong_type
from vecferry.numbers import real_number, whole_number, whole_of

Form = Callable[[Any], Any]
"""Turns a value that is not null into the form of its field; raises TerminalError."""

DATES = frozenset({"date", "date_nanos", "date_range"})
INTEGERS = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned_long": (0, 2**64 - 1),
}
"""The least and the greatest number of each type of whole numbers."""

_UTC = datetime.UTC
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=_UTC)
_NAMED = {
    "basic_date": "yyyyMMdd",
    "basic_date_time": "yyyyMMdd'T'HHmmss.SSSXX",
    "basic_date_time_no_millis": "yyyyMMdd'T'HHmmssXX",
    "basic_ordinal_date": "yyyyDDD",
    "date": "yyyy-MM-dd",
    "year_month_day": "yyyy-MM-dd",
    "year_month": "yyyy-MM",
    "year": "yyyy",
    "hour_minute_second": "HH:mm:ss",
    "ordinal_date": "yyyy-DDD",
    "date_hour": "yyyy-MM-dd'T'HH",
    "date_hour_minute": "yyyy-MM-dd'T'HH:mm",
    "date_hour_minute_second": "yyyy-MM-dd'T'HH:mm:ss",
    "date_hour_minute_second_millis": "yyyy-MM-dd'T'HH:mm:ss.SSS",
    "date_hour_minute_second_fraction": "yyyy-MM-dd'T'HH:mm:ss.SSS",
    "date_time": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "date_time_no_millis": "yyyy-MM-dd'T'HH:mm:ssXXX",
}
"""The built-in formats as patterns; a name with ``strict_`` before it writes the same."""
_ISO = {"date_optional_time", "date_optional_time_nanos", "iso8601"}
_RUN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

Part = Callable[[datetime.datetime], str]


def date_form(formats: str | None) -> Form | None:
    """What writes dates for a field of these `formats`, with ``||`` between them.

    None where they are to be written in ISO 8601.
    """
    writers: list[tuple[Callable[[datetime.datetime], Any], int]] = []
    for name in (formats or "").split("||"):
        bare = name.strip().removeprefix("8").removeprefix("strict_")
        if not bare or bare in _ISO:
            return None
        try:
            writers.append(_writer(bare))
        except ValueError:
            continue  # the server knows it, and we don't
    if not writers:
        return None

    def write(value: datetime.date) -> Any:
        moment = _moment(value)
        lost = _detail(moment)
        return next((w for w, detail in writers if detail >= lost), writers[0][0])(moment)

    def form(value: Any) -> Any:
        if isinstance(value, datetime.date):
            return write(value)
        if isinstance(value, list | tuple):
            return [form(v) for v in value]
        if isinstance(value, dict):  # the ends of a range
            return {k: form(v) for k, v in value.items()}
        return value

    return form


_DAY, _SECOND, _MILLI, _MICRO = range(4)


def _moment(value: datetime.date) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=_UTC)
    return value.replace(tzinfo=_UTC) if value.tzinfo is None else value


def _detail(moment: datetime.datetime) -> int:
    """How much of a time must be written so that nothing of it is lost."""
    if moment.microsecond:
        return _MICRO if moment.microsecond % 1000 else _MILLI
    midnight = moment.astimezone(_UTC) if moment.utcoffset() else moment
    return _SECOND if midnight.time() != datetime.time(tzinfo=None) else _DAY


def _writer(name: str) -> tuple[Callable[[datetime.datetime], Any], int]:
    """What writes a time in a format, and how much of the time it writes."""
    milli, second = datetime.timedelta(milliseconds=1), datetime.timedelta(seconds=1)
    if name == "epoch_millis":
        return (lambda moment: (moment - _EPOCH) // milli), _MILLI
    if name == "epoch_second":
        return (lambda moment: (moment - _EPOCH) // second), _SECOND
    pattern = _NAMED.get(name, name)
    parts: list[Part | str] = []
    letters: dict[str, int] = {}
    for run in _RUN.finditer(pattern):
        text, letter = run.group(), run.group(2)
        if letter:
            letters[letter] = len(text)
            parts.append(_part(letter, len(text)))
        elif run.group(1) is not None:
            parts.append(run.group(1).replace("''", "'") or "'")
        elif text not in "[]":  # a part that may be left out is written
            parts.append(text)
    zoned = bool(letters.keys() & set("zZXxVO"))

    def write(moment: datetime.datetime) -> str:
        if not zoned:  # which the server takes for UTC
            moment = moment.astimezone(_UTC)
        return "".join([p if isinstance(p, str) else p(moment) for p in parts])

    fraction = letters.get("S", 0)
    detail = _MICRO if fraction >= 6 else _MILLI if fraction >= 3 else _SECOND
    return write, detail if "s" in letters else _DAY


def _part(letter: str, n: int) -> Part:
    """What a letter, `n` times, stands for; ValueError where it is not known here."""
    if letter in "yu":
        return (lambda m: f"{m.year % 100:02}") if n == 2 else (lambda m: f"{m.year:0{n}}")
    if letter in "ML" and n >= 3:
        return lambda m: _MONTHS[m.month - 1][: 3 if n == 3 else None]
    if letter == "E":
        return lambda m: _DAYS[m.weekday()][: 3 if n <= 3 else None]
    if letter == "S":
        return lambda m: f"{m.microsecond:06}".ljust(n, "0")[:n]
    if letter == "a":
        return lambda m: "AM" if m.hour < 12 else "PM"
    if letter in "XxZzOV":
        return lambda m: _offset(m, letter, n)
    numbers: dict[str, Callable[[datetime.datetime], int]] = {
        "M": lambda m: m.month,
        "L": lambda m: m.month,
        "d": lambda m: m.day,
        "D": lambda m: m.timetuple().tm_yday,
        "H": lambda m: m.hour,
        "k": lambda m: m.hour or 24,
        "h": lambda m: m.hour % 12 or 12,
        "K": lambda m: m.hour % 12,
        "m": lambda m: m.minute,
        "s": lambda m: m.second,
        "n": lambda m: 1000 * m.microsecond,
    }
    number = numbers.get(letter)
    if number is None:
        raise ValueError(f"the letter {letter!r} of a date format is not known here")
    return lambda m: f"{number(m):0{n}}"


def _offset(moment: datetime.datetime, letter: str, n: int) -> str:
    """The offset from UTC, as Java's formatter writes it."""
    minutes = round((moment.utcoffset() or datetime.timedelta(0)).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    if letter in "zV":  # the name or the id of a zone: of UTC, or an offset, which is an id as well
        return "UTC" if not minutes else f"{sign}{hours:02}:{rest:02}"
    if letter == "O" or (letter == "Z" and n == 4):
        return "GMT" if not minutes else f"GMT{sign}{hours:02}:{rest:02}"
    if not minutes and (letter == "X" or (letter == "Z" and n == 5)):
        return "Z"
    if n == 1 and letter in "Xx":
        return f"{sign}{hours:02}" + (f"{rest:02}" if rest else "")
    colon = ":" if (letter in "Xx" and n in (3, 5)) or (letter == "Z" and n == 5) else ""
    return f"{sign}{hours:02}{colon}{rest:02}"


def integer_form(name: str, kind: str, *, lenient: bool) -> Form:
    """What brings values into the form of a type of whole numbers.

    A fraction goes to the server, whose mapping says what to do with a fraction. So does a text
    that is not a number, unless the server would take digits of other scripts for one. If the
    mapping is `lenient` (``ignore_malformed``), nothing is refused here.
    """
    least, most = INTEGERS[kind]

    def whole(value: Any) -> Any:
        """The whole number of a value, or the value where it has none."""
        if isinstance(value, str):
            try:
                return whole_number(value)
            except ValueError:
                pass
            if value.strip():
                value = real_number(value)  # the server takes "7.0"
                found = whole_of(value)
                return value if found is None else found
            return value  # the server takes it for null
        if isinstance(value, np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            value = float(value)
        if isinstance(value, float | decimal.Decimal):
            found = whole_of(value)
            return value if found is None else found
        return value

    def form(value: Any) -> Any:
        if type(value) is int and least <= value <= most:
            return value
        if isinstance(value, list | tuple):
            return [v if v is None else form(v) for v in value]
        if isinstance(value, np.ndarray):
            return form(value.tolist())
        try:
            found = whole(value)
        except ValueError:
            if lenient or str(value).isascii():  # the server refuses it, and says so
                return value
            raise wrong_type(name, kind, value) from None
        if type(found) is int and not least <= found <= most and not lenient:
            raise bad(name, "out-of-range", f"{shorten(found, 60)} does not fit into {kind}")
        return found

    return form


def nested(forms: Mapping[str, Form]) -> Form:
    """What brings the values within an object into their forms, which are by the names of keys."""

    def form(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [form(v) for v in value]
        if not isinstance(value, dict):
            return value
        return {k: forms[k](v) if v is not None and k in forms else v for k, v in value.items()}

    return form
