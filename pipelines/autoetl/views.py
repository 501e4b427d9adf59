"""``CREATE SEARCH VIEW``: a SELECT from one table, as the mapping of the table into an index.

Apart from `vecferry.pipelines.autoetl.mappings` because a view is a statement of SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from vecferry.errors import JobError, near, shorten
from vecferry.pipelines.autoetl.mappings import Item, TableMapping
from vecferry.pipelines.autoetl.tokens import Reader, Token, split_at

FORM = "CREATE SEARCH VIEW v [(c, …, PRIMARY KEY (c))] AS SELECT … FROM db.t [WHERE …]"
_SELECTED = "SELECT c, expression AS name, … FROM db.t"
_NOT_IN_SELECT = {
    "GROUP": "GROUP BY puts rows together",
    "HAVING": "HAVING puts rows together",
    "ORDER": "ORDER BY means nothing to an index",
    "LIMIT": "LIMIT means nothing to rows that change",
    "UNION": "UNION reads several tables",
    "EXCEPT": "EXCEPT reads several tables",
    "INTERSECT": "INTERSECT reads several tables",
    "WINDOW": "WINDOW compares rows with each other",
    "WITH": "WITH gives options of AutoETL's own, which are set by --set here",
    "FOR": "FOR locks rows",
    "INTO": "INTO writes elsewhere",
}
_JOINS = ("JOIN", "INNER", "LEFT", "RIGHT", "CROSS", "NATURAL", "STRAIGHT_JOIN", "FULL")
_OVER_ROWS = frozenset(
    {
        "AVG", "BIT_AND", "BIT_OR", "BIT_XOR", "COUNT", "GROUP_CONCAT", "JSON_ARRAYAGG",
        "JSON_OBJECTAGG", "MAX", "MIN", "STD", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "SUM",
        "VAR_POP", "VAR_SAMP", "VARIANCE",
    }
)  # fmt: skip
"""Functions over several rows."""
_NOT_AN_ALIAS = ("END", "NULL", "TRUE", "FALSE")


class _View:
    """Reads one statement."""

    def __init__(self, statement: str) -> None:
        self.where = "sync_by_view"
        self._reader = Reader(statement.strip().rstrip(";"), self.where)
        self._key: list[str] = []

    def mapping(self) -> TableMapping:
        """The mapping that the statement makes."""
        reader = self._reader
        reader.need_word("CREATE", FORM)
        reader.need_word("SEARCH", FORM)
        reader.need_word("VIEW", FORM)
        if reader.takes_word("IF"):
            reader.need_word("NOT", FORM)
            reader.need_word("EXISTS", FORM)
        index = reader.path(FORM)[-1]
        names = self._named() if reader.takes_sign("(") else []
        if reader.next is not None and reader.next.is_word("WITH"):
            self._refuse("WITH")
        reader.need_word("AS", FORM)
        reader.need_word("SELECT", FORM)
        if reader.takes_word("DISTINCT", "DISTINCTROW"):
            self._fail("DISTINCT compares rows with each other", "select all rows")
        selected = self._until("FROM")
        reader.need_word("FROM", _SELECTED)
        database, table, alias = self._table()
        condition = self._condition()
        qualifiers = _qualifiers(database, table, alias)
        items = self._items(selected, names, qualifiers)
        where = self._written(condition, qualifiers) if condition else None
        return TableMapping(index, database, table, items, self._keys(items), where)

    def _named(self) -> list[str]:
        """The columns of the view; the columns of its primary key are kept aside."""
        reader, names = self._reader, []
        while True:
            token = reader.next
            if token is not None and token.is_word("PRIMARY"):
                reader.take()
                reader.need_word("KEY", FORM)
                reader.need_sign("(", FORM)
                self._key.append(reader.name(FORM))
                while reader.takes_sign(","):
                    self._key.append(reader.name(FORM))
                reader.need_sign(")", FORM)
                if reader.takes_word("NOT"):
                    reader.need_word("ENFORCED", FORM)
            else:
                names.append(reader.name(FORM))
                after = reader.next
                if after is not None and after.is_name:
                    self._fail(
                        f"{names[-1]!r} has a type ({after.written})",
                        "name the column alone, for the index knows its type",
                    )
            if reader.takes_sign(")"):
                return names
            reader.need_sign(",", FORM)

    def _until(self, *words: str) -> list[Token]:
        """The tokens before one of these words that stands in no bracket, or before the end."""
        found: list[Token] = []
        depth = 0
        while (token := self._reader.next) is not None:
            if depth == 0 and token.is_word(*words):
                break
            depth += token.is_sign("(") - token.is_sign(")")
            found.append(self._reader.take())
        if depth:
            self._fail("its brackets are not closed", "close each bracket")
        return found

    def _table(self) -> tuple[str | None, str, str | None]:
        """Database, table and the table's name in the statement."""
        reader = self._reader
        if reader.takes_sign("("):
            self._fail("it selects from a query", "select from one table")
        path = reader.path(_SELECTED)
        if len(path) > 2:
            self._fail(f"{'.'.join(path)!r} is not the name of a table", "write db.t")
        alias = None
        token = reader.next
        joined = token is not None and (token.is_sign(",") or token.is_word(*_JOINS))
        if not joined and token is not None and not token.is_word("WHERE", *_NOT_IN_SELECT):
            reader.takes_word("AS")
            alias = reader.name("db.t AS t")
            token = reader.next
            joined = token is not None and (token.is_sign(",") or token.is_word(*_JOINS))
        if joined:
            self._fail(
                "it joins several tables, which are not read together",
                "join them into a table of the database, or map each into an index of its own",
            )
        return (path[0] if len(path) == 2 else None), path[-1], alias

    def _condition(self) -> list[Token]:
        """The tokens behind WHERE; none without a condition."""
        reader = self._reader
        condition: list[Token] = []
        if reader.takes_word("WHERE"):
            condition = self._until(*_NOT_IN_SELECT)
            if not condition:
                self._fail("nothing stands behind WHERE", "write a condition, or leave WHERE out")
        if reader.next is not None:
            self._refuse(reader.next.written.upper())
        return condition

    def _items(
        self, selected: list[Token], names: list[str], qualifiers: set[tuple[str, ...]]
    ) -> tuple[Item, ...]:
        """What the statement selects, by field; none for all columns."""
        parts = split_at(selected, ",")
        if len(parts) == 1 and _is_star(parts[0], qualifiers):
            if names:
                self._fail(
                    "it names columns and selects *", "select each column, in the same order"
                )
            return ()
        items = [self._item(part, qualifiers) for part in parts]
        if names and len(names) != len(items):
            self._fail(
                f"it names {len(names)} columns and selects {len(items)}",
                "make both the same number",
            )
        fields = names or [name or "" for _, name in items]
        made = []
        for field, (value, _), part in zip(fields, items, parts, strict=True):
            if not field:
                shown = shorten(self._written(part, qualifiers), 40)
                self._fail(f"{shown!r} has no name", f"write {shown} AS name")
            if isinstance(value, str):
                made.append(Item(field, value))
            else:
                made.append(Item(field, field, self._written(value, qualifiers)))
        return self._distinct(made)

    def _distinct(self, items: list[Item]) -> tuple[Item, ...]:
        """Items whose fields differ, and whose values have names of their own in a row."""
        fields = [item.field for item in items]
        for field in fields:
            if fields.count(field) > 1:
                self._fail(f"field {field!r} is filled twice", "give one of them another name")
        plain = {item.column for item in items if item.expression is None}
        return tuple(
            Item(item.field, f"{item.column}_", item.expression)
            if item.expression is not None and item.column in plain
            else item
            for item in items
        )

    def _item(
        self, part: list[Token], qualifiers: set[tuple[str, ...]]
    ) -> tuple[str | list[Token], str | None]:
        """The column that is selected, or the tokens of an expression; and its name, if any."""
        if not part:
            self._fail("nothing stands between two commas", f"write {_SELECTED}")
        if _is_star(part, qualifiers):
            self._fail("it selects * beside others", "select each column, or * alone")
        value, name = part, None
        if len(part) > 2 and part[-2].is_word("AS") and part[-1].kind != "sign":
            value, name = part[:-2], _alias(part[-1])
        elif len(part) > 1 and part[-1].is_name and _ends_value(part[-2], part[-1]):
            value, name = part[:-1], part[-1].name
        column = _column(value, qualifiers)
        if column is not None:
            return column, name or column
        return value, name

    def _keys(self, items: tuple[Item, ...]) -> tuple[str, ...]:
        """The columns of the primary key, as rows name them."""
        if not items:
            return tuple(self._key)
        by_field = {item.field: item for item in items}
        for field in self._key:
            if field not in by_field:
                self._fail(
                    f"PRIMARY KEY names {field!r}, which is not selected{near(field, by_field)}",
                    f"name one of {', '.join(by_field)}",
                )
            if by_field[field].expression is not None:
                self._fail(
                    f"PRIMARY KEY names {field!r}, which is an expression",
                    "make the key of columns of the table, for a delete tells these alone",
                )
        return tuple(by_field[field].column for field in self._key)

    def _written(self, tokens: Sequence[Token], qualifiers: set[tuple[str, ...]]) -> str:
        """The SQL of tokens, without the names of the table before those of columns."""
        self._require_row_by_row(tokens)
        out, at, end = "", 0, -1
        while at < len(tokens):
            begin = tokens[at].begin
            at += _qualified(tokens, at, qualifiers)
            out += " " if 0 <= end < begin else ""  # for a comment as well
            out += tokens[at].written
            end = tokens[at].end
            at += 1
        return out

    def _require_row_by_row(self, tokens: Sequence[Token]) -> None:
        """Refuses what looks at other rows or tables than the row itself."""
        for token, after in zip(tokens, [*tokens[1:], None], strict=True):
            if token.is_word("SELECT"):
                self._fail("it holds a query within", "read one table alone")
            called = after is not None and after.is_sign("(")
            if called and token.kind == "word" and token.written.upper() in _OVER_ROWS:
                self._fail(
                    f"{token.written} puts several rows together", "select values of a single row"
                )
            if called and token.is_word("OVER"):
                self._fail("OVER compares rows with each other", "select values of a single row")

    def _refuse(self, word: str) -> NoReturn:
        why = _NOT_IN_SELECT.get(word)
        if why is None:
            self._fail(f"{word!r} is not understood", f"write {FORM}")
        self._fail(why, "leave it out")

    def _fail(self, what: str, remedy: str) -> NoReturn:
        raise JobError(f"{self.where}: {what}: {remedy}")


