"""Puts values of parameters into a template, without parsing the result as text.

``${name}`` alone becomes the value with its type. Inside a text, ``${name}`` becomes the text of
the value. If a parameter has no value, its key or item is left out. A mapping that loses all of its
keys is left out as well. ``{$each: name, $item: …}`` in a list becomes one item for each text of a
list, with ``${item}`` for the text. ``{$if: name, $then: …, $else: …}`` becomes one of the two
parts, or is left out where that part is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecferry.errors import shorten
from vecferry.pipelines.job.placeholders import PLACEHOLDER

EACH, ITEM = "$each", "$item"
IF, THEN, ELSE = "$if", "$then", "$else"
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
    if isinstance(part, dict) and IF in part:
        chosen = _chosen(part, values)
        return chosen if chosen is _ABSENT else _insert(chosen, values)
    if isinstance(part, dict):
        kept = {k: v for k, v in ((k, _insert(v, values)) for k, v in part.items()) if _there(v)}
        return kept if kept or not part else _ABSENT
    if isinstance(part, list):
        return [item for one in part for item in _items(one, values)]
    return part


def _chosen(part: dict[str, Any], values: Mapping[str, Any]) -> Any:
    """The part that a condition leads to: ``$then`` for a value but false and an empty list."""
    value = values.get(part[IF])
    return part.get(ELSE if value is None or value is False or value == [] else THEN, _ABSENT)


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
    if isinstance(part, dict) and IF in part:
        chosen = _chosen(part, values)
        if _there(chosen):
            yield from _items(chosen, values)
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
        if IF in part:
            yield Use(str(part[IF]), alone=True)
        for key, child in part.items():
            if key != IF:
                yield from names_used(child, bound)
    elif isinstance(part, list):
        for child in part:
            yield from names_used(child, bound)


def misplaced(part: object, in_list: bool = False) -> Iterator[str]:
    """What is wrong with each ``$each`` and ``$if`` in `part`."""
    if isinstance(part, dict):
        if EACH in part and (not in_list or part.keys() != {EACH, ITEM}):
            yield f"{EACH}: {part[EACH]} must be an item of a list, with {ITEM} beside it alone"
        yield from _ill_formed(part)
        for key, child in part.items():
            yield from misplaced(child, in_list and key in (THEN, ELSE))
    elif isinstance(part, list):
        for child in part:
            yield from misplaced(child, True)


def _ill_formed(part: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a condition, or with parts of one that stand alone."""
    if IF not in part:
        for key in (THEN, ELSE):
            if key in part:
                yield f"{key} stands without {IF}: name the parameter that decides, as {IF}"
        return
    others = part.keys() - {IF, THEN, ELSE}
    if not isinstance(part[IF], str):
        given = shorten(part[IF], form=repr)
        yield f"{IF}: {given} is not the name of a parameter: write the name alone"
    elif others:
        names = ", ".join(sorted(map(str, others)))
        yield f"{IF}: {part[IF]} has {names} beside it: put them into {THEN} or {ELSE}"
    elif part.keys() == {IF}:
        yield f"{IF}: {part[IF]} leads to nothing: add {THEN} or {ELSE}"
