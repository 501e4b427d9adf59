"""One collection on one server or file: what is asked of it and made of it, outside of writing."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vecferry.errors import FatalError, JobError, TransientError, near
from vecferry.io.milvus.client import MilvusHandle, classify, handle_of, message_of
from vecferry.io.milvus.settings import (
    INDEXES,
    LITE_FLAT_ROWS,
    MAX_CAPACITY,
    MAX_VARCHAR,
    VECTOR_TYPES,
    MilvusColumn,
    MilvusConnection,
    MilvusSettings,
)
from vecferry.io.sink.background import LOOK_SECONDS, followed
from vecferry.io.sink.mark import NAME, Mark, from_json, to_text
from vecferry.steps import OnWords

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

CODES = {
    "Bool": 1, "Int8": 2, "Int16": 3, "Int32": 4, "Int64": 5, "Float": 10, "Double": 11,
    "String": 20, "VarChar": 21, "Array": 22, "JSON": 23, "BinaryVector": 100, "FloatVector": 101,
    "Float16Vector": 102, "BFloat16Vector": 103, "SparseFloatVector": 104,
}  # fmt: skip
"""Our names of types -> the numbers that Milvus's protocol gives them."""

NAMES = {code: name for name, code in CODES.items()}
DYNAMIC = "$meta"
BUILD_SECONDS = 300.0
"""How long creating, indexing and loading may take."""
MOST_NAMES = 20

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """A field as the server has it.

    `metric` is that of its index, also of one that is yet to be built; None where it has none.
    """

    name: str
    type: str
    primary: bool = False
    auto_id: bool = False
    partition_key: bool = False
    nullable: bool = False
    has_default: bool = False
    dimension: int | None = None
    max_length: int | None = None
    max_capacity: int | None = None
    element_type: str | None = None
    metric: str | None = None
    computed: bool = False

    @property
    def is_vector(self) -> bool:
        """Whether it is a vector of any kind."""
        return self.type in VECTOR_TYPES

    @property
    def optional(self) -> bool:
        """Whether a row may leave it out."""
        return self.nullable or self.has_default or self.auto_id or self.computed


@dataclass(frozen=True, kw_only=True)
class CollectionInfo:
    """A collection as the server has it, or as we would create it.

    `mark` is what made its vectors; None where it does not say.
    """

    name: str
    fields: tuple[FieldInfo, ...]
    dynamic: bool = False
    mark: Mark | None = None

    @property
    def key(self) -> FieldInfo:
        """The primary key."""
        return next(f for f in self.fields if f.primary)

    def field(self, name: str) -> FieldInfo | None:
        """The field of that name."""
        return next((f for f in self.fields if f.name == name), None)

    def vectors(self) -> list[FieldInfo]:
        """The vector fields."""
        return [f for f in self.fields if f.is_vector]


def described(description: dict[str, Any], metrics: dict[str, str]) -> CollectionInfo:
    """The collection that ``describe_collection`` told of; `metrics` by name of vector field."""
    mark = from_json((description.get("properties") or {}).get(NAME))
    deferred = {} if mark is None else mark.deferred or {}
    promised = {
        name: str(told["metricType"])
        for name, told in deferred.items()
        if isinstance(told, dict) and told.get("metricType")
    }
    return CollectionInfo(
        name=description["collection_name"],
        fields=tuple(_described_field(f, {**promised, **metrics}) for f in description["fields"]),
        dynamic=bool(description.get("enable_dynamic_field")),
        mark=mark,
    )


