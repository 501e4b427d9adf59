"""A Milvus collection as the target of a job: checked, made ready, written to, searched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from vecferry.errors import JobError, TerminalError, TransientError, near
from vecferry.io.milvus.catalog import (
    Collection,
    CollectionInfo,
    FieldInfo,
    filled,
    mismatches,
    planned,
)
from vecferry.io.milvus.checks import absent, another_name, misnamed, missing, notes_of, uncreatable
from vecferry.io.milvus.client import MilvusHandle, classify, handle_of, handle_with_retries
from vecferry.io.milvus.settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus.values import DELETING, INSERTING, UPSERTING, RowEncoder, acceptor
from vecferry.io.sink.mark import Marking, mark_of, tell_once
from vecferry.io.sink.store import WRITTEN, Outcome, Record, WriteLimits, retry
from vecferry.io.sink.writer import SinkWriter
from vecferry.process import once
from vecferry.rows import Change, Reject, Row
from vecferry.steps import StepContext


class MilvusStore:
    """A collection as the write loop sees it."""

    def __init__(
        self, settings: MilvusSettings, database: str, info: CollectionInfo, handle: MilvusHandle
    ) -> None:
        from vecferry.io.milvus.wire import RequestMaker

        encoder = RowEncoder(settings, info)
        self.encode = encoder.encode
        self.classify = classify
        self._handle = handle
        make = RequestMaker(
            database="" if database == "default" else database,
            collection=settings.collection,
            partition=settings.partition,
            fields=encoder.fields,
            dynamic=encoder.dynamic,
            key=info.key,
        )
        self._calls = (
            (UPSERTING, "Upsert", make.upsert),
            (INSERTING, "Insert", make.insert),
            (DELETING, "Delete", make.delete),
        )

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys: one call for each operation that is among them.

        Where a later call fails, the records of the earlier ones are told as written, so that an
        insert is not repeated for the sake of a delete; the rest is to be sent again.
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


logger = logging.getLogger(__name__)

REQUEST_BYTES = 16 << 20
"""A request stays well below the 64 MiB that a server takes."""
WRITES_IN_FLIGHT = 4


class MilvusTarget:
    """The collection that a step writes to.

    `check` and `prepare` are for the launcher, `operator` for the workers; all that one run does in
    one process goes through one client, as a Milvus Lite file allows one process only.
    """

    def __init__(
        self, settings: MilvusSettings, connection: MilvusConnection, context: StepContext
    ) -> None:
        self.settings, self.connection, self.context = settings, connection, context
        self._where = f"Milvus at {connection.endpoint}"

    def check(self) -> list[str]:
        """Whether this job can write there; changes nothing. Gives notes for people, also logged.

        Raises:
          JobError: with every reason why it can't.
        """
        if not self._may_open():
            self._refuse(self._missing(None))
            return self._tell(planned(self.settings))
        collection = self._collection()
        info = collection.describe()
        if info is None:
            self._refuse(
                [
                    *self._missing(collection),
                    *misnamed(self.settings, collection),
                ]
            )
            return self._tell(planned(self.settings))
        self._refuse([*self._unfit(collection, info), *misnamed(self.settings, collection)])
        remarks = [] if self._recreates else self._marking(collection, info).remarks()
        return [*self._tell(info), *tell_once(self.context, "mark", remarks)]

    def prepare(self) -> None:
        """Creates what is missing, once in a job: collection, partition, indexes; loads it.

        With `schemaCreateMode` ignore only a missing partition is created. A collection without a
        row is marked with what makes its vectors. Raises JobError.
        """
        collection = self._collection()
        info = collection.describe()
        self._refuse(misnamed(self.settings, collection))
        if info is not None:
            self._refuse(self._unfit(collection, info))
            if self._recreates:
                collection.drop()
                info = None
        created = info is None
        if info is None:
            self._refuse(self._missing(collection))
            collection.create(mark_of(self.context, self.settings.sources()))
            info = self._existing(collection)
            self._refuse(mismatches(self.settings, info))
        collection.add_partition()
        if self.settings.schema_create_mode != "ignore":
            collection.make_searchable(info)
        if not created:
            self._remember(collection, info)

    @property
    def concludes(self) -> bool:
        """Whether something is left to do once the job is done."""
        return self.settings.alias is not None

    def conclude(self) -> list[str]:
        """Moves the step's alias to the collection; once in a job, after it is done. Tells so.

        Raises:
          JobError: it can't be moved, or the collection that the command line named is empty.
        """
        alias = self.settings.alias
        if alias is None:
            return []
        collection = self._collection()
        name = self._existing(collection).name
        if self.context.instead_of and collection.is_empty(unknown=False):
            raise JobError(f"collection {name!r} holds no row, so alias {alias!r} was not moved")
        collection.point_alias(alias)
        return [f"alias {alias!r} names collection {name!r} now"]

    def unfinished(self) -> str | None:
        """What `conclude` would have done, in words, for a job that is not done."""
        alias, name = self.settings.alias, self.settings.collection
        return None if alias is None else f"alias {alias!r} was not moved to {name!r}"

    def operator(self) -> SinkWriter:
        """A writer for one bundle; waits for a server that is away."""
        context = self.context
        handle = handle_with_retries(self.connection, context.run, context.retry_deadline)
        key = ("milvus-store", context.run, context.step)
        store = once(key, self._store)
        # Milvus Lite 3.2 keeps its log whole only for one request at a time: of several at once a
        # killed server forgets some that it had acknowledged.
        most = 1 if handle.is_lite else max(1, WRITES_IN_FLIGHT // context.parallelism)
        limits = WriteLimits(rows=self.settings.batch_size, bytes=REQUEST_BYTES, in_flight=most)
        return SinkWriter(store, limits, context)

    def search(self, vector: Any, k: int, vector_column: str | None = None) -> list[dict[str, Any]]:
        """The `k` rows nearest to `vector`, nearest first: `score` and every field but vectors.

        `vector_column` is the field, or the job's column that goes into it; by default the first.
        """
        collection = self._collection()
        info = self._existing(collection)
        tell_once(self.context, "mark", self._marking(collection, info).strangers())
        field = self._vector_field(info, vector_column)
        try:
            value = acceptor(field)(vector)
        except TerminalError as e:
            raise JobError(f"collection {info.name!r} can't be searched with this: {e}") from None
        if field.type == "FloatVector":
            value = value.tolist()
        return collection.search(info, field, value, k)

    def row_count(self) -> int:
        """How many rows the collection, or the job's partition of it, holds now."""
        collection = self._collection()
        self._existing(collection)
        return collection.count()

    def preview(self, change: Change | Row) -> dict[str, Any] | Reject:
        """The record as the server would get it, or the reject it would become. Writes nothing."""
        change = change if isinstance(change, Change) else Change(change)
        key = ("milvus-preview", self.context.run, self.context.step)
        encoder = once(key, self._preview_encoder)
        try:
            return encoder.shown(encoder.encode(change))
        except TerminalError as e:
            return self.context.reject(e.reason, str(e), row=change)

    def _preview_encoder(self) -> RowEncoder:
        info = self._collection().describe() if self._may_open() else None
        return RowEncoder(self.settings, info or planned(self.settings))

    def _store(self) -> MilvusStore:
        collection = self._collection()
        info = self._existing(collection)
        self._refuse(mismatches(self.settings, info))
        self._tell(info)
        return MilvusStore(self.settings, self.connection.database, info, collection.handle)

    def _collection(self) -> Collection:
        try:
            handle = handle_of(self.connection, self.context.run)
        except TransientError as e:
            raise JobError(str(e)) from e
        return Collection(self.settings, self.connection, handle)

    def _existing(self, collection: Collection) -> CollectionInfo:
        info = collection.describe()
        if info is None:
            raise JobError(f"{self._where}: {absent(self.settings, collection.neighbours())}")
        return info

    def _may_open(self) -> bool:
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
            raise JobError(f"{path} can't be written: no permission to write into {folder}")
        return path.is_dir()

    def _missing(self, collection: Collection | None) -> list[str]:
        """Why the job can't do without the collection, which is not there."""
        mark = mark_of(self.context, self.settings.sources())
        existing = [] if collection is None else collection.neighbours()
        version = None if collection is None else collection.handle.version
        return missing(self.settings, self.connection, existing, mark, version)

    def _unfit(self, collection: Collection, info: CollectionInfo) -> list[str]:
        """Why the job can't have the collection as it is."""
        settings = self.settings
        if info.name != settings.collection and (self.context.instead_of or self._recreates):
            return [another_name(settings, info)]
        if self._recreates:
            problems = uncreatable(settings, self.connection, collection.handle.version)
            rows = 0 if problems or settings.owns_target else collection.count()
            if not rows:
                return [f"collection {info.name!r} can't be made anew: {p}" for p in problems]
            return [
                f"collection {info.name!r} holds {rows} rows, which recreate would drop; set "
                "ownsTarget: true if they may go, or schemaCreateMode to createIfNotExist"
            ]
        problems = mismatches(settings, info)
        if settings.partition and any(f.partition_key for f in info.fields):
            problems.append(
                f"collection {info.name!r} chooses partitions by a key; leave partition out"
            )
        return [*problems, *self._marking(collection, info).refusals()]

    @property
    def _recreates(self) -> bool:
        return self.settings.schema_create_mode == "recreate"

    def _marking(
        self, collection: Collection, info: CollectionInfo, *, unknown: bool = True
    ) -> Marking:
        what, into = f"collection {info.name!r}", filled(self.settings, info)
        return Marking(
            self.context, what, info.mark, into, lambda: collection.is_empty(unknown=unknown)
        )

    def _remember(self, collection: Collection, info: CollectionInfo) -> None:
        """Marks a collection that is there, where that is due; one that refuses it is told of."""
        marking = self._marking(collection, info, unknown=False)
        self._refuse(marking.refusals())
        tell_once(self.context, "mark", marking.remarks())
        mark = marking.to_write()
        if mark is None:
            return
        try:
            collection.remember(mark)
        except JobError as e:
            tell_once(self.context, "mark", [f"what makes the vectors was not kept: {e}"])

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])

    def _tell(self, info: CollectionInfo) -> list[str]:
        """What a person should know of this job; logged once in a run and process."""
        notes = notes_of(self.settings, info)

        def log() -> bool:
            for note in notes:
                logger.warning("step %r: %s", self.context.step, note)
            return True

        once(("milvus-notes", self.context.run, self.context.step), log)
        return notes

    def _vector_field(self, info: CollectionInfo, name: str | None) -> FieldInfo:
        vectors = info.vectors()
        if name is None:
            return vectors[0]
        into = {s: d for d, s in self.settings.sources().items()}
        for field in vectors:
            if field.name in (name, into.get(name)):
                return field
        names = [f.name for f in vectors]
        raise JobError(
            f"collection {info.name!r} has no vector field {name!r}{near(name, names)} "
            f"(it has {', '.join(names)})"
        )
