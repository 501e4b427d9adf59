"""What a job may say about Milvus: the connection and the writer."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vecferry.fields import DataSourceName, SourceType, in_form
from vecferry.io.sink.settings import (
    ColumnMapping,
    CreateMode,
    IndexWhen,
    OwnsTarget,
    ParentKey,
    name_problems,
    parent_fields,
    parent_inputs,
    parent_problems,
)
from vecferry.kinds import Client
from vecferry.numbers import real_number, whole_number
from vecferry.settings import Connection, SecretText, Settings, StepSettings, pick

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

    name: str = Field(
        min_length=1,
        description="the name of the field",
        examples=["title"],
        json_schema_extra=in_form("columns"),
    )
    type: str = Field(
        description="the type of the field",
        examples=["VarChar"],
        json_schema_extra=in_form("columns", choices=TYPES),
    )
    primary_key: bool = Field(
        default=False,
        description="whether the field is the primary key",
        json_schema_extra=in_form("columns", when=("type", "Int64", "VarChar")),
    )
    auto_id: bool = Field(
        default=False,
        description="whether Milvus makes the key; the rows then have none",
        json_schema_extra=in_form("columns", advanced=True, when=("primaryKey", True)),
    )
    partition_key: bool = Field(
        default=False,
        description="whether Milvus spreads rows over partitions by this field",
        json_schema_extra=in_form("columns", advanced=True, when=("type", "Int64", "VarChar")),
    )
    dimension: int | None = Field(
        default=None,
        description="how many numbers a vector has",
        examples=[1024],
        json_schema_extra=in_form("vectors", when=("type", *VECTOR_TYPES[:-1])),
    )
    max_length: int | None = Field(
        default=None,
        description="the most bytes of a text",
        examples=[512],
        json_schema_extra=in_form(
            "columns",
            when=("type", "VarChar"),
            otherwise="65535",
        ),
    )
    max_capacity: int | None = Field(
        default=None,
        description="the most elements of an Array",
        examples=[100],
        json_schema_extra=in_form(
            "columns", advanced=True, when=("type", "Array"), otherwise="4096"
        ),
    )
    element_type: str | None = Field(
        default=None,
        description="the type of an Array's elements",
        examples=["VarChar"],
        json_schema_extra=in_form("columns", choices=ELEMENT_TYPES, when=("type", "Array")),
    )
    nullable: bool = Field(
        default=False,
        description="whether the field may be null",
        json_schema_extra=in_form("columns"),
    )
    default_value: Any = Field(
        default=None,
        description="the value of a row that has none",
        examples=["en"],
        json_schema_extra=in_form("creation", advanced=True),
    )
    metric_type: str | None = Field(
        default=None,
        description="how vectors are compared",
        examples=["COSINE"],
        json_schema_extra=in_form(
            "vectors",
            choices=("COSINE", "IP", "L2", "HAMMING", "JACCARD", "BM25"),
            when=("type", *VECTOR_TYPES),
            otherwise="by the type",
        ),
    )
    index_type: str | None = Field(
        default=None,
        description="the kind of index on the vectors",
        examples=["HNSW"],
        json_schema_extra=in_form(
            "vectors",
            advanced=True,
            choices=tuple(dict.fromkeys(kind for kinds in INDEXES.values() for kind in kinds)),
            when=("type", *VECTOR_TYPES),
            otherwise="by the type",
        ),
    )

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
        else:
            out.append(self._default_problem())
        out += [self._choice("metricType", METRICS), self._choice("indexType", INDEXES)]
        return out

    def _default_problem(self) -> str:
        try:
            _ = self.default
        except ValueError as e:
            return f"defaultValue of {self.type}: {e}"
        return ""

    @property
    def default(self) -> object:
        """The default as the field's own type, for jobs write numbers as texts; else ValueError."""
        value = self.default_value
        if value is None:
            return None
        if self.type == "Bool":
            return str(value).strip().casefold() in ("true", "1")
        if self.type.startswith("Int"):
            return whole_number(str(value))
        if self.type in ("Float", "Double"):
            return real_number(str(value))
        return value if isinstance(value, str) or self.type == "JSON" else str(value)

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


LITE_FLAT_ROWS = 200_000
"""Up to here a file of Milvus Lite needs no graph: a search over all rows takes milliseconds."""


def _range(key: str, value: int | None, most: int) -> str:
    if value is None or 1 <= value <= most:
        return ""
    return f"{key} {value} is not within 1 to {most}"


WRITE_MODES = ("upsert", "insert")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,254}")  # https://milvus.io/docs/limitations.md


