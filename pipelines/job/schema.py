"""The JSON Schema of job files, for editors: ``vecferry schema``.

Stands apart from `vecferry.pipelines.cli.commands` because it knows settings, and no command line.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic.json_schema import models_json_schema

from vecferry.pipelines.job.model import Job
from vecferry.pipelines.registry import kinds, settings_of

_AS_TEXT = {"type": "string", "pattern": r"^\s*-?[\d.]+\s*$|\$\{.+\}"}
_FLAG_AS_TEXT = {"type": "string", "pattern": r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$|\$\{.+\}"}
_ONE_OR_MANY = {"embeddingColumns", "object", "partition", "path", "paths", "sourceColumnNames"}
_OTHER_NAMES = {"object", "path", "paths", "fileFormat", "fileType"}
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
    defs = {name: _lenient(body) for name, body in definitions["$defs"].items()}
    step = defs["Step"]
    step["properties"]["stepType"] = {"enum": sorted(by_type), "title": "Steptype"}
    step["allOf"] = [
        {
            "if": {"properties": {"stepType": {"const": name}} | _only(role, roles)},
            "then": {"properties": {"parameter": refs[model, "validation"]}},
        }
        for name, roles in sorted(by_type.items())
        for role, model in roles.items()
    ]
    job = defs.pop("Job")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A vecferry job",
        **{k: v for k, v in job.items() if k != "title"},
        "$defs": defs,
    }


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
    schema = {k: _lenient(v) for k, v in schema.items()}
    if "column" in schema.get("properties", {}) and "items" in schema["properties"]["column"]:
        column = schema["properties"]["column"]
        column["items"] = {"anyOf": [column["items"], {"type": "string"}]}
    if "required" in schema:  # these have other names, too
        schema["required"] = [n for n in schema["required"] if n not in _OTHER_NAMES]
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
    names = ("title", "default", "description")
    outside: dict[str, Any] = {k: schema.pop(k) for k in names if k in schema}
    return {**outside, "anyOf": [schema, other]}
