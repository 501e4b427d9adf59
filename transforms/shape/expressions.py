"""Expressions in CEL over the columns of a row: compiled once, bounded before they are compiled.

CEL has no loops but those over a list, so an expression ends. The library does not bound loops
within loops, and counts the bytes of a text where CEL counts characters: both is mended here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from vecferry.errors import is_own_fault, near, own_fault, shorten

MOST_CHARACTERS = 4096
"""The longest expression that is taken."""
MOST_LOOPED = 10_000
"""The most elements of a list in a row that an expression with a loop is given."""

_MACROS = frozenset(("all", "exists", "exists_one", "existsOne", "map", "filter"))
_FUNCTIONS = frozenset(
    (
        "size", "contains", "startsWith", "endsWith", "matches", "string", "int", "uint", "double",
        "bytes", "timestamp", "duration", "type", "dyn", "getFullYear", "getMonth", "getDate",
        "getDayOfMonth", "getDayOfYear", "getDayOfWeek", "getHours", "getMinutes", "getSeconds",
        "getMilliseconds",
    )
)  # fmt: skip
_SIZE = "vecferry_size"
_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
      | (?P<text>[bB]?[rR][bB]?(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')
         |[bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
            |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>\.?[0-9][0-9A-Za-z_.]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_CONSTANTS = frozenset(("true", "false", "null", "in"))


class ExpressionError(Exception):
    """A row over which an expression has no value; `reason` is that of its reject."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Expression:
    """An expression, compiled. Used by one thread.

    Args:
      text: the expression. Raises ValueError if it is not one, or may take too long.
    """

    def __init__(self, text: str) -> None:
        cel = _library()
        if len(text) > MOST_CHARACTERS:
            raise ValueError(
                f"the expression has {len(text)} characters; write at most {MOST_CHARACTERS}, or "
                "use several steps"
            )
        self.text = text
        _compiled(cel, text)
        tokens = [token for token in _tokens(text) if token[0] != "blank"]
        self.columns, self._loops = _columns(tokens)
        # The library counts the bytes of a text; a function of ours counts characters.
        spelled = "".join(
            _SIZE if kind == "name" and word == "size" else word for kind, word in _tokens(text)
        )
        program = _compiled(cel, spelled)
        _known(program.functions() if callable(program.functions) else program.functions)
        self._run: Callable[[Any], Any] = program.execute
        self._given = cel.Context()
        self._given.add_function(_SIZE, _size)

    def __call__(self, row: Mapping[str, Any]) -> Any:
        """The value over a row; raises ExpressionError."""
        given = {}
        for name in self.columns:
            try:
                value = row[name]
            except KeyError:
                raise ExpressionError(
                    "missing-column", f"the row has no column {name!r}{near(name, row)}"
                ) from None
            given[name] = value if type(value) in _PLAIN else self._plain(name, value)
        try:
            self._given.update(given)
            return self._run(self._given)
        except BaseException as e:
            raise self._failed(e, given) from None

    def _plain(self, name: str, value: Any) -> Any:
        try:
            if self._loops and isinstance(value, list | tuple | dict) and len(value) > MOST_LOOPED:
                raise ValueError(f"has {len(value)} elements, and a loop takes {MOST_LOOPED}")
            return _as_cel(value)
        except ValueError as e:
            raise ExpressionError("wrong-type", f"column {name!r} {e}") from None

    def _failed(self, error: BaseException, given: Mapping[str, Any]) -> ExpressionError:
        """What to tell of a row over which the library fails; its panics are not an `Exception`."""
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise error
        if is_own_fault(error) and not isinstance(error, _OF_ROWS):
            raise own_fault(f"the expression {shorten(self.text, 60)!r}", error) from error
        nulls = [name for name, value in given.items() if value is None]
        if nulls:
            names = " and ".join(f"column {name!r}" for name in nulls)
            verb = "is" if len(nulls) == 1 else "are"
            return ExpressionError(
                "null-value",
                f"{names} {verb} null, and {shorten(self.text, 60)!r} has no value; test it "
                f"before, as in {nulls[0]} != null && …",
            )
        types = ", ".join(f"{name!r} is of type {type(v).__name__}" for name, v in given.items())
        why = str(error).split(" Convert explicitly", 1)[0]
        return ExpressionError(
            "expression-failed",
            f"{shorten(self.text, 60)!r} has no value: {shorten(why, 120)} (column {types})",
        )


