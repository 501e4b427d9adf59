"""An ingest pipeline and the body of an index, read as what the server would embed.

Apart from `vecferry.pipelines.autoetl.jobs` because these are bodies of another program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecferry.errors import JobError

PROCESSOR = "text_embedding"
SERVER = "embed: server leaves it to the server"
_KNOWN = frozenset(
    {"model_id", "field_map", "batch_size", "description", "tag", "ignore_failure", "skip_existing"}
)


@dataclass(frozen=True)
class Ingest:
    """What a pipeline embeds: the id of its model, and the vector field of each text field."""

    model_id: str
    field_map: Mapping[str, str]


def ingest_of(body: Mapping[str, Any], where: str) -> Ingest:
    """What an ingest pipeline embeds; JobError holds all that vecferry would not do as it does."""
    problems: list[str] = []
    models: list[str] = []
    fields: dict[str, str] = {}
    listed = body.get("processors")
    for processor in listed if isinstance(listed, list) else []:
        for kind, given in processor.items() if isinstance(processor, Mapping) else ():
            if kind != PROCESSOR or not isinstance(given, Mapping):
                problems.append(f"{where}: its processor {kind!r} is not done here: {SERVER}")
                continue
            problems += [
                f"{where}: its processor has {key!r}, which is not done here: {SERVER}"
                for key in given.keys() - _KNOWN
            ]
            models.append(str(given.get("model_id") or ""))
            problems += _mapped(given.get("field_map"), fields, where)
    if not models and not problems:
        problems.append(
            f"{where}: it has no processor {PROCESSOR}: add one, or leave the pipeline out"
        )
    if len(set(models)) > 1:
        problems.append(
            f"{where}: it embeds by several models ({', '.join(sorted(set(models)))}), and one "
            f"step makes all vectors: {SERVER}"
        )
    if problems:
        raise JobError(problems)
    return Ingest(models[0], fields)


def _mapped(given: object, fields: dict[str, str], where: str) -> Iterator[str]:
    """Takes a field_map into `fields`; gives its problems."""
    if not isinstance(given, Mapping) or not given:
        yield f"{where}: its processor has no field_map: name the text field and the vector field"
        return
    for text, vector in given.items():
        if isinstance(vector, str) and "." not in f"{text}{vector}":
            fields[str(text)] = vector
        else:
            yield (
                f"{where}: field_map goes into objects at {text!r}, which is not done here: "
                f"{SERVER}"
            )


def default_pipeline(index: Mapping[str, Any]) -> str | None:
    """The pipeline that the body of an index names as its own."""
    settings = index.get("settings") or {}
    index_settings = settings.get("index")
    nested = index_settings if isinstance(index_settings, Mapping) else {}
    found = (
        settings.get("index.default_pipeline"),
        settings.get("default_pipeline"),
        nested.get("default_pipeline"),
    )
    return next((str(name) for name in found if name not in (None, "", "_none")), None)


def dimension_of(index: Mapping[str, Any], field: str) -> int | None:
    """The dimension of a vector field in the body of an index; None where it tells none."""
    properties = (index.get("mappings") or {}).get("properties") or {}
    dimension = (properties.get(field) or {}).get("dimension")
    return int(dimension) if dimension is not None else None
