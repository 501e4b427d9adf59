"""The JSON Schemas of job files and of data sources, for editors: ``vecferry schema``.

Stands apart from `vecferry.pipelines.cli.commands` because it knows settings, and no command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vecferry.fields import described, models_in
from vecferry.pipelines.job.model import Job
from vecferry.pipelines.registry import connection_of, connections, kinds, settings_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_AS_TEXT = {"type": "string", "pattern": r"^\s*-?[\d.]+\s*$|\$\{.+\}"}
_FLAG_AS_TEXT = {"type": "string", "pattern": r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$|\$\{.+\}"}
_ABOUT = {
    "title", "description", "default", "examples", "group", "order", "advanced", "visible",
    "otherwise", "see", "secret", "writeOnly",
}  # fmt: skip
"""What is said of a field, beside the values that it takes."""
_ONE_OR_MANY = {
    "embeddingColumns", "jdbcUrl", "object", "partition", "path", "paths", "querySql",
    "sourceColumnNames", "table",
}  # fmt: skip
_PLACEHOLDER = {"type": "string", "pattern": r"\$\{.+\}"}


def job_schema() -> dict[str, Any]:
    """The schema of a job, with the parameters of each stepType (JSON Schema 2020-12)."""
    by_type = {
        name: {kind.role: settings_of(kind) for kind in found} for name, found in kinds().items()
    }
    known = dict.fromkeys(model for roles in by_type.values() for model in roles.values())
    models = [(Job, "validation"), *((model, "validation") for model in known)]
    refs, definitions = models_json_schema(
        models,  # type: ignore[arg-type]
        ref_template="#/$defs/{model}",
        title="A vecferry job",
    )
    defs = _definitions(definitions, [Job, *known])
    step = defs["Step"]
    step["properties"]["stepType"] = _own(step["properties"]["stepType"]) | {
        "enum": sorted(by_type)
    }
    step["allOf"] = [
        {
            "if": {"properties": {"stepType": {"const": name}} | _only(role, roles)},
            "then": {"properties": {"parameter": refs[model, "validation"]}},
        }
        for name, roles in sorted(by_type.items())
        for role, model in roles.items()
    ]
    job = defs.pop("Job")
    job["required"] = [name for name in job["required"] if name != "steps"]
    job["anyOf"] = [{"required": ["steps"]}, {"required": ["mapping"]}]
    return {
        "$schema": DRAFT,
        "title": "A vecferry job",
        **{k: v for k, v in job.items() if k != "title"},
        "$defs": defs,
    }


def data_sources_schema() -> dict[str, Any]:
    """The schema of a file of data sources, with the keys of each type (JSON Schema 2020-12)."""
    known = {name: connection_of(found) for name, found in sorted(connections().items())}
    refs, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(known.values())],
        ref_template="#/$defs/{model}",
    )
    one = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(known), "title": "Type"}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": refs[model, "validation"],
            }
            for name, model in known.items()
        ],
    }
    return {
        "$schema": DRAFT,
        "title": "Data sources of vecferry",
        "description": "connections by name, kept apart from jobs",
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
        "additionalProperties": one,
        "$defs": _definitions(definitions, known.values()),
    }


def _definitions(
    definitions: dict[str, Any], models: Iterable[type[BaseModel]]
) -> dict[str, dict[str, Any]]:
    """The schemas of classes by name, with what is told of their fields, as the models accept."""
    classes = {found.__name__: found for model in models for found in _with_parts(model)}
    return {
        name: _lenient(_told(body, classes[name]) if name in classes else body)
        for name, body in definitions["$defs"].items()
    }


def _with_parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A class of settings and all classes of its parts."""
    yield model
    for field in model.model_fields.values():
        for part in models_in(field.annotation):
            yield from _with_parts(part)


def _told(schema: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a class of settings, with the order, the choices and examples of each field.

    A field that has several names, or that something else fills, is not required.
    """
    fields = {field.name: field for field in described(model)}
    properties = {
        name: _chosen(body)
        | {
            "title": fields[name].title,
            "order": fields[name].order,
            "examples": [*fields[name].examples],
        }
        for name, body in schema.get("properties", {}).items()
    }
    required = [name for name, field in fields.items() if field.required and not field.others]
    return schema | {"properties": properties, "required": required}


def _chosen(body: dict[str, Any]) -> dict[str, Any]:
    """A property whose texts are those of its choices."""
    choices = body.get("choices")
    rest = {key: value for key, value in body.items() if key != "choices"}
    if not choices:
        return rest
    if rest.get("type") == "string":
        return rest | {"enum": choices}
    texts = [
        part | {"enum": choices} if part.get("type") == "string" else part
        for part in rest.get("anyOf", [])
    ]
    return rest | {"anyOf": texts}


def _only(role: str, roles: Collection[str]) -> dict[str, Any]:
    """The condition that tells one role of a stepType from its other roles."""
    return {"category": {"const": role}} if len(roles) > 1 else {}


def _lenient(schema: Any) -> Any:
    """`schema` as the models accept it.

    Numbers and flags may also be texts, and any of these texts may hold placeholders. Where the
    models accept one item for a list, so does the schema.
    """
    if isinstance(schema, list):
        return [_lenient(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {k: v if k in _ABOUT else _lenient(v) for k, v in schema.items()}
    if "column" in schema.get("properties", {}) and "items" in schema["properties"]["column"]:
        column = schema["properties"]["column"]
        column["items"] = {"anyOf": [column["items"], {"type": "string"}]}
    for name in _ONE_OR_MANY & schema.get("properties", {}).keys():
        schema["properties"][name] = _one_or_many(schema["properties"][name])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _either(schema, _AS_TEXT)
    if kind == "boolean":
        return _either(schema, _FLAG_AS_TEXT)
    if kind == "string" and "enum" in schema:
        return _either(schema, {"type": "string"})  # names are offered, and taken in any case
    if kind == "string" and "pattern" in schema:
        return _either(schema, _PLACEHOLDER)
    return schema


def _one_or_many(schema: dict[str, Any]) -> dict[str, Any]:
    return _either(schema, schema["items"]) if "items" in schema else schema


def _either(schema: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    outside = _own(schema)
    inside = {key: value for key, value in schema.items() if key not in _ABOUT}
    return {**outside, "anyOf": [inside, other]}


def _own(schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema says of itself, beside the values that it takes."""
    return {key: value for key, value in schema.items() if key in _ABOUT}
