"""Sets of global transaction ids, of MySQL and of MariaDB.

MySQL names a transaction `uuid:number`, or since 8.3 `uuid:tag:number`. A set of them is written
`uuid:1-5:7:tag:1-3`. MariaDB names a transaction `domain-server-number`. A set of these holds, for
each domain, the last transaction and all before that one.
"""

from __future__ import annotations

import re
import struct
import uuid
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from typing import TypeVar

from vecferry.errors import JobError
from vecferry.numbers import digits_of

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_MARIA = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)")
_LAST = (1 << 63) - 1
_TAGGED = 1
"""The number of the form that has tags; the older form has the number 0."""

Self = TypeVar("Self", bound="GtidSet")


class GtidSet(ABC):
    """A set of transactions; `str` gives the form that the server itself writes.

    A set is changed by `add` only. The other methods make new sets.
    """

    @staticmethod
    def parse(text: str, *, maria: bool) -> GtidSet:
        """Reads a set as a server shows it; JobError names the part that is not a set."""
        return MariaGtids.parsed(text) if maria else MysqlGtids.parsed(text)

    @abstractmethod
    def add(self, gtid: str) -> None:
        """Adds one transaction, written as its event is."""

    @abstractmethod
    def contains(self, gtid: str) -> bool:
        """Whether one transaction is in the set."""

    @abstractmethod
    def issubset(self, other: GtidSet) -> bool:
        """Whether all transactions are in `other`, which is of the same kind of server."""

    @abstractmethod
    def union(self: Self, other: Self) -> Self:
        """The transactions of both."""

    @abstractmethod
    def copy(self: Self) -> Self:
        """A set of its own."""

    @abstractmethod
    def __bool__(self) -> bool: ...


