"""Row images of the log to tuples of the values that a SELECT gives.

Apart from `vecferry.io.mysql_cdc.log` because the log is about order, and this about values.

For each table map and each set of columns in an image, a generator function is written and
compiled. The function has one line for a column, and takes neighbouring columns of fixed sizes
together. Compiling takes a millisecond, so `Decoders` keeps the functions of a table.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

from vecferry.io.mysql_cdc import columns as t
from vecferry.io.mysql_cdc import fields
from vecferry.io.mysql_cdc.charsets import UTF8, decoder
from vecferry.io.mysql_cdc.columns import Column
from vecferry.io.mysql_cdc.events import Damaged
from vecferry.io.mysql_cdc.json_values import json_value


class Missing(Enum):
    """What stands in a row in place of a value that the log does not tell."""

    ABSENT = "absent"
    """The image leaves the column out."""
    PARTIAL = "partial"
    """A JSON document of which the log tells the difference only."""


ABSENT, PARTIAL = Missing.ABSENT, Missing.PARTIAL

Row = tuple[Any, ...]
Found = tuple[int, Row | None, Row | None]
Decode = Callable[[bytes, int, int, int, Callable[[Exception], Exception]], Iterator[Found]]
"""Takes an event, where its rows begin and end, and what to add to the places of rows. The last
part makes an error if the rows do not follow the form. Gives each row's place, before and after."""

INSERT, UPDATE, DELETE, PARTIAL_UPDATE = "insert", "update", "delete", "partial"

_FIXED = {
    t.TINY: (1, "b", "B"), t.SHORT: (2, "h", "H"), t.LONG: (4, "i", "I"), t.LONGLONG: (8, "q", "Q"),
    t.FLOAT: (4, "f", "f"), t.DOUBLE: (8, "d", "d"), t.YEAR: (1, "B", "B"),
}  # fmt: skip
_OLD_SIZES = {t.OLD_TIMESTAMP: 4, t.OLD_DATETIME: 8, t.OLD_TIME: 3}
_TEMPORAL = {
    t.TIMESTAMP: (4, fields.timestamp_of),
    t.DATETIME: (5, fields.datetime_of),
    t.TIME: (3, fields.time_of),
}


class _Fixed:
    """A column whose values have one size: how `struct` reads it, and what becomes of that."""

    def __init__(self, size: int, form: str, value: str) -> None:
        self.size, self.form, self.value = size, form, value


