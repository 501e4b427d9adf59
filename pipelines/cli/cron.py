"""Times of a cron line, checked and told to systemd.

Stands apart from `export` because it knows no job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vecferry.errors import JobError, shorten
from vecferry.numbers import digits_of

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?")


@dataclass(frozen=True)
class CronTimes:
    """When a line of cron runs: `text` has five fields, `values` what each of them allows."""

    text: str
    values: tuple[tuple[int, ...], ...]

    def on_calendar(self, zone: str) -> list[str]:
        """The same times as values of systemd's ``OnCalendar=``.

        Cron runs where the day or the weekday fits if both are given, so that they are two values.
        """
        minutes, hours, days, months, weekdays = self.values
        names = sorted({(day + 6) % 7 for day in weekdays})  # of a week that begins on Monday
        week = ",".join(_DAYS[(day + 1) % 7].capitalize() for day in names)
        month = _listed(months, 12)
        clock = f"{_listed(hours, 24)}:{_listed(minutes, 60)}:00 {zone}"
        by_day = f"*-{month}-{_listed(days, 31)} {clock}"
        by_week = f"{week} *-{month}-* {clock}"
        starred = [field.startswith("*") for field in self.text.split()[2:5:2]]
        if not any(starred):
            return [by_day, by_week]
        if len(names) == 7:
            return [by_day]
        return [f"{week} {by_day}"]


def _listed(values: tuple[int, ...], most: int) -> str:
    return "*" if len(values) == most else ",".join(f"{value:02}" for value in values)


def cron_times(text: str) -> CronTimes:
    """The times of five fields, such as ``30 2 * * *``. Raises JobError."""
    fields = _NICKNAMES.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise JobError(
            f"--schedule {shorten(text, 60)!r} has {len(fields)} fields and not 5: write minute, "
            "hour, day, month and weekday, as in '30 2 * * *', or @daily"
        )
    values = tuple(_values(field, *about) for field, about in zip(fields, _FIELDS, strict=True))
    return CronTimes(" ".join(fields), values)


def _values(field: str, name: str, least: int, most: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _wrong(field, name, least, most)
        every, first, last, step = match.groups()
        each = 1 if step is None else digits_of(step)
        low = least if every == "*" else _number(first, name)
        high = _number(last, name) if last else most if every == "*" or step else low
        if low is None or high is None or not least <= low <= high <= most or not each:
            raise _wrong(field, name, least, most)
        found |= set(range(low, high + 1, each))
    return tuple(sorted({value % 7 for value in found} if name == "weekday" else found))


def _number(text: str, name: str) -> int | None:
    number = digits_of(text)
    if number is not None:
        return number
    names = {"month": ("", *_MONTHS), "weekday": _DAYS}.get(name, ())
    return names.index(text.lower()) if text.lower() in names and text else None


def _wrong(field: str, name: str, least: int, most: int) -> JobError:
    return JobError(
        f"--schedule: {shorten(field, 40)!r} is not a {name}: write numbers from {least} to "
        f"{most}, as in 5, 1-5, */15 or 1,15"
    )
