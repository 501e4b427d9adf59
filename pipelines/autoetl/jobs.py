"""The job of a mapping: step 0 reads the table, step 1 embeds, step 2 writes into the index.

Apart from `vecferry.pipelines.autoetl.expand` because it asks nobody: parts in, a job out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vecferry.errors import JobError
from vecferry.pipelines.autoetl.bodies import Document
from vecferry.pipelines.autoetl.connectors import Endpoint
from vecferry.pipelines.autoetl.mappings import Item, TableMapping
from vecferry.pipelines.autoetl.tokens import quoted

READER, EMBEDDING, WRITER = "mysql-cdc", "embedding-transformer", "opensearch"
PROVIDER = "connector"


@dataclass(frozen=True)
class Vectors:
    """What a job embeds itself.

    Attributes:
      endpoint: what makes the vectors.
      field_map: the vector field of each text field.
      dimension: the size of the vectors; None where nothing tells it.
      trusted: the endpoints that may be called, as regular expressions; None without a list.
    """

    endpoint: Endpoint
    field_map: Mapping[str, str]
    dimension: int | None = None
    trusted: Sequence[str] | None = None


@dataclass(frozen=True)
class Parts:
    """All that a job is made of.

    Attributes:
      source: the data source of the database.
      target: the data source of the index.
      mapping: the table and the index; its keys are known.
      vectors: what the job embeds; None where it embeds nothing.
      index_body: the body of an index that is missing, or its file.
      pipeline: the pipeline that the server runs; None leaves it to the index.
      steps: what the job says itself of its steps.
    """

    source: str
    target: str
    mapping: TableMapping
    vectors: Vectors | None = None
    index_body: str | Document | None = None
    pipeline: str | None = None
    steps: Sequence[Document] = field(default=())


def job_of(parts: Parts) -> Document:
    """The job as a job file has it. Raises JobError if the parts don't fit."""
    mapping = _without_clashes(parts.mapping)
    _require_clear_keys(mapping)
    steps = [_step(READER, "reader", "Read", _reader(parts.source, mapping))]
    made: dict[str, str] = {}
    if parts.vectors is not None:
        parameter, made = _embedding(parts.vectors, mapping)
        steps.append(_step(EMBEDDING, "map", "Embed", parameter))
    own = [copy.deepcopy(step) for step in parts.steps]
    steps = [*_merged(steps, own), *_others(own)]
    for step in steps[1:]:
        made |= _made_by(step, made)
    writer = _step(WRITER, "writer", "Write", _writer(parts, mapping, made))
    steps += _merged([writer], own)
    setting: Document = {"positions": f"positions/{mapping.index}"}
    if parts.vectors is not None and parts.vectors.trusted is not None:
        setting["trustedEndpoints"] = list(parts.vectors.trusted)
    return {"name": mapping.index, "steps": steps, "setting": setting}


def _step(step_type: str, category: str, name: str, parameter: Document) -> Document:
    return {"stepType": step_type, "category": category, "name": name, "parameter": parameter}


def _without_clashes(mapping: TableMapping) -> TableMapping:
    """The mapping with names for its expressions that no column of the key has."""
    taken = {item.column for item in mapping.items if item.expression is None} | {*mapping.keys}

    def renamed(item: Item) -> Item:
        name = item.column
        while item.expression is not None and name in taken:
            name += "_"
        return Item(item.field, name, item.expression)

    return TableMapping(
        mapping.index,
        mapping.database,
        mapping.table,
        tuple(map(renamed, mapping.items)),
        mapping.keys,
        mapping.where,
    )


def _require_clear_keys(mapping: TableMapping) -> None:
    """Raises JobError where a column of the key would be mistaken for a field."""
    fields = {item.field: item.column for item in mapping.items}
    filled = {*fields.values()}
    for key in mapping.keys:
        if key in fields and fields[key] != key and key not in filled:
            raise JobError(
                f"mapping: column {key!r} is of the key, and field {key!r} is filled from "
                f"{fields[key]!r}: fill a field from column {key!r} as well"
            )


def _reader(source: str, mapping: TableMapping) -> Document:
    columns = ["*"]
    if mapping.items:
        named = {
            item.column: quoted(item.column)
            if item.expression is None
            else f"{item.expression} AS `{item.column}`"  # it may be a word of SQL
            for item in mapping.items
        }
        named |= {key: quoted(key) for key in mapping.keys}
        columns = list(named.values())
    parameter: Document = {"datasource": source, "table": mapping.table_name, "column": columns}
    if mapping.where is not None:
        parameter["where"] = mapping.where
    return parameter


