"""One collection on one server or file: what is asked of it and made of it, outside of writing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from vecferry.errors import JobError, redact, shorten
from vecferry.io.mark import NAME, Mark, to_text
from vecferry.io.milvus_client import MilvusHandle
from vecferry.io.milvus_schema import CollectionInfo, FieldInfo, creation, described, index_of
from vecferry.io.milvus_settings import MilvusConnection, MilvusSettings

T = TypeVar("T")

BUILD_SECONDS = 300.0
"""How long creating, indexing and loading may take."""


class Collection:
    """The collection of a step. Each call raises JobError where the server refuses it."""

    def __init__(
        self, settings: MilvusSettings, connection: MilvusConnection, handle: MilvusHandle
    ) -> None:
        self.settings, self.handle = settings, handle
        self.where = f"Milvus at {connection.endpoint}"
        self._seconds = connection.connect_timeout_ms / 1000
        self._client = handle.client
        self._name = settings.collection

    def ask(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The answer to a call of the client."""
        from grpc import RpcError  # type: ignore[import-untyped]
        from pymilvus.exceptions import MilvusException

        kwargs.setdefault("timeout", self._seconds)
        try:
            return call(*args, **kwargs)
        except (MilvusException, RpcError) as e:
            text = getattr(e, "message", "") or str(e)
            raise JobError(f"{self.where}: {shorten(redact(text), 300)}") from e

    def neighbours(self) -> list[str]:
        """The names of the collections in the database."""
        return sorted(self.ask(self._client.list_collections))

    def exists(self) -> bool:
        """Whether the collection is there."""
        return bool(self.ask(self._client.has_collection, self._name))

    def describe(self) -> CollectionInfo | None:
        """Its schema, with the metrics of its indexes; None where it does not exist."""
        client, name = self._client, self._name
        if not self.exists():
            return None
        description = self.ask(client.describe_collection, name)
        metrics: dict[str, str] = {}
        for index in self.ask(client.list_indexes, name):
            told = self.ask(client.describe_index, name, index_name=index)
            if told and told.get("metric_type"):
                metrics[told["field_name"]] = told["metric_type"]
        return described(description, metrics)

    def create(self, mark: Mark) -> None:
        """Creates it as the job's columns have it, with a mark that says what makes its vectors."""
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

    def remember(self, mark: Mark) -> None:
        """Writes what made its vectors into a property of its own."""
        properties = {NAME: to_text(mark)}
        self.ask(self._client.alter_collection_properties, self._name, properties=properties)

    def is_empty(self, *, unknown: bool) -> bool:
        """Whether it holds no row; `unknown` where it is not loaded, and so can't be asked.

        A server's statistics tell of a row only once it has been flushed.
        """
        try:
            found = self.ask(
                self._client.query, self._name, filter="", limit=1, consistency_level="Strong"
            )
        except JobError:
            return unknown
        return not found

    def named(self, alias: str) -> str | None:
        """The collection that a name stands for: its own, or an alias'; None where it is free."""
        if not self.ask(self._client.has_collection, alias):
            return None
        found = self.ask(self._client.describe_collection, alias)
        return str(found["collection_name"])

    def point_alias(self, alias: str) -> None:
        """Lets an alias name this collection; what it named before is reached by it no more."""
        change = self._client.alter_alias if self.named(alias) else self._client.create_alias
        self.ask(change, self._name, alias)

    def drop(self) -> None:
        """Drops it with all its rows."""
        self.ask(self._client.drop_collection, self._name)

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
        """An index on each vector field that has none, and the collection loaded."""
        missing = [f for f in info.vectors() if f.metric is None]
        if missing:
            params = self._client.prepare_index_params()
            for field in missing:
                params.add_index(**index_of(field, self.settings))
            self.ask(self._client.create_index, self._name, params, timeout=BUILD_SECONDS)
        self.load()

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
        self, info: CollectionInfo, field: FieldInfo, value: Any, k: int
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


def _entity(hit: Any, info: CollectionInfo) -> dict[str, Any]:
    """The fields of a hit; dynamic ones as fields of their own."""
    entity = dict(hit["entity"])
    extra = entity.pop("$meta", None)
    if isinstance(extra, dict):
        entity |= extra
    entity.setdefault(info.key.name, hit.get(info.key.name, hit.get("id")))
    return entity
