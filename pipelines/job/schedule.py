"""The values that the time of a schedule gives to a job, as DataWorks writes them.

``$bizdate`` and ``${yyyymmdd-7}`` tell the business date: the day before the scheduled time.
``$cyctime``, ``$[hh24miss-1/24]`` and ``$[add_months(yyyymmdd,-1)]`` tell the scheduled time. All
are told in one time zone, which is named.
"""

from __future__ import annotations

import calendar
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction

from vecferry.errors import JobError, near, shorten

_UNITS = ("yyyy", "yy", "mm", "dd", "hh24", "hh12", "hh", "mi", "ss")
_OF_DAYS = _UNITS[:4]
_WRITTEN: dict[str, Callable[[datetime], str]] = {
    "yyyy": lambda at: f"{at:%Y}".zfill(4),
    "yy": lambda at: f"{at:%y}",
    "mm": lambda at: f"{at:%m}",
    "dd": lambda at: f"{at:%d}",
    "hh24": lambda at: f"{at:%H}",
    "hh12": lambda at: f"{at:%I}",
    "hh": lambda at: f"{at:%I}",
    "mi": lambda at: f"{at:%M}",
    "ss": lambda at: f"{at:%S}",
}
_UNIT = re.compile("|".join(_UNITS))
_FORMAT = rf"(?:{'|'.join(_UNITS)})(?:[-/._: ]?(?:{'|'.join(_UNITS)}))*"
_NUMBER = r"[0-9]{1,6}"
_TERM = re.compile(rf"([+-])({_NUMBER}(?:[*/]{_NUMBER})*)")
_OFFSETS = rf"(?:[+-]{_NUMBER}(?:[*/]{_NUMBER})*)*"
_PLAIN = re.compile(rf"({_FORMAT})({_OFFSETS})")
_MONTHS = re.compile(rf"add_months\(({_FORMAT}),([+-]?{_NUMBER}(?:\*{_NUMBER})*)\)({_OFFSETS})")

BEGINS = r"(?:add_months\(|[yY]{2}|[mM]{2}|[dD]{2}|[hH]{2}|mi|MI|ss|SS)"
"""How what stands in ``$[…]`` begins if it tells a time; ``$[0]`` is a path of JSON."""

EXPRESSION = re.compile(
    rf"\$\[(?P<square>{BEGINS}[^\[\]]*)\]"
    r"|\$\{(?P<curly>[A-Za-z_][^{}]*)\}"
    r"|\$(?P<bare>bizdate|cyctime|gmtdate|bizmonth)(?!\w)"
)
"""What may tell a time. A curly one that does not is a placeholder of another kind."""

_LIKE_A_DATE = re.compile(
    rf"(?:{'|'.join(_OF_DAYS)})(?:[-/._: ]?(?:{'|'.join(_UNITS)}))*(?:[+-]\d[^:]*)?"
)
_NAMED = {
    "bizdate": "bizdate",
    "cyctime": "cyctime",
    "gmtdate": "gmtdate",
    "bizmonth": "bizmonth",
    "bdp.system.bizdate": "bizdate",
    "bdp.system.cyctime": "cyctime",
}
"""Placeholders that a schedule fills, and what they tell."""


class TimeExpressionError(ValueError):
    """An expression that tells no time, with the way out."""


@dataclass(frozen=True)
class ScheduledTime:
    """The time that a run is scheduled for, in the zone in which its values are told."""

    at: datetime

    def named(self, name: str) -> str | None:
        """The value of a placeholder called `name`; None where a schedule has none for it.

        Raises TimeExpressionError if the name is that of a date, and is wrong.
        """
        if name in _NAMED:
            return self.system(_NAMED[name])
        return self.business(name) if _LIKE_A_DATE.fullmatch(name) else None

    def system(self, name: str) -> str:
        """The value of ``$bizdate``, ``$cyctime``, ``$gmtdate`` or ``$bizmonth``."""
        if name == "cyctime":
            return _told(self.at, "yyyymmddhh24miss")
        if name == "bizmonth":  # the month before that of the day of the run, in each case
            return _told(_moved(self.at, months=-1), "yyyymm")
        return _told(_moved(self.at, days=-1 if name == "bizdate" else 0), "yyyymmdd")

    def business(self, expression: str) -> str:
        """What ``${expression}`` tells of the business date. Raises TimeExpressionError."""
        found = _PLAIN.fullmatch(expression)
        units = _UNIT.findall(found[1]) if found else []
        if not found or not set(units) <= set(_OF_DAYS) or "/" in found[2]:
            raise TimeExpressionError(
                "a business date is written with yyyy, yy, mm and dd, and moved by whole numbers, "
                "as in ${yyyymmdd-7*1}; write $[…] for hours and minutes"
            )
        offset = sum(int(days) for days in _terms(found[2]))
        smallest = max(units, key=_OF_DAYS.index)
        per_unit = {"dd": {"days": offset}, "mm": {"months": offset}}
        moved = per_unit.get(smallest, {"months": 12 * offset})
        return _told(_moved(_moved(self.at, days=-1), **moved), found[1])

    def scheduled(self, expression: str) -> str:
        """What ``$[expression]`` tells of the scheduled time. Raises TimeExpressionError."""
        by_months = _MONTHS.fullmatch(expression)
        found = by_months or _PLAIN.fullmatch(expression)
        if found is None:
            raise TimeExpressionError(
                "a scheduled time is written with yyyy, yy, mm, dd, hh24, hh12, mi and ss, in "
                "small letters; it is moved as in $[yyyymmdd-1] (days), $[hh24miss-1/24] (hours), "
                "$[mi-15/24/60] (minutes) or $[add_months(yyyymmdd,-1)]"
            )
        text, offsets = found[1], found[found.lastindex or 2]
        months = _product(by_months[2]) if by_months else 0
        terms = _terms(offsets)
        coarse = not set(_UNIT.findall(text)) - {"yyyy", "yy", "mm"}
        if coarse and any(term.denominator == 1 and term for term in terms):
            raise TimeExpressionError(
                "a year or a month is moved by add_months, as in $[add_months(yyyymm,-1)]"
            )
        days = sum(int(term) for term in terms if term.denominator == 1)
        seconds = round(sum(term for term in terms if term.denominator != 1) * 86400)
        return _told(_moved(self.at, months=int(months), days=days, seconds=seconds), text)


