"""What a job may say about one column of a table, and how the types of SQL are named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from vecferry.settings import Settings, pick

ALIASES = {
    "bool": "boolean", "int2": "smallint", "int": "integer", "int4": "integer", "int8": "bigint",
    "long": "bigint", "float4": "real", "float8": "double precision", "float": "double precision",
    "double": "double precision", "decimal": "numeric", "string": "text",
    "varchar": "character varying", "char": "character", "bpchar": "character",
    "bytes": "bytea", "datetime": "timestamp without time zone",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "time": "time without time zone", "timetz": "time with time zone", "floatvector": "vector",
}  # fmt: skip
"""Other names of types -> those that PostgreSQL gives back."""

VECTORS = ("vector", "halfvec")
METRICS = ("COSINE", "IP", "L2")
_METRIC_WORDS = {
    "cosine": "COSINE", "ip": "IP", "innerproduct": "IP", "inner_product": "IP", "l2": "L2",
    "euclidean": "L2", "squaredeuclidean": "L2",
}  # fmt: skip
NO_KEYS = ("bytea", "numeric", "real", "double precision", "json", "jsonb")
"""Types that can't be the primary key here: their values have no one text."""
MAX_DIMENSION = 16000
"""What pgvector's `vector` holds at most."""

_TYPE = re.compile(
    r"(?P<name>[A-Za-z_][\w. ]*?)\s*"
    r"(?:\(\s*(?P<limit>\d+)\s*(?:,\s*(?P<scale>-?\d+)\s*)?\))?"
    r"(?P<zone> with(?:out)? time zone)?\s*(?P<array>(?:\[\d*\])*)"
)


@dataclass(frozen=True)
class SqlType:
    """A type of SQL: `limit` is the first number in its brackets, such as a text's length."""

    name: str
    limit: int | None = None
    scale: int | None = None
    array: bool = False

    def __str__(self) -> str:
        name, _, zone = self.name.partition(" with")
        inner = [str(n) for n in (self.limit, self.scale) if n is not None]
        inside = f"({','.join(inner)})" if inner else ""
        after = f" with{zone}" if zone else ""
        return f"{name}{inside}{after}{'[]' if self.array else ''}"

    @property
    def is_floats(self) -> bool:
        """Whether it is an array that Hologres takes for a vector."""
        return self.array and self.name == "real"

    @property
    def same(self) -> tuple[str, bool]:
        """What must be equal for two types to be one, whatever their limits."""
        return self.name, self.array


def sql_type(text: str) -> SqlType:
    """The type that `text` names, in PostgreSQL's own words; ValueError where it is none."""
    found = _TYPE.fullmatch(" ".join(text.split()))
    if found is None:
        raise ValueError(f"{text!r} is no type of SQL, such as bigint, varchar(64) or float4[]")
    name, zone = found["name"].casefold(), found["zone"] or ""
    bare = name.rpartition(".")[2]
    name = bare if bare in VECTORS else name
    limit, scale = found["limit"], found["scale"]
    return SqlType(
        name + zone if zone else ALIASES.get(name, name),
        int(limit) if limit else None,
        int(scale) if scale else None,
        bool(found["array"]),
    )


class PgColumn(Settings):
    """A column of the table; a name alone will do where the table exists."""

    ignored: ClassVar[frozenset[str]] = frozenset({"description", "comment"})

    name: str = Field(min_length=1)
    type: str | None = None
    primary_key: bool = False
    nullable: bool = True
    max_length: int | None = Field(default=None, ge=1, description="of a varchar, in characters")
    dimension: int | None = Field(
        default=None, ge=1, le=MAX_DIMENSION, validation_alias=AliasChoices("dimension", "dims")
    )
    metric_type: str | None = Field(
        default=None,
        validation_alias=AliasChoices("metricType", "metric_type", "distanceMethod"),
        json_schema_extra={"enum": [*METRICS]},
    )
    index_type: str | None = None
    index_params: dict[str, Any] = Field(default_factory=dict)

    @field_validator("type")
    @classmethod
    def _type(cls, value: str | None) -> str | None:
        if value is not None:
            sql_type(value)
        return value

    @field_validator("metric_type", mode="before")
    @classmethod
    def _metric(cls, value: Any) -> Any:
        word = _METRIC_WORDS.get(str(value).strip().casefold())
        return value if value is None else word or pick(value, METRICS, "metricType")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type is None:
            return self
        found = self.sql
        if self.primary_key and (self.is_vector or (found and found.array)):
            raise ValueError(f"column {self.name!r}: a {self.type} can't be the primary key")
        if self.dimension and not self.is_vector:
            raise ValueError(f"column {self.name!r}: dimension is for vectors, not {self.type}")
        return self

    @property
    def sql(self) -> SqlType | None:
        """Its type, None where the table's is taken as it is."""
        if self.type is None:
            return None
        found = sql_type(self.type)
        if self.max_length and found.name == "character varying" and found.limit is None:
            return SqlType(found.name, self.max_length, None, found.array)
        return found

    @property
    def dimensions(self) -> int | None:
        """Its dimension, from `dimension` or from its type: ``vector(256)``."""
        found = self.sql
        return self.dimension or (found.limit if found and found.name in VECTORS else None)

    @property
    def is_vector(self) -> bool:
        """Whether its values are vectors, as far as the job tells."""
        found = self.sql
        if found is None:
            return self.dimension is not None
        return found.name in VECTORS or (found.is_floats and self.dimension is not None)

    @property
    def metric(self) -> str:
        """How its vectors are compared: COSINE unless the job says."""
        return self.metric_type or "COSINE"
