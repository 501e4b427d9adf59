"""A condition as SQL writes it: read once, handed to pypaimon as a predicate, tried on batches.

The parser is sqlglot: quotes, precedence, literals and comments are its work. Of what it reads,
only what stands in `SUPPORTED` is taken. The parser that pypaimon brings knows neither NOT nor
timestamps. It passes over characters that it does not know.

A predicate for pypaimon holds what pypaimon can decide, so that files are left out. The condition
itself is decided here, in the three values of SQL: a comparison with null is unknown. Stands apart
from `settings` because it imports the parser, and pyarrow.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vecferry.errors import JobError, near, shorten
from vecferry.numbers import decimal_number, real_number, whole_number

SUPPORTED = (
    "comparisons of a column with a value, AND, OR, NOT, IN, BETWEEN, LIKE 'x%' and IS [NOT] NULL"
)


@dataclass(frozen=True)
class Both:
    """AND (`every`) or OR of several conditions."""

    parts: tuple[Node, ...]
    every: bool


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: Node


@dataclass(frozen=True)
class Compare:
    """A column compared with a value; `op` is one of ``= <> < <= > >=``."""

    column: str
    op: str
    value: Any


@dataclass(frozen=True)
class In:
    """A column that has one of several values."""

    column: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Like:
    """A text like a pattern."""

    column: str
    pattern: str


@dataclass(frozen=True)
class IsNull:
    """A column that is null."""

    column: str


Node = Both | Not | Compare | In | Like | IsNull
ArrowSchema = Any
RecordBatch = Any
BooleanArray = Any
PredicateBuilder = Any
Predicate = Any
Leaf = Compare | In | Like | IsNull


@dataclass(frozen=True)
class Text:
    """A text, or a time, as it stands in a condition."""

    text: str

    def __str__(self) -> str:
        return f"'{self.text}'"


@dataclass(frozen=True)
class Number:
    """A number as it stands in a condition."""

    text: str

    def __str__(self) -> str:
        return self.text


def checked(text: str) -> None:
    """Raises ValueError for a condition that can't be read; without sqlglot nothing is checked."""
    try:
        import sqlglot  # noqa: F401
    except ImportError:  # the step's client is missing, and told by whoever needs it
        return
    parse(text)


def parse(text: str) -> Node:
    """A condition as its parts; ValueError names what is not `SUPPORTED`, JobError the library."""
    try:
        import sqlglot
    except ImportError as e:
        raise JobError(
            f"reading the condition `where` needs sqlglot ({e}): pip install 'vecferry[paimon]'"
        ) from e

    try:
        found = sqlglot.parse(text, dialect=_dialect())
    except sqlglot.errors.SqlglotError as e:
        raise ValueError(f"it can't be read: {_told(e)}; write it as in SQL behind WHERE") from e
    if len(found) != 1 or found[0] is None:
        raise ValueError("it must be one condition, as in SQL behind WHERE")
    return _node(found[0])


