"""A Milvus collection as the target of a job: checked, made ready, written to, searched."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson

from vecferry.errors import JobError, TerminalError
from vecferry.io.milvus.catalog import (
    Collection,
    CollectionInfo,
    deferrable,
    filled,
    index_of,
    planned,
)
from vecferry.io.milvus.checks import (
    mismatches,
    misnamed,
    misplaced,
    missing,
    notes,
    unable_to_trim,
    uncreatable,
)
from vecferry.io.milvus.client import Message, Method, MilvusHandle, classify
from vecferry.io.milvus.holdings import CollectionHoldings
from vecferry.io.milvus.settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus.values import DELETING, INSERTING, UPSERTING, RowEncoder, acceptor
from vecferry.io.sink.mark import Mark, mark_of
from vecferry.io.sink.parents import Trim, grouped
from vecferry.io.sink.reconcile import Holdings
from vecferry.io.sink.store import WRITTEN, Outcome, Record, WriteLimits, retry
from vecferry.io.sink.target import AliasTarget, vector_field
from vecferry.io.sink.values import VectorLike
from vecferry.steps import OnWords, StepContext


class MilvusStore:
    """A collection as the write loop sees it."""

    def __init__(
        self, settings: MilvusSettings, database: str, info: CollectionInfo, handle: MilvusHandle
    ) -> None:
        from vecferry.io.milvus.wire import RequestMaker

        encoder = RowEncoder(settings, info, lite=handle.is_lite)
        self.encode = encoder.encode
        self.document_of = encoder.document_of
        self._encoder = encoder
        self.classify = classify
        self.is_lite = handle.is_lite
        self._handle = handle
        make = RequestMaker(
            database="" if database == "default" else database,
            collection=settings.collection,
            partition=settings.partition,
            fields=encoder.fields,
            dynamic=encoder.dynamic,
            key=info.key,
        )
        self._delete_where = make.delete_where
        self._calls: tuple[tuple[str, Method, Callable[[Sequence[Any]], Message]], ...] = (
            (UPSERTING, "Upsert", make.upsert),
            (INSERTING, "Insert", make.insert),
            (DELETING, "Delete", make.delete),
        )

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys: one call for each operation that is among them.

        If a later call fails, the records of the earlier calls count as written, and the rest is
        to be sent again. So an insert is not repeated for the sake of a delete.
        """
        done: set[str] = set()
        for op, method, request in self._calls:
            mine = [r for r in records if r.op == op]
            if not mine:
                continue
            sent: list[Any] = [r.key if op == DELETING else r.body for r in mine]
            try:
                self._handle.write(method, request(sent))
            except Exception as e:
                if not done:
                    raise
                later = retry(str(self.classify(e)))
                return [WRITTEN if r.op in done else later for r in records]
            done.add(op)
        return None

    def trim(self, trims: Sequence[Trim]) -> None:
        """Deletes surplus chunks of all these documents by one expression."""
        fields, number = self._encoder.parent_fields, self._encoder.number_field
        self._handle.write("Delete", self._delete_where(surplus(trims, fields, number)))


def surplus(trims: Sequence[Trim], fields: Sequence[str], number: str) -> str:
    """The expression that is true for surplus chunks."""
    clauses = []
    for (keep, *first), last in grouped(trims).items():
        parts = [f"{n} == {_literal(v)}" for n, v in zip(fields[:-1], first, strict=True)]
        parts += [f"{fields[-1]} in {_literal(last)}", f"{number} >= {keep}"]
        clauses.append(f"({' and '.join(parts)})")
    return " or ".join(clauses)


def _literal(value: Any) -> str:
    return orjson.dumps(value).decode()


REQUEST_BYTES = 16 << 20
"""A request stays well below the 64 MiB that a server takes."""


