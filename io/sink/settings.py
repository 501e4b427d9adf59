"""What the writers of all stores say alike in a job. Imports neither Beam nor a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from vecferry.errors import near
from vecferry.settings import Settings, pick

CREATE_MODES = ("createIfNotExist", "ignore", "recreate")


def _create_mode(value: object) -> str:
    return pick(value, CREATE_MODES, "schemaCreateMode")


CreateMode = Annotated[
    str, BeforeValidator(_create_mode), Field(json_schema_extra={"enum": [*CREATE_MODES]})
]
"""Whether a job creates a missing target, or also drops one that is there."""


OwnsTarget = Annotated[
    bool,
    Field(
        description="the job may drop or delete what it did not write: recreate, and in a sync the "
        "rows that the source no longer has"
    ),
]
"""Whether nobody else keeps rows in the target."""


class ColumnMapping(Settings):
    """The column of a row that goes into a field."""

    source_col_name: str = Field(min_length=1)
    dst_col_name: str = Field(min_length=1)


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
