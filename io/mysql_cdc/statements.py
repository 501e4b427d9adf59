"""What a statement in the log does to whole tables, as far as a reader of rows must know.

The log holds the text of each DDL statement. Most change columns, and rows go on. Some change rows
that no event names: TRUNCATE, DROP, a partition that is exchanged, another table that is renamed
into the place. A session in the STATEMENT format logs its writes as text as well.

Stands apart from `vecferry.io.mysql_cdc.following` because it needs no log.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

Name = tuple[str, str]
"""A table: its database and its name."""

_TOKEN = re.compile(
    r"""
    /\*M?!\d*(?P<versioned>)          # what stands in a comment for some versions counts
    | /\*.*?\*/ | \#[^\n]* | --(?=\s|$)[^\n]*
    | '(?:[^'\\]|\\.|'')*' | "(?P<ansi>(?:[^"\\]|\\.|"")*)"
    | `(?P<quoted>(?:[^`]|``)*)`
    | (?P<word>[\w$@]+)
    | (?P<sign>[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH"})
_CALLS = frozenset({"SELECT", "DO"})
"""Such a statement is logged only if it called a function that wrote to some table."""
_NOT_COLUMNS = frozenset(
    [
        "index",
        "key",
        "unique",
        "primary",
        "foreign",
        "constraint",
        "check",
        "fulltext",
        "spatial",
        "partition",
        "period",
        "system",
        "vector",
    ]
)
"""What an ALTER TABLE adds beside columns."""
_REDEFINE = frozenset({"ADD", "CHANGE", "CONVERT", "DROP", "MODIFY", "RENAME"})
_PARTITION = re.compile(
    r"(?:TRUNCATE|DROP|EXCHANGE|DISCARD|IMPORT) (?:PARTITION|TABLESPACE)"
    r"|CONVERT (?:PARTITION|TABLE)"
)
_OF_ANOTHER = re.compile(r"EXCHANGE PARTITION|CONVERT (?:PARTITION|TABLE)")
"""What takes rows from one table to another."""
_COPIES = ("_{}_gho", "_{}_new")
"""How gh-ost and pt-online-schema-change call the copy that takes a table's place."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a statement does to one of the tables that are followed.

    Attributes:
      table: the table.
      kind: ``rows`` if rows changed that no event names, ``columns`` if columns may have changed.
      words: what was done, for a person.
      given: the columns, in small letters, that were added or got the name of another. They have
        other values than the log told.
      modified: the columns, in small letters, that have another definition.
      reshapes: whether columns may have changed in number, order, name or type.
    """

    table: Name
    kind: Literal["rows", "columns"]
    words: str
    given: frozenset[str] = frozenset()
    modified: frozenset[str] = frozenset()
    reshapes: bool = False


def effects_of(sql: str, schema: str, followed: Collection[Name]) -> list[Effect]:
    """What a statement does to the tables that are followed.

    Args:
      sql: the statement.
      schema: the database that the session had chosen.
      followed: the tables.
    """
    tokens = list(_tokens(sql))
    words = _words(tokens)
    if words[:2] == ["SET", "STATEMENT"] and "FOR" in words:  # MariaDB: variables for a statement
        tokens = tokens[words.index("FOR") + 1 :]
        words = _words(tokens)
    if not words:
        return []
    verb = words[0]
    shown = " ".join(words[:2]) if verb in ("ALTER", "DROP", "CREATE", "RENAME") else verb
    if verb in _WRITES:
        return _writes(tokens, schema, followed, verb)
    if verb in _CALLS:
        return [_rows(name, f"{verb} of a function, logged as a statement,") for name in followed]
    if words[:2] in (["DROP", "DATABASE"], ["DROP", "SCHEMA"]):
        named = [text for kind, text in tokens[2:] if kind in ("word", "quoted")]
        dropped = set(named[-1:])
        return [_rows(name, shown) for name in followed if name[0] in dropped]
    if verb == "TRUNCATE":
        return [_rows(name, verb) for name in _names(tokens[1:], schema) if name in followed][:1]
    if verb in ("CREATE", "DROP") and "TEMPORARY" in words[1:4]:
        return []
    if verb == "DROP" and "TABLE" in words[1:3]:
        return [
            _rows(name, "DROP TABLE") for name in _names(tokens[2:], schema) if name in followed
        ]
    if words[:2] in (["RENAME", "TABLE"], ["RENAME", "TABLES"]):
        return _renames(tokens[2:], schema, followed)
    if verb == "CREATE" and "TABLE" in words[1:4]:
        at = words.index("TABLE") + 1
        if words[at : at + 3] == ["IF", "NOT", "EXISTS"]:
            return []  # a table that was followed was there, or a DROP came before
        names = list(_names(tokens[at:], schema))
        return [_rows(name, "CREATE TABLE") for name in names[:1] if name in followed]
    if verb == "ALTER" and "TABLE" in words[1:4]:
        at = words.index("TABLE")
        found = _alters(tokens[at + 1 :], schema, followed)
        if "IGNORE" in words[1:at]:  # rows that a new unique key does not allow are removed
            return [_rows(effect.table, "ALTER IGNORE TABLE") for effect in found]
        return found
    return []


def _alters(tokens: list[tuple[str, str]], schema: str, followed: Collection[Name]) -> list[Effect]:
    names = list(_names(tokens, schema))
    words = _words(tokens)
    text = " ".join(words)
    given, modified, reshapes = _redefined(tokens)
    found: list[Effect] = []
    moved = _renamed_to(words, tokens, schema)
    for name in followed:
        if moved is not None and name in (names[0], moved):
            found.append(_rows(name, "ALTER TABLE … RENAME"))
        elif name == names[0]:
            match = _PARTITION.search(text)
            if match:
                found.append(_rows(name, f"ALTER TABLE … {match[0]}"))
                continue
            found.append(
                Effect(
                    table=name,
                    kind="columns",
                    words="ALTER TABLE",
                    given=given,
                    modified=modified,
                    reshapes=reshapes,
                )
            )
        elif name in names[1:] and (match := _OF_ANOTHER.search(text)):
            found.append(_rows(name, f"ALTER TABLE … {match[0]}"))
    return found


def _redefined(tokens: list[tuple[str, str]]) -> tuple[frozenset[str], frozenset[str], bool]:
    """The columns that an ALTER TABLE adds or gives the name of another, and those it modifies.

    Also whether it does anything to columns at all.
    """
    given, modified, others = set[str](), set[str](), False
    for nth, clause in enumerate(_clauses(tokens)):
        words = _words(clause)
        verbs = [i for i, (kind, _) in enumerate(clause) if kind == "word"]
        # The first clause begins with the table's name.
        at = next((i for i in verbs if words[i] in _REDEFINE and (i or nth)), None)
        if at is None or (nth and at):
            continue
        column = at + 1 < len(words) and words[at + 1] == "COLUMN"
        rest = clause[at + 1 + column :]
        names = [text.casefold() for kind, text in rest if kind != "sign"]
        while names[:1] and names[0] in ("if", "not", "exists"):
            names = names[1:]
        if words[at] == "ADD" and rest[:1] == [("sign", "(")]:
            listed = _clauses(rest[1:])
            given.update(part[0][1].casefold() for part in listed if part)
        elif words[at] == "ADD" and names and (column or names[0] not in _NOT_COLUMNS):
            given.add(names[0])
        elif words[at] == "CHANGE" and len(names) > 1:
            (modified if names[0] == names[1] else given).add(names[1])
        elif words[at] == "MODIFY" and names:
            modified.add(names[0])
        elif words[at] == "RENAME" and column and len(names) > 2:
            given.add(names[2])
        elif words[at] == "CONVERT" or (
            words[at] == "DROP" and names and (column or names[0] not in _NOT_COLUMNS)
        ):
            others = True
    return frozenset(given), frozenset(modified), bool(given or modified or others)


def _clauses(tokens: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Cuts tokens at the commas outside brackets."""
    found: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for kind, text in tokens:
        if kind == "sign":
            depth += (text == "(") - (text == ")")
            if text == "," and depth == 0:
                found.append([])
                continue
        found[-1].append((kind, text))
    return found


def _words(tokens: list[tuple[str, str]]) -> list[str]:
    """The texts of tokens; words in large letters."""
    return [text.upper() if kind == "word" else text for kind, text in tokens]


def _renamed_to(words: list[str], tokens: list[tuple[str, str]], schema: str) -> Name | None:
    """The new name that an ALTER TABLE gives its table."""
    for at, word in enumerate(words):
        if word != "RENAME" or tokens[at][0] != "word":
            continue
        rest = at + 1
        if rest < len(words) and words[rest] in ("COLUMN", "INDEX", "KEY"):
            continue
        if rest < len(words) and words[rest] in ("TO", "AS", "="):
            rest += 1
        return next(_names(tokens[rest:], schema), None)
    return None


def _renames(
    tokens: list[tuple[str, str]], schema: str, followed: Collection[Name]
) -> list[Effect]:
    names = list(_names([t for t in tokens if t[1].upper() != "TO"], schema))
    pairs = [(names[at], names[at + 1]) for at in range(0, len(names) - 1, 2)]
    found = []
    for name in followed:
        into = [old for old, new in pairs if new == name]
        away = any(old == name for old, _ in pairs)
        if not into and not away:
            continue
        copies = {(name[0], pattern.format(name[1])) for pattern in _COPIES}
        if away and into and into[0] in copies:
            # An online change of the schema: the copy holds the same rows.
            found.append(Effect(table=name, kind="columns", words="RENAME TABLE", reshapes=True))
        else:
            found.append(_rows(name, "RENAME TABLE"))
    return found


def _writes(
    tokens: list[tuple[str, str]], schema: str, followed: Collection[Name], verb: str
) -> list[Effect]:
    named = set[Name]()
    for at, (kind, text) in enumerate(tokens):
        if kind != "sign":
            within = at > 1 and tokens[at - 1] == ("sign", ".")
            named.add((tokens[at - 2][1] if within else schema, text))
    return [
        _rows(name, f"{verb}, logged as a statement (binlog_format is not ROW in that session)")
        for name in followed
        if name in named
    ]


def _rows(name: Name, words: str) -> Effect:
    return Effect(table=name, kind="rows", words=words)


def _names(tokens: list[tuple[str, str]], schema: str) -> Iterator[Name]:
    """The tables that stand in a list, up to a bracket."""
    skipped = {"IF", "EXISTS", "NOT", "TABLE", "ONLY", "IGNORE", "NOWAIT", "WAIT"}
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        if kind == "sign" and text in "(;":
            return
        if kind == "quoted" or (kind == "word" and text.upper() not in skipped):
            if at + 2 < len(tokens) and tokens[at + 1] == ("sign", "."):
                yield text, tokens[at + 2][1]
                at += 3
                continue
            yield schema, text
        at += 1


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Words, quoted names and signs; texts and comments are left out."""
    for match in _TOKEN.finditer(sql):
        if match["word"] is not None:
            yield "word", match["word"]
        elif match["quoted"] is not None:
            yield "quoted", match["quoted"].replace("``", "`")
        elif match["ansi"] is not None:
            yield "quoted", match["ansi"].replace('""', '"')
        elif match["sign"] is not None:
            yield "sign", match["sign"]
