"""What a job may say of an index of Elasticsearch or OpenSearch; what both have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.settings import SecretText, Settings, pick

ACTIONS = ("index", "create", "update", "delete")
CREATE_MODES = ("createIfNotExist", "ignore", "recreate")
VECTOR_TYPES = ("dense_vector", "knn_vector")
KEY_TYPES = ("id",)
"""DataX's word for the column that becomes the document's id."""
_NOT_IN_NAMES = set(' "*\\<|,>/?#:')


class SearchConnection(Settings):
    """A cluster: one address or several, and a login."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})

    endpoint: str | list[str] = Field(description="https://host:9200, or a list of such")
    username: str | None = None
    password: SecretText | None = None
    ca_cert: str | None = Field(default=None, description="path of a CA certificate")

    @field_validator("endpoint")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        given = value.split(",") if isinstance(value, str) else value
        for one in given:
            parts = urlsplit(one.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"endpoint {one!r} is no address: write https://host:9200")
            if parts.username or parts.password:
                raise ValueError("endpoint holds a login: write it as username and password")
        return [one.strip().rstrip("/") for one in given]

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            given, missing = ("username", "password") if self.username else ("password", "username")
            raise ValueError(f"{given} is given without {missing}: give both")
        return self

    @property
    def hosts(self) -> list[str]:
        """The addresses, with their ports."""
        return [_with_port(one) for one in self.endpoint]

    @property
    def shown(self) -> str:
        """The addresses, as a message names them."""
        return ", ".join(self.endpoint)