def _embedding(vectors: Vectors, mapping: TableMapping) -> tuple[Document, dict[str, str]]:
    """The parameters of the step that embeds, and vector field -> its column in a row."""
    endpoint = vectors.endpoint
    into = {item.field: item.column for item in mapping.items}
    read = {*into.values(), *mapping.keys}
    columns, made = [], {}
    for text, field_name in vectors.field_map.items():
        if mapping.items and text not in into:
            continue  # the server would embed nothing of such a document, either
        if field_name in into:
            raise JobError(
                f"mapping: field {field_name!r} is filled from {into[field_name]!r}, and the "
                f"pipeline makes its vector of {text!r}: leave it out of the mapping"
            )
        name = field_name
        while name in read:
            name += "_"
        made[field_name] = name
        columns.append({"sourceColumnNames": [into.get(text, text)], "embeddingColumnName": name})
    if not columns:
        raise JobError(
            f"mapping: the pipeline embeds {', '.join(vectors.field_map)}, and the mapping fills "
            f"{', '.join(into)}: fill such a field, or leave the pipeline out"
        )
    parameter: Document = {
        "modelProvider": PROVIDER,
        "modelName": endpoint.model,
        "endpoint": endpoint.endpoint,
        "apiKey": endpoint.api_key,
        "headers": dict(endpoint.headers),
        "requestBody": endpoint.request_body,
        "dimension": vectors.dimension,
        "skipEmptyValue": True,
        "embeddingColumns": columns,
    }
    return {name: value for name, value in parameter.items() if value not in (None, {})}, made


def _writer(parts: Parts, mapping: TableMapping, made: Mapping[str, str]) -> Document:
    items = mapping.items
    parameter: Document = {"datasource": parts.target, "index": mapping.index}
    if parts.index_body is not None:
        parameter["indexBody"] = parts.index_body
    pipeline = "_none" if made else parts.pipeline
    if pipeline is not None:
        parameter["pipeline"] = pipeline
    if items:
        columns = {item.field: item.column for item in items} | dict(made)
        parameter["columnMapping"] = [
            {"sourceColName": column, "dstColName": field} for field, column in columns.items()
        ]
    else:
        parameter["dynamic"] = True
    if mapping.keys:
        fields = {item.column: item.field for item in reversed(items)}
        names = [fields.get(key, key) for key in mapping.keys]
        parameter["primaryKeyInfo"] = {"type": "specific", "column": names}
    parameter["jsonAsText"] = True
    return parameter


def _merged(made: Sequence[Document], own: list[Document]) -> list[Document]:
    """Steps with what the job says of steps of their type, which are taken out of `own`."""
    merged = []
    for step in made:
        same = next((s for s in own if s.get("stepType") == step["stepType"]), None)
        if same is None:
            merged.append(step)
            continue
        own.remove(same)
        parameter = {**step["parameter"], **(same.get("parameter") or {})}
        merged.append({**step, **same, "parameter": parameter})
    return merged


def _others(own: list[Document]) -> list[Document]:
    """The transformers that the job adds, which are taken out of `own`."""
    for step in own:
        if step.get("category") in ("reader", "writer") and step.get("stepType") != WRITER:
            raise JobError(
                f"mapping: the job has a {step['category']} of stepType {step.get('stepType')!r}, "
                f"and a mapping reads by {READER} and writes by {WRITER}: leave the step out"
            )
    found = [step for step in own if step.get("category") not in ("reader", "writer")]
    own[:] = [step for step in own if step not in found]
    return found


def _made_by(step: Document, known: Mapping[str, str]) -> dict[str, str]:
    """The vector columns of a step that the job adds or changes, each for the field of its name."""
    parameter = step.get("parameter")
    given = parameter.get("embeddingColumns") if isinstance(parameter, dict) else None
    listed = [given] if isinstance(given, dict) else given
    names = [
        str(column.get("embeddingColumnName"))
        for column in (listed if isinstance(listed, list) else [])
        if isinstance(column, dict)
    ]
    return {name: name for name in names if name not in known.values()}