def within(column: str, first: str | None, last: str | None, where: str | None = None) -> str:
    """A condition that values of a column meet from `first` to `last`, both included.

    None is a side without an end. If `where` is given, rows must meet both.
    """
    name = '"' + column.replace('"', '""') + '"'
    parts = []
    for op, side in ((">=", first), ("<=", last)):
        if side is not None:
            text = side.replace("'", "''")
            parts.append(f"{name} {op} '{text}'")
    if where is not None:
        parts.append(f"({where}\n)")  # a comment may be at the end of its last line
    return " AND ".join(parts)


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns that a condition names, each once, in their order."""
    if isinstance(node, Both):
        return tuple(dict.fromkeys(c for part in node.parts for c in columns_of(part)))
    return columns_of(node.part) if isinstance(node, Not) else (node.column,)


class Condition:
    """A condition over the columns of a table.

    Args:
      text: what the job says.
      schema: the Arrow schema of the table, all columns of it.

    Raises:
      JobError: the condition can't be read, names no column of the table, or compares a column with
        a value of another kind.
    """

    def __init__(self, text: str, schema: ArrowSchema) -> None:
        try:
            self._root = _bound(parse(text), schema)
        except ValueError as e:
            raise JobError(f"where is {shorten(text, 120)!r}: {e}") from e
        self.text, self._schema = text, schema
        self.columns = columns_of(self._root)

    def predicate(self, builder: PredicateBuilder) -> Predicate | None:
        """What pypaimon can decide of it, by a `PredicateBuilder` over all columns of the table.

        Whatever the condition takes, the predicate takes. None takes all.
        """
        return _Pushing(builder, self._schema).of(self._root)

    def mask(self, batch: RecordBatch) -> BooleanArray:
        """For each row of a record batch that has `columns`, whether it is met; null if unknown."""
        return _mask(self._root, batch)

    def rows(self, batch: RecordBatch) -> RecordBatch:
        """The rows of a record batch that meet the condition."""
        return batch.filter(self.mask(batch))


# --- from sqlglot's tree ---------------------------------------------------------------------


@functools.cache
def _dialect() -> Any:
    """SQL in which backticks quote names as double quotes do."""
    from sqlglot import Dialect, tokens

    class Paimon(Dialect):  # type: ignore[misc]
        class Tokenizer(tokens.Tokenizer):  # type: ignore[misc]
            IDENTIFIERS = ['"', "`"]  # noqa: RUF012

    return Paimon


def _told(error: Any) -> str:
    from sqlglot.errors import ParseError

    first = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    word, column = first.get("highlight"), first.get("col")
    if word:
        return f"it stops making sense at {shorten(word, 40)!r} (character {column})"
    return shorten(str(error).splitlines()[0], 120)


_FLIPPED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _node(found: Any) -> Node:
    from sqlglot import exp

    compare = {
        exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="
    }.get(type(found))  # fmt: skip
    if compare:
        return _compare(found, compare)
    readers: dict[Any, Callable[[], Node]] = {
        exp.Paren: lambda: _node(_only(found)),
        exp.And: lambda: Both((_node(found.left), _node(found.right)), True),
        exp.Or: lambda: Both((_node(found.left), _node(found.right)), False),
        exp.Not: lambda: Not(_node(_only(found))),
        exp.In: lambda: In(_column(found.this), _values(found)),
        exp.Between: lambda: _between(found),
        exp.Like: lambda: _like(found),
        exp.Is: lambda: _is(found),
        exp.Column: lambda: Compare(_column(found), "=", True),
    }
    if type(found) not in readers:
        raise _unknown(found)
    _require_plain(found)
    return readers[type(found)]()


_KNOWN_ARGUMENTS = frozenset({"this", "expression", "expressions", "low", "high", "negate"})


def _require_plain(found: Any) -> None:
    """Refuses a part that says more than is read of it here."""
    more = [n for n, v in found.args.items() if v and n not in _KNOWN_ARGUMENTS]
    if more:
        raise _unknown(found)
    if found.args.get("negate") and type(found).__name__ != "Like":
        raise _unknown(found)


def _unknown(found: Any) -> ValueError:
    return ValueError(f"{shorten(_sql(found), 60)!r} is not supported here; use {SUPPORTED}")


def _sql(found: Any) -> str:
    try:
        return str(found.sql(dialect=_dialect()))
    except ValueError:
        return type(found).__name__


def _only(found: Any) -> Any:
    return found.this


def _compare(found: Any, op: str) -> Node:
    from sqlglot import exp

    _require_plain(found)
    left, right = found.left, found.right
    if not isinstance(left, exp.Column):
        left, right, op = right, left, _FLIPPED[op]
    if not isinstance(left, exp.Column):
        raise _unknown(found)
    return Compare(_column(left), op, _value(right))


def _between(found: Any) -> Node:
    column = _column(found.this)
    low = Compare(column, ">=", _value(found.args["low"]))
    return Both((low, Compare(column, "<=", _value(found.args["high"]))), True)


def _like(found: Any) -> Node:
    pattern = _value(found.expression)
    if not isinstance(pattern, Text):
        raise _unknown(found)
    like = Like(_column(found.this), pattern.text)
    return Not(like) if found.args.get("negate") else like


def _is(found: Any) -> Node:
    from sqlglot import exp

    if not isinstance(found.expression, exp.Null):
        raise _unknown(found)
    return IsNull(_column(found.this))


def _values(found: Any) -> tuple[Any, ...]:
    if not found.expressions:
        raise _unknown(found)
    return tuple(map(_value, found.expressions))


def _column(found: Any) -> str:
    from sqlglot import exp

    if not isinstance(found, exp.Column) or len(found.parts) != 1:
        raise _unknown(found)
    return str(found.name)


def _value(found: Any) -> Any:
    """A literal; one with a type in front, as in ``DATE '2026-11-29'``, is a text."""
    from sqlglot import exp

    if isinstance(found, exp.Cast) and isinstance(found.this, exp.Literal):
        if any(given and name not in ("this", "to") for name, given in found.args.items()):
            raise _unknown(found)
        if str(found.to.this.name) in ("DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPLTZ", "TIME"):
            return Text(str(found.this.this))
        raise _unknown(found)
    if isinstance(found, exp.Neg) and isinstance(found.this, exp.Literal):
        if not found.this.is_string:
            return Number(f"-{found.this.this}")
        raise _unknown(found)
    if isinstance(found, exp.Literal):
        return Text(str(found.this)) if found.is_string else Number(str(found.this))
    if isinstance(found, exp.Boolean):
        return bool(found.this)
    if isinstance(found, exp.Null):
        raise ValueError("nothing equals NULL: write IS NULL, or IS NOT NULL")
    if isinstance(found, exp.Column) and found.name:
        raise ValueError(
            f"column {found.name!r} stands where a value must: write texts in single quotes"
        )
    raise _unknown(found)


# --- to the columns of a table ---------------------------------------------------------------


def _bound(node: Node, schema: Any) -> Node:
    """The condition with values as the columns of the table have them."""
    if isinstance(node, Both):
        return Both(tuple(_bound(part, schema) for part in node.parts), node.every)
    if isinstance(node, Not):
        return Not(_bound(node.part, schema))
    if node.column not in schema.names:
        raise ValueError(
            f"the table has no column {node.column!r}{near(node.column, schema.names)}"
        )
    kind = schema.field(node.column).type
    if isinstance(node, IsNull):
        return node
    if isinstance(node, Like):
        if not _is_text(kind):
            raise ValueError(f"LIKE needs a text, and {node.column!r} is of the type {kind}")
        return Like(node.column, node.pattern)
    convert = _converter(node.column, kind)
    if isinstance(node, In):
        return In(node.column, tuple(map(convert, node.values)))
    if isinstance(node.value, bool) and node.op not in ("=", "<>"):
        raise ValueError(f"{node.column!r} is true or false: compare it by = or <>")
    return Compare(node.column, node.op, convert(node.value))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _converter(column: str, kind: Any) -> Callable[[Any], Any]:
    """What turns a literal into a value to compare a column of an Arrow type with."""
    import pyarrow as pa

    is_a = pa.types
    rules: list[tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = [
        (is_a.is_boolean, "true or false", _flag),
        (is_a.is_integer, "a whole number of 64 bits", _whole),
        (is_a.is_floating, "a number", lambda v: real_number(_written(v))),
        (is_a.is_decimal, "a number", lambda v: decimal_number(_written(v))),
        (_is_text, "a text in single quotes", _text),
        (is_a.is_date, "a date such as '2026-11-29'", lambda v: _date(_text(v))),
        (is_a.is_time, "a time such as '12:30:00'", lambda v: _clock(_text(v))),
        (is_a.is_timestamp, "a time such as '2026-11-29 12:00:00'", lambda v: _moment(v, kind)),
    ]
    found = next(((what, make) for fits, what, make in rules if fits(kind)), None)
    if found is None:
        raise ValueError(f"{column!r} is of the type {kind}: only IS [NOT] NULL can be asked of it")
    what, make = found

    def convert(value: Any) -> Any:
        try:
            return make(value)
        except (ValueError, ArithmeticError) as e:
            raise ValueError(f"{column!r} is compared with {value}, which must be {what}") from e

    return convert


def _whole(value: Any) -> int:
    number = whole_number(_written(value))
    if not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return number


def _written(value: Any) -> str:
    if not isinstance(value, Text | Number):
        raise ValueError(value)
    return value.text


def _text(value: Any) -> str:
    if not isinstance(value, Text):
        raise ValueError(value)
    return value.text


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text.strip())


def _clock(text: str) -> datetime.time:
    value = datetime.time.fromisoformat(text.strip())
    if value.tzinfo is not None:
        raise ValueError(text)
    return value


def _moment(value: Any, kind: Any) -> datetime.datetime:
    """A time as the column has it; without an offset it is in UTC if the column has a zone."""
    moment = datetime.datetime.fromisoformat(_text(value).strip())
    if kind.tz is None:
        if moment.tzinfo is not None:
            raise ValueError(value)
        return moment
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


# --- on batches ------------------------------------------------------------------------------


def _mask(node: Node, batch: Any) -> Any:
    import pyarrow.compute as pc

    if isinstance(node, Both):
        join = pc.and_kleene if node.every else pc.or_kleene
        return functools.reduce(join, (_mask(part, batch) for part in node.parts))
    if isinstance(node, Not):
        return pc.invert(_mask(node.part, batch))
    column = batch.column(node.column)
    if isinstance(node, IsNull):
        return column.is_null()
    if isinstance(node, Like):
        return pc.match_like(column, node.pattern)
    if isinstance(node, In):
        return _is_one_of(column, node.values)
    return _compared(node.op, column, node.value)


def _is_one_of(column: Any, values: Sequence[Any]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if all(isinstance(value, str) for value in values):
        found = pc.is_in(column, value_set=pa.array(values, column.type))
        return pc.if_else(column.is_valid(), found, pa.scalar(None, pa.bool_()))
    return functools.reduce(pc.or_kleene, (_compared("=", column, value) for value in values))


_KERNELS = {
    "=": "equal", "<>": "not_equal",
    "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip


def _compared(op: str, column: Any, value: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        wide = pa.int64() if isinstance(value, int) else pa.float64()
        column, kind = column.cast(wide), wide
    decimals = pa.types.is_decimal(kind)
    return getattr(pc, _KERNELS[op])(column, pa.scalar(value, None if decimals else kind))


# --- for pypaimon ----------------------------------------------------------------------------

_BUILDERS = {
    "=": "equal", "<>": "not_equal", "<": "less_than", "<=": "less_or_equal",
    ">": "greater_than", ">=": "greater_or_equal",
}  # fmt: skip
_OPPOSITES = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class _Pushing:
    """Makes a predicate of pypaimon that takes at least what a condition takes."""

    def __init__(self, builder: Any, schema: Any) -> None:
        self._builder, self._schema = builder, schema

    def of(self, node: Node, opposite: bool = False) -> Any:
        """The predicate of a condition, or of its opposite; None takes all."""
        if isinstance(node, Not):
            return self.of(node.part, not opposite)
        if not isinstance(node, Both):
            return self._leaf(node, opposite)
        parts = [self.of(part, opposite) for part in node.parts]
        known = [part for part in parts if part is not None]
        if node.every != opposite:
            return self._builder.and_predicates(known)  # None where there is none
        return self._builder.or_predicates(known) if len(known) == len(parts) else None

    def _leaf(self, node: Leaf, opposite: bool) -> Any:
        builder = self._builder
        if isinstance(node, IsNull):
            return (builder.is_not_null if opposite else builder.is_null)(node.column)
        if isinstance(node, Like):
            start = node.pattern.removesuffix("%")
            plain = start != node.pattern and not set(start) & set("%_\\")
            return builder.startswith(node.column, start) if plain and not opposite else None
        if not self._sure(node):
            return None
        if isinstance(node, In):
            ask = builder.is_not_in if opposite else builder.is_in
            return ask(node.column, list(node.values))
        op = _OPPOSITES[node.op] if opposite else node.op
        return getattr(builder, _BUILDERS[op])(node.column, node.value)

    def _sure(self, node: Compare | In) -> bool:
        """Whether files, statistics and both readers of pypaimon compare the values as SQL does."""
        import pyarrow as pa

        kind = self._schema.field(node.column).type
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_date(kind)
            or _is_text(kind)
        ):
            return False
        try:
            pa.array(node.values if isinstance(node, In) else [node.value], kind)
        except (pa.ArrowException, OverflowError):
            return False
        return True