def _described_field(field: dict[str, Any], metrics: dict[str, str]) -> FieldInfo:
    params = field.get("params") or {}
    code, element = int(field["type"]), int(field.get("element_type") or 0)
    default = field.get("default_value")

    def number(key: str) -> int | None:
        return int(params[key]) if params.get(key) is not None else None

    return FieldInfo(
        name=field["name"],
        type=NAMES.get(code, f"type {code}"),
        primary=bool(field.get("is_primary")),
        auto_id=bool(field.get("auto_id")),
        partition_key=bool(field.get("is_partition_key")),
        nullable=bool(field.get("nullable")),
        has_default=default is not None and _is_set(default),
        dimension=number("dim"),
        max_length=number("max_length"),
        max_capacity=number("max_capacity"),
        element_type=NAMES.get(element),
        metric=metrics.get(field["name"]),
        computed=bool(field.get("is_function_output")),
    )


def _is_set(default: object) -> bool:
    from pymilvus.grpc_gen.schema_pb2 import ValueField

    return not isinstance(default, ValueField) or default.WhichOneof("data") is not None


def planned(settings: MilvusSettings) -> CollectionInfo:
    """The collection that these settings would create."""
    fields = tuple(
        FieldInfo(
            name=c.name,
            type=c.type,
            primary=c.primary_key,
            auto_id=c.auto_id,
            partition_key=c.partition_key,
            nullable=c.nullable,
            has_default=c.default_value is not None,
            dimension=c.dimension if c.is_vector else None,
            max_length=_max_length(c),
            max_capacity=(c.max_capacity or MAX_CAPACITY) if c.type == "Array" else None,
            element_type=c.element_type if c.type == "Array" else None,
            metric=c.metric if c.is_vector else None,
        )
        for c in settings.column
    )
    return CollectionInfo(
        name=settings.collection, fields=fields, dynamic=settings.enable_dynamic_schema
    )


def _max_length(column: MilvusColumn) -> int | None:
    if column.type == "VarChar" or (column.type == "Array" and column.element_type == "VarChar"):
        return column.max_length or MAX_VARCHAR
    return None


def creation(settings: MilvusSettings) -> CollectionSchema:
    """pymilvus's ``CollectionSchema`` for these settings."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(
        auto_id=False,
        enable_dynamic_field=settings.enable_dynamic_schema,
        description="created by vecferry",
    )
    for name, type_name, options in field_options(settings):
        element = options.get("element_type")
        if element is not None:
            options["element_type"] = DataType(CODES[element])
        schema.add_field(name, DataType(CODES[type_name]), **options)
    return schema


def field_options(settings: MilvusSettings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and options of each field, as ``add_field`` takes them but for names of types."""
    for c in settings.column:
        options: dict[str, Any] = {}
        if c.is_vector and c.type != "SparseFloatVector":
            options["dim"] = c.dimension
        if (longest := _max_length(c)) is not None:
            options["max_length"] = longest
        if c.type == "Array":
            options["element_type"] = c.element_type or ""
            options["max_capacity"] = c.max_capacity or MAX_CAPACITY
        if c.primary_key:
            options |= {"is_primary": True, "auto_id": c.auto_id}
        if c.partition_key:
            options["is_partition_key"] = True
        if c.nullable:
            options["nullable"] = True
        if c.default_value is not None:
            options["default_value"] = c.default
        yield c.name, c.type, options


INDEX_PARAMETERS: dict[str, dict[str, int]] = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "IVF_FLAT": {"nlist": 1024},
    "IVF_SQ8": {"nlist": 1024},
    "SCANN": {"nlist": 1024},
    "BIN_IVF_FLAT": {"nlist": 1024},
}


def index_of(
    field: FieldInfo, settings: MilvusSettings, told: object = None, *, flat: bool = False
) -> dict[str, Any]:
    """The index that we make for a vector field, as ``add_index`` takes it.

    `told` is what a mark says of it, for a job that does not list the field. With `flat` an index
    that nobody chose is none but the list of all vectors.
    """
    column = next((c for c in settings.column if c.name == field.name), None)
    if column is None:
        column = _remembered(field, told)
    kind = "FLAT" if flat and column.index_type is None and _can_be_flat(field) else column.index
    return {
        "field_name": field.name,
        "index_name": field.name,
        "index_type": kind,
        "metric_type": column.metric,
        "params": INDEX_PARAMETERS.get(kind, {}),
    }


