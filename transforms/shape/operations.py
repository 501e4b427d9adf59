"""What rules of ``edit`` do to values: each operation is a function of a row.

Apart from `editing` because it knows nothing of changes and rejects.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from vecferry.errors import near, shorten
from vecferry.rows import Change
from vecferry.transforms.shape.expressions import Expression, ExpressionError
from vecferry.transforms.shape.patterns import replacer
from vecferry.transforms.shape.settings import EditRule

Make = Callable[[Change], Any]
"""The value of a column, of a row; raises ExpressionError."""

NAMESPACE = uuid.UUID("8f7c3f4e-2a8e-5b8d-9a51-6d3f0d6b7c11")
"""The namespace of ids by `uuid5`; another one would give other ids."""


def maker(rule: EditRule) -> Make:
    """How the value of a rule is made."""
    kind = rule.operation
    if kind == "constant":
        return lambda change: rule.value
    if kind == "expression":
        return _expression(rule)
    if kind == "id" and rule.id_from == "origin":
        return lambda change: change.origin or None
    if kind in ("concatenate", "digest", "id"):
        return _of_several(rule)
    name = rule.from_column or rule.column
    if kind == "default":
        return lambda change: rule.value if change.get(name) in (None, "") else change[name]
    if kind == "rename":
        return lambda change: _value(change, name)
    work = _date(rule) if kind == "date" else _text(rule)

    def make(change: Change) -> Any:
        value = _value(change, name)
        if value is None:
            return None
        if kind == "date" and isinstance(value, datetime.date):
            return value
        if not isinstance(value, str):
            raise ExpressionError(
                "wrong-type",
                f"column {name!r} is of type {type(value).__name__}, and {kind} takes texts; make "
                "it a text before, as by an expression string(…)",
            )
        return work(value, name)

    return make


def _value(change: Change, name: str) -> Any:
    try:
        return change[name]
    except KeyError:
        raise ExpressionError(
            "missing-column", f"the row has no column {name!r}{near(name, change)}"
        ) from None


def _expression(rule: EditRule) -> Make:
    run = Expression(rule.expression or "")

    def make(change: Change) -> Any:
        value = run(change)
        if isinstance(value, datetime.timedelta):
            return value.total_seconds()
        if value is None or isinstance(
            value, bool | int | float | str | bytes | list | dict | datetime.datetime
        ):
            return value
        raise ExpressionError(
            "wrong-type", f"the expression gives {type(value).__name__}, which no row can hold"
        )

    return make


def _text(rule: EditRule) -> Callable[[str, str], Any]:
    kind, length = rule.operation, rule.length or 0
    if kind == "replace":
        replace = replacer(rule)
        return lambda text, name: _encodable(replace, text, name)
    if kind == "trim":
        return lambda text, name: text.strip()
    if kind == "upper":
        return lambda text, name: text.upper()
    if kind == "lower":
        return lambda text, name: text.lower()
    if kind == "cut" and rule.unit == "bytes":

        def cut(text: str) -> str:
            # What is left of a character that was cut is left out.
            return text.encode()[:length].decode("utf-8", "ignore")

        return lambda text, name: _encodable(cut, text, name)
    if kind == "cut":
        end = rule.start + length
        return lambda text, name: text[rule.start : end]
    if rule.side == "left":
        return lambda text, name: text[:length].rjust(length, rule.fill)
    return lambda text, name: text[:length].ljust(length, rule.fill)


def _encodable(work: Callable[[str], str], text: str, name: str) -> str:
    try:
        return work(text)
    except UnicodeEncodeError as e:
        raise ExpressionError(
            "bad-text", f"column {name!r} is not valid Unicode: {e.reason}"
        ) from None


def _date(rule: EditRule) -> Callable[[str, str], Any]:
    zone, form = zoneinfo.ZoneInfo(rule.time_zone), rule.format or ""

    def parse(text: str, name: str) -> datetime.datetime:
        try:
            date = datetime.datetime.strptime(text.strip(), form)
            date = date if date.tzinfo else date.replace(tzinfo=zone)
            return date.astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            raise ExpressionError(
                "bad-date",
                f"column {name!r} holds {shorten(text, 60)!r}, which is not a date as {form!r} "
                "writes it",
            ) from None

    return parse


def _of_several(rule: EditRule) -> Make:
    names = rule.sources()
    kind, digest = rule.operation, rule.algorithm
    single = rule.from_columns is None or len(rule.from_columns) == 1

    def make(change: Change) -> Any:
        texts = [_as_text(_value(change, name), name) for name in names]
        if kind == "concatenate":
            return rule.separator.join(text for text in texts if text is not None)
        if kind == "digest" and single:
            (text,) = texts
            return None if text is None else _hash(digest, text, names)
        if kind == "id" and None in texts:
            name = names[texts.index(None)]
            raise ExpressionError(
                "null-value", f"column {name!r} is null, and an id needs a value there"
            )
        # The length before each text tells ("ab", "c") from ("a", "bc"), and null from a text.
        joined = "".join("-;" if t is None else f"{len(t)}:{t};" for t in texts)
        if kind == "id" and rule.id_from == "uuid5":
            _hash("sha1", joined, names)  # tells of what is not Unicode
            return str(uuid.uuid5(NAMESPACE, joined))
        return _hash("sha256" if kind == "id" else digest, joined, names)

    return make


def _hash(algorithm: str, text: str, names: list[str]) -> str:
    def hashed(text: str) -> str:
        return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()

    return _encodable(hashed, text, names[0])


def _as_text(value: Any, name: str) -> str | None:
    """A value that has one text only, as this text; None of null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int | Decimal | UUID):
        return str(value)
    raise ExpressionError(
        "wrong-type",
        f"column {name!r} is of type {type(value).__name__}, which has no single text; make it a "
        "text before, as by an expression string(…)",
    )
