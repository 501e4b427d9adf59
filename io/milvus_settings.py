"""What a job may say about Milvus: the connection and the writer."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.io.milvus_columns import MilvusColumn
from vecferry.settings import SecretText, Settings, pick

WRITE_MODES = ("upsert", "insert")
CREATE_MODES = ("createIfNotExist", "ignore", "recreate")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,254}")  # https://milvus.io/docs/limitations.md


class MilvusConnection(Settings):
    """A Milvus server, or a file that Milvus Lite opens in this process."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})

    type: Literal["milvus"] = "milvus"
    endpoint: str = Field(
        description="http://host:19530, or the path of a Milvus Lite file: ./x.db"
    )
    token: SecretText | None = None
    username: str | None = None
    password: SecretText | None = None
    database: str = "default"
    ca_cert: str | None = Field(default=None, description="path of a CA certificate")
    connect_timeout_ms: int = Field(default=10_000, ge=1)

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
            raise ValueError("caCert is given, and the endpoint is not https://")
        return self

    @property
    def is_file(self) -> bool:
        """Whether Milvus Lite serves it, in one process at a time."""
        return "://" not in self.endpoint


class ColumnMapping(Settings):
    """Which column of a row goes into which field."""

    source_col_name: str = Field(min_length=1)
    dst_col_name: str = Field(min_length=1)


class MilvusSettings(Settings):
    """What the step `milvus` may say."""

    ignored: ClassVar[frozenset[str]] = frozenset({"envType"})

    datasource: str | None = None
    collection: str
    partition: str | None = None
    write_mode: str = Field(default="upsert", json_schema_extra={"enum": [*WRITE_MODES]})
    batch_size: int = Field(default=1024, ge=1)
    schema_create_mode: str = Field(
        default="createIfNotExist", json_schema_extra={"enum": [*CREATE_MODES]}
    )
    enable_dynamic_schema: bool = False
    column: list[MilvusColumn] = Field(default_factory=list)
    column_mapping: list[ColumnMapping] | None = None
    owns_target: bool = Field(
        default=False, description="the job may drop what the collection holds (recreate)"
    )
    alias: str | None = Field(
        default=None, description="another name, which the collection gets once the job is done"
    )

    @field_validator("write_mode", mode="before")
    @classmethod
    def _write_mode(cls, value: Any) -> Any:
        return pick(value, WRITE_MODES, "writeMode")

    @field_validator("schema_create_mode", mode="before")
    @classmethod
    def _create_mode(cls, value: Any) -> Any:
        return pick(value, CREATE_MODES, "schemaCreateMode")

    @field_validator("collection", "alias")
    @classmethod
    def _collection(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is no name that Milvus takes: letters, digits and underscores, not "
                "beginning with a digit, 255 at most"
            )
        return value

    @field_validator("partition")
    @classmethod
    def _partition(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = [*self._column_problems(), *self._mapping_problems()]
        if self.alias == self.collection:
            problems.append(f"alias {self.alias!r} is the collection itself: give one another name")
        if self.schema_create_mode == "recreate":
            problems += self.creation_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        names = [c.name for c in self.column]
        out = [f"column {n!r} is given twice" for n in _doubles(names)]
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

    def _mapping_problems(self) -> list[str]:
        mapped = [m.dst_col_name for m in self.column_mapping or []]
        out = [f"columnMapping fills {n!r} twice" for n in _doubles(mapped)]
        names = [c.name for c in self.column]
        if names and not self.enable_dynamic_schema:
            out += [
                f"columnMapping fills {n!r}, which is not in column{near(n, names)}; "
                "add it there, or set enableDynamicSchema"
                for n in mapped
                if n not in names
            ]
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

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        spare = {c.name for c in self.column if c.nullable or c.default_value is not None}
        explicit = self.column_mapping is not None
        return list(
            dict.fromkeys(s for d, s in self.sources().items() if explicit or d not in spare)
        )

    def outputs(self) -> dict[str, int | None]:
        """Source column -> the vector dimension expected of it, None where it is no vector."""
        by_name = {c.name: c for c in self.column}
        out: dict[str, int | None] = {}
        for field, source in self.sources().items():
            column = by_name.get(field)
            out[source] = column.dimension if column is not None and column.is_vector else None
        return out


def _doubles(names: list[str]) -> list[str]:
    return sorted({n for n in names if names.count(n) > 1})
