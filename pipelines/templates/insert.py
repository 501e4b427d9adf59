"""Puts values of parameters into a template, without parsing the result as text.

``${name}`` alone becomes the value with its type. Inside a text, ``${name}`` becomes the text of
the value. If a parameter has no value, its key or item is left out. A mapping that loses all of its
keys is left out as well. ``{$each: name, $item: …}`` in a list becomes one item for each text of a
list, with ``${item}`` for the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecferry.pipelines.job.placeholders import PLACEHOLDER

EACH, ITEM = "$each", "$item"
ITEM_NAME = "item"


class _Absent:
    """Stands for a part that is left out."""


_ABSENT: Any = _Absent()


def insert(part: object, values: Mapping[str, Any]) -> Any:
    """A copy of `part`, a mapping of a template, filled with `values` by name."""
    filled = _insert(part, values)
    return {} if filled is _ABSENT else filled


def _insert(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, str):
        return _text(part, values)
    if isinstance(part, dict):
        kept = {k: v for k, v in ((k, _insert(v, values)) for k, v in part.items()) if _there(v)}
        return kept if kept or not part else _ABSENT
    if isinstance(part, list):
        return [item for one in part for item in _items(one, values)]
    return part


def _there(value: Any) -> bool:
    return value is not _ABSENT


def _text(text: str, values: Mapping[str, Any]) -> Any:
    alone = PLACEHOLDER.fullmatch(text)
    if alone:
        return values.get(alone[1], _ABSENT)
    names = [m[1] for m in PLACEHOLDER.finditer(text)]
    if any(name not in values for name in names):
        return _ABSENT
    return PLACEHOLDER.sub(lambda m: _plain(values[m[1]]), text)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _items(part: Any, values: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(part, dict) and EACH in part:
        for text in values.get(part[EACH]) or ():
            yield _insert(part[ITEM], {**values, ITEM_NAME: text})
        return
    item = _insert(part, values)
    if _there(item):
        yield item


@dataclass(frozen=True)
class Use:
    """A place in a template that names a parameter."""

    name: str
    alone: bool
    each: bool = False
    has_default: bool = False


def names_used(part: object, bound: frozenset[str] = frozenset()) -> Iterator[Use]:
    """Every place in `part` that names a parameter."""
    if isinstance(part, str):
        for match in PLACEHOLDER.finditer(part):
            if match[1] not in bound:
                alone = match[0] == part
                yield Use(match[1], alone, has_default=match[2] is not None)
    elif isinstance(part, dict) and EACH in part:
        yield Use(str(part[EACH]), alone=True, each=True)
        yield from names_used(part.get(ITEM), bound | {ITEM_NAME})
    elif isinstance(part, dict):
        for child in part.values():
            yield from names_used(child, bound)
    elif isinstance(part, list):
        for child in part:
            yield from names_used(child, bound)


def misplaced(part: object, in_list: bool = False) -> Iterator[str]:
    """What is wrong with each ``$each`` in `part`."""
    if isinstance(part, dict):
        if EACH in part and (not in_list or part.keys() != {EACH, ITEM}):
            yield f"{EACH}: {part[EACH]} must be an item of a list, with {ITEM} beside it alone"
        for child in part.values():
            yield from misplaced(child)
    elif isinstance(part, list):
        for child in part:
            yield from misplaced(child, True)
