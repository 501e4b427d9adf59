"""Turns what pydantic finds into sentences with a path, a value, a rule and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vecferry.errors import near, shorten, without_query
from vecferry.settings import Settings

S = TypeVar("S", bound=BaseModel)

_SECRET_NAME = re.compile(
    r"(?i)(?<!primary)(?<!partition)key$|password|token$|secret|credential|accessid"
)


def validate(model: type[S], data: object, path: str) -> tuple[S | None, list[str]]:
    """`data` as a `model`, or None and every problem, each beginning with its path."""
    try:
        return model.model_validate(data), []
    except ValidationError as e:
        found = [_sentence(error, path, model) for error in e.errors(include_url=False)]
        return None, list(dict.fromkeys(found))


def _sentence(error: Any, path: str, model: type[BaseModel]) -> str:
    loc = [p for p in error["loc"] if not _is_branch(p)]
    where = path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc)
    name = next((str(p) for p in reversed(loc) if isinstance(p, str)), "")
    if error["type"] == "missing":
        field = model.model_fields.get(_field_of(model, name))
        about = f" ({field.description})" if field is not None and field.description else ""
        return f"{where} is missing{about}: add it"
    value = error["input"]
    message = _rule(error, value)
    if isinstance(value, dict | list):  # may hold a secret somewhere, and helps nobody
        return f"{where}: {message[:1].lower()}{message[1:]}"
    if isinstance(value, str):
        value = without_query(value)
    shown = "***" if _SECRET_NAME.search(name) else shorten(repr(value), 80)
    return f"{where} is {shown}: {message[:1].lower()}{message[1:]}"


_OBJECT, _LIST, _NUMBER = (
    "must be an object of keys and values",
    "must be a list",
    "must be a number",
)
_WHOLE = "must be a whole number"
_RULES = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE + " of fewer digits",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "string_unicode": "holds half of a character; write the text anew",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "invalid_key": "must have a text as its name; quote it",
    "none_required": "must be null, or left out",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def _rule(error: Any, value: object) -> str:
    """The rule that a value breaks, in our words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'must be a text; quote it: "{str(value).lower()}"'
    rule = _RULES.get(kind)
    if rule is None:
        return str(error["msg"])
    if kind in ("value_error", "assertion_error"):
        return shorten(context.get("error", error["msg"]), 1000)
    return rule.format(**context)


def _is_branch(part: Any) -> bool:
    """Whether a part of a location names pydantic's branch of a union, and not the user's key."""
    return isinstance(part, str) and ("[" in part or part[:1].isupper() or part in _BRANCHES)


_BRANCHES = {"str", "int", "float", "bool", "dict", "list"}


def _field_of(model: type[BaseModel], alias: str) -> str:
    for name, field in model.model_fields.items():
        if alias in (field.alias, name):
            return name
    return ""


def unknown_keys(settings: Settings, path: str) -> list[str]:
    """A warning for each key that no field knows, in `settings` and inside it."""
    return list(_unknown(settings, path))


def _unknown(settings: Settings, path: str) -> Iterator[str]:
    known = {f.alias or n for n, f in type(settings).model_fields.items()}
    for key in settings.model_extra or {}:
        if key not in type(settings).ignored and not type(settings).passes_on:
            yield f"{path}.{key} is not known and is passed over{near(key, known)}"
    for name, field in type(settings).model_fields.items():
        child = getattr(settings, name)
        where = f"{path}.{field.alias or name}"
        for suffix, item in _settings_in(child):
            yield from _unknown(item, where + suffix)


def _settings_in(value: Any) -> Iterable[tuple[str, Settings]]:
    if isinstance(value, Settings):
        yield "", value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if isinstance(item, Settings):
                yield f"[{i}]", item