class _Writer:
    """Writes the function for the rows of one kind of image."""

    def __init__(
        self, types: Sequence[int], metas: Sequence[int], columns: Sequence[Column], short: bool
    ) -> None:
        self._types, self._metas, self._columns = types, metas, columns
        self._document = functools.partial(json_value, short=True) if short else json_value
        self.names: dict[str, Any] = {"ABSENT": ABSENT, "PARTIAL": PARTIAL}
        self._lines: list[str] = []
        self._careful = False
        self._before: dict[int, str] = {}

    def keep(self, value: object) -> str:
        """Gives a value a name in the function."""
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, kind: str, before: bytes, after: bytes, *, careful: bool) -> str:
        """The function's text: a generator of rows, or the one that takes one row with care."""
        self._careful = careful
        self._lines = []
        pad = "    " if careful else "                "
        images = "None", "None"
        if kind != INSERT:
            images = self._image(before, "b", pad, partial=False), images[1]
            self._before = {i: f"b{i}" for i in self._present(before)}
        if kind != DELETE:
            images = images[0], self._image(after, "a", pad, partial=kind == PARTIAL_UPDATE)
        body = "\n".join(self._lines)
        if careful:
            return f"def careful(b, at):\n{body}\n    return {images[0]}, {images[1]}, at\n"
        return (
            "def rows(b, at, end, base, explain):\n"
            "    try:\n"
            "        while at < end:\n"
            "            start = at\n"
            "            try:\n"
            f"{body}\n"
            f"                before, after = {images[0]}, {images[1]}\n"
            "            except UnicodeDecodeError:\n"
            "                before, after, at = careful(b, start)\n"
            "            if at > end or at == start:\n"
            "                raise IndexError('a row ends behind its event, or is empty')\n"
            "            yield base + start, before, after\n"
            "    except (IndexError, ValueError, OverflowError, StructError) as error:\n"
            "        raise explain(error) from error\n"
        )

    def _present(self, bitmap: bytes) -> list[int]:
        """The columns that an image has."""
        return [i for i in range(len(self._types)) if bitmap[i >> 3] >> (i & 7) & 1]

    def _image(self, bitmap: bytes, prefix: str, pad: str, *, partial: bool) -> str:
        """Adds the lines that read one image; gives the tuple of its values."""

        def say(line: str) -> None:
            self._lines.append(pad + line)

        present = self._present(bitmap)
        shown = ["ABSENT"] * len(self._types)
        if partial:
            documents = [i for i, kind in enumerate(self._types) if kind == t.JSON]
            size = (len(documents) + 7) // 8
            say("options, at = packed(b, at)")
            say("parts = 0")
            say("if options & 1:")
            say(f"    parts = number(b[at:at + {size}], 'little')")
            say(f"    at += {size}")
            self.names["packed"] = _packed
        width = (len(present) + 7) // 8
        if not width:
            return "(" + "".join(f"{v}, " for v in shown) + ")"
        say("nulls = b[at]" if width == 1 else f"nulls = number(b[at:at + {width}], 'little')")
        say(f"at += {width}")
        run: list[tuple[int, str, _Fixed]] = []
        for nth, column in enumerate(present):
            name = shown[column] = f"{prefix}{column}"
            fixed = self._fixed(column)
            if fixed is not None:
                run.append((nth, name, fixed))
                continue
            self._take(run, say)
            run = []
            say(f"if nulls & {1 << nth}:")
            say(f"    {name} = None")
            if partial and self._types[column] == t.JSON:
                say(f"elif parts & {1 << documents.index(column)}:")
                # A difference of no bytes: the document stays as it was.
                known = self._before.get(column, "ABSENT")
                say("    size = number(b[at:at + 4], 'little')")
                say("    at += 4 + size")
                say(f"    {name} = PARTIAL if size else {known}")
            say("else:")
            for line in self._varying(column, name):
                say("    " + line)
        self._take(run, say)
        return "(" + "".join(f"{v}, " for v in shown) + ")"

    def _take(self, run: list[tuple[int, str, _Fixed]], say: Callable[[str], None]) -> None:
        """Reads neighbouring columns of fixed sizes, at once where none is null."""
        if not run:
            return
        mask = sum(1 << nth for nth, _, _ in run)
        names = ", ".join(name for _, name, _ in run)
        form = struct.Struct("<" + "".join(f.form for _, _, f in run))
        say(f"if nulls & {mask}:")
        for nth, name, fixed in run:
            single = self.keep(struct.Struct("<" + fixed.form).unpack_from)
            say(f"    if nulls & {1 << nth}:")
            say(f"        {name} = None")
            say("    else:")
            say(f"        {name}, = {single}(b, at)")
            say(f"        at += {fixed.size}")
            if fixed.value != "{}":
                say(f"        {name} = {fixed.value.format(name)}")
        say("else:")
        say(f"    {names}, = {self.keep(form.unpack_from)}(b, at)")
        say(f"    at += {form.size}")
        for _, name, fixed in run:
            if fixed.value != "{}":
                say(f"    {name} = {fixed.value.format(name)}")

    def _fixed(self, at: int) -> _Fixed | None:
        """How a column of one size is read; None for columns of varying sizes."""
        kind, meta, column = self._types[at], self._metas[at], self._columns[at]
        if kind in (t.FLOAT, t.DOUBLE):
            size, form, _ = _FIXED[kind]
            if column.scale is not None:
                return _Fixed(size, form, f"{self.keep(fields.rounded(column.scale))}({{}})")
            return _Fixed(size, form, "float('%.6g' % {})" if kind == t.FLOAT else "{}")
        if kind == t.YEAR:
            return _Fixed(1, "B", "({0} + 1900 if {0} else 0)")
        if kind in _FIXED:
            size, signed, unsigned = _FIXED[kind]
            return _Fixed(size, unsigned if column.unsigned else signed, "{}")
        if kind == t.INT24:
            sign = "" if column.unsigned else ", signed=True"
            return _Fixed(3, "3s", f"number({{}}, 'little'{sign})")
        if kind in (t.DATE, t.NEWDATE):
            return _Fixed(3, "3s", f"{self.keep(fields.date)}({{}})")
        if kind in _TEMPORAL:
            size, temporal = _TEMPORAL[kind]
            size += (meta + 1) // 2
            return _Fixed(size, f"{size}s", f"{self.keep(temporal(meta))}({{}})")
        if kind in _OLD_SIZES:
            return self._old(kind, column)
        if kind == t.DECIMAL:
            precision, scale = meta >> 8, meta & 255
            size = fields.decimal_size(precision, scale)
            reader = fields.decimal(precision, scale)
            return _Fixed(size, f"{size}s", f"{self.keep(reader)}({{}})")
        if kind == t.BIT:
            size = (meta & 255) + bool(meta >> 8)
            return _Fixed(size, f"{size}s", "number({}, 'big')")
        if kind == t.ENUM:
            texts = self.keep(("", *column.members))
            return _Fixed(meta, "B" if meta == 1 else "H", f"{texts}[{{}}]")
        if kind == t.SET:
            return _Fixed(meta, f"{meta}s", f"{self.keep(_set_of(column.members))}({{}})")
        return None

    def _old(self, kind: int, column: Column) -> _Fixed:
        """A type of before MySQL 5.6, which MariaDB still makes if it is told to."""
        size, reader = _old_type(kind, column.digits)
        return _Fixed(size, f"{size}s", f"{self.keep(reader)}({{}})")

    def _varying(self, at: int, name: str) -> list[str]:
        """The lines that read a column whose values bring their sizes."""
        kind, meta = self._types[at], self._metas[at]
        if kind == t.NULL:
            return [f"{name} = None"]
        if kind in t.BLOBS or kind in (t.JSON, t.GEOMETRY, t.VECTOR):
            width = meta
        else:
            width = 1 if meta < 256 else 2
        sizes = {1: "b[at]", 2: "b[at] | b[at + 1] << 8"}
        size = sizes.get(width, f"number(b[at:at + {width}], 'little')")
        lines = [f"size = {size}", f"stop = at + {width} + size"]
        data = f"b[at + {width}:stop]"
        if kind in (t.BLOB_COMPRESSED, t.VARCHAR_COMPRESSED):
            data = f"{self.keep(_inflated)}({data})"
        return [*lines, f"{name} = {self._value(at, data)}", "at = stop"]

    def _value(self, at: int, data: str) -> str:
        """What makes a value of the bytes `data`."""
        kind, column = self._types[at], self._columns[at]
        if kind == t.JSON:
            return f"{self.keep(self._document)}({data})"
        if kind in (t.GEOMETRY, t.VECTOR):
            return data
        if column.data_type in _SPECIAL and kind == t.STRING:
            return (
                f"{self.keep(_SPECIAL[column.data_type])}({data}.ljust({self._metas[at]}, b'\\0'))"
            )
        charset = column.charset or "binary"
        if charset == "binary":
            return f"{data}.ljust({self._metas[at]}, b'\\0')" if kind == t.STRING else data
        if charset in UTF8 and not self._careful:
            return f"{data}.decode()"
        return f"{self.keep(decoder(charset))}({data})"


