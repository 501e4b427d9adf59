"""The rows of one collection, as a sync compares and deletes them.

Pages follow the primary key. The iterator of pymilvus 3.0.2 breaks at a key with a quote in it.

Stands apart from `target` because it knows rows and their keys, and no jobs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from vecferry.errors import JobError
from vecferry.io.milvus.catalog import Collection, CollectionInfo, FieldInfo, filled
from vecferry.io.milvus.client import WRITE_SECONDS
from vecferry.io.milvus.settings import MilvusSettings
from vecferry.io.milvus.values import DELETING, RowEncoder
from vecferry.io.sink.store import Record
from vecferry.io.sink.target import passing
from vecferry.retry import call_with_retries
from vecferry.rows import DELETE, Change
from vecferry.steps import StepContext
from vecferry.stored import Reconciled, Stored

KEYS_AT_ONCE = 5000
ROWS_AT_ONCE = 500
_FLOATS = ("FloatVector", "Float16Vector", "BFloat16Vector")
_OTHERS = ("BinaryVector", "SparseFloatVector")


class CollectionHoldings:
    """The rows of a collection, or of the job's partition of it."""

    keeps_versions = False

    def __init__(
        self,
        collection: Collection,
        info: CollectionInfo,
        settings: MilvusSettings,
        context: StepContext,
    ) -> None:
        self._collection, self._info, self._context = collection, info, context
        self._settings = settings
        into = filled(settings, info)
        self._encoder = RowEncoder(settings, info, lite=collection.connection.is_file)
        self._sources = {n: s for n, s in into.items() if info.field(n) is not None}
        known = [f for f in info.fields if f.name in self._sources and f.type not in _OTHERS]
        self._fields = {f.name: f for f in known}
        self.uncompared: Sequence[str] = [name for name in into if name not in self._fields]
        if self._encoder.dynamic and not settings.sources():
            self.uncompared = [*self.uncompared, "$meta"]
        self._shown = {f.name: shower(f) for f in known}
        self._place = {f.name: i for i, f in enumerate(self._encoder.fields)}

    def pages(self, fields: Sequence[str] | None) -> Iterator[list[Stored]]:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        if self._settings.partition and self._collection.connection.is_file:
            raise JobError(
                f"collection {self._info.name!r}: Milvus Lite reads all partitions at once, so a "
                "partition can't be compared with a source: use another collection, or a server"
            )
        self._collection.load()
        # Pages in order are not read with consistency level Strong, whatever they ask for (Milvus
        # 2.3.5). A query before them waits until all that was written can be read.
        self._query("", [], 1)
        names = list(self._fields) if fields is None else list(fields)
        key, last = self._info.key.name, None
        while rows := self._page(last, names):
            keys = [row[key] for row in rows]
            self._require_order(last, keys)
            yield [self._stored(row[key], row, names) for row in rows]
            last = keys[-1]

    def stored(self, change: Change) -> Stored:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        absent = {
            self._sources[name]: np.ones(field.dimension or 1, np.float32)
            for name, field in self._fields.items()
            if field.type in _FLOATS and self._sources[name] not in change
        }
        record = self._encoder.encode(change.with_columns(absent) if absent else change)
        body = record.body
        made = {
            name: body[self._place[name]]
            for name, field in self._fields.items()
            if self._sources[name] not in absent
            # The server fills in what is null and has a default.
            and not (field.has_default and body[self._place[name]] is None)
        }
        return self._stored(record.key, made, list(made))

    def key(self, change: Change) -> Hashable:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        return self._encoder.encode(Change(change, kind=DELETE)).key

    def removal(self, row: Stored, epoch: int) -> Record:
        """A delete of the key, for Milvus keeps no versions."""
        return Record(DELETING, row.key, None, 16)

    def sweep(self, epoch: int) -> Reconciled | None:
        """None: without versions no row is known as older."""
        return None

    def _page(self, last: str | int | None, names: list[str]) -> list[dict[str, Any]]:
        """The rows behind a key, in the order of their keys."""
        key = json.dumps(last, ensure_ascii=False)
        after = "" if last is None else f"{self._info.key.name} > {key}"
        limit = ROWS_AT_ONCE if names else KEYS_AT_ONCE
        return self._query(after, names, limit, iterator="True", reduce_stop_for_best="True")

    def _query(self, given: str, names: list[str], limit: int, **more: str) -> list[dict[str, Any]]:
        collection, context = self._collection, self._context
        partition = self._settings.partition

        def ask() -> list[dict[str, Any]]:
            return collection.ask(
                collection.handle.client.query,
                self._settings.collection,
                filter=given,
                output_fields=[self._info.key.name, *names],
                limit=limit,
                consistency_level="Strong",
                timeout=WRITE_SECONDS,
                **({"partition_names": [partition]} if partition else {}),
                **more,
            )

        what = f"step {context.step!r}"
        return call_with_retries(lambda: passing(ask), deadline=context.retry_deadline, what=what)

    def _require_order(self, last: Any, keys: list[Any]) -> None:
        """Raises JobError where a page does not follow the one before: rows would be lost."""
        before = [*([] if last is None else [last]), *keys]
        if any(one >= other for one, other in itertools.pairwise(before)):
            raise JobError(
                f"{self._collection.where}: collection {self._info.name!r} does not give its rows "
                "in the order of their keys, so it can't be read whole: use a newer server"
            )

    def _stored(self, key: Hashable, row: dict[str, Any], names: Sequence[str]) -> Stored:
        values: dict[str, Any] = {}
        vectors: dict[str, Any] = {}
        for name in names:
            value, into = row.get(name), vectors if self._fields[name].is_vector else values
            into[name] = None if value is None else self._shown[name](value)
        return Stored(key=key, values=values, vectors=vectors)


def shower(field: FieldInfo) -> Callable[[Any], Any]:
    """A function from a value, as it is sent or as it comes back, to its one form."""
    kind = field.type
    if kind in _FLOATS:
        return _vector_shower(kind)
    if kind == "Float":
        return lambda value: float(np.float32(value))
    if kind == "Array":
        if field.element_type == "Float":
            return lambda value: [float(np.float32(v)) for v in value]
        return list
    if kind == "JSON":
        return lambda value: json.loads(value) if isinstance(value, bytes) else value
    return lambda value: value


def _vector_shower(kind: str) -> Callable[[Any], Any]:
    def show(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], bytes):
            value = value[0]
        if isinstance(value, bytes):
            if kind == "BFloat16Vector":
                upper = np.frombuffer(value, "<u2").astype(np.uint32) << 16
                return upper.view(np.float32)
            return np.frombuffer(value, "<f2").astype(np.float32)
        return np.asarray(value).astype(np.float32)

    return show
