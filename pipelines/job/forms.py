"""Strict schemas of steps and data sources, for generators of forms: ``vecferry schema --form``.

Stands apart from `vecferry.pipelines.job.schema` because editors need all that a job may say, and a
form needs one way to say it.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from vecferry.fields import GROUPS, Described, described
from vecferry.kinds import Kind
from vecferry.pipelines.job.model import Setting
from vecferry.pipelines.job.schema import DRAFT
from vecferry.pipelines.registry import connection_of, connections, kinds, settings_of

_PLAIN: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def form_schema() -> dict[str, Any]:
    """What forms of jobs are made of.

    Each field has one type, and the choices of its own. `visible` names the field that it depends
    on, and the values of that field. Without `values`, any value makes it visible.

    Returns:
      ``steps`` by stepType and role, ``dataSources`` by type, the ``setting`` of a job, and the
      ``groups`` in their order. Each part is a JSON Schema (2020-12) of an object.
    """
    return {
        "$schema": DRAFT,
        "groups": list(GROUPS),
        "steps": {
            name: {kind.role: _step(kind) for kind in found}
            for name, found in sorted(kinds().items())
        },
        "dataSources": {
            name: _object(connection_of(found)) for name, found in sorted(connections().items())
        },
        "setting": _object(Setting),
    }


def _step(kind: Kind) -> dict[str, Any]:
    form = _object(settings_of(kind), without=kind.takes)
    source = form["properties"].get(kind.source_key)
    if source is not None and kind.sources:
        source["dataSourceTypes"] = list(kind.sources)
    return form


def _object(model: type[BaseModel], without: Collection[str] = ()) -> dict[str, Any]:
    fields = [field for field in described(model) if field.name not in without]
    return {
        "title": model.__name__,
        "description": inspect.cleandoc(model.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": {field.name: _field(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _field(field: Described) -> dict[str, Any]:
    form = {
        **_type(field.types[0] if str not in field.types else str),
        **field.bounds,
        "title": field.title,
        "description": field.description,
        "group": field.group,
        "order": field.order,
        "advanced": field.advanced,
        "examples": list(field.examples),
    }
    if field.choices and form["type"] != "boolean":
        form["enum"] = list(field.choices)
    if field.default is not None and type(field.default) in _PLAIN:
        form["default"] = field.default
    if field.visible:
        form["visible"] = field.visible
    if field.secret:
        form["writeOnly"] = True
    return form | {key: text for key in ("otherwise", "see") if (text := getattr(field, key))}


def _type(kind: Any) -> dict[str, Any]:
    """The one type of a field; a value of any type is written as a text."""
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _object(kind)
    if origin is Literal:
        return {"type": _PLAIN[type(parts[0])]}
    if origin in (list, tuple, set, frozenset):
        return {"type": "array", "items": _type(parts[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": parts[1] is not str or _type(str)}
    return {"type": _PLAIN.get(kind, "string")}