def _product(text: str) -> Fraction:
    first, *others = re.findall(r"[+-]?[0-9]+|[*/]", text)
    found = Fraction(int(first))
    for sign, number in zip(others[::2], others[1::2], strict=True):
        if sign == "/" and int(number) == 0:
            raise TimeExpressionError("it divides by 0; write another number")
        found = found * int(number) if sign == "*" else found / int(number)
    return found


def _terms(offsets: str) -> list[Fraction]:
    """The numbers that are added, in days or another unit."""
    return [_product(sign + number) for sign, number in _TERM.findall(offsets)]


def _moved(at: datetime, *, months: int = 0, days: int = 0, seconds: int = 0) -> datetime:
    """Another time: months and days by the calendar, seconds as they pass.

    The day after a month's last is that month's last. Where clocks are set, an hour before 03:00
    may be 01:00, as with the vendor.
    """
    try:
        year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
        last = calendar.monthrange(year, month + 1)[1]
        found = at.replace(year=year, month=month + 1, day=min(at.day, last))
        found += timedelta(days=days)  # of the calendar, as the zone stays
        if seconds:
            found = (found.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(at.tzinfo)
    except (ValueError, OverflowError):
        raise TimeExpressionError("it is not a year from 1 to 9999; write less") from None
    return found


def _told(at: datetime, text: str) -> str:
    return _UNIT.sub(lambda unit: _WRITTEN[unit[0]](at), text)


def is_date(name: str) -> bool:
    """Whether a placeholder's name would be told by a schedule."""
    return name in _NAMED or _LIKE_A_DATE.fullmatch(name) is not None


def scheduled_time(text: str, zone: str | None = None) -> ScheduledTime:
    """The time of ``--at``, told in a zone: ``now``, or a date and a time as ISO 8601 has them.

    `zone` is a name such as ``Asia/Shanghai``; without it, the text has an offset. Raises JobError.
    """
    told_in = _zone(zone) if zone else None
    if text.strip() == "now":
        at = datetime.now(UTC)
        if told_in is None:
            raise _unzoned(text)
        return ScheduledTime(at.astimezone(told_in))
    at = _read(text)
    if told_in is None:
        if at.tzinfo is None:
            raise _unzoned(text)
        return ScheduledTime(at)
    try:
        moved = at.replace(tzinfo=told_in) if at.tzinfo is None else at.astimezone(told_in)
    except OverflowError:
        raise JobError(f"--at {text!r} is not a year from 1 to 9999; give another") from None
    return ScheduledTime(moved)


def _read(text: str) -> datetime:
    given = text.strip()
    if re.fullmatch(r"[0-9]{14}", given):  # as DataWorks writes it
        given = f"{given[:8]}T{given[8:]}"
    try:
        return datetime.fromisoformat(given).replace(microsecond=0)
    except ValueError:
        raise JobError(
            f"--at {shorten(text, 60)!r} is not a time: write now, or as in 2026-11-01T02:30:00 or "
            "2026-11-01T02:30:00+08:00"
        ) from None


def _zone(name: str) -> tzinfo:
    try:
        return zoneinfo.ZoneInfo(name.strip())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        more = "" if known else "; this machine knows none: pip install tzdata"
        raise JobError(
            f"--time-zone {shorten(name, 60)!r} is not the name of a time zone"
            f"{near(name, known)}; write one such as Asia/Shanghai or UTC{more}"
        ) from None


def _unzoned(text: str) -> JobError:
    return JobError(
        f"--at {text}: names no time zone, and a date depends on it; add --time-zone, such as "
        "--time-zone Asia/Shanghai, or end the time with an offset, such as +08:00"
    )
