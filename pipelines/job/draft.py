"""Drafts a first job from what was looked at: a key, texts to embed, a target, all to be changed.

Stands apart from `vecferry.pipelines.cli.init` because it asks nobody and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vecferry.browse import ColumnInfo, Draft
from vecferry.errors import JobError, near

PROVIDERS: dict[str, tuple[str | None, int, str | None]] = {
    "local": (None, 256, None),
    "bailian": ("text-embedding-v4", 1024, "DASHSCOPE_API_KEY"),
    "openai": ("text-embedding-3-small", 1536, "OPENAI_API_KEY"),
}
"""The providers of a first job: model, dimension, and the variable that holds the key."""

_IN_MILVUS = {
    "long": "Int64", "double": "Double", "boolean": "Bool", "string": "VarChar", "json": "JSON",
}  # fmt: skip
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_KEY_NAME = re.compile(r"(?i)(.*[_ -])?(id|key|uuid|guid|pk|sku|code|isbn|url|uri)|.*[a-z]Id|编号")
LONGEST_KEY = 64
"""A key of text is hardly longer, and has no blanks."""
LEAST_WORDS = 3.0
"""So many words a text that is worth embedding has on average."""
_TITLE = re.compile(r"(?i)title|headline|subject|标题")
CHUNK_SIZE = 1000
"""The characters of a chunk: a few paragraphs, which any model takes."""
LONGEST_CHUNK = 8192
"""The bytes that a chunk with its headings may have."""
_OF_CHUNKS = ("path", "title")
"""The columns of a document that stand beside each chunk."""
LEAST_LETTERS = 12.0
"""The same in characters, for languages without blanks between words."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a first job is made with; `key` is None where the store makes keys."""

    key: str | None
    texts: tuple[str, ...]
    provider: str = "local"


def is_of_documents(draft: Draft) -> bool:
    """Whether the rows are documents, which a first job cuts into chunks."""
    return bool(draft.parameter.get("fileFormat") == "document")


@dataclass(frozen=True, kw_only=True)
class FirstJob:
    """A job and its data sources, as documents; `variables` are to be set before a run.

    `left_out` are the columns that the target takes not, or not without more being said.
    """

    job: dict[str, Any]
    sources: dict[str, Any]
    variables: tuple[str, ...]
    left_out: tuple[str, ...]


