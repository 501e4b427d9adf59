"""The documents of one index, as a sync compares and deletes them.

They are read from a point in time, so that a page can be asked for again.

Stands apart from `target` because it knows documents and their versions, and no jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import orjson

from vecferry.errors import JobError, TransientError
from vecferry.io.search.catalog import IndexInfo, SearchIndex
from vecferry.io.search.client import StatusError, ask
from vecferry.io.search.dialect import Field
from vecferry.io.search.values import RowEncoder, line
from vecferry.io.sink.store import Record
from vecferry.io.sink.target import passing
from vecferry.retry import call_with_retries
from vecferry.rows import DELETE, Change
from vecferry.steps import StepContext
from vecferry.stored import Reconciled, Stored
from vecferry.versions import first_of

KEEP_ALIVE = "15m"
"""How long a point in time waits for the next page; its pages are deleted meanwhile."""
KEYS_AT_ONCE = 5000
"""Half of what a server gives at once, unless its index says otherwise."""
ROWS_AT_ONCE = 500


class IndexHoldings:
    """The documents of an index, or of what its alias names."""

    def __init__(self, index: SearchIndex, info: IndexInfo, context: StepContext) -> None:
        if info.is_stream:
            raise JobError(
                f"index {info.name!r} is of a data stream, which only takes new documents: a sync "
                "needs an index; name one as `index`"
            )
        settings = index.settings
        self.keeps_versions = settings.action_type == "index"
        self._index, self._context = index, context
        self._client, self._dialect = index.client, index.dialect
        self._encoder = RowEncoder(settings, info.fields)
        meta = {c.name for c in settings.column if c.is_meta}
        listed = settings.sources() or {n: n for n, f in info.fields.items() if f.type != "alias"}
        self._sources = {name: column for name, column in listed.items() if name not in meta}
        fields = {name: info.fields[name] for name in self._sources if name in info.fields}
        self._vectors: dict[str, Field] = {
            name: f for name, f in fields.items() if f.is_vector and f.metric != "other"
        }
        others = {name for name, f in fields.items() if f.is_vector} - self._vectors.keys()
        self.uncompared: Sequence[str] = sorted(others)
        self._scalars = [n for n in self._sources if n not in self._vectors and n not in others]

    def pages(self, fields: Sequence[str] | None) -> Iterator[list[Stored]]:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        wanted = [*self._scalars, *self._vectors] if fields is None else list(fields)
        self._index.refresh()
        for view in self._views():
            try:
                yield from self._pages(view, wanted)
            finally:
                self._close(view)

    def stored(self, change: Change) -> Stored:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        absent = {
            column: np.ones(field.dimension or 1, np.float32)
            for name, field in self._vectors.items()
            if (column := self._sources[name]) not in change
        }
        record = self._encoder.encode(change.with_columns(absent) if absent else change)
        action, *document = map(orjson.loads, record.body.splitlines())
        (meta,) = action.values()
        body = document[0] if document else {}
        given = [n for n in self._vectors if self._sources[n] not in absent]
        wanted = [*self._scalars, *given]
        return self._stored(record.key, meta.get("version"), body.get("doc", body), wanted)

    def key(self, change: Change) -> Hashable:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        return self._encoder.encode(Change(change, kind=DELETE)).key

    def removal(self, row: Stored, epoch: int) -> Record:
        """A delete with the last version before `epoch`, which leaves alone what is newer."""
        key, routing = cast("tuple[str, str | None]", row.key)
        meta: dict[str, Any] = {"_id": key} | ({} if routing is None else {"routing": routing})
        meta |= {"version": max(0, first_of(epoch) - 1), "version_type": "external_gte"}
        body = line({"delete": meta})
        return Record("delete", row.key, body, len(body))

    def sweep(self, epoch: int) -> Reconciled | None:
        """None: a delete by query has no version, and would take what is written meanwhile."""
        return None

    def _stored(
        self, key: Hashable, version: int | None, body: dict[str, Any], fields: Sequence[str]
    ) -> Stored:
        vectors = {n: _vector(value_at(body, n)) for n in fields if n in self._vectors}
        values = {n: value_at(body, n) for n in fields if n not in self._vectors}
        return Stored(key=key, version=version, values=values, vectors=vectors)

    def _pages(self, view: _View, fields: list[str]) -> Iterator[list[Stored]]:
        body: dict[str, Any] = {
            "size": ROWS_AT_ONCE if fields else KEYS_AT_ONCE,
            "sort": [{self._dialect.view.order: "asc"}],
            "version": True,
            "track_total_hits": False,
            "_source": self._dialect.source_of(self._index.version, fields) if fields else False,
        }
        while True:
            body["pit"] = {"id": view.id, "keep_alive": KEEP_ALIVE}
            answer = self._ask(lambda: self._whole("/_search", body), "reading documents")
            view.id = answer.get("pit_id", view.id)
            hits = answer["hits"]["hits"]
            if not hits:
                return
            yield [
                self._stored(
                    (hit["_id"], hit.get("_routing")),
                    hit["_version"],
                    hit.get("_source") or {},
                    fields,
                )
                for hit in hits
            ]
            body["search_after"] = hits[-1]["sort"]

    def _views(self) -> Iterator[_View]:
        """A point in time of all shards, or of each shard where places are of one shard only."""
        view, shards = self._open("")
        if not self._dialect.view.by_shard or shards == 1:
            yield view
            return
        self._close(view)
        for shard in range(shards):
            yield self._open(f"&preference=_shards:{shard}")[0]

    def _open(self, more: str) -> tuple[_View, int]:
        path = f"{self._index.path}{self._dialect.view.path}?keep_alive={KEEP_ALIVE}{more}"
        answer = self._ask(lambda: self._whole(path), "opening a point in time")
        shards = answer.get("_shards") or {}
        return _View(str(answer[self._dialect.view.id])), int(shards.get("total", 1))

    def _close(self, view: _View) -> None:
        path, name = self._dialect.view.path, self._dialect.view.id
        given: Any = [view.id] if self._dialect.view.by_shard else view.id
        try:
            self._client.request("DELETE", path, {name: given})
        except (StatusError, TransientError):
            return  # it ends by itself

    def _whole(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """An answer of all shards; TransientError where one of them did not answer."""
        answer: dict[str, Any] = self._client.request("POST", path, body)
        if answer.get("timed_out") or (answer.get("_shards") or {}).get("failed"):
            raise TransientError("some shards of the index do not answer")
        return answer

    def _ask(self, call: Callable[[], dict[str, Any]], what: str) -> dict[str, Any]:
        context = self._context
        return call_with_retries(
            lambda: passing(lambda: ask(self._client, call, what)),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}",
        )


class _View:
    """A point in time, whose name may change with each page."""

    def __init__(self, name: str) -> None:
        self.id = name


def value_at(body: dict[str, Any], name: str) -> object:
    """The value of a field, by its dotted name or within objects."""
    if name in body or "." not in name:
        return body.get(name)
    first, _, rest = name.partition(".")
    inner = body.get(first)
    return value_at(inner, rest) if isinstance(inner, dict) else None


def _vector(value: Any) -> np.ndarray | None:
    return None if value is None else np.asarray(value, np.float32)
