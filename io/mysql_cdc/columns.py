"""The columns of a logged table: what its table map tells, and what a catalog adds.

A table map always tells types. With `binlog_row_metadata=FULL` it tells names, character sets,
signs and the texts of enums as well; without, a catalog must, and is checked against the types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vecferry.io.mysql_cdc.charsets import decoder
from vecferry.io.mysql_cdc.events import Bytes, Damaged
from vecferry.io.tables.database import Refused

TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, OLD_TIMESTAMP = 1, 2, 3, 4, 5, 6, 7
LONGLONG, INT24, DATE, OLD_TIME, OLD_DATETIME, YEAR, NEWDATE = 8, 9, 10, 11, 12, 13, 14
VARCHAR, BIT, TIMESTAMP, DATETIME, TIME = 15, 16, 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141
VECTOR, JSON, DECIMAL, ENUM, SET = 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = range(249, 256)

_META_SIZES = {
    **dict.fromkeys((FLOAT, DOUBLE, TIMESTAMP, DATETIME, TIME, JSON, GEOMETRY, VECTOR), 1),
    **dict.fromkeys((BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED), 1),
    **dict.fromkeys((VARCHAR, VAR_STRING, STRING, ENUM, SET, DECIMAL, BIT, VARCHAR_COMPRESSED), 2),
    **dict.fromkeys((TINY, SHORT, LONG, NULL, LONGLONG, INT24, DATE, YEAR, NEWDATE), 0),
    **dict.fromkeys((OLD_TIMESTAMP, OLD_TIME, OLD_DATETIME), 0),
}
_NUMERIC = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, FLOAT, DOUBLE, DECIMAL, YEAR})
TEXTS = frozenset({VARCHAR, VAR_STRING, STRING, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB})
TEXTS |= {BLOB_COMPRESSED, VARCHAR_COMPRESSED}
BLOBS = frozenset({BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED})

_GEOMETRIES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geomcollection", "geometrycollection",
)  # fmt: skip
_TYPES: dict[str, frozenset[int]] = {
    "tinyint": frozenset({TINY}), "smallint": frozenset({SHORT}), "mediumint": frozenset({INT24}),
    "int": frozenset({LONG}), "bigint": frozenset({LONGLONG}), "float": frozenset({FLOAT}),
    "double": frozenset({DOUBLE}), "decimal": frozenset({DECIMAL}), "year": frozenset({YEAR}),
    "date": frozenset({DATE, NEWDATE}), "time": frozenset({TIME, OLD_TIME}),
    "datetime": frozenset({DATETIME, OLD_DATETIME}), "bit": frozenset({BIT}),
    "timestamp": frozenset({TIMESTAMP, OLD_TIMESTAMP}), "json": frozenset({JSON}),
    "char": frozenset({STRING}), "binary": frozenset({STRING}), "enum": frozenset({ENUM}),
    "set": frozenset({SET}), "vector": frozenset({VECTOR, BLOB, VARCHAR}),
    **dict.fromkeys(("inet4", "inet6", "uuid"), frozenset({STRING})),
    **dict.fromkeys(("varchar", "varbinary"), frozenset({VARCHAR, VAR_STRING, VARCHAR_COMPRESSED})),
    **dict.fromkeys(("tinytext", "text", "mediumtext", "longtext"), BLOBS),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), BLOBS),
    **dict.fromkeys(_GEOMETRIES, frozenset({GEOMETRY})),
}  # fmt: skip
"""The types of a table map for the `data_type` of information_schema."""
_LENGTH_BYTES = {"tiny": 1, "text": 2, "blob": 2, "medi": 3, "long": 4}
BYTE_TYPES = frozenset(
    {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "inet4", "inet6", "uuid"}
)


class ColumnsDiffer(Refused):
    """The description of a table does not fit its logged rows; `table` is `(schema, name)`."""

    def __init__(
        self, message: str, reason: str = "columns-differ", table: tuple[str, str] = ("", "")
    ) -> None:
        super().__init__(message, reason)
        self.table = table

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.reason, self.table)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as information_schema describes it.

    Attributes:
      name: the name, as it is written in the table.
      data_type: `data_type` in small letters, such as ``varchar``.
      unsigned: whether a number has no sign.
      charset: `character_set_name`; None for what is not text. `binary` for bytes.
      members: the texts of an enum or set, in order.
      scale: `numeric_scale`, the digits behind the point: a FLOAT(7, 3) has 3, a FLOAT has None.
      octets: `character_octet_length`, or None if it is not to be checked.
      digits: `datetime_precision`, the digits of a second.
      generated: whether the value is computed from other columns.
    """

    name: str
    data_type: str
    unsigned: bool = False
    charset: str | None = None
    members: tuple[str, ...] = ()
    scale: int | None = None
    octets: int | None = None
    digits: int = 0
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table in their order in the table, hidden ones included.

    `key` are the places of the columns of the primary key, where that is known. Without columns,
    the table map alone must tell them. No table map tells the digits of a FLOAT(7, 3), or that
    bytes are an INET6 or UUID. So give the columns wherever they are known.
    """

    columns: tuple[Column, ...] = ()
    key: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(c.name for c in self.columns)


@dataclass(frozen=True, slots=True)
class TableMap:
    """What a TABLE_MAP event says.

    `types` are the real types, `metas` what belongs to each: a length, or digits. `unsigned`,
    `charsets` (by the numbers of collations), `members` and `names` are there as far as the server
    logs them. `members` are in the bytes of the column's character set.
    """

    schema: str
    table: str
    types: tuple[int, ...]
    metas: tuple[int, ...]
    unsigned: tuple[bool, ...] | None = None
    collations: Mapping[int, int] = field(default_factory=dict)
    members: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    key: tuple[int, ...] | None = None


def names_of(event: bytes) -> tuple[str, str]:
    """The schema and the table of a TABLE_MAP event, without reading the rest."""
    size = event[27]
    at = 28 + size
    return (
        event[28:at].decode("utf-8", "backslashreplace"),
        event[at + 2 : at + 2 + event[at + 1]].decode("utf-8", "backslashreplace"),
    )


def table_map(event: bytes) -> TableMap:
    """Reads a TABLE_MAP event; raises `Damaged`."""
    body = Bytes(event)
    body.take(8)
    schema = body.text(body.number(1))
    body.take(1)
    table = body.text(body.number(1))
    body.take(1)
    count = body.packed()
    given = body.take(count)
    meta = Bytes(body.take(body.packed()), 0)
    types, metas = [], []
    for kind in given:
        if kind not in _META_SIZES:
            raise ColumnsDiffer(
                f"{schema}.{table} has a column of a type that this version does not know "
                f"(number {kind}): change the column's type, or leave the table out",
                table=(schema, table),
            )
        known, value = _real(kind, meta.take(_META_SIZES[kind]))
        if not _sound(known, value):
            raise Damaged(f"{schema}.{table} has a column of type {known} with {value}")
        types.append(known)
        metas.append(value)
    body.take((count + 7) // 8)
    return _Optional(schema, table, tuple(types), tuple(metas)).read(body)


def _real(kind: int, meta: bytes) -> tuple[int, int]:
    """The real type of a column, and its length or digits."""
    if kind == STRING:
        first, size = meta
        if first & 0x30 != 0x30:  # two bits of a long length stand in the type
            return first | 0x30, size | ((first & 0x30) ^ 0x30) << 4
        return first, size
    if kind in (ENUM, SET):
        return kind, meta[1]
    if kind in (DECIMAL, BIT):  # two numbers of a byte each
        return kind, int.from_bytes(meta, "big")
    return kind, int.from_bytes(meta, "little")


def _sound(kind: int, meta: int) -> bool:
    """Whether the length or the digits of a type can be."""
    if kind in BLOBS or kind in (JSON, GEOMETRY, VECTOR):
        return 1 <= meta <= 4
    if kind in (TIMESTAMP, DATETIME, TIME):
        return meta <= 6
    if kind == DECIMAL:
        return 1 <= meta >> 8 <= 65 and meta & 255 <= meta >> 8
    if kind == BIT:
        return meta & 255 <= 8 and meta >> 8 <= 7
    if kind in (ENUM, SET):
        return 1 <= meta <= (2 if kind == ENUM else 8)
    return True


class _Optional:
    """Reads the parts of a table map that not each server logs."""

    def __init__(
        self, schema: str, table: str, types: tuple[int, ...], metas: tuple[int, ...]
    ) -> None:
        self._found = TableMap(schema, table, types, metas)
        self._texts = self._at(TEXTS - {BLOB_COMPRESSED, VARCHAR_COMPRESSED})
        if BLOB_COMPRESSED in types or VARCHAR_COMPRESSED in types:
            self._texts = self._at(TEXTS)
        self._choices = self._at(frozenset({ENUM, SET}))

    def _at(self, kinds: frozenset[int]) -> list[int]:
        return [i for i, kind in enumerate(self._found.types) if kind in kinds]

    def read(self, body: Bytes) -> TableMap:
        """All parts; those of unknown numbers are passed over, as the format says."""
        while body.at < body.end:
            kind = body.number(1)
            part = Bytes(body.take(body.packed()), 0)
            if kind == 1:
                self._signs(part)
            elif kind in (2, 10):
                self._default(part, self._texts if kind == 2 else self._choices)
            elif kind in (3, 11):
                self._each(part, self._texts if kind == 3 else self._choices)
            elif kind == 4:
                self._named(part)
            elif kind in (5, 6):
                self._listed(part, SET if kind == 5 else ENUM)
            elif kind in (8, 9):
                self._keyed(part, kind == 9)
        return self._found

    def _signs(self, part: Bytes) -> None:
        numbers = self._at(_NUMERIC)
        bits = part.rest()
        if len(bits) * 8 < len(numbers):
            raise Damaged("a table map with fewer signs than numbers")
        signs = [False] * len(self._found.types)
        for nth, column in enumerate(numbers):
            signs[column] = bool(bits[nth >> 3] & 0x80 >> (nth & 7))
        self._found = replace(self._found, unsigned=tuple(signs))

    def _default(self, part: Bytes, places: list[int]) -> None:
        found = dict.fromkeys(places, part.packed())
        while part.at < part.end:
            nth, collation = part.packed(), part.packed()
            if nth < len(places):
                found[places[nth]] = collation
        self._found = replace(self._found, collations={**self._found.collations, **found})

    def _each(self, part: Bytes, places: list[int]) -> None:
        found = {column: part.packed() for column in places if part.at < part.end}
        self._found = replace(self._found, collations={**self._found.collations, **found})

    def _named(self, part: Bytes) -> None:
        names = tuple(part.text(part.packed()) for _ in self._found.types)
        self._found = replace(self._found, names=names)

    def _listed(self, part: Bytes, kind: int) -> None:
        found = {
            column: tuple(part.take(part.packed()) for _ in range(part.packed()))
            for column in self._at(frozenset({kind}))
        }
        self._found = replace(self._found, members={**self._found.members, **found})

    def _keyed(self, part: Bytes, prefixes: bool) -> None:
        key = []
        while part.at < part.end:
            key.append(part.packed())
            if prefixes:
                part.packed()
        self._found = replace(self._found, key=tuple(key))


def resolved(logged: TableMap, given: Columns, charsets: Mapping[int, str]) -> Columns:
    """The columns of a table map, each with all that its values need.

    Args:
      logged: the table map. What it tells wins.
      given: the catalog's description. Its columns are matched by name where the log has names,
        else by their order.
      charsets: the name of the character set for the number of each collation.

    Raises:
      ColumnsDiffer: the two do not fit, or something is told by neither.
    """
    title, pair = f"{logged.schema}.{logged.table}", (logged.schema, logged.table)
    by_name = {c.name: c for c in given.columns}
    if logged.names is None and len(given.columns) != len(logged.types):
        raise ColumnsDiffer(
            f"{title}: the logged rows have {len(logged.types)} columns, and the description "
            f"{len(given.columns)}; the table was changed in between, so give the description of "
            "that time, or set binlog_row_metadata=FULL at the server",
            table=pair,
        )
    found = []
    for at, kind in enumerate(logged.types):
        known: Column | None
        if logged.names is None:
            known = given.columns[at]
        else:
            known = by_name.get(logged.names[at])
        if known is not None and not _fits(known, kind, logged.metas[at]):
            if logged.names is None:
                raise ColumnsDiffer(
                    f"{title}: column {known.name!r} is {known.data_type} in the description, and "
                    f"the logged rows have type {kind} there; the table was changed in between, so "
                    "give the description of that time, or set binlog_row_metadata=FULL at the "
                    "server",
                    table=pair,
                )
            known = None
        found.append(_column(logged, at, known, charsets))
    return Columns(tuple(found), logged.key if logged.key is not None else given.key)


def _fits(column: Column, kind: int, meta: int) -> bool:
    """Whether a described column can have the logged type."""
    if kind not in _TYPES.get(column.data_type, frozenset({kind})):
        return False
    if kind == BLOB and column.data_type in _TYPES and column.data_type != "vector":
        return meta == _LENGTH_BYTES[column.data_type[:4]]
    if kind == DECIMAL and column.scale is not None:
        return meta & 255 == column.scale
    if kind in (TIMESTAMP, DATETIME, TIME):
        return meta == column.digits
    if kind in (STRING, VARCHAR) and column.octets is not None:
        return meta == column.octets
    if kind == ENUM and column.members:
        return meta == (1 if len(column.members) < 256 else 2)
    if kind == SET and column.members:
        size = (len(column.members) + 7) // 8
        return meta == (8 if size > 4 else size)
    return True


def _column(logged: TableMap, at: int, known: Column | None, charsets: Mapping[int, str]) -> Column:
    kind, meta = logged.types[at], logged.metas[at]
    name = known.name if known or logged.names is None else logged.names[at]  # type: ignore[union-attr]
    charset = known.charset if known else None
    if at in logged.collations:
        number = logged.collations[at]
        if number not in charsets:
            raise ColumnsDiffer(
                f"{logged.schema}.{logged.table}: column {name!r} has a collation that the server "
                f"does not list (number {number})",
                table=(logged.schema, logged.table),
            )
        charset = charsets[number]
    elif charset is None and kind in TEXTS:
        charset = "binary" if known and known.data_type in BYTE_TYPES else None
    if charset is None and kind in TEXTS:
        raise ColumnsDiffer(
            f"{logged.schema}.{logged.table}: nothing tells the character set of column {name!r}: "
            "give a description of the table, or set binlog_row_metadata=FULL at the server",
            table=(logged.schema, logged.table),
        )
    if known is None and kind in (OLD_TIMESTAMP, OLD_TIME, OLD_DATETIME):
        raise ColumnsDiffer(
            f"{logged.schema}.{logged.table}: nothing tells the digits of a second of column "
            f"{name!r}, in the form of old servers: give a description of the table",
            table=(logged.schema, logged.table),
        )
    members = known.members if known else ()
    if at in logged.members and (charset is not None or not members):
        decode = decoder(charset or "utf8mb4")
        members = tuple(str(decode(m)) for m in logged.members[at])
    unsigned = known.unsigned if known else False
    return Column(
        name=name,
        data_type=known.data_type if known else _data_type(kind, charset),
        unsigned=logged.unsigned[at] if logged.unsigned else unsigned,
        charset=charset,
        members=members,
        scale=meta & 255 if kind == DECIMAL else known.scale if known else None,
        octets=known.octets if known else None,
        digits=meta if kind in (TIMESTAMP, DATETIME, TIME) else known.digits if known else 0,
        generated=known.generated if known else False,
    )


_NAMES = {
    TINY: "tinyint", SHORT: "smallint", INT24: "mediumint", LONG: "int", LONGLONG: "bigint",
    FLOAT: "float", DOUBLE: "double", DECIMAL: "decimal", YEAR: "year", DATE: "date",
    NEWDATE: "date", TIME: "time", OLD_TIME: "time", DATETIME: "datetime", BIT: "bit",
    OLD_DATETIME: "datetime", TIMESTAMP: "timestamp", OLD_TIMESTAMP: "timestamp", JSON: "json",
    ENUM: "enum", SET: "set", GEOMETRY: "geometry", VECTOR: "vector",
}  # fmt: skip


def _data_type(kind: int, charset: str | None) -> str:
    """A type as information_schema names it, as far as the log tells."""
    if kind in _NAMES:
        return _NAMES[kind]
    if kind in BLOBS:
        return "blob" if charset == "binary" else "text"
    if kind == STRING:
        return "binary" if charset == "binary" else "char"
    return "varbinary" if charset == "binary" else "varchar"


def described(rows: Sequence[Mapping[str, str | None]]) -> Columns:
    """The columns of a table from rows of information_schema.columns, in their order.

    The keys of a row are the names of that view's columns in small letters: `column_name`,
    `data_type`, `column_type`, `character_set_name`, `character_octet_length`, `numeric_scale`,
    `datetime_precision`, `extra`.
    """
    return Columns(tuple(_described(row) for row in rows))


def _described(row: Mapping[str, str | None]) -> Column:
    kind, whole = str(row["data_type"]).lower(), str(row["column_type"])
    numbers = {
        name: None if row.get(name) is None else int(str(row[name]))
        for name in ("numeric_scale", "character_octet_length", "datetime_precision")
    }
    extra = str(row.get("extra") or "").upper()
    return Column(
        name=str(row["column_name"]),
        data_type=kind,
        unsigned="unsigned" in whole.lower().partition("'")[0],
        charset=row.get("character_set_name") or ("binary" if kind in BYTE_TYPES else None),
        members=members_of(whole) if kind in ("enum", "set") else (),
        scale=numbers["numeric_scale"],
        octets=numbers["character_octet_length"],
        digits=numbers["datetime_precision"] or 0,
        generated="GENERATED" in extra and "DEFAULT_GENERATED" not in extra,
    )


def members_of(column_type: str) -> tuple[str, ...]:
    """The texts of ``enum('a','it''s')``."""
    found, text, at = [], "", column_type.find("'") + 1
    while 0 < at < len(column_type):
        if column_type[at] != "'":
            text += column_type[at]
            at += 1
        elif column_type[at : at + 2] == "''":
            text += "'"
            at += 2
        else:
            found.append(text)
            text, at = "", column_type.find("'", at + 1) + 1
    return tuple(found)