def compiled(
    kind: str,
    types: Sequence[int],
    metas: Sequence[int],
    columns: Sequence[Column],
    before: bytes,
    after: bytes,
    *,
    short_json: bool = False,
) -> Decode:
    """A function that decodes the rows of an event.

    Args:
      kind: `INSERT`, `UPDATE`, `DELETE` or `PARTIAL_UPDATE`.
      types: the types of the table map.
      metas: what belongs to each type.
      columns: the columns, as `resolved` gives them.
      before: the bits of the columns in the image before the change; empty for an insert.
      after: those of the image after the change; empty for a delete.
      short_json: see `json_value`.
    """
    writer = _Writer(types, metas, columns, short_json)
    names: dict[str, Any] = {"number": int.from_bytes, "StructError": struct.error}
    made: list[Any] = []

    def careful(b: bytes, at: int) -> tuple[Row | None, Row | None, int]:
        if not made:
            slow = _Writer(types, metas, columns, short_json)
            text = slow.function(kind, before, after, careful=True)
            there: dict[str, Any] = {"number": int.from_bytes, **slow.names}
            exec(compile(text, "<row of a change log>", "exec"), there)
            made.append(there["careful"])
        found: tuple[Row | None, Row | None, int] = made[0](b, at)
        return found

    text = writer.function(kind, before, after, careful=False)
    names |= writer.names | {"careful": careful}
    exec(compile(text, "<rows of a change log>", "exec"), names)
    decode: Decode = names["rows"]
    return decode