def guess_key(columns: Sequence[ColumnInfo], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that seems to be the key: unique, never null, named or looking like one."""
    declared = [c.name for c in columns if c.key]
    if len(declared) == 1:
        return declared[0]
    ranked = []
    for at, column in enumerate(columns):
        values = [row.get(column.name) for row in rows]
        if column.type not in ("long", "string") or not _unique(values):
            continue
        named = _KEY_NAME.fullmatch(column.name) is not None
        texts = [str(v) for v in values]
        short = all(len(t) <= LONGEST_KEY and not re.search(r"\s", t) for t in texts)
        if named or column.type == "long" or short:
            ranked.append((not named, column.type != "long", at, column.name))
    return min(ranked)[-1] if ranked else None


def _unique(values: Sequence[Any]) -> bool:
    return all(v is not None and v != "" for v in values) and len(set(values)) == len(values) > 0


def guess_texts(
    columns: Sequence[ColumnInfo], rows: Sequence[Mapping[str, Any]], key: str | None
) -> tuple[str, ...]:
    """The columns that seem to hold texts: several words; else the one with the longest values."""
    lengths: dict[str, float] = {}
    chosen = []
    for column in columns:
        texts = [str(row[column.name]) for row in rows if row.get(column.name)]
        if column.type != "string" or column.name == key or not texts:
            continue
        lengths[column.name] = sum(map(len, texts)) / len(texts)
        words = sum(len(t.split()) for t in texts) / len(texts)
        wide = all(not t.isascii() for t in texts) and lengths[column.name] >= LEAST_LETTERS
        if words >= LEAST_WORDS or wide or _TITLE.fullmatch(column.name):
            chosen.append(column.name)
    if not chosen and lengths:
        return (max(lengths, key=lambda name: lengths[name]),)
    return tuple(chosen)


def require_columns(option: str, given: Sequence[str], columns: Sequence[ColumnInfo]) -> None:
    """Raises JobError for a column that is not there, with the nearest one."""
    names = [c.name for c in columns]
    for name in given:
        if name not in names:
            raise JobError(
                f"{option}: there is not a column {name!r}{near(name, names)}; "
                f"there are {', '.join(names)}"
            )


def first_job(
    name: str,
    draft: Draft,
    choices: Choices,
    *,
    reads: tuple[str, Mapping[str, Any]],
    writes: tuple[str, Mapping[str, Any]],
) -> FirstJob:
    """The job that reads the data source `reads` and writes the Milvus `writes`.

    Each is the name of a data source, and the data source itself as a file has it.
    """
    require_columns("--text", choices.texts, draft.columns)
    require_columns("--key", [choices.key] if choices.key else [], draft.columns)
    if not choices.texts:
        raise JobError("there is not a column of texts to embed; name one with --text")
    _, dimension, variable = PROVIDERS[choices.provider]
    if is_of_documents(draft):
        return _of_chunks(name, draft, choices, reads=reads, writes=writes)
    names = [c.name for c in draft.columns]
    vector = next(n for n in ("vector", "embedding", "text_vector") if n not in names)
    taken = [c for c in draft.columns if c.type in _IN_MILVUS]
    kept = {c.name for c in taken}
    read = [
        c for c in draft.parameter["column"] if (c["name"] if isinstance(c, dict) else c) in kept
    ]
    reader = {"datasource": reads[0], **draft.parameter, "column": read}
    embed = _embed(choices.provider, choices.texts, vector)
    writer = _writer(name, writes[0], taken, choices.key, (vector, dimension))
    job = {
        "type": "job",
        "version": "2.0",
        "steps": [
            _step(draft.step_type, "reader", "Read", reader),
            _step("embedding-transformer", "map", "Embed", embed),
            _step("milvus", "writer", "Write", writer),
        ],
    }
    return FirstJob(
        job=job,
        sources={reads[0]: dict(reads[1]), writes[0]: dict(writes[1])},
        variables=() if variable is None else (variable,),
        left_out=tuple(n for n in names if n not in kept),
    )


def _of_chunks(
    name: str,
    draft: Draft,
    choices: Choices,
    *,
    reads: tuple[str, Mapping[str, Any]],
    writes: tuple[str, Mapping[str, Any]],
) -> FirstJob:
    """The job that cuts documents into chunks; a document that is read again replaces its own."""
    _, dimension, variable = PROVIDERS[choices.provider]
    column = [*_OF_CHUNKS, "text"]
    split = {
        "sourceColumnName": "text",
        "parentColumns": ["path"],
        "chunkSize": CHUNK_SIZE,
        "by": "markdown",
    }
    chunk = {"type": "VarChar", "maxLength": LONGEST_CHUNK}
    path = {"type": "VarChar", "maxLength": 1024}
    writer = {
        "datasource": writes[0],
        "collection": _field(name, ()),
        "parentKey": ["path"],
        "column": [
            {"name": "chunk_id", "type": "VarChar", "maxLength": 1100, "primaryKey": True},
            {"name": "path", **path},
            {"name": "chunk_index", "type": "Int64"},
            {"name": "chunk", **chunk},
            {"name": "headings", **chunk, "nullable": True},
            {"name": "title", **chunk, "nullable": True},
            {"name": "vector", "type": "FloatVector", "dimension": dimension},
        ],
    }
    steps = [
        _step(
            draft.step_type,
            "reader",
            "Read",
            {"datasource": reads[0], **draft.parameter, "column": column},
        ),
        _step("text-splitting", "flatmap", "Split", split),
        _step(
            "embedding-transformer", "map", "Embed", _embed(choices.provider, ["chunk"], "vector")
        ),
        _step("milvus", "writer", "Write", writer),
    ]
    return FirstJob(
        job={"type": "job", "version": "2.0", "steps": steps},
        sources={reads[0]: dict(reads[1]), writes[0]: dict(writes[1])},
        variables=() if variable is None else (variable,),
        left_out=(),
    )


def _embed(provider: str, texts: Sequence[str], vector: str) -> dict[str, Any]:
    model, dimension, variable = PROVIDERS[provider]
    embed: dict[str, Any] = {"modelProvider": provider}
    embed |= {} if model is None else {"modelName": model, "dimension": dimension}
    embed |= {} if variable is None else {"apiKey": f"${{{variable}}}"}
    embed |= {"nullAsEmptyString": True} if len(texts) > 1 else {}
    made = {"sourceColumnNames": list(texts), "embeddingColumnName": vector}
    return {**embed, "embeddingColumns": made}


def _step(step_type: str, category: str, name: str, parameter: dict[str, Any]) -> dict[str, Any]:
    return {"stepType": step_type, "category": category, "name": name, "parameter": parameter}


def _writer(
    name: str,
    source: str,
    taken: Sequence[ColumnInfo],
    key: str | None,
    vector: tuple[str, int],
) -> dict[str, Any]:
    """The step that writes a collection, which is made if it is missing."""
    fields: dict[str, str] = {}
    columns: list[dict[str, Any]] = []
    if key is None:
        made = "id" if not any(c.name == "id" for c in taken) else "row_id"
        columns.append({"name": made, "type": "Int64", "primaryKey": True, "autoId": True})
        fields[made] = ""
    for column in sorted(taken, key=lambda c: c.name != key):
        field = _field(column.name, fields)
        fields[field] = column.name
        columns.append({"name": field, **_typed(column, key=column.name == key)})
    columns.append({"name": vector[0], "type": "FloatVector", "dimension": vector[1]})
    parameter: dict[str, Any] = {
        "datasource": source,
        "collection": _field(name, ()),
        "column": columns,
    }
    if key is None:
        parameter["writeMode"] = "insert"
    if any(field != column for field, column in fields.items() if column):
        fields[vector[0]] = vector[0]
        parameter["columnMapping"] = [
            {"sourceColName": c, "dstColName": f} for f, c in fields.items() if c
        ]
    return parameter


def _typed(column: ColumnInfo, *, key: bool) -> dict[str, Any]:
    typed: dict[str, Any] = {"type": _IN_MILVUS[column.type]}
    if column.type == "string":
        typed["maxLength"] = 1024 if key else 65535
    if key:
        return {**typed, "primaryKey": True}
    return {**typed, "nullable": True}  # a sample without null says little of the rows behind it


def _field(name: str, used: Mapping[str, str] | tuple[()]) -> str:
    """A name that Milvus takes, and that is not used."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "column"
    plain = plain if plain[0].isalpha() else f"c_{plain}"
    field = name if _FIELD.fullmatch(name) else plain[:200]
    number = 2
    while field in used:
        field, number = f"{plain[:200]}_{number}", number + 1
    return field
