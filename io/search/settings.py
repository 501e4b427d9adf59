"""What a job may say of an index of Elasticsearch or OpenSearch; what both have in common."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel, to_snake

from vecferry.errors import near
from vecferry.fields import DataSourceName, in_form
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
from vecferry.settings import Connection, SecretText, Settings, StepSettings, pick


@dataclass(frozen=True)
class VectorRules:
    """What a store says of its vectors.

    Attributes:
      store: the store.
      type: its word for a vector field.
      most_dimensions: the most that a vector of its may have.
      words: what a column may say of its vectors, and what the store knows of that.
    """

    store: str
    type: str
    most_dimensions: int
    words: Mapping[str, tuple[str, ...]]


ELASTICSEARCH = VectorRules(
    "Elasticsearch",
    "dense_vector",
    4096,
    {"similarity": ("cosine", "dot_product", "l2_norm", "max_inner_product")},
)
OPENSEARCH = VectorRules(
    "OpenSearch",
    "knn_vector",
    16_000,
    {
        "engine": ("faiss", "lucene", "nmslib"),
        "spaceType": ("l2", "cosinesimil", "innerproduct", "l1", "linf", "hamming"),
    },
)
STORE_OF = {rules.type: rules.store for rules in (ELASTICSEARCH, OPENSEARCH)}
VECTOR_TYPES = tuple(STORE_OF)
META_TYPES = ("id", "routing", "version")
"""DataX's words for columns that are not fields of the document: its id, what routes it, and what
orders the rows of one id."""
_OF_DATAX = frozenset(
    {"array", "dstArray", "json_array", "jsonArray", "other_params", "otherParams", "origin",
     "dstFormat"}
)  # fmt: skip
"""What DataX says of a column that does not belong into its mapping as it is."""
_REFUSED = {
    "combineFields": "join the columns of an id by primaryKeyInfo",
    "timezone": "write times with their zone, such as 2026-01-02T03:04:05+08:00, before this step",
}


class SearchColumn(Settings):
    """A field of the index. What else is written here goes into its mapping as it is."""

    passes_on: ClassVar[bool] = True

    name: str = Field(
        min_length=1,
        description="the name of the field",
        examples=["title"],
        json_schema_extra=in_form("columns"),
    )
    type: str | None = Field(
        default=None,
        description="the type of the field, as the store has it, or `id`, `routing`, `version`",
        examples=["text"],
        json_schema_extra=in_form("columns"),
    )
    primary_key: bool = Field(
        default=False,
        description="whether the id of a document is made of this column",
        json_schema_extra=in_form("columns"),
    )
    dimension: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("dimension", "dims"),
        description="how many numbers a vector has",
        examples=[1024],
        json_schema_extra=in_form("vectors", when=("type", *VECTOR_TYPES)),
    )

    @field_validator("type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def is_key(self) -> bool:
        """Whether the document's id comes from this column."""
        return self.primary_key or self.type == "id"

    @property
    def is_meta(self) -> bool:
        """Whether this column goes beside the document, not into it."""
        return self.type in META_TYPES

    @property
    def is_vector(self) -> bool:
        """Whether this is a vector field, in either store's word."""
        return self.type in VECTOR_TYPES

    @property
    def is_split(self) -> bool:
        """Whether its texts are lists, written with the job's `splitter` between the values."""
        return self._says("array")

    @property
    def is_json(self) -> bool:
        """Whether its texts are JSON."""
        return self._says("json_array") or self._says("jsonArray")

    @property
    def mapping(self) -> dict[str, Any]:
        """What else its mapping holds, beside the type."""
        extra = self.model_extra or {}
        out = {k: v for k, v in extra.items() if k not in _OF_DATAX}
        if "dstFormat" in extra:
            out["format"] = extra["dstFormat"]
        return out | (extra.get("other_params") or extra.get("otherParams") or {})

    def said(self, key: str) -> object:
        """What the column says under this key, in either spelling, or in its `method`."""
        extra = self.model_extra or {}
        spelt = to_snake(key)
        given = (extra.get(key), extra.get(spelt), (extra.get("method") or {}).get(spelt))
        return next((value for value in given if value is not None), None)

    def problem(self) -> str | None:
        """What DataX knows of columns, and we can't do; passing it over would change values."""
        if self.name == "_id" and not self.is_meta:
            return "column '_id' is the document's id and no field: give it the type id"
        if self.type == "parent":
            return f"column {self.name!r}: type parent is not known here: leave the column out"
        for key, way in _REFUSED.items():
            if (self.model_extra or {}).get(key):
                return f"column {self.name!r}: {key} is not known here: {way}"
        return None

    def _says(self, key: str) -> bool:
        return str((self.model_extra or {}).get(key)).lower() == "true"