def _packed(b: bytes, at: int) -> tuple[int, int]:
    """A packed number, and where it ends."""
    first = b[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}.get(first)
    if size is None:
        raise ValueError(f"a packed number begins with {first}")
    return int.from_bytes(b[at + 1 : at + 1 + size], "little"), at + 1 + size


def _set_of(members: Sequence[str]) -> Callable[[bytes], str]:
    """Reads a SET: a bit for each member."""
    known: dict[bytes, str] = {}

    def read(data: bytes) -> str:
        text = known.get(data)
        if text is None:
            bits = int.from_bytes(data, "little")
            if bits >> len(members):
                raise ValueError(f"a SET with {len(members)} members has the bits {bits:b}")
            text = ",".join(m for i, m in enumerate(members) if bits >> i & 1)
            if len(known) < 4096:
                known[data] = text
        return text

    return read


def _inflated(data: bytes) -> bytes:
    """The contents of a compressed column of MariaDB."""
    if not data:
        return data
    way, width = data[0] >> 4, data[0] & 7
    if way == 0:
        return data[1:]
    if way != 8:
        raise Damaged(f"a column is compressed in the unknown way {way}")
    size = int.from_bytes(data[1 : 1 + width], "big")
    raw = -15 if data[0] & 8 else 15
    try:
        found = zlib.decompressobj(raw).decompress(data[1 + width :], size + 1)
    except zlib.error as e:
        raise Damaged(f"a compressed column can't be unpacked: {e}") from e
    if len(found) != size:
        raise Damaged(f"a compressed column of {size} bytes holds {len(found)}")
    return found


def _inet6(data: bytes) -> str:
    """An address as MariaDB writes it: also a single zero is left out, unlike in RFC 5952."""
    words = struct.unpack(">8H", data)
    begin = length = 0
    at = 0
    while at < 8:
        end = at
        while end < 8 and not words[end]:
            end += 1
        if end - at > length:
            begin, length = at, end - at
        at = end + 1
    shown = [f"{word:x}" for word in words]
    if not begin and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        shown[6:] = [_inet4(data[12:])]
    if not length:
        return ":".join(shown)
    return f"{':'.join(shown[:begin])}::{':'.join(shown[begin + length :])}"


def _inet4(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))


_SPECIAL: dict[str, Callable[[bytes], str]] = {"inet6": _inet6, "inet4": _inet4, "uuid": _uuid}


def _old_type(kind: int, digits: int) -> tuple[int, fields.Convert]:
    if digits:
        whole = {t.OLD_TIMESTAMP: 4, t.OLD_DATETIME: 5, t.OLD_TIME: 3}[kind]
        return fields.old_part_size(whole, digits), fields.old_parts(kind, digits)
    if kind == t.OLD_TIMESTAMP:
        return 4, fields.old_timestamp
    if kind == t.OLD_DATETIME:
        return 8, fields.old_datetime
    return 3, fields.old_time
