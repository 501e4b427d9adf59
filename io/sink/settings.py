"""What the writers of all stores say alike in a job. Imports neither Beam nor a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from vecferry.chunks import CHUNK_COUNT, CHUNK_INDEX
from vecferry.errors import near
from vecferry.fields import in_form
from vecferry.settings import Settings, pick

CREATE_MODES = ("createIfNotExist", "ignore", "recreate")


def _create_mode(value: object) -> str:
    return pick(value, CREATE_MODES, "schemaCreateMode")


CreateMode = Annotated[
    str,
    BeforeValidator(_create_mode),
    Field(
        description="whether a missing target is created, or one that is there is dropped before",
        json_schema_extra=in_form("creation", choices=CREATE_MODES),
    ),
]
"""Whether a job creates a missing target, or also drops one that is there."""


INDEX_TIMES = ("after", "before")


def _index_when(value: object) -> str:
    return pick(value, INDEX_TIMES, "indexWhen")


IndexWhen = Annotated[
    str,
    BeforeValidator(_index_when),
    Field(
        description="a new target gets its index `after` the last row, or `before` the first",
        json_schema_extra=in_form("creation", advanced=True, choices=INDEX_TIMES),
    ),
]
"""When a target that a job creates gets what makes it quick to search."""


OwnsTarget = Annotated[
    bool,
    Field(
        description="the job may drop or delete what it did not write: by `recreate`, or in a sync",
        json_schema_extra=in_form("creation"),
    ),
]
"""Whether nobody else keeps rows in the target."""


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


ParentKey = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    Field(
        description="the columns that name the document of a chunk: a document replaces its chunks",
        examples=[["path"]],
        json_schema_extra=in_form("write", see="documents.md#documents-that-change"),
    ),
]
"""The columns of the row by which a writer knows the chunks of one document."""


def parent_inputs(parent_key: Sequence[str]) -> list[str]:
    """The columns that a writer needs of each row to replace documents; none if it does not."""
    return [*parent_key, CHUNK_INDEX, CHUNK_COUNT] if parent_key else []


def parent_fields(parent_key: Sequence[str], sources: Mapping[str, str]) -> list[str]:
    """The fields that hold what names a document; `sources` is field -> column."""
    into = {column: field for field, column in sources.items()}
    return [into.get(name, name) for name in parent_key]


def parent_problems(
    parent_key: Sequence[str], sources: Mapping[str, str], key: Sequence[str] | None
) -> list[str]:
    """What is wrong with `parentKey`; `sources` is field -> column, and `key` makes the id.

    Empty `sources` mean that the target says what is written, and `key` None that it has the key.
    """
    if not parent_key:
        return []
    out = [f"parentKey names {n!r} twice; name each column once" for n in _given_twice(parent_key)]
    filled = set(sources.values())
    out += [
        f"no field takes column {name!r}, by which parentKey finds the chunks of a document; list "
        "it in column"
        for name in (*dict.fromkeys(parent_key), CHUNK_INDEX)
        if filled and name not in filled
    ]
    if key is not None and not key:
        out.append("parentKey replaces chunks by their ids, and rows have no id; set primaryKey")
    return out


class ColumnMapping(Settings):
    """The column of a row that goes into a field."""

    source_col_name: str = Field(
        min_length=1,
        description="the column of the row",
        examples=["text"],
        json_schema_extra=in_form("columns"),
    )
    dst_col_name: str = Field(
        min_length=1,
        description="the field that it goes into",
        examples=["about"],
        json_schema_extra=in_form("columns"),
    )


def name_problems(
    columns: Sequence[str],
    mapping: Sequence[ColumnMapping] | None,
    *,
    open_to_others: bool = False,
    way_out: str = "add it there",
) -> list[str]:
    """What is wrong with the names in `column` and `columnMapping`.

    `open_to_others`: fields may be filled that no column names. Else `way_out` says what to do.
    """
    filled = [m.dst_col_name for m in mapping or []]
    out = [f"column {n!r} is given twice" for n in _given_twice(columns)]
    out += [f"columnMapping fills {n!r} twice" for n in _given_twice(filled)]
    if columns and not open_to_others:
        out += [
            f"columnMapping fills {n!r}, which is not in column{near(n, columns)}; {way_out}"
            for n in filled
            if n not in columns
        ]
    return out


def _given_twice(names: Sequence[str]) -> list[str]:
    return sorted({n for n in names if names.count(n) > 1})
