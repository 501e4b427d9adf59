"""A Milvus collection as the target of a job: checked, made ready, written to, searched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from vecferry.errors import JobError, TerminalError, TransientError, near
from vecferry.io.milvus_client import handle_of, handle_with_retries
from vecferry.io.milvus_collection import Collection
from vecferry.io.milvus_rows import RowEncoder, acceptor
from vecferry.io.milvus_schema import CollectionInfo, FieldInfo, mismatches, planned, unmapped
from vecferry.io.milvus_settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus_store import MilvusStore
from vecferry.io.sink import SinkWriter
from vecferry.io.sink_store import WriteLimits
from vecferry.process import once
from vecferry.rows import Change, Reject, Row
from vecferry.steps import StepContext

logger = logging.getLogger(__name__)

LITE_TYPES = frozenset(
    {"Bool", "Int8", "Int16", "Int32", "Int64", "Float", "Double", "VarChar", "Array", "JSON",
     "FloatVector", "SparseFloatVector"}
)  # fmt: skip
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
            self._refuse(self._missing([]))
            return self._tell(planned(self.settings))
        collection = self._collection()
        info = collection.describe()
        if info is None:
            self._refuse(self._missing(collection.neighbours()))
            return self._tell(planned(self.settings))
        self._refuse(self._unfit(collection, info))
        return self._tell(info)

    def prepare(self) -> None:
        """Creates what is missing, once in a job: collection, partition, indexes; loads it.

        With `schemaCreateMode` ignore only a missing partition is created. Raises JobError.
        """
        collection = self._collection()
        mode = self.settings.schema_create_mode
        info = collection.describe()
        if info is not None:
            self._refuse(self._unfit(collection, info))
            if mode == "recreate":
                collection.drop()
                info = None
        if info is None:
            self._refuse(self._missing(collection.neighbours()))
            collection.create()
            info = self._existing(collection)
            self._refuse(mismatches(self.settings, info))
        collection.add_partition()
        if mode != "ignore":
            collection.make_searchable(info)

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
            raise JobError(f"{self._where}: {self._no_collection(collection.neighbours())}")
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

    def _no_collection(self, existing: list[str]) -> str:
        name = self.settings.collection
        there = f" (there are: {', '.join(existing[:20])})" if existing else ""
        return f"collection {name!r} does not exist{near(name, existing)}{there}"

    def _missing(self, existing: list[str]) -> list[str]:
        """Why the job can't do without the collection, which is not there."""
        settings = self.settings
        what = f"{self._where}: {self._no_collection(existing)}"
        if settings.schema_create_mode == "ignore":
            return [f"{what}; create it, or set schemaCreateMode to createIfNotExist"]
        problems = settings.creation_problems()
        if self.connection.is_file and not problems:
            problems = _lite_problems(settings)
        return [f"{what} and can't be created: {p}" for p in problems]

    def _unfit(self, collection: Collection, info: CollectionInfo) -> list[str]:
        """Why the job can't have the collection as it is."""
        settings = self.settings
        if settings.schema_create_mode == "recreate":
            rows = 0 if settings.owns_target else collection.count()
            if not rows:
                return []
            return [
                f"collection {info.name!r} holds {rows} rows, which recreate would drop; set "
                "ownsTarget: true if they may go, or schemaCreateMode to createIfNotExist"
            ]
        problems = mismatches(settings, info)
        if settings.partition and any(f.partition_key for f in info.fields):
            problems.append(
                f"collection {info.name!r} chooses partitions by a key; leave partition out"
            )
        return problems

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])

    def _tell(self, info: CollectionInfo) -> list[str]:
        """What a person should know of this job; logged once in a run and process."""
        notes = _notes(self.settings, info)

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


def _notes(settings: MilvusSettings, info: CollectionInfo) -> list[str]:
    out = []
    if info.key.auto_id:
        out.append(
            f"collection {info.name!r} makes its own ids, so every row is inserted: "
            "a run that is repeated writes its rows twice"
        )
    elif settings.write_mode == "insert":
        out.append(
            "writeMode insert: a run that is repeated writes its rows twice; upsert would not"
        )
    if left := unmapped(settings):
        out.append(f"columnMapping fills nothing into {', '.join(left)}")
    return out


def _lite_problems(settings: MilvusSettings) -> list[str]:
    out = [
        f"Milvus Lite has no {c.type} (column {c.name!r}); use a Milvus server"
        for c in settings.column
        if c.type not in LITE_TYPES
    ]
    floats = [c.name for c in settings.column if c.type == "FloatVector"]
    if len(floats) > 1:
        out.append(f"Milvus Lite takes one FloatVector, not {', '.join(floats)}; use a server")
    return out
