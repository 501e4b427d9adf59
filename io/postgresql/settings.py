"""What a job may say of PostgreSQL: the connection, the reader, and writers into tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

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
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.settings import TableSettings
from vecferry.settings import SecretText, Settings, StepSettings, pick


class PostgresConnection(TableConnection):
    """A database of PostgreSQL, or of a server that speaks as it does."""

    product: ClassVar[str] = "PostgreSQL"
    scheme: ClassVar[str] = "postgresql"
    default_port: ClassVar[int] = 5432

    type: SourceType[Literal["postgresql"]] = "postgresql"


class PostgresSettings(TableSettings):
    """The `postgresql` reader, as DataWorks Data Integration and DataX write it."""

    connection_class: ClassVar[type[TableConnection]] = PostgresConnection


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
    r"(?:\(\s*(?P<limit>[0-9]+)\s*(?:,\s*(?P<scale>-?[0-9]+)\s*)?\))?"
    r"(?P<zone> with(?:out)? time zone)?\s*(?P<array>(?:\[[0-9]*\])*)"
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
        raise ValueError(
            f"{text!r} is not a type of SQL; write it as bigint, varchar(64) or float4[]"
        )
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

    name: str = Field(
        min_length=1,
        description="the name of the column",
        examples=["title"],
        json_schema_extra=in_form("columns"),
    )
    type: str | None = Field(
        default=None,
        description="the type of the column, in SQL",
        examples=["text"],
        json_schema_extra=in_form("columns", otherwise="as the table has it"),
    )
    primary_key: bool = Field(
        default=False,
        description="whether the column is part of the primary key of a table that is created",
        json_schema_extra=in_form("creation"),
    )
    nullable: bool = Field(
        default=True,
        description="whether a column that is created may be null; false adds NOT NULL",
        json_schema_extra=in_form("creation"),
    )
    max_length: int | None = Field(
        default=None,
        ge=1,
        description="the most characters of a `varchar`",
        examples=[200],
        json_schema_extra=in_form("creation", advanced=True, when=("type", "varchar")),
    )
    dimension: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DIMENSION,
        validation_alias=AliasChoices("dimension", "dims"),
        description="how many numbers a vector has",
        examples=[1024],
        json_schema_extra=in_form("vectors", when=("type", "vector", "halfvec", "float4[]")),
    )
    metric_type: str | None = Field(
        default=None,
        validation_alias=AliasChoices("metricType", "metric_type", "distanceMethod"),
        description="how vectors are compared",
        examples=["COSINE"],
        json_schema_extra=in_form(
            "vectors", choices=METRICS, when=("type", "vector", "halfvec", "float4[]")
        ),
    )
    index_type: str | None = Field(
        default=None,
        description="the kind of index on the vectors",
        examples=["hnsw"],
        json_schema_extra=in_form(
            "vectors",
            advanced=True,
            when=("type", "vector", "halfvec", "float4[]"),
            see="hologres.md#columns",
        ),
    )
    index_params: dict[str, Any] = Field(
        default_factory=dict,
        description="further parameters of the index",
        examples=[{"m": 16}],
        json_schema_extra=in_form("vectors", advanced=True, when=("indexType",)),
    )

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
            raise ValueError(
                f"column {self.name!r}: a {self.type} can't be the primary key; choose a column "
                "of one number or text"
            )
        if self.dimension and not self.is_vector:
            raise ValueError(
                f"column {self.name!r}: dimension is for vectors, not {self.type}; leave it out"
            )
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


WRITE_MODES = ("replace", "update", "ignore")


class ConnectionEntry(Settings):
    """One entry of DataX's `connection`: where the table is."""

    jdbc_url: SecretText | None = Field(
        default=None,
        description="the address of the database",
        examples=["jdbc:postgresql://localhost:5432/app"],
        json_schema_extra=in_form("connection"),
    )
    table: tuple[str, ...] = Field(
        default=(),
        description="the table",
        examples=[["public.books"]],
        json_schema_extra=in_form("target"),
    )

    @field_validator("table", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("jdbc_url", mode="before")
    @classmethod
    def _one_url(cls, value: Any) -> Any:
        return value[0] if isinstance(value, list) and len(value) == 1 else value


class WriterSettings(StepSettings):
    """What a step that writes into a table may say."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {"envType", "client", "arrayDelimiter", "emptyAsNull"}
    )
    connection_class: ClassVar[type[TableConnection]] = PostgresConnection
    source_type: ClassVar[str] = "postgresql"
    vector_types: ClassVar[tuple[str, ...]] = ("vector", "halfvec")
    indexes: ClassVar[tuple[str, ...]] = ("hnsw", "ivfflat", "none")

    datasource: DataSourceName = None
    connection: list[ConnectionEntry] = Field(
        default_factory=list,
        description="DataX's form of `datasource` and `table`",
        examples=[[{"jdbcUrl": "jdbc:postgresql://localhost:5432/app", "table": ["books"]}]],
        json_schema_extra=in_form("connection", advanced=True, otherwise="`datasource`"),
    )
    username: str | None = Field(
        default=None,
        description="with `connection`: the user",
        examples=["app"],
        json_schema_extra=in_form("login", advanced=True, when=("connection",)),
    )
    password: SecretText | None = Field(
        default=None,
        description="with `connection`: the user's password",
        examples=["${PG_PASSWORD}"],
        json_schema_extra=in_form("login", advanced=True, when=("connection",)),
    )
    table: str = Field(
        default="",
        description="`name` or `schema.name`; the table must have a primary key",
        examples=["public.books"],
        json_schema_extra=in_form("target"),
    )
    column: list[PgColumn] = Field(
        default_factory=list,
        description="names of columns, or objects that describe them",
        examples=[[{"name": "id", "type": "bigint", "primaryKey": True}]],
        json_schema_extra=in_form("columns", otherwise='`["*"]`', see="hologres.md#columns"),
    )
    column_mapping: list[ColumnMapping] | None = Field(
        default=None,
        description="the column of the row for each column of the table",
        examples=[[{"sourceColName": "text", "dstColName": "about"}]],
        json_schema_extra=in_form("columns", advanced=True, otherwise="same names"),
    )
    write_mode: str = Field(
        default="replace",
        validation_alias=AliasChoices("writeMode", "write_mode", "conflictMode"),
        description="what to do with a row whose key exists",
        examples=["replace"],
        json_schema_extra=in_form("write", choices=WRITE_MODES),
    )
    version_column: str | None = Field(
        default=None,
        description="a `bigint` column that keeps the versions of changes: an older change never "
        "replaces a newer one",
        examples=["version"],
        json_schema_extra=in_form("write", advanced=True),
    )
    parent_key: ParentKey = ()
    schema_create_mode: CreateMode = Field(default="ignore", json_schema_extra=in_form("creation"))
    owns_target: OwnsTarget = Field(
        default=False, json_schema_extra=in_form("creation", see="reconcile.md")
    )
    index_when: IndexWhen = Field(
        default="after",
        json_schema_extra=in_form("creation", see="hologres.md#when-the-index-is-built"),
    )
    pre_sql: list[str] = Field(
        default_factory=list,
        title="SQL before",
        description="statements to run once, before the first row",
        examples=[["SET ROLE writer"]],
        json_schema_extra=in_form("write", advanced=True),
    )
    post_sql: list[str] = Field(
        default_factory=list,
        title="SQL after",
        description="statements to run once, after the last row",
        examples=[["ANALYZE books"]],
        json_schema_extra=in_form("write", advanced=True),
    )
    batch_size: int = Field(
        default=512,
        ge=1,
        description="rows in a transaction",
        examples=[256],
        json_schema_extra=in_form("speed", advanced=True),
    )
    batch_byte_size: int = Field(
        default=8 << 20,
        ge=1,
        description="bytes in a transaction",
        examples=[4194304],
        json_schema_extra=in_form("speed", advanced=True),
    )

    @field_validator("write_mode", mode="before")
    @classmethod
    def _write_mode(cls, value: Any) -> Any:
        return pick(value, WRITE_MODES, "writeMode")

    @field_validator("column", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        if value == ["*"]:
            return []
        if not isinstance(value, list | tuple):
            return value
        return [{"name": v} if isinstance(v, str) else v for v in value]

    @field_validator("pre_sql", "post_sql", mode="before")
    @classmethod
    def _statements(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value or []
        if not isinstance(given, list | tuple):
            return given
        return [s for s in given if s is not None and (not isinstance(s, str) or s.strip())]

    @model_validator(mode="before")
    @classmethod
    def _table_of_connection(cls, data: Any) -> Any:
        """DataX writes the table inside `connection`."""
        if not isinstance(data, dict) or data.get("table") or not data.get("connection"):
            return data
        given = data["connection"]
        entries = given if isinstance(given, list) else [given]
        tables: list[Any] = []
        for entry in entries:
            found = entry.get("table") or [] if isinstance(entry, dict) else []
            tables += found if isinstance(found, list | tuple) else [found]
        named = {"table": tables[0]} if len(tables) == 1 else {}
        return {**data, **named, "connection": entries}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = [
            *self._place_problems(),
            *self._column_problems(),
            *self._document_problems(),
        ]
        if self.schema_create_mode == "recreate":
            problems += self.creation_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _place_problems(self) -> Iterator[str]:
        tables = [t for c in self.connection for t in c.table]
        if len(tables) > 1:
            yield f"a step writes into one table, and connection names {', '.join(tables)}"
        elif not self.table:
            yield "table is missing: add it"
        if not all(p.strip('"') for p in self.table.split(".")) or self.table.count(".") > 1:
            yield f"table {self.table!r} is neither a name nor schema.name"
        try:
            self.own_connection()
        except ValueError as e:
            yield f"connection: {_first(e)}"
        if self.write_mode == "ignore" and self.version_column:
            yield "versionColumn has no use with writeMode ignore: the row that is there stays"

    def _document_problems(self) -> Iterator[str]:
        yield from parent_problems(self.parent_key, self.sources(), self.key_columns())
        if self.parent_key and self.write_mode == "ignore":
            yield (
                "parentKey has no use with writeMode ignore: a chunk that is there would stay as "
                "it is; use replace or update"
            )

    def _column_problems(self) -> Iterator[str]:
        yield from name_problems(
            [c.name for c in self.column], self.column_mapping, way_out="add it"
        )
        if self.version_column and self.version_column in self.sources():
            yield f"versionColumn {self.version_column!r} is filled by vecferry; map nothing to it"
        for column in self.column:
            yield from self._vector_problems(column)

    def _vector_problems(self, column: PgColumn) -> Iterator[str]:
        if column.index_type is None:
            return
        if not column.is_vector:
            yield f"column {column.name!r}: indexType is for vectors"
        try:
            pick(column.index_type, self.indexes, f"indexType of {self.source_type}")
        except ValueError as e:
            yield f"column {column.name!r}: {e}"

    def creation_problems(self) -> list[str]:
        """Why a table can't be created from these settings; an empty list if it can."""
        if not self.column:
            return ["column is missing: it must list the columns of a table that is created"]
        out = [
            f'column {c.name!r} has no type: write {{"name": "{c.name}", "type": "text"}}'
            for c in self.column
            if c.type is None
        ]
        if not any(c.primary_key for c in self.column):
            out.append("no column has primaryKey: true, by which rows are replaced")
        for c in self.column:
            found = c.sql
            if found and found.name in VECTORS and c.dimensions is None:
                out.append(f"column {c.name!r} is a {c.type} without dimension")
            if found and found.name in VECTORS and not self.takes(found.name):
                out.append(
                    f"column {c.name!r} is a {c.type}, which {self.source_type} lacks; write "
                    f'{{"name": "{c.name}", "type": "{self.vector_types[0]}", "dimension": …}}'
                )
        return out

    def takes(self, vector_type: str) -> bool:
        """Whether a table that we create may have vectors of this type."""
        return vector_type in self.vector_types

    def index_of(self, column: PgColumn) -> str:
        """The kind of index that we create on a vector, or ``none``."""
        return (
            pick(column.index_type, self.indexes, "index") if column.index_type else self.indexes[0]
        )

    def moved(self, name: str, *, switch: bool) -> dict[str, Any]:
        """What to change in the step's parameters for it to fill a new table instead.

        A table has no alias: ValueError for `switch`.
        """
        if switch:
            raise ValueError(
                f"--switch-alias: a table has no alias that could move from {self.table!r} to "
                f"{name!r}; run with --into alone. Then rename the two tables in one "
                "transaction, or let readers use a view"
            )
        return {"table": name, "schemaCreateMode": "createIfNotExist"}

    def sources(self) -> dict[str, str]:
        """Column of the table -> column of the row, for what the job lists."""
        if self.column_mapping is not None:
            return {m.dst_col_name: m.source_col_name for m in self.column_mapping}
        return {c.name: c.name for c in self.column if c.name != self.version_column}

    def key_columns(self) -> list[str] | None:
        """The columns of the primary key; None where the job leaves it to the table."""
        sources = self.sources()
        keys = [sources.get(c.name, c.name) for c in self.column if c.primary_key]
        return keys or None

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        return list(dict.fromkeys([*self.sources().values(), *parent_inputs(self.parent_key)]))

    @property
    def keeps_versions(self) -> bool:
        """Whether a column of the table is for versions."""
        return self.version_column is not None

    def document_key(self) -> list[str]:
        """The columns that name the document of a chunk."""
        return list(self.parent_key)

    def document_fields(self) -> list[str]:
        """The fields that hold them."""
        return parent_fields(self.parent_key, self.sources())

    def outputs(self) -> dict[str, int | None]:
        """Source column -> the vector dimension expected of it, None for other values."""
        known = {c.name: c.dimensions if c.is_vector else None for c in self.column}
        return {source: known.get(name) for name, source in self.sources().items()}

    @property
    def needs_datasource(self) -> bool:
        """Whether the step leaves it to a data source where its table is."""
        return not any(c.jdbc_url for c in self.connection)

    def own_connection(self) -> TableConnection | None:
        """What `connection`, `username` and `password` of the step itself lead to, if anything."""
        urls = [c.jdbc_url for c in self.connection if c.jdbc_url]
        if not urls:
            return None
        login = {"username": self.username, "password": self.password}
        given = {k: str.__str__(v) for k, v in login.items() if v is not None}
        return self.connection_class.model_validate({"jdbcUrl": str.__str__(urls[0]), **given})


class PostgresWriterSettings(WriterSettings):
    """What the writer `postgresql` may say; its vectors are pgvector's."""


def _first(error: ValueError) -> str:
    """What is wrong with a connection, without what was given."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_input=False)[0]
    name = ".".join(str(p) for p in found["loc"]) or "jdbcUrl"
    return f"{name}: {found['msg'].removeprefix('Value error, ')}"