def by_view(statement: str) -> TableMapping:
    """The mapping of ``CREATE SEARCH VIEW``; raises JobError for what it can't be made of."""
    return _View(statement).mapping()


def _qualifiers(database: str | None, table: str, alias: str | None) -> set[tuple[str, ...]]:
    """What may stand before the name of a column, in small letters."""
    found: set[tuple[str, ...]] = {(table.casefold(),)} if alias is None else {(alias.casefold(),)}
    if database is not None and alias is None:
        found.add((database.casefold(), table.casefold()))
    return found


def _qualified(tokens: Sequence[Token], at: int, qualifiers: set[tuple[str, ...]]) -> int:
    """How many tokens at a place are the table's name and a dot before the name of a column."""
    if at and tokens[at - 1].is_sign("."):
        return 0
    for names in sorted(qualifiers, key=len, reverse=True):
        part = tokens[at : at + 2 * len(names)]
        if len(part) < 2 * len(names) or at + 2 * len(names) >= len(tokens):
            continue
        named = tuple(token.name.casefold() for token in part[::2] if token.is_name)
        if named == names and all(token.is_sign(".") for token in part[1::2]):
            return 2 * len(names)
    return 0


def _column(tokens: Sequence[Token], qualifiers: set[tuple[str, ...]]) -> str | None:
    """The column that tokens name; None for an expression."""
    rest = tokens[_qualified(tokens, 0, qualifiers) :]
    if len(rest) == 1 and rest[0].is_name and not rest[0].is_word(*_NOT_AN_ALIAS):
        return rest[0].name
    return None


def _is_star(tokens: Sequence[Token], qualifiers: set[tuple[str, ...]]) -> bool:
    rest = tokens[_qualified(tokens, 0, qualifiers) :]
    return len(rest) == 1 and rest[0].is_sign("*")


def _alias(token: Token) -> str:
    """The name behind AS, which MySQL also takes as a text."""
    return token.written[1:-1] if token.kind == "text" else token.name


def _ends_value(token: Token, name: Token) -> bool:
    """Whether a value may end at `token`, so that `name` behind it is its name."""
    if name.is_word(*_NOT_AN_ALIAS):
        return False
    if token.kind == "sign":
        return token.written == ")"
    words = ("AND", "OR", "XOR", "NOT", "IS", "IN", "LIKE", "DIV", "MOD", "REGEXP", "RLIKE")
    more = ("BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "INTERVAL", "BINARY", "COLLATE", "USING")
    return not token.is_word(*words, *more)
