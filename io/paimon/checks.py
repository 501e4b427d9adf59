"""A job compared with the table that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecferry.errors import near
from vecferry.io.paimon.settings import PaimonSettings

ArrowSchema = Any

_VARIANT = ("value", "metadata")


def columns_of(settings: PaimonSettings, schema: ArrowSchema) -> tuple[str, ...]:
    """The columns of the job, those of the table where it takes all."""
    return tuple(schema.names) if settings.takes_all else settings.column


def problems_of(settings: PaimonSettings, schema: ArrowSchema) -> list[str]:
    """What the table lacks of what the job names, one line each."""
    table, known = settings.full_name, list(schema.names)
    problems = [
        f"{table} has no column {name!r}{near(name, known)}"
        for name in (*columns_of(settings, schema), *settings.key)
        if name not in known
    ]
    for name in columns_of(settings, schema):
        if name in known and _is_variant(schema.field(name).type):
            problems.append(
                f"column {name!r} of {table} is a VARIANT, which can't be read as a value: leave "
                "the column out"
            )
    return problems


def notes_of(options: dict[str, str], primary_keys: Sequence[str]) -> list[str]:
    """What is not seen of a table in a full load, by its options."""
    notes = []
    if primary_keys and options.get("bucket") == "-2":
        notes.append("its buckets are postponed (-2), so only rows that were compacted are read")
    if options.get("merge-engine") == "first-row":
        notes.append("it keeps first rows only, and those that were not compacted yet are not read")
    return notes


def _is_variant(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_struct(kind)) and tuple(f.name for f in kind) == _VARIANT