def _can_be_flat(field: FieldInfo) -> bool:
    return "FLAT" in INDEXES.get(field.type, ())


def _remembered(field: FieldInfo, told: object) -> MilvusColumn:
    """What a mark, which others may write, says of a field; else what is usual."""
    plain = {"name": field.name, "type": field.type, "dimension": field.dimension}
    given = told if isinstance(told, dict) else {}
    try:
        return MilvusColumn.model_validate(
            {
                **plain,
                "indexType": given.get("indexType"),
                "metricType": given.get("metricType"),
            }
        )
    except ValueError:
        return MilvusColumn.model_validate(plain)


def deferrable(settings: MilvusSettings) -> dict[str, Any] | None:
    """What a mark says of the indexes that are built after the load; None if there are none."""
    return {
        c.name: {"indexType": c.index_type, "metricType": c.metric}
        for c in settings.column
        if c.is_vector
    } or None


def filled(settings: MilvusSettings, info: CollectionInfo) -> dict[str, str]:
    """Field -> column of the row, for all that is sent: without an automatic key."""
    sources = settings.sources()
    if not sources and settings.column_mapping is None:
        sources = {f.name: f.name for f in info.fields if not f.computed}
    return {d: s for d, s in sources.items() if not ((f := info.field(d)) and f.auto_id)}