class MilvusTarget(AliasTarget[Collection, CollectionInfo, MilvusStore]):
    """The collection that a step writes to.

    All that one run does in one process goes through one client, as a Milvus Lite file allows one
    process only.
    """

    noun = "collection"

    def __init__(
        self, settings: MilvusSettings, connection: MilvusConnection, context: StepContext
    ) -> None:
        super().__init__(context)
        self.settings, self.connection = settings, connection

    def catalog(self) -> AbstractContextManager[Collection]:
        """See `TargetBase`."""
        return nullcontext(Collection(self.settings, self.connection, self.context.run))

    def store(self, catalog: Collection, info: CollectionInfo) -> MilvusStore:
        """See `TargetBase`."""
        return MilvusStore(self.settings, self.connection.database, info, catalog.handle)

    def encoder(self, info: CollectionInfo | None) -> RowEncoder:
        """See `TargetBase`."""
        lite = self.connection.is_file
        return RowEncoder(self.settings, info or planned(self.settings), lite=lite)

    @property
    def alias(self) -> str | None:
        """See `AliasTarget`."""
        return self.settings.alias

    @property
    def target_name(self) -> str:
        """See `AliasTarget`."""
        return self.settings.collection

    def holdings(self, catalog: Collection, info: CollectionInfo) -> Holdings:
        """See `TargetBase`."""
        return CollectionHoldings(catalog, info, self.settings, self.context)

    @property
    def document_key(self) -> Sequence[str]:
        """See `TargetBase`."""
        return self.settings.parent_key

    @property
    def owns_target(self) -> bool:
        """See `TargetBase`."""
        return self.settings.owns_target

    @property
    def recreates(self) -> bool:
        """See `TargetBase`."""
        return self.settings.schema_create_mode == "recreate"

    def sources(self) -> dict[str, str]:
        """See `TargetBase`."""
        return self.settings.sources()

    def filled(self, info: CollectionInfo) -> dict[str, str]:
        """See `TargetBase`."""
        return filled(self.settings, info)

    def dimensions(self, info: CollectionInfo) -> dict[str, int]:
        """See `TargetBase`."""
        return {
            f.name: f.dimension
            for f in info.fields
            if f.dimension is not None and f.type != "BinaryVector"
        }

    def missing(self, catalog: Collection) -> list[str]:
        """See `TargetBase`."""
        return missing(self.settings, catalog, mark_of(self.context, self.sources()))

    def mismatches(self, catalog: Collection, info: CollectionInfo) -> list[str]:
        """See `TargetBase`."""
        return mismatches(self.settings, info)

    def irreplaceable(self, catalog: Collection, info: CollectionInfo) -> list[str]:
        """See `TargetBase`."""
        settings = self.settings
        if info.name != settings.collection:
            return []  # told among the obstacles
        problems = uncreatable(settings, self.connection, catalog.version)
        rows = 0 if problems or settings.owns_target else catalog.count()
        if not rows:
            return [f"collection {info.name!r} can't be made anew: {p}" for p in problems]
        return [
            f"collection {info.name!r} holds {rows} rows, which recreate would drop; set "
            "ownsTarget: true if they may go, or schemaCreateMode to createIfNotExist"
        ]

    def obstacles(self, catalog: Collection, info: CollectionInfo | None) -> list[str]:
        """See `TargetBase`."""
        return [
            *unable_to_trim(self.settings, catalog.version),
            *misnamed(self.settings, catalog),
            *(
                []
                if info is None
                else misplaced(self.settings, self.context.write.instead_of, info)
            ),
        ]

    def notes(self, catalog: Collection, info: CollectionInfo | None) -> list[str]:
        """See `TargetBase`."""
        return notes(self.settings, info or planned(self.settings))

    def make_ready(self, catalog: Collection, info: CollectionInfo) -> None:
        """The partition, an index on each vector, the collection loaded.

        With `schemaCreateMode` ignore only the partition.
        """
        catalog.add_partition()
        if self.settings.schema_create_mode != "ignore":
            catalog.make_searchable(info)

    @property
    def index_when(self) -> str:
        """See `TargetBase`."""
        if self.settings.parent_key:  # Milvus deletes by a filter in a loaded collection only
            return "before"
        return self.settings.index_when

    def deferred(self, catalog: Collection) -> dict[str, Any] | None:
        """See `TargetBase`; the indexes of vectors, by field."""
        return deferrable(self.settings)

    def build(
        self,
        catalog: Collection,
        info: CollectionInfo,
        deferred: Mapping[str, Any],
        on_progress: OnWords,
    ) -> list[str]:
        """See `TargetBase`; the collection is loaded then."""
        began = time.monotonic()
        built = catalog.build(info, deferred, on_progress)
        catalog.remember(info, dataclasses.replace(info.mark or Mark(), deferred=None))
        seconds = time.monotonic() - began
        what = f"collection {info.name!r}"
        return [f"built {' and '.join(built)} of {what} in {seconds:,.1f} s"] if built else []

    def undone(self, catalog: Collection, info: CollectionInfo, deferred: Mapping[str, Any]) -> str:
        """See `TargetBase`."""
        calls = []
        for field in info.vectors():
            if field.name in deferred:
                index = index_of(field, self.settings, deferred[field.name])
                given = ", ".join(f"{k}={v!r}" for k, v in index.items())
                calls.append(f"params.add_index({given})")
        return (
            f"collection {info.name!r} has no index yet: the next run of the job builds it once "
            "its rows are in, and by hand: params = client.prepare_index_params(); "
            f"{'; '.join(calls)}; client.create_index({info.name!r}, params); "
            f"client.load_collection({info.name!r})"
        )

    def limits(self, store: MilvusStore) -> WriteLimits:
        """See `TargetBase`."""
        # Milvus Lite 3.2 keeps its log whole for one request at a time. If it is killed with
        # several under way, it forgets some that it had acknowledged.
        most = 1 if store.is_lite else self.in_flight
        return WriteLimits(rows=self.settings.batch_size, bytes=REQUEST_BYTES, in_flight=most)

    def nearest(
        self,
        catalog: Collection,
        info: CollectionInfo,
        vector: VectorLike,
        k: int,
        vector_column: str | None,
    ) -> list[dict[str, Any]]:
        """See `TargetBase`."""
        what = f"collection {info.name!r}"
        field = vector_field(what, info.vectors(), self.sources(), vector_column)
        try:
            value = acceptor(field)(vector)
        except TerminalError as e:
            raise JobError(
                f"{what} can't be searched with this: {e}; use the model and dimension that "
                "filled it"
            ) from None
        if field.type == "FloatVector":
            value = value.tolist()
        return catalog.search(info, field, value, k)
