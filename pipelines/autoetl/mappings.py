"""A table mapped into an index, as the calls ``sync_by_map`` and ``sync_by_table`` say it."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.errors import JobError
from vecferry.pipelines.autoetl.tokens import Reader, quoted

MAP_FORM = '"idx.f(db.t.c),…"'
KEY_FORM = '"idx.id=db.t.id"'
TABLE_FORM = "db.t"


@dataclass(frozen=True)
class Item:
    """What fills a field: a column of the table, or an expression of SQL over its columns.

    Attributes:
      field: the field of the index.
      column: the name of the value in a row.
      expression: what is computed; None where `column` is a column of the table.
    """

    field: str
    column: str
    expression: str | None = None


@dataclass(frozen=True)
class TableMapping:
    """One table into one index.

    Attributes:
      index: the index.
      database: the database of the table; None for that of the data source.
      table: the table.
      items: what fills each field; empty where every column fills the field of its name.
      keys: the columns that make up the id of a document, as rows name them; empty where they are
        those of the table's primary key.
      where: a condition that rows meet, as SQL; None where all rows go into the index.
    """

    index: str
    database: str | None
    table: str
    items: tuple[Item, ...]
    keys: tuple[str, ...] = ()
    where: str | None = None

    @property
    def table_name(self) -> str:
        """The table with its database, as a job names it."""
        names = [self.database, self.table] if self.database else [self.table]
        return ".".join(map(quoted, names))


def by_map(fields: str, keys: str, fourth: str = "", fifth: str = "") -> TableMapping:
    """The mapping of ``sync_by_map``: fields with their columns, keys, and two empty texts.

    Raises JobError with every problem that is found.
    """
    where = "sync_by_map"
    for text, number in ((fourth, "fourth"), (fifth, "fifth")):
        if text.strip():
            raise JobError(
                f"{where}: the {number} argument after the target's is not empty, and its form is "
                'not public: leave it empty (""), and map one table'
            )
    mapped = _fields(Reader(fields, f"{where}, the fields"))
    made = _keys(Reader(keys, f"{where}, the keys"))
    _require_one(where, "index", {index for index, _, _ in (*mapped, *made)})
    _require_one(where, "table", {".".join(column[:2]) for _, _, column in (*mapped, *made)})
    index, _, (database, table, _) = mapped[0]
    items = tuple(Item(field, column) for _, field, (_, _, column) in mapped)
    _require_distinct(where, [item.field for item in items])
    for _, field, (_, _, column) in made:
        other = next((i.column for i in items if i.field == field), column)
        if other != column:
            raise JobError(
                f"{where}: field {field!r} is filled from {other!r}, and the key says {column!r}: "
                "make both the same"
            )
    names = tuple(dict.fromkeys(column for _, _, (_, _, column) in made))
    return TableMapping(index, database, table, items, names)


def by_table(table: str, index: str, columns: str, keys: str = "") -> TableMapping:
    """The mapping of ``sync_by_table``: a table, an index, and columns, which may be all (empty).

    `keys` are the columns of the id, where the table's primary key is not asked for.
    """
    where = "sync_by_table"
    database, name = table_in(table, f"{where}, the table")
    names = column_names(columns, f"{where}, the columns")
    _require_distinct(where, names)
    made = column_names(keys, f"{where}, --key")
    target = Reader(index, f"{where}, the index")
    path = target.path("the name of an index")
    if target.next is not None:
        target.fail("the end", "the name of one index")
    items = tuple(Item(name, name) for name in names)
    return TableMapping(".".join(path), database, name, items, tuple(made))


def table_in(text: str, where: str) -> tuple[str | None, str]:
    """Database and table of ``db.t`` or ``t``."""
    reader = Reader(text, where)
    path = reader.path(TABLE_FORM)
    if reader.next is not None and reader.next.is_sign(","):
        raise JobError(f"{where}: several tables (a join) are not read: write a call for each")
    if reader.next is not None or len(path) > 2:
        raise JobError(f"{where}: {text!r} does not name one table: write {TABLE_FORM}")
    return (path[0], path[1]) if len(path) == 2 else (None, path[0])


def column_names(text: str, where: str) -> list[str]:
    """The names in ``c1,c2``; none where the text is empty."""
    reader = Reader(text, where)
    names: list[str] = []
    while reader.next is not None:
        names.append(reader.name("c1,c2"))
        if reader.next is not None:
            reader.need_sign(",", "c1,c2")
    return names


def _fields(reader: Reader) -> list[tuple[str, str, list[str]]]:
    """Index, field and column of each ``idx.f(db.t.c)``."""
    found = []
    while True:
        index, field = _field(reader, MAP_FORM)
        reader.need_sign("(", MAP_FORM)
        column = _column(reader, MAP_FORM)
        reader.need_sign(")", MAP_FORM)
        found.append((index, field, column))
        if reader.next is None:
            return found
        reader.need_sign(",", MAP_FORM)


def _keys(reader: Reader) -> list[tuple[str, str, list[str]]]:
    """Index, field and column of each ``idx.id=db.t.id``."""
    found = []
    while True:
        index, field = _field(reader, KEY_FORM)
        reader.need_sign("=", KEY_FORM)
        found.append((index, field, _column(reader, KEY_FORM)))
        if reader.next is None:
            return found
        reader.need_sign(",", KEY_FORM)


def _field(reader: Reader, form: str) -> tuple[str, str]:
    """Index and field; what follows the index may itself have dots."""
    index, *field = reader.path(form)
    if not field:
        raise JobError(f"{reader.where}: {index!r} names no field of an index: write {form}")
    return index, ".".join(field)


def _column(reader: Reader, form: str) -> list[str]:
    """Database, table and column."""
    path = reader.path(form)
    if len(path) != 3:
        raise JobError(
            f"{reader.where}: {'.'.join(path)!r} does not name database, table and column: "
            f"write {form}"
        )
    return path


def _require_one(where: str, what: str, names: set[str]) -> None:
    if len(names) == 1:
        return
    shown = ", ".join(sorted(names))
    if what == "table":
        raise JobError(
            f"{where}: it joins several tables ({shown}), which are not read together; join them "
            "in the database into a table, or map each into an index of its own"
        )
    raise JobError(f"{where}: it fills several indexes ({shown}): write a call for each")


def _require_distinct(where: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise JobError(f"{where}: field {twice[0]!r} is filled twice: leave one out")