class MilvusConnection(Connection):
    """A Milvus server, or a file that Milvus Lite opens in this process."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})

    type: SourceType[Literal["milvus"]] = "milvus"
    endpoint: str = Field(
        description="`http://host:19530`, `https://…` of a server with TLS, or a path that ends "
        "in `.db` for Milvus Lite",
        examples=["http://localhost:19530", "./vectors.db"],
        json_schema_extra=in_form("connection"),
    )
    token: SecretText | None = Field(
        default=None,
        description="a token, in place of `username` and `password`",
        examples=["${MILVUS_TOKEN}"],
        json_schema_extra=in_form("login"),
    )
    username: str | None = Field(
        default=None, description="the user", examples=["root"], json_schema_extra=in_form("login")
    )
    password: SecretText | None = Field(
        default=None,
        description="the user's password",
        examples=["${MILVUS_PASSWORD}"],
        json_schema_extra=in_form("login"),
    )
    database: str = Field(
        default="default",
        description="a database that exists",
        examples=["default"],
        json_schema_extra=in_form("connection"),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file: the authority that signed the server's certificate, with `https`",
        examples=["/etc/ssl/milvus.pem"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="the usual authorities"),
    )
    connect_timeout_ms: int = Field(
        default=10000,
        ge=1,
        title="Connect timeout (ms)",
        description="time limit for connecting, and for each question that is not a write",
        examples=[10000],
        json_schema_extra=in_form("limits", advanced=True),
    )

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        value = value.strip()
        scheme = value.split("://", 1)[0].lower() if "://" in value else ""
        if scheme in ("http", "https", "tcp") or (not scheme and value.endswith(".db")):
            return value
        raise ValueError(
            f"endpoint {value!r} is neither a server nor a Milvus Lite file: "
            "give http://host:19530, or a path that ends in .db"
        )

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None) and self.token is None:
            given, missing = ("username", "password") if self.username else ("password", "username")
            raise ValueError(f"{given} is given without {missing}; give both, or a token")
        if self.ca_cert is not None and not self.endpoint.lower().startswith("https:"):
            raise ValueError(
                "caCert is given, and the endpoint is not https://; write https://, or leave "
                "caCert out"
            )
        return self

    @property
    def is_file(self) -> bool:
        """Whether Milvus Lite serves it, in one process at a time."""
        return "://" not in self.endpoint

    def clients(self) -> list[Client]:
        """What serves a file."""
        return [Client("milvus_lite", "vecferry[milvus]")] if self.is_file else []

    def paths(self) -> dict[str, str]:
        """The file of Milvus Lite, and that of certificates."""
        return {**({"endpoint": self.endpoint} if self.is_file else {}), **super().paths()}

    def unshareable(self) -> str | None:
        """Why several processes can't write to a file."""
        if not self.is_file:
            return None
        return (
            f"{self.endpoint} is a file of Milvus Lite, which one process alone can write: for "
            "several processes, name a Milvus server"
        )


