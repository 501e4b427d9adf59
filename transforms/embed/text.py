"""How the columns of a row become the text that is embedded."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from vecferry.errors import TerminalError
from vecferry.transforms.embed.images.content import missing_column, source_maker
from vecferry.transforms.embed.settings import EmbeddingColumn, EmbedSettings

_MISSING: Any = object()
_PLAIN = (int, float, decimal.Decimal, uuid.UUID)


def text_of(value: object, name: str) -> str:
    """A column's value as text: numbers as Python writes them, structures as JSON."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _PLAIN):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as e:
            text = f"column {name!r} holds bytes that are not UTF-8: {e}"
            raise TerminalError(text, "bad-text") from e
    if isinstance(value, dict | list | tuple):
        try:
            return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError as e:  # orjson's own, such as for half a character
            raise TerminalError(f"column {name!r} can't be written as JSON: {e}", "bad-text") from e
    raise TerminalError(
        f"column {name!r} holds a {type(value).__name__}, of which no text can be made", "bad-text"
    )


def input_maker(
    column: EmbeddingColumn, settings: EmbedSettings
) -> Callable[[dict[str, Any]], Any]:
    """A function from a row to its text or `ImageSource`; it gives "" where the row has none."""
    if column.input_type == "image":
        paths = settings.image_datasource is not None
        return source_maker(column.source_column_names[0], paths=paths)
    return text_maker(column, settings)


def text_maker(column: EmbeddingColumn, settings: EmbedSettings) -> Callable[[dict[str, Any]], str]:
    """A function from a row to its text, empty where the row has none.

    A part that is null is left out; with `nullAsEmptyString` it is an empty part. Empty parts stay
    between their delimiters unless `skipEmptyValue` is set. A text of nothing but empty parts is
    empty, whatever delimiters and names would stand in it. Raises `TerminalError` for a row without
    the column, or with a value of which text can't be made.
    """
    names = column.source_column_names
    delimiter, skip = settings.append_delimiter, settings.skip_empty_value
    null_is_empty = settings.null_as_empty_string
    named = settings.append_field_name_enable
    prefixes = [f"{n}{settings.append_field_name_delimiter}" if named else "" for n in names]

    def one(row: dict[str, Any]) -> str:
        value = row.get(name, _MISSING)
        if type(value) is not str:
            if value is _MISSING:
                raise missing_column(name, row)
            if value is None:
                return ""
            value = text_of(value, name)
        return prefix + value if value and prefix else value

    def many(row: dict[str, Any]) -> str:
        parts: list[str] = []
        anything = False
        for name, prefix in pairs:
            value = row.get(name, _MISSING)
            if type(value) is not str:
                if value is _MISSING:
                    raise missing_column(name, row)
                if value is None:
                    if not null_is_empty:
                        continue
                    value = ""
                else:
                    value = text_of(value, name)
            if value:
                anything = True
            elif skip:
                continue
            parts.append(prefix + value)
        return delimiter.join(parts) if anything else ""

    if len(names) == 1:
        name, prefix = names[0], prefixes[0]
        return one
    pairs = list(zip(names, prefixes, strict=True))
    return many