class SearchColumn(Settings):
    """A field of the index. What else is written here goes into its mapping as it is."""

    passes_on: ClassVar[bool] = True

    name: str = Field(min_length=1)
    type: str | None = None
    primary_key: bool = False
    dimension: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("dimension", "dims")
    )

    @field_validator("type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def is_key(self) -> bool:
        """Whether the document's id comes from this column."""
        return self.primary_key or self.type in KEY_TYPES

    @property
    def is_vector(self) -> bool:
        """Whether this is a vector field, in either store's word."""
        return self.type in VECTOR_TYPES


class ColumnMapping(Settings):
    """Which column of the row goes into which field."""

    source_col_name: str = Field(min_length=1)
    dst_col_name: str = Field(min_length=1)


class PrimaryKeyInfo(Settings):
    """DataWorks' way to say which columns make up the id; several are joined."""

    type: Literal["pk", "specific", "nouse"] = "specific"
    field_delimiter: str = ","
    column: tuple[str, ...] = ()

    @field_validator("column", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        return [v.get("name") if isinstance(v, dict) else v for v in given]


class SearchSettings(Settings):
    """What both writers may say."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "envType", "indexType", "type", "esVersion", "multiThread", "splitter", "dstDynamic",
            "ignoreParseError", "fieldDelimiter", "trySize", "tryInterval", "discoveryInterval",
        }
    )  # fmt: skip

    datasource: str | None = None
    index: str
    action_type: str = Field(default="index", json_schema_extra={"enum": [*ACTIONS]})
    batch_size: int = Field(default=1000, ge=1)
    timeout: int = Field(default=600_000, ge=1, description="of one request, in milliseconds")
    compress: bool = False
    discovery: bool = False
    schema_create_mode: str = Field(default="ignore", json_schema_extra={"enum": [*CREATE_MODES]})
    cleanup: bool = False
    owns_target: bool = Field(
        default=False, description="the job may drop what the index holds (recreate, cleanup)"
    )
    column: list[SearchColumn] = Field(default_factory=list)
    column_mapping: list[ColumnMapping] | None = None
    primary_key_info: PrimaryKeyInfo | None = None
    es_partition_column: tuple[str, ...] = Field(
        default=(), description="the columns by which documents are routed to shards"
    )
    dynamic: bool = Field(default=False, description="write columns that the mapping lacks, too")
    enable_write_null: bool = True
    settings: dict[str, Any] = Field(default_factory=dict, description="of an index to be created")
    alias: str | None = None
    alias_mode: Literal["append", "exclusive"] = "append"

    @field_validator("index")
    @classmethod
    def _index(cls, value: str) -> str:
        wrong = sorted(_NOT_IN_NAMES & set(value))
        if not value or wrong or value != value.lower() or value[0] in "-_+":
            raise ValueError(
                f"{value!r} is no name for an index: lower case, none of "
                f"{' '.join(sorted(_NOT_IN_NAMES - {' '}))} or a blank, not beginning with - _ or +"
            )
        if len(value.encode()) > 255:
            raise ValueError(f"index {value[:40]!r}… is longer than 255 bytes")
        return value

    @field_validator("action_type", mode="before")
    @classmethod
    def _action(cls, value: Any) -> Any:
        return pick(value, ACTIONS, "actionType")

    @field_validator("schema_create_mode", mode="before")
    @classmethod
    def _create_mode(cls, value: Any) -> Any:
        return pick(value, CREATE_MODES, "schemaCreateMode")

    @field_validator("es_partition_column", mode="before")
    @classmethod
    def _routing(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str | dict) else value or ()
        return [v.get("name") if isinstance(v, dict) else v for v in given]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = [*self._column_problems(), *self._mapping_problems()]
        if self.recreates and not self.owns_target:
            word = "cleanup" if self.cleanup else "schemaCreateMode recreate"
            problems.append(f"{word} drops what the index holds: set ownsTarget: true if it may go")
        if self.action_type != "index" and not self.keys:
            problems.append(
                f"actionType {self.action_type} needs an id: set primaryKey: true on a column"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        names = [c.name for c in self.column]
        out = [
            f"column {n!r} is given twice" for n in sorted({n for n in names if names.count(n) > 1})
        ]
        keys = [c.name for c in self.column if c.is_key]
        if len(keys) > 1:
            out.append(
                f"primaryKey is set on {' and '.join(keys)}: a document has one id; join several "
                "columns by primaryKeyInfo"
            )
        if self.creates:
            out += [
                f"column {c.name!r} is a {c.type} without dimension"
                for c in self.column
                if c.is_vector and c.dimension is None
            ]
        return out

    def _mapping_problems(self) -> list[str]:
        mapped = [m.dst_col_name for m in self.column_mapping or []]
        out = [
            f"columnMapping fills {n!r} twice"
            for n in sorted({n for n in mapped if mapped.count(n) > 1})
        ]
        names = [c.name for c in self.column]
        if names and not self.dynamic:
            out += [
                f"columnMapping fills {n!r}, which is not in column{near(n, names)}; add it there"
                for n in mapped
                if n not in names
            ]
        return out

    @property
    def creates(self) -> bool:
        """Whether a missing index is made."""
        return self.schema_create_mode != "ignore" or self.cleanup

    @property
    def recreates(self) -> bool:
        """Whether an index that is there is dropped first."""
        return self.schema_create_mode == "recreate" or self.cleanup

    @property
    def keys(self) -> list[str]:
        """The columns of the row that make up the document's id; none where the store gives one."""
        info = self.primary_key_info
        if info is not None and info.column and info.type != "nouse":
            return list(info.column)
        into = self.sources()
        return [into.get(c.name, c.name) for c in self.column if c.is_key]

    @property
    def key_delimiter(self) -> str:
        """What stands between the columns of an id."""
        return self.primary_key_info.field_delimiter if self.primary_key_info else ","

    def sources(self) -> dict[str, str]:
        """Field of the index -> column of the row, for what the job lists."""
        if self.column_mapping is not None:
            return {m.dst_col_name: m.source_col_name for m in self.column_mapping}
        return {c.name: c.name for c in self.column}

    def inputs(self) -> list[str]:
        """The columns that each row must have: those of its id and of its vectors."""
        sources = self.sources()
        vectors = [sources.get(c.name, c.name) for c in self.column if c.is_vector]
        mapped = list(sources.values()) if self.column_mapping is not None else []
        return list(dict.fromkeys([*self.keys, *self.es_partition_column, *vectors, *mapped]))

    def outputs(self) -> dict[str, int | None]:
        """Source column -> the vector dimension expected of it, None where it is no vector."""
        by_name = {c.name: c for c in self.column}
        return {
            source: by_name[field].dimension
            if field in by_name and by_name[field].is_vector
            else None
            for field, source in self.sources().items()
        }


def _with_port(address: str) -> str:
    parts = urlsplit(address)
    if parts.port:
        return address
    port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path}"
