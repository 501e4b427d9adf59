"""Turns what pydantic finds into sentences with a path, a value, a rule and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vecferry.errors import near, shorten, without_query
from vecferry.settings import Settings

S = TypeVar("S", bound=BaseModel)

_SECRET_NAME = re.compile(r"(?i)key$|password|token$|secret|credential|accessid")


def validate(model: type[S], data: object, path: str) -> tuple[S | None, list[str]]:
    """`data` as a `model`, or None and every problem, each beginning with its path."""
    try:
        return model.model_validate(data), []
    except ValidationError as e:
        return None, [_sentence(error, path, model) for error in e.errors()]


def _sentence(error: Any, path: str, model: type[BaseModel]) -> str:
    loc = [p for p in error["loc"] if not _is_branch(p)]
    where = path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc)
    name = next((str(p) for p in reversed(loc) if isinstance(p, str)), "")
    if error["type"] == "missing":
        field = model.model_fields.get(_field_of(model, name))
        about = f" ({field.description})" if field is not None and field.description else ""
        return f"{where} is missing{about}: add it"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "model_type":
        message = "must be an object of keys and values"
    value = error["input"]
    if isinstance(value, dict | list):  # may hold a secret somewhere, and helps nobody
        return f"{where}: {message[:1].lower()}{message[1:]}"
    if isinstance(value, str):
        value = without_query(value)
    shown = "***" if _SECRET_NAME.search(name) else shorten(repr(value), 80)
    return f"{where} is {shown}: {message[:1].lower()}{message[1:]}"


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