_OF_ROWS = (TypeError, KeyError, ValueError, RuntimeError, ArithmeticError, IndexError)
"""What the library raises where a row does not suit."""

_PLAIN = frozenset((str, bool, float, bytes, type(None)))


def _as_cel(value: Any) -> Any:
    """A value of a row as the library takes it; ValueError says what can't be taken."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("is a whole number of more than 64 bits, which CEL does not have")
        return value
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime.time | UUID):
        return str(value)
    if isinstance(value, datetime.timedelta | float | str | bytes):
        return value
    if isinstance(value, list | tuple):
        return [_as_cel(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _as_cel(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise ValueError(f"is of type {kind.__name__}, which CEL does not have")


def _library() -> Any:
    try:
        import cel
    except ImportError:
        raise ValueError(
            "expressions need the package common-expression-language; pip install "
            "'vecferry[shaping]'"
        ) from None
    return cel


def _compiled(cel: Any, text: str) -> Any:
    try:
        return cel.compile(text)
    except Exception as e:
        raise ValueError(f"{shorten(text, 60)!r} is not CEL: {_place(str(e))}") from None
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        raise ValueError(f"{shorten(text, 60)!r} is not CEL") from None


_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


def _place(message: str) -> str:
    """Where the library stopped, and why."""
    found = _ERROR.search(message)
    if found is None:
        return shorten(message, 120)
    line, character, why = found.groups()
    where = f"character {character}" if line == "1" else f"line {line}, character {character}"
    why = why.partition(" expecting ")[0].replace("'<EOF>'", "its end")
    return f"{shorten(why, 80)} at {where}"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for token in _TOKEN.finditer(text):
        yield token.lastgroup or "mark", token.group()


def _columns(tokens: list[tuple[str, str]]) -> tuple[tuple[str, ...], bool]:
    """The columns that an expression names, and whether it has a loop over a list.

    A name that a loop gives to its elements is not a column within the loop.
    """
    words = [word for _, word in tokens] + [""] * 3
    columns: dict[str, None] = {}
    depth, inside, bound, loops = 0, 0, "", False
    for at, (kind, word) in enumerate(tokens):
        if kind == "mark" and word in "([{":
            depth += 1
        elif kind == "mark" and word in ")]}":
            depth -= 1
            if inside and depth < inside:
                inside, bound = 0, ""
        if kind != "name" or word in _CONSTANTS:
            continue
        member = at > 0 and words[at - 1] == "."
        if member and word in _MACROS and words[at + 1] == "(":
            if inside:
                raise ValueError(
                    f"has a loop ({word}) within a loop, which may run for hours; write it as two "
                    "steps"
                )
            inside, bound, loops = depth + 1, words[at + 2], True
        elif not member and words[at + 1] != "(" and word != bound:
            columns[word] = None
    return tuple(columns), loops


def _known(functions: list[str]) -> None:
    for name in functions:
        if re.fullmatch(r"[A-Za-z]\w*", name) and name not in _FUNCTIONS and name != _SIZE:
            known = sorted(_FUNCTIONS | _MACROS | {"has"})
            raise ValueError(
                f"{name!r} is not a function{near(name, known)}; there are {', '.join(known)}"
            )


def _size(value: Any) -> int | None:
    """How many characters, bytes or elements there are; None of what has none."""
    return len(value) if isinstance(value, str | bytes | list | dict) else None
