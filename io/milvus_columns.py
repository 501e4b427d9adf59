"""What a job may say about one field of a Milvus collection."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from vecferry.settings import Settings, pick

VECTOR_TYPES = (
    "FloatVector",
    "Float16Vector",
    "BFloat16Vector",
    "BinaryVector",
    "SparseFloatVector",
)
SCALAR_TYPES = (
    "Bool", "Int8", "Int16", "Int32", "Int64", "Float", "Double", "VarChar", "Array", "JSON",
)  # fmt: skip
TYPES = (*SCALAR_TYPES, *VECTOR_TYPES)
ELEMENT_TYPES = tuple(t for t in SCALAR_TYPES if t not in ("Array", "JSON"))
METRICS = {
    "FloatVector": ("COSINE", "IP", "L2"),
    "Float16Vector": ("COSINE", "IP", "L2"),
    "BFloat16Vector": ("COSINE", "IP", "L2"),
    "BinaryVector": ("HAMMING", "JACCARD"),
    "SparseFloatVector": ("IP", "BM25"),
}
INDEXES = {
    "FloatVector": ("AUTOINDEX", "HNSW", "IVF_FLAT", "IVF_SQ8", "FLAT", "SCANN", "DISKANN"),
    "Float16Vector": ("AUTOINDEX", "HNSW", "IVF_FLAT", "IVF_SQ8", "FLAT"),
    "BFloat16Vector": ("AUTOINDEX", "HNSW", "IVF_FLAT", "IVF_SQ8", "FLAT"),
    "BinaryVector": ("BIN_IVF_FLAT", "BIN_FLAT"),
    "SparseFloatVector": ("SPARSE_INVERTED_INDEX", "SPARSE_WAND"),
}
MAX_DIMENSION = 32768
MAX_VARCHAR = 65535
MAX_CAPACITY = 4096


class MilvusColumn(Settings):
    """A field of the collection."""

    ignored: ClassVar[frozenset[str]] = frozenset({"description", "comment"})

    name: str = Field(min_length=1)
    type: str = Field(json_schema_extra={"enum": [*TYPES]})
    primary_key: bool = False
    auto_id: bool = False
    partition_key: bool = False
    dimension: int | None = None
    max_length: int | None = None
    max_capacity: int | None = None
    element_type: str | None = None
    nullable: bool = False
    default_value: Any = None
    metric_type: str | None = None
    index_type: str | None = None

    @field_validator("type", mode="before")
    @classmethod
    def _type(cls, value: Any) -> Any:
        if str(value).casefold() in ("string", "text"):
            return "VarChar"
        return pick(value, TYPES, "Milvus type")

    @field_validator("element_type", mode="before")
    @classmethod
    def _element_type(cls, value: Any) -> Any:
        if value is None or str(value).strip().casefold() in ("none", ""):
            return None
        if str(value).casefold() == "string":
            return "VarChar"
        return pick(value, ELEMENT_TYPES, "type of an Array's elements")

    @field_validator("dimension", "max_length", "max_capacity", mode="before")
    @classmethod
    def _blank(cls, value: Any) -> Any:
        return (
            None if isinstance(value, str) and value.strip().casefold() in ("", "none") else value
        )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = [p for p in self._problems() if p]
        if problems:
            raise ValueError(f"column {self.name!r}: " + "; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        out = [_range("maxLength", self.max_length, MAX_VARCHAR) if self.type == "VarChar" else ""]
        vector = self.is_vector
        if vector and self.type != "SparseFloatVector":
            out.append(_range("dimension", self.dimension, MAX_DIMENSION))
            if self.type == "BinaryVector" and (self.dimension or 0) % 8:
                out.append(f"dimension {self.dimension} of a BinaryVector must be a multiple of 8")
        if self.type == "Array":
            out.append(_range("maxCapacity", self.max_capacity, MAX_CAPACITY))
            out.append("" if self.element_type else "an Array needs elementType, such as VarChar")
        if self.primary_key and self.type not in ("Int64", "VarChar"):
            out.append(f"a primary key is Int64 or VarChar, not {self.type}")
        if self.primary_key and self.nullable:
            out.append("a primary key can't be nullable")
        if self.auto_id and not self.primary_key:
            out.append("autoId needs primaryKey: true")
        if self.partition_key and (self.primary_key or self.type not in ("Int64", "VarChar")):
            out.append("a partitionKey is Int64 or VarChar, and not the primary key")
        if self.default_value is not None and (vector or self.primary_key):
            out.append("a vector or a primary key can't have a defaultValue")
        out += [self._choice("metricType", METRICS), self._choice("indexType", INDEXES)]
        return out

    def _choice(self, key: str, choices: dict[str, tuple[str, ...]]) -> str:
        value = self.metric_type if key == "metricType" else self.index_type
        if value is None:
            return ""
        if not self.is_vector:
            return f"{key} is for vectors, not for {self.type}"
        try:
            pick(value, choices[self.type], f"{key} of a {self.type}")
        except ValueError as e:
            return str(e)
        return ""

    @property
    def is_vector(self) -> bool:
        """Whether its values are vectors of any kind."""
        return self.type in VECTOR_TYPES

    @property
    def metric(self) -> str:
        """The metric of the index that we create: COSINE, HAMMING or IP unless the job says."""
        choices = METRICS[self.type]
        return pick(self.metric_type, choices, "metric") if self.metric_type else choices[0]

    @property
    def index(self) -> str:
        """The kind of index that we create."""
        choices = INDEXES[self.type]
        return pick(self.index_type, choices, "index") if self.index_type else choices[0]


def _range(key: str, value: int | None, most: int) -> str:
    if value is None or 1 <= value <= most:
        return ""
    return f"{key} {value} is not within 1 to {most}"