class MysqlGtids(GtidSet):
    """A set of MySQL: for each source, and tag, ranges of numbers."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, str], list[list[int]]] = {}
        """For `(uuid, tag)` the ranges in order: first, and one past the last."""

    @classmethod
    def parsed(cls, text: str) -> MysqlGtids:
        """Reads `uuid:1-5:tag:7,…`; spaces and line ends between the parts are passed over."""
        found = cls()
        for block in "".join(text.split()).split(","):
            if not block:
                continue
            source, *parts = block.lower().split(":")
            tag = ""
            if not parts:
                raise _not_a_set(block)
            key = _uuid(source, block)
            for part in parts:
                match = _RANGE.fullmatch(part)
                if match is None:
                    if not _TAG.fullmatch(part):
                        raise _not_a_set(block)
                    tag = part
                    continue
                first, last = int(match[1]), int(match[2] or match[1])
                if not 1 <= first <= last < _LAST:
                    raise _not_a_set(block)
                found._include((key, tag), first, last + 1)
        return found

    @classmethod
    def decoded(cls, data: bytes) -> MysqlGtids:
        """Reads the form of a PREVIOUS_GTIDS event, with or without tags; raises ValueError."""
        found = cls()
        try:
            at = found._decode(data)
        except struct.error as e:
            raise ValueError("a GTID set ends early") from e
        if at != len(data):
            raise ValueError(f"a GTID set of {at} bytes has {len(data)}")
        return found

    def _decode(self, data: bytes) -> int:
        (count,) = struct.unpack_from("<Q", data, 0)
        form, at = count >> 56, 8
        if form > _TAGGED:
            raise ValueError(f"a GTID set of the unknown form {form}")
        count = count >> 8 & (1 << 48) - 1 if form == _TAGGED else count
        for _ in range(count):
            source = str(uuid.UUID(bytes=bytes(data[at : at + 16]).ljust(16, b"\0")))
            at += 16
            tag = ""
            if form == _TAGGED:
                size = struct.unpack_from("<B", data, at)[0] >> 1
                tag = data[at + 1 : at + 1 + size].decode("ascii")
                at += 1 + size
            (ranges,) = struct.unpack_from("<Q", data, at)
            at += 8
            for _ in range(ranges):
                first, end = struct.unpack_from("<QQ", data, at)
                self._include((source, tag), first, end)
                at += 16
        return at

    def encode(self) -> bytes:
        """The form that COM_BINLOG_DUMP_GTID takes; servers before 8.3 take sets without tags."""
        tagged = any(tag for _, tag in self._ranges)
        count = len(self._ranges)
        parts = [struct.pack("<Q", _TAGGED << 56 | count << 8 | _TAGGED if tagged else count)]
        for (source, tag), ranges in sorted(self._ranges.items()):
            parts.append(uuid.UUID(source).bytes)
            if tagged:
                parts.append(bytes([len(tag) << 1]) + tag.encode("ascii"))
            parts.append(struct.pack("<Q", len(ranges)))
            parts += [struct.pack("<QQ", first, end) for first, end in ranges]
        return b"".join(parts)

    def add(self, gtid: str) -> None:
        """Adds one transaction, `uuid:number` or `uuid:tag:number`."""
        source, tag, number = _parts(gtid)
        ranges = self._ranges.get((source, tag))
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            self._include((_uuid(source, gtid), tag), number, number + 1)

    def contains(self, gtid: str) -> bool:
        """Whether one transaction is in the set."""
        source, tag, number = _parts(gtid)
        return _covers(self._ranges.get((source, tag), []), number, number + 1)

    def issubset(self, other: GtidSet) -> bool:
        """Whether all transactions are in `other`; none is in a set of MariaDB."""
        theirs = other._ranges if isinstance(other, MysqlGtids) else {}
        return all(
            _covers(theirs.get(key, []), first, end)
            for key, ranges in self._ranges.items()
            for first, end in ranges
        )

    def union(self, other: MysqlGtids) -> MysqlGtids:
        """The transactions of both."""
        found = self.copy()
        for key, ranges in other._ranges.items():
            for first, end in ranges:
                found._include(key, first, end)
        return found

    def copy(self) -> MysqlGtids:
        """A set of its own."""
        found = MysqlGtids()
        found._ranges = {key: [list(r) for r in ranges] for key, ranges in self._ranges.items()}
        return found

    @property
    def tagged(self) -> bool:
        """Whether a transaction of the set has a tag."""
        return any(tag for _, tag in self._ranges)

    def _include(self, key: tuple[str, str], first: int, end: int) -> None:
        """Adds a range, and joins the ranges that the new one touches."""
        if first >= end:
            raise ValueError(f"a GTID range from {first} to before {end}")
        ranges = self._ranges.setdefault(key, [])
        low = bisect_right(ranges, first, key=lambda r: r[0])
        if low and ranges[low - 1][1] >= first:
            low -= 1
        high = low
        while high < len(ranges) and ranges[high][0] <= end:
            first, end = min(first, ranges[high][0]), max(end, ranges[high][1])
            high += 1
        ranges[low:high] = [[first, end]]

    def _blocks(self) -> Iterator[str]:
        last = None
        for (source, tag), ranges in sorted(self._ranges.items()):
            shown = [f"{a}" if a + 1 == b else f"{a}-{b - 1}" for a, b in ranges]
            words = [*([tag] if tag else []), *shown]
            if source == last:
                yield ":" + ":".join(words)
            else:
                yield ("," if last else "") + ":".join([source, *words])
            last = source

    def __str__(self) -> str:
        return "".join(self._blocks())

    def __repr__(self) -> str:
        return f"MysqlGtids({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MysqlGtids) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]


class MariaGtids(GtidSet):
    """A set of MariaDB: for each domain the last transaction, and all before that one."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}
        """For a domain, the server and the number of the last transaction."""

    @classmethod
    def parsed(cls, text: str) -> MariaGtids:
        """Reads `domain-server-number,…`."""
        found = cls()
        for block in "".join(text.split()).split(","):
            if block:
                found.add(block)
        return found

    def add(self, gtid: str) -> None:
        """Makes a transaction the last one of its domain, unless a later one is known."""
        domain, server, number = _maria(gtid)
        known = self._last.get(domain)
        if known is None or known[1] <= number:
            self._last[domain] = server, number

    def contains(self, gtid: str) -> bool:
        """Whether the domain is known up to this number, whichever server wrote it."""
        domain, _, number = _maria(gtid)
        known = self._last.get(domain)
        return known is not None and number <= known[1]

    def issubset(self, other: GtidSet) -> bool:
        """Whether `other` has as high a number in each domain; none is in a set of MySQL."""
        theirs = other._last if isinstance(other, MariaGtids) else {}
        return all(
            domain in theirs and number <= theirs[domain][1]
            for domain, (_, number) in self._last.items()
        )

    def union(self, other: MariaGtids) -> MariaGtids:
        """The later transaction of each domain."""
        found = self.copy()
        for domain, (server, number) in other._last.items():
            found.add(f"{domain}-{server}-{number}")
        return found

    def copy(self) -> MariaGtids:
        """A set of its own."""
        found = MariaGtids()
        found._last = dict(self._last)
        return found

    def __str__(self) -> str:
        return ",".join(f"{d}-{s}-{n}" for d, (s, n) in sorted(self._last.items()))

    def __repr__(self) -> str:
        return f"MariaGtids({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariaGtids) and self._last == other._last

    __hash__ = None  # type: ignore[assignment]


def _parts(gtid: str) -> tuple[str, str, int]:
    source, _, rest = gtid.partition(":")
    tag, _, number = rest.rpartition(":")
    found = digits_of(number)
    if found is None:
        raise _not_a_set(gtid)
    return source, tag, found


def _uuid(source: str, whole: str) -> str:
    try:
        return str(uuid.UUID(source))
    except ValueError as e:
        raise _not_a_set(whole) from e


def _maria(gtid: str) -> tuple[int, int, int]:
    match = _MARIA.fullmatch(gtid)
    if match is None:
        raise _not_a_set(gtid)
    return int(match[1]), int(match[2]), int(match[3])


def _covers(ranges: list[list[int]], first: int, end: int) -> bool:
    at = bisect_right(ranges, first, key=lambda r: r[0])
    return at > 0 and end <= ranges[at - 1][1]


def _not_a_set(part: str) -> JobError:
    return JobError(
        f"{part[:100]!r} is not a GTID set: write uuid:1-5:7,… for MySQL, domain-server-number,… "
        "for MariaDB"
    )