class MilvusSettings(StepSettings):
    """What the step `milvus` may say."""

    vector_types: ClassVar[tuple[str, ...]] = ("FloatVector", "Float16Vector", "BFloat16Vector")

    ignored: ClassVar[frozenset[str]] = frozenset({"envType"})

    datasource: DataSourceName = None
    collection: str = Field(
        description="the name of the collection",
        examples=["books"],
        json_schema_extra=in_form("target"),
    )
    partition: str | None = Field(
        default=None,
        description="a partition, created if missing; not together with a partition key",
        examples=["fiction"],
        json_schema_extra=in_form("target", advanced=True),
    )
    write_mode: str = Field(
        default="upsert",
        description="`upsert` replaces rows of the same key; `insert` adds a copy",
        examples=["upsert"],
        json_schema_extra=in_form("write", choices=WRITE_MODES),
    )
    parent_key: ParentKey = ()
    batch_size: int = Field(
        default=1024,
        ge=1,
        description="rows in a request; a request also ends at 16 MiB",
        examples=[512],
        json_schema_extra=in_form("speed", advanced=True),
    )
    schema_create_mode: CreateMode = Field(
        default="createIfNotExist",
        json_schema_extra=in_form("creation"),
    )
    enable_dynamic_schema: bool = Field(
        default=False,
        description="whether a collection that is created takes fields that nobody declared",
        json_schema_extra=in_form("creation", advanced=True),
    )
    column: list[MilvusColumn] = Field(
        default_factory=list,
        description="the fields; optional with `schemaCreateMode: ignore`",
        examples=[[{"name": "id", "type": "Int64", "primaryKey": True}]],
        json_schema_extra=in_form("columns", see="milvus.md#columns"),
    )
    column_mapping: list[ColumnMapping] | None = Field(
        default=None,
        description="the column of the row for each field",
        examples=[[{"sourceColName": "text", "dstColName": "about"}]],
        json_schema_extra=in_form("columns", advanced=True, otherwise="same names"),
    )
    owns_target: OwnsTarget = Field(
        default=False, json_schema_extra=in_form("creation", see="reconcile.md")
    )
    index_when: IndexWhen = "after"
    alias: str | None = Field(
        default=None,
        description="after the job is done, this alias names the collection, and no other",
        examples=["books_live"],
        json_schema_extra=in_form("target", advanced=True),
    )

    @field_validator("write_mode", mode="before")
    @classmethod
    def _write_mode(cls, value: Any) -> Any:
        return pick(value, WRITE_MODES, "writeMode")

    @field_validator("collection", "alias")
    @classmethod
    def _collection(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a name that Milvus takes: letters, digits and underscores, not "
                "beginning with a digit, 255 at most"
            )
        return value

    @field_validator("partition")
    @classmethod
    def _partition(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = self._column_problems()
        problems += parent_problems(self.parent_key, self.sources(), self.key_columns())
        if self.parent_key and self.write_mode != "upsert":
            problems.append("parentKey replaces chunks, and writeMode insert does not: use upsert")
        if self.alias == self.collection:
            problems.append(f"alias {self.alias!r} is the collection itself: give one another name")
        if self.schema_create_mode == "recreate":
            problems += self.creation_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        names = [c.name for c in self.column]
        out = name_problems(
            names,
            self.column_mapping,
            open_to_others=self.enable_dynamic_schema,
            way_out="add it there, or set enableDynamicSchema",
        )
        for flag, key in (("primary_key", "primaryKey"), ("partition_key", "partitionKey")):
            having = [c.name for c in self.column if getattr(c, flag)]
            if len(having) > 1:
                out.append(f"{key} is set on {' and '.join(having)}; a collection has one at most")
            if having and flag == "partition_key" and self.partition:
                out.append(
                    f"partition {self.partition!r} can't be named where {having[0]!r} is the "
                    "partitionKey: Milvus chooses the partition; leave one of them out"
                )
        return out

    def creation_problems(self) -> list[str]:
        """Why a collection can't be created from these settings; an empty list if it can."""
        if not self.column:
            return ["column is missing: it must list the fields of a collection that is created"]
        out = []
        if not any(c.primary_key for c in self.column):
            out.append(
                "no column has primaryKey: true; add one, such as "
                '{"name": "id", "type": "Int64", "primaryKey": true, "autoId": true}'
            )
        if not any(c.is_vector for c in self.column):
            out.append("no column is a vector; a collection needs one, such as a FloatVector")
        out += [
            f"column {c.name!r} is a {c.type} without dimension"
            for c in self.column
            if c.is_vector and c.type != "SparseFloatVector" and c.dimension is None
        ]
        return out

    def moved(self, name: str, *, switch: bool) -> dict[str, Any]:
        """What to change in the step's parameters for it to fill a new collection instead.

        With `switch` the step's alias, or else its collection's name, becomes the alias of that.
        """
        alias = (self.alias or self.collection) if switch else None
        return {"collection": name, "schemaCreateMode": "createIfNotExist", "alias": alias}

    def sources(self) -> dict[str, str]:
        """Field of the collection -> column of the row, for what the job lists."""
        if self.column_mapping is not None:
            return {m.dst_col_name: m.source_col_name for m in self.column_mapping}
        return {c.name: c.name for c in self.column if not c.auto_id}

    def key_columns(self) -> list[str] | None:
        """The columns of the primary key and the partition key; none of a key that Milvus makes."""
        if not self.column:
            return None
        sources = self.sources()
        keys = [c.name for c in self.column if c.primary_key and not c.auto_id]
        routing = [c.name for c in self.column if c.partition_key]
        return [sources.get(name, name) for name in (*keys, *routing)] if keys else []

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        spare = {c.name for c in self.column if c.nullable or c.default_value is not None}
        explicit = self.column_mapping is not None
        needed = [s for d, s in self.sources().items() if explicit or d not in spare]
        return list(dict.fromkeys([*needed, *parent_inputs(self.parent_key)]))

    def document_key(self) -> list[str]:
        """The columns that name the document of a chunk."""
        return list(self.parent_key)

    def document_fields(self) -> list[str]:
        """The fields that hold them."""
        return parent_fields(self.parent_key, self.sources())

    def outputs(self) -> dict[str, int | None]:
        """Source column -> the vector dimension expected of it, None for another column."""
        by_name = {c.name: c for c in self.column}
        out: dict[str, int | None] = {}
        for field, source in self.sources().items():
            column = by_name.get(field)
            out[source] = column.dimension if column is not None and column.is_vector else None
        return out