class PrimaryKeyInfo(Settings):
    """DataWorks' way to say which columns make up the id; several are joined."""

    type: Literal["pk", "specific", "nouse"] = Field(
        default="specific",
        description="`pk` and `specific` take the id from columns; with `nouse` the store makes "
        "ids",
        json_schema_extra=in_form("columns"),
    )
    field_delimiter: str | None = Field(
        default=None,
        description="the text between the columns of an id",
        examples=["_"],
        json_schema_extra=in_form("columns", when=("type", "pk", "specific")),
    )
    column: tuple[str, ...] = Field(
        default=(),
        description="the columns that make up the id",
        examples=[["shop", "sku"]],
        json_schema_extra=in_form("columns", when=("type", "pk", "specific")),
    )

    @field_validator("column", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return column_names(value)


def column_names(value: str | dict[str, Any] | Iterable[Any] | None) -> list[Any]:
    """Names of columns, given as one, as a list, or as objects with a `name`."""
    given = [value] if isinstance(value, str | dict | int | float) else value or ()
    return [v.get("name") if isinstance(v, dict) else v for v in given]


class SearchConnection(Connection):
    """A cluster: one address or several, and a login."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})

    endpoint: str | list[str] = Field(
        description="`https://host:9200`, or a list of such addresses",
        examples=["https://localhost:9200"],
        json_schema_extra=in_form("connection"),
    )
    username: str | None = Field(
        default=None,
        description="the user",
        examples=["writer"],
        json_schema_extra=in_form("login"),
    )
    password: SecretText | None = Field(
        default=None,
        description="the user's password",
        examples=["${SEARCH_PASSWORD}"],
        json_schema_extra=in_form("login"),
    )
    ca_cert: str | None = Field(
        default=None,
        description="a file: the authority that signed the server's certificate",
        examples=["/etc/ssl/search.pem"],
        json_schema_extra=in_form("connection", advanced=True, otherwise="the usual authorities"),
    )

    @field_validator("endpoint")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        given = value.split(",") if isinstance(value, str) else value
        if not given:
            raise ValueError("endpoint is empty: write https://host:9200")
        return [_address(one.strip()) for one in given]

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            given, missing = ("username", "password") if self.username else ("password", "username")
            raise ValueError(f"{given} is given without {missing}: give both")
        if self.ca_cert is not None and not any(h.startswith("https:") for h in self.hosts):
            raise ValueError("caCert is given, and the endpoint is http://, which is not encrypted")
        return self

    @property
    def hosts(self) -> list[str]:
        """The addresses, with their ports."""
        return [_with_port(urlsplit(one)) for one in self.endpoint]

    @property
    def login(self) -> dict[str, str]:
        """HTTP's basic login in UTF-8 (RFC 7617), which neither client can write beyond ASCII."""
        if self.username is None:
            return {}
        pair = f"{self.username}:{str.__str__(self.password or '')}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}

    @property
    def shown(self) -> str:
        """The addresses, as a message names them."""
        return ", ".join(self.endpoint)


def _address(text: str) -> str:
    shown = f"***@{text.rpartition('@')[2]}" if "@" in text else text  # a login may be in there
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise ValueError(f"endpoint {shown!r} is not an address: write https://host:9200")
    if parts.username or parts.password:
        raise ValueError("endpoint holds a login: write it as username and password")
    if parts.query or parts.fragment:
        raise ValueError(f"endpoint {shown!r} ends with a query: leave it out")
    return text.rstrip("/")


def _with_port(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{port}{parts.path}"


BODY_KEYS = ("settings", "mappings", "aliases")
ACTIONS = ("index", "create", "update", "delete")
LOGINS = {"accessKey", "password", "apiKey", "token"}
MOST_NAME_BYTES = 255
_NOT_IN_NAMES = set(' "*\\<|,>/?#:')


class SearchSettings(StepSettings):
    """What both writers may say; each says what its vectors are."""

    vectors: ClassVar[VectorRules]
    vector_types: ClassVar[tuple[str, ...]] = VECTOR_TYPES

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "envType", "indexType", "type", "esVersion", "multiThread", "ignoreParseError",
            "trySize", "tryInterval", "discoveryInterval",
        }
    )  # fmt: skip

    datasource: DataSourceName = None
    index: str = Field(
        description="an index, or an alias of an index",
        examples=["books"],
        json_schema_extra=in_form("target"),
    )
    action_type: str = Field(
        default="index",
        description="what is done with each document",
        examples=["index"],
        json_schema_extra=in_form("write", choices=ACTIONS, see="search.md#actions"),
    )
    batch_size: int = Field(
        default=1000,
        ge=1,
        description="documents in a request; a request also ends at 8 MiB",
        examples=[500],
        json_schema_extra=in_form("speed", advanced=True),
    )
    timeout: int = Field(
        default=600000,
        ge=1,
        title="Timeout (ms)",
        description="time limit of a request, in milliseconds",
        examples=[60000],
        json_schema_extra=in_form("limits", advanced=True),
    )
    compress: bool = Field(
        default=False,
        description="gzip requests; vectors hardly get smaller",
        json_schema_extra=in_form("speed", advanced=True),
    )
    discovery: bool = Field(
        default=False,
        description="ask the cluster for its other nodes and use them",
        json_schema_extra=in_form("connection", advanced=True),
    )
    schema_create_mode: CreateMode = Field(default="ignore", json_schema_extra=in_form("creation"))
    cleanup: bool = Field(
        default=False,
        validation_alias=AliasChoices("cleanup", "truncate"),
        description="true means `schemaCreateMode: recreate`",
        json_schema_extra=in_form("creation", advanced=True),
    )
    owns_target: OwnsTarget = Field(
        default=False, json_schema_extra=in_form("creation", see="reconcile.md")
    )
    index_when: IndexWhen = Field(
        default="after",
        json_schema_extra=in_form("creation", see="search.md#while-an-index-is-loaded"),
    )
    column: list[SearchColumn] = Field(
        default_factory=list,
        description="the fields to fill",
        examples=[[{"name": "title", "type": "text"}]],
        json_schema_extra=in_form(
            "columns", otherwise="all fields of the mapping", see="search.md#columns"
        ),
    )
    column_mapping: list[ColumnMapping] | None = Field(
        default=None,
        description="the column of the row for each field",
        examples=[[{"sourceColName": "text", "dstColName": "about"}]],
        json_schema_extra=in_form("columns", advanced=True, otherwise="same names"),
    )
    primary_key_info: PrimaryKeyInfo | None = Field(
        default=None,
        description="how several columns make up an id",
        examples=[{"type": "pk", "column": ["shop", "sku"], "fieldDelimiter": "_"}],
        json_schema_extra=in_form("columns", advanced=True, see="search.md#columns"),
    )
    field_delimiter: str | None = Field(
        default=None,
        description="the text between the columns of an id, where `primaryKeyInfo` says nothing",
        examples=["_"],
        json_schema_extra=in_form("columns", advanced=True),
    )
    es_partition_column: tuple[str, ...] = Field(
        default=(),
        title="Routing columns",
        description="columns by which documents are routed to shards",
        examples=[["tenant"]],
        json_schema_extra=in_form("columns", advanced=True),
    )
    parent_key: ParentKey = ()
    splitter: str = Field(
        default="-,-",
        min_length=1,
        description="the text between the values of a column with `array: true`",
        examples=["-,-"],
        json_schema_extra=in_form("columns", advanced=True),
    )
    dynamic: bool = Field(
        default=False,
        description="also write columns that the mapping lacks; the store guesses their types",
        json_schema_extra=in_form("columns", advanced=True),
    )
    json_as_text: bool = Field(
        default=False,
        description="write objects and lists of rows as texts of JSON, but into fields of objects",
        json_schema_extra=in_form("columns", advanced=True),
    )
    dst_dynamic: str | bool | None = Field(
        default=None,
        description="`dynamic` of an index that is created",
        examples=["strict"],
        json_schema_extra=in_form(
            "creation",
            advanced=True,
            choices=("true", "false", "strict", "runtime"),
            otherwise="as `dynamic`",
        ),
    )
    enable_write_null: bool = Field(
        default=True,
        description="write nulls; false leaves them out",
        json_schema_extra=in_form("write", advanced=True),
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="the settings of an index that is created",
        examples=[{"number_of_replicas": 0}],
        json_schema_extra=in_form("creation", advanced=True),
    )
    index_body: dict[str, Any] | None = Field(
        default=None,
        description="body of a missing index, or a file of JSON",
        examples=[{"settings": {"number_of_replicas": 0}}],
        json_schema_extra=in_form(
            "creation", advanced=True, see="search.md#an-index-as-you-write-it"
        ),
    )
    alias: str | None = Field(
        default=None,
        description="after the job is done, this alias names the index",
        examples=["books_live"],
        json_schema_extra=in_form("target", advanced=True),
    )
    alias_mode: Literal["append", "exclusive"] = Field(
        default="append",
        description="`append` adds the index to the alias; `exclusive` lets the alias name this "
        "index alone",
        json_schema_extra=in_form("target", advanced=True, when=("alias",)),
    )

    @field_validator("index", "alias")
    @classmethod
    def _index(cls, value: str | None) -> str | None:
        if value is None:
            return None
        wrong = sorted(_NOT_IN_NAMES & set(value))
        if (
            not value
            or wrong
            or value != value.lower()
            or value[0] in "-_+"
            or value in (".", "..")
        ):
            raise ValueError(
                f"{value!r} is not a name for an index: lower case, none of "
                f"{' '.join(sorted(_NOT_IN_NAMES - {' '}))} or a blank, not beginning with - _ or +"
            )
        if len(value.encode()) > MOST_NAME_BYTES:
            raise ValueError(f"index {value[:40]!r}… is longer than {MOST_NAME_BYTES} bytes")
        return value

    @field_validator("column")
    @classmethod
    def _vectors(cls, columns: list[SearchColumn]) -> list[SearchColumn]:
        for column in columns:
            if column.is_vector:
                _check_vector(column, cls.vectors)
        return columns

    @field_validator("index_body", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        body = _read_body(value) if isinstance(value, str) else value
        if isinstance(body, dict):
            for name in body.keys() - BODY_KEYS:
                raise ValueError(
                    f"{name!r} is not a part of the body of an index{near(str(name), BODY_KEYS)}; "
                    f"there are {', '.join(BODY_KEYS)}"
                )
        return body

    @field_validator("action_type", mode="before")
    @classmethod
    def _action(cls, value: Any) -> Any:
        return pick(value, ACTIONS, "actionType")

    @field_validator("es_partition_column", mode="before")
    @classmethod
    def _routing(cls, value: Any) -> Any:
        return column_names(value)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = [
            *self._column_problems(),
            *self._key_problems(),
            *self._body_problems(),
            *parent_problems(self.parent_key, self.sources(), self.keys),
        ]
        if self.parent_key and self.action_type != "index":
            problems.append(
                f"parentKey replaces chunks, and actionType {self.action_type} does not: use index"
            )
        if self.recreates and not self.owns_target:
            word = "cleanup" if self.cleanup else "schemaCreateMode recreate"
            problems.append(f"{word} drops what the index holds: set ownsTarget: true if it may go")
        if self.alias == self.index:
            problems.append(f"alias {self.alias!r} is the index itself: give one another name")
        for word in sorted(LOGINS & set(self.model_extra or {})):
            problems.append(f"{word} belongs into a data source, which keeps it secret")
        if (self.model_extra or {}).get("deleteBy"):
            problems.append(
                "deleteBy is not known here, and the rows that it names would be written: leave it "
                "out; a step with actionType delete writes deletes"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        names = [c.name for c in self.column]
        out = name_problems(names, self.column_mapping, open_to_others=self.dynamic)
        out += filter(None, (c.problem() for c in self.column))
        if self.creates and self.index_body is None:
            out += [
                f"column {c.name!r} is a {c.type} without dimension"
                for c in self.column
                if c.is_vector and c.dimension is None
            ]
        return out

    def _body_problems(self) -> list[str]:
        if self.index_body is None:
            return []
        says = [n for n in ("settings", "dst_dynamic") if n in self.model_fields_set]
        out = [f"{to_camel(n)} stands beside indexBody: write it into the body" for n in says]
        if "schema_create_mode" in self.model_fields_set and not self.creates_by_mode:
            out.append(
                "indexBody creates an index that is missing, and schemaCreateMode ignore does not: "
                "leave one of them out"
            )
        return out

    def _key_problems(self) -> list[str]:
        info = self.primary_key_info
        marked = [c.name for c in self.column if c.is_key]
        out = []
        if len(marked) > 1:
            out.append(
                f"primaryKey is set on {' and '.join(marked)}: a document has one id; join several "
                "columns by primaryKeyInfo"
            )
        if info is None or not marked:
            if info is not None and not info.column and info.type != "nouse":
                out.append(
                    f"primaryKeyInfo of type {info.type} names no column: list those of the id in "
                    "its column, or write type nouse for ids made by the store"
                )
        elif info.type == "nouse" or (info.column and marked[0] not in info.column):
            out.append(
                f"column {marked[0]!r} is marked as the id, and primaryKeyInfo says "
                f"{'nouse' if info.type == 'nouse' else ', '.join(info.column)}: leave one out"
            )
        if len(self.keys) > 1 and not self.key_delimiter:
            out.append("fieldDelimiter is empty: ids of different rows would be the same")
        if len([c for c in self.column if c.type == "version"]) > 1:
            out.append("two columns are of type version: a document has one")
        if self.version is not None and self.action_type in ("create", "update"):
            out.append(
                f"column {self.version!r} is a version, which actionType {self.action_type} can't "
                "carry: use actionType index, or leave the column out"
            )
        if self.version is not None and not self.keys:
            out.append("a version needs an id to compare by: set primaryKey: true on a column")
        if self.action_type != "index" and not self.keys:
            out.append(
                f"actionType {self.action_type} needs an id: set primaryKey: true on a column"
            )
        return out

    def moved(self, name: str, *, switch: bool) -> dict[str, Any]:
        """What to change in the step's parameters for it to fill a new index instead.

        With `switch` the step's alias, or else its index's name, becomes the alias of the new one.
        If `aliasMode` allows it, the step's alias keeps the other indices that it names.
        """
        return {
            "index": name,
            "schemaCreateMode": "createIfNotExist",
            "cleanup": False,
            "alias": (self.alias or self.index) if switch else None,
            "aliasMode": self.alias_mode if self.alias else "exclusive",
        }

    @property
    def takes_other_columns(self) -> bool:
        """Whether columns are written that the job does not list."""
        return self.dynamic

    @property
    def creates(self) -> bool:
        """Whether a missing index is made."""
        return self.creates_by_mode or self.index_body is not None

    @property
    def creates_by_mode(self) -> bool:
        """Whether the job asks for that in words."""
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
            return self._filled_by(info.column)
        return self._filled_by(c.name for c in self.column if c.is_key)

    @property
    def routing(self) -> list[str]:
        """The columns of the row by which its document is routed."""
        typed = (c.name for c in self.column if c.type == "routing")
        return self._filled_by(self.es_partition_column or typed)

    @property
    def version(self) -> str | None:
        """The column of the row that orders the rows of one id; none where nothing does."""
        return next(iter(self._filled_by(c.name for c in self.column if c.type == "version")), None)

    @property
    def key_delimiter(self) -> str:
        """What stands between the columns of an id."""
        info = self.primary_key_info
        given = (info.field_delimiter if info else None, self.field_delimiter, ",")
        return next(d for d in given if d is not None)

    def sources(self) -> dict[str, str]:
        """Field of the index -> column of the row, for what the job lists."""
        if self.column_mapping is not None:
            return {m.dst_col_name: m.source_col_name for m in self.column_mapping}
        return {c.name: c.name for c in self.column}

    def key_columns(self) -> list[str]:
        """The columns of the id and of what routes the document; none where the store gives ids."""
        return list(dict.fromkeys([*self.keys, *self.routing])) if self.keys else []

    def key_advice(self, columns: Sequence[str]) -> str:
        """See `StepSettings`."""
        names = ", ".join(f'"{name}"' for name in columns)
        delimiter = "" if len(columns) < 2 else ', "fieldDelimiter": "|"'
        return (
            f'set primaryKeyInfo: {{"type": "pk", "column": [{names}]{delimiter}}}, or let the '
            "source have a column that joins them, and make that the id"
        )

    @property
    def keeps_versions(self) -> bool:
        """Whether documents are replaced, so that the server compares versions."""
        return self.action_type == "index"

    def document_key(self) -> list[str]:
        """The columns that name the document of a chunk."""
        return list(self.parent_key)

    def document_fields(self) -> list[str]:
        """The fields that hold them."""
        return parent_fields(self.parent_key, self.sources())

    def inputs(self) -> list[str]:
        """The columns that each row must have: those of its id and of its vectors."""
        needed = [*self.keys, *self.routing, *filter(None, [self.version])]
        needed += parent_inputs(self.parent_key)
        if self.action_type != "delete":
            sources = self.sources()
            needed += [sources.get(c.name, c.name) for c in self.column if c.is_vector]
            needed += sources.values() if self.column_mapping is not None else ()
        return list(dict.fromkeys(needed))

    def outputs(self) -> dict[str, int | None]:
        """Source column -> the vector dimension expected of it, None for another column."""
        by_name = {c.name: c for c in self.column}
        return {
            source: by_name[field].dimension
            if field in by_name and by_name[field].is_vector
            else None
            for field, source in self.sources().items()
        }

    def _filled_by(self, names: Iterable[str]) -> list[str]:
        """The columns of the row that fill these fields; another name is a column's own."""
        into = self.sources()
        return [into.get(name, name) for name in names]


def _read_body(text: str) -> Any:
    """The body that a text holds, or the file of JSON that it names; raises ValueError."""
    written = text.lstrip().startswith("{")
    what = "indexBody" if written else f"indexBody {text!r}"
    try:
        return orjson.loads(text if written else Path(text).read_bytes())
    except OSError as e:
        raise ValueError(
            f"{what} can't be read ({e.strerror}): name a file of JSON, or write the object"
        ) from None
    except ValueError as e:  # also of JSON
        raise ValueError(f"{what} is not JSON ({e}): mend it") from None


def _check_vector(column: SearchColumn, rules: VectorRules) -> None:
    where = f"column {column.name!r}"
    if column.type != rules.type:
        raise ValueError(f"{where}: {column.type} is {STORE_OF[str(column.type)]}'s: {rules.type}")
    for key, known in rules.words.items():
        value = column.said(key)
        if value is not None and value not in known:
            raise ValueError(
                f"{where}: {key} {value!r} is unknown{near(str(value), known)}; known are "
                f"{', '.join(known)}"
            )
    if column.dimension is not None and column.dimension > rules.most_dimensions:
        raise ValueError(f"{where}: {column.dimension} dimensions, {rules.most_dimensions} at most")