class Collection:
    """The collection of a step. Each call raises JobError where the server refuses it.

    Its server is reached by the first call. A Milvus Lite file that is not there has no collection,
    and `create` makes it.
    """

    def __init__(self, settings: MilvusSettings, connection: MilvusConnection, run: str) -> None:
        self.settings, self.connection = settings, connection
        self.where = f"Milvus at {connection.endpoint}"
        self._seconds = connection.connect_timeout_ms / 1000
        self._run = run
        self._name = settings.collection

    @functools.cached_property
    def handle(self) -> MilvusHandle:
        """The client of this run. JobError as in `vecferry.io.sink.target.Catalog`."""
        try:
            return handle_of(self.connection, self._run)
        except TransientError as e:
            raise JobError(str(e)) from e

    @property
    def _client(self) -> MilvusClient:
        return self.handle.client

    @property
    def version(self) -> tuple[int, int] | None:
        """The server's version; None for Milvus Lite, and where a server tells none."""
        return None if self.connection.is_file else self.handle.version

    def _is_there(self) -> bool:
        """Whether something is there to be opened; opening a file would create it."""
        if not self.connection.is_file:
            return True
        path = Path(self.connection.endpoint)
        if path.exists() and not path.is_dir():
            return True  # opening it tells what is wrong
        folder = path if path.is_dir() else path.parent
        if not folder.is_dir():
            raise JobError(f"{path} can't be created: {folder} is not a folder; create it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise JobError(
                f"{path} can't be written: no permission to write into {folder}; let this user "
                "write there, or name another path"
            )
        return path.is_dir()

    def ask(self, call: Callable[..., T], *args: object, **kwargs: object) -> T:
        """The answer to a call of the client."""
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        kwargs.setdefault("timeout", self._seconds)
        try:
            return call(*args, **kwargs)
        except (MilvusException, RpcError) as e:
            found = classify(e)
            raise JobError(f"{self.where}: {message_of(e)}; {_way_out(found)}") from found

    def neighbours(self) -> list[str]:
        """The names of the collections in the database."""
        return sorted(self.ask(self._client.list_collections)) if self._is_there() else []

    def absent(self) -> str:
        """That the collection is missing, and which there are."""
        existing = self.neighbours()
        there = f" (there are: {', '.join(existing[:MOST_NAMES])})" if existing else ""
        return f"collection {self._name!r} does not exist{near(self._name, existing)}{there}"

    def exists(self) -> bool:
        """Whether the collection is there."""
        return self._is_there() and bool(self.ask(self._client.has_collection, self._name))

    def describe(self) -> CollectionInfo | None:
        """Its schema, with the metrics of its indexes; None where it does not exist."""
        name = self._name
        if not self.exists():
            return None
        description = self.ask(self._client.describe_collection, name)
        metrics = {
            index["field_name"]: index["metric_type"]
            for index in self.indexes()
            if index.get("metric_type")
        }
        return described(description, metrics)

    def indexes(self) -> list[dict[str, Any]]:
        """What the server says of each index, how far it is built among it."""
        client, name = self._client, self._name
        names = self.ask(client.list_indexes, name)
        told = [self.ask(client.describe_index, name, index_name=index) for index in names]
        return [index for index in told if index]

    def create(self, mark: Mark, replaced: CollectionInfo | None) -> None:
        """Creates it as the job's columns have it, with a mark that says what makes its vectors.

        What it replaces is dropped first, with all its rows.
        """
        if replaced is not None:
            self.ask(self._client.drop_collection, self._name)
        schema = creation(self.settings)
        try:
            self.ask(
                self._client.create_collection,
                self._name,
                schema=schema,
                properties={NAME: to_text(mark)},
                timeout=BUILD_SECONDS,
            )
        except JobError:
            if not self.exists():  # another process may have been faster
                raise

    def remember(self, info: CollectionInfo, mark: Mark) -> None:
        """Writes what made its vectors into a property of its own."""
        properties = {NAME: to_text(mark)}
        self.ask(self._client.alter_collection_properties, self._name, properties=properties)

    def is_empty(self) -> bool | None:
        """Whether it holds no row; None where it is not loaded, and so can't be asked.

        A server's statistics tell of a row only once it has been flushed.
        """
        try:
            found = self.ask(
                self._client.query, self._name, filter="", limit=1, consistency_level="Strong"
            )
        except JobError:
            return None
        return not found

    def named(self, alias: str) -> str | None:
        """The collection that a name stands for: its own, or an alias'; None where it is free."""
        if not self._is_there() or not self.ask(self._client.has_collection, alias):
            return None
        found = self.ask(self._client.describe_collection, alias)
        return str(found["collection_name"])

    def point_alias(self, alias: str, info: CollectionInfo, instead_of: str | None) -> None:
        """Lets an alias name this collection; what it named before is reached by it no more."""
        change = self._client.alter_alias if self.named(alias) else self._client.create_alias
        self.ask(change, self._name, alias)

    def add_partition(self) -> None:
        """Creates the job's partition where it is missing."""
        name, partition = self._name, self.settings.partition
        if not partition or self.ask(self._client.has_partition, name, partition):
            return
        try:
            self.ask(self._client.create_partition, name, partition)
        except JobError:
            if not self.ask(self._client.has_partition, name, partition):
                raise

    def make_searchable(self, info: CollectionInfo) -> None:
        """An index on each vector field that has none, and the collection loaded.

        Where a load left the indexes for later, it is not loaded: a server can't do without.
        """
        missing = [index_of(f, self.settings) for f in info.vectors() if f.metric is None]
        if missing:
            self._create_indexes(missing, timeout=BUILD_SECONDS)
        if info.mark is None or info.mark.deferred is None or self.handle.is_lite:
            self.load()

    def build(
        self, info: CollectionInfo, deferred: Mapping[str, Any], on_progress: OnWords
    ) -> list[str]:
        """Builds the indexes that a load left for later, and loads the collection.

        Gives what was built, in words, but for lists in a file, which take no time.
        """
        there = {index["field_name"] for index in self.indexes()}
        fields = [f for f in info.vectors() if f.name in deferred and f.name not in there]
        lite = self.handle.is_lite
        flat = lite and self._rows() < LITE_FLAT_ROWS
        wanted = [index_of(f, self.settings, deferred[f.name], flat=flat) for f in fields]

        def work() -> None:
            if not lite:  # what is not flushed would be indexed some time later
                self.ask(self._client.flush, self._name, timeout=None)
            if wanted:
                self._create_indexes(wanted, timeout=None, sync=False)

        def look() -> None:
            on_progress(f"building the index of collection {self._name!r}{self._so_far()}")

        followed(work, look, stop=lambda: None, grace=0)
        while any(index.get("pending_index_rows") for index in self.indexes()):
            look()
            time.sleep(LOOK_SECONDS)
        followed(self.load, look, stop=lambda: None, grace=0)
        return [f"index {i['index_type']} on {i['field_name']!r}" for i in wanted if not flat]

    def _so_far(self) -> str:
        """How far the server is with its indexes, in words."""
        if self.handle.is_lite:  # it answers no question meanwhile
            return ""
        try:
            told = [i for i in self.indexes() if i.get("total_rows")]
        except JobError:
            return ""
        done = sum(int(i.get("indexed_rows") or 0) for i in told)
        total = sum(int(i["total_rows"]) for i in told)
        return f": {done:,} of {total:,} rows" if total else ""

    def _rows(self) -> int:
        """How many rows Milvus Lite has in all partitions."""
        answer = self.ask(self._client.query, self._name, filter="", output_fields=["count(*)"])
        return int(answer[0]["count(*)"])

    def _create_indexes(self, wanted: Sequence[dict[str, Any]], **how: Any) -> None:
        params = self._client.prepare_index_params()
        for index in wanted:
            params.add_index(**index)
        self.ask(self._client.create_index, self._name, params, **how)

    def load(self) -> None:
        """Loads it, which searching and counting need."""
        self.ask(self._client.load_collection, self._name, timeout=BUILD_SECONDS)

    def count(self) -> int:
        """How many rows it, or the job's partition of it, holds now."""
        self.load()
        partition = self.settings.partition
        if partition and self.handle.is_file:  # Milvus Lite counts all partitions in a query
            stats = self.ask(self._client.get_partition_stats, self._name, partition)
            return int(stats["row_count"])
        answer = self.ask(
            self._client.query, self._name, filter="", output_fields=["count(*)"],
            consistency_level="Strong", **self._partition(),
        )  # fmt: skip
        return int(answer[0]["count(*)"])

    def search(
        self, info: CollectionInfo, field: FieldInfo, value: object, k: int
    ) -> list[dict[str, Any]]:
        """The rows nearest to a value of `field`: `score` and every field but vectors."""
        self.load()
        scalars = [f.name for f in info.fields if not f.is_vector]
        hits = self.ask(
            self._client.search,
            self._name,
            data=[value],
            anns_field=field.name,
            limit=k,
            output_fields=scalars + (["$meta"] if info.dynamic else []),
            consistency_level="Strong",
            **self._partition(),
        )
        return [{"score": float(hit["distance"]), **_entity(hit, info)} for hit in hits[0]]

    def _partition(self) -> dict[str, Any]:
        partition = self.settings.partition
        return {"partition_names": [partition]} if partition else {}


def _way_out(found: Exception) -> str:
    """What to do about an error of the server, by what `classify` says of it."""
    if isinstance(found, TransientError):
        return "run again once the server can do it"
    if isinstance(found, FatalError) and found.reason == "no-space":
        return "see that the server's disk has space and can be written"
    if isinstance(found, FatalError):
        return "correct the database, collection or login that the job names, or the user's rights"
    return "correct what the job says of the collection"


def _entity(hit: Any, info: CollectionInfo) -> dict[str, Any]:
    """The fields of a hit; dynamic ones as fields of their own."""
    entity = dict(hit["entity"])
    extra = entity.pop("$meta", None)
    if isinstance(extra, dict):
        entity |= extra
    entity.setdefault(info.key.name, hit.get(info.key.name, hit.get("id")))
    return entity
