"""An index of a search store as the target of a job: checked, written to, searched."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from vecferry.errors import FatalError, JobError, TerminalError, TransientError, shorten
from vecferry.io.search.catalog import (
    GC_DELETES,
    IndexInfo,
    SearchIndex,
    blocks,
    field_of,
    fields_of,
)
from vecferry.io.search.checks import (
    mismatches,
    misnamed,
    missing,
    notes,
    outdated,
    uncreatable,
    unknown_version,
)
from vecferry.io.search.client import (
    LibraryClient,
    SearchClient,
    classify,
    is_passing,
    kind_and_reason,
)
from vecferry.io.search.dialect import Dialect, Field
from vecferry.io.search.holdings import IndexHoldings, value_at
from vecferry.io.search.settings import SearchConnection, SearchSettings
from vecferry.io.search.values import RowEncoder, line
from vecferry.io.sink.mark import Mark, mark_of
from vecferry.io.sink.parents import Parent, Trim, grouped
from vecferry.io.sink.reconcile import Holdings
from vecferry.io.sink.store import (
    REJECTED_STATE,
    RETRY_STATE,
    STALE,
    WRITTEN,
    Outcome,
    Record,
    WriteLimits,
    rejected,
    retry,
)
from vecferry.io.sink.target import AliasTarget, vector_field
from vecferry.io.sink.values import VectorLike, as_vector
from vecferry.steps import OnWords, StepContext

FILTER = "errors,items.*.status,items.*.error"
VERSIONED = b'"version_type":'
_OF_THE_INDEX = re.compile(
    "^(no write index is defined for alias|pipeline with id .* does not exist"
    "|only write ops with an op_type of create are allowed|routing is required for"
    "|[Nn]umber of documents in (the )?(shard|index))"
)
"""Faults that every document would have alike, though the server tells them of each."""
_REASONS = {
    "document_parsing_exception": "refused-value",
    "mapper_parsing_exception": "refused-value",
    "strict_dynamic_mapping_exception": "unknown-field",
}
"""What the server says of a document, as the short word of its reject."""


class SearchStore:
    """One index, or an alias of one."""

    def __init__(
        self, client: SearchClient, index: str, encoder: RowEncoder, pipeline: str | None = None
    ) -> None:
        self.encode = encoder.encode
        self.document_of = encoder.document_of
        self.classify = classify
        self._encoder = encoder
        self._client, self._index = client, f"/{quote(index, safe='')}"
        self._path = f"{self._index}/_bulk"
        self._params = {"filter_path": FILTER} | ({"pipeline": pipeline} if pipeline else {})

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different ids in one request; None where all were written."""
        body = b"".join(r.body for r in records)
        answer = self._client.request("POST", self._path, body, self._params)
        if not isinstance(answer, dict):
            raise TransientError(f"{self._client.where} answers {shorten(answer)!r} to a request")
        if answer.get("errors") is False:
            return None
        items = answer.get("items") or []
        if len(items) != len(records):
            raise FatalError(
                f"{self._client.where} answers for {len(items)} of {len(records)} documents"
            )
        return [self._outcome(r, item) for r, item in zip(records, items, strict=True)]

    def trim(self, trims: Sequence[Trim]) -> None:
        """Finds the surplus chunks of all these documents, and deletes them with their versions.

        A delete by query would have no version, and would see only what was visible before.
        """
        self._client.request("POST", f"{self._index}/_refresh")
        due = {trim.parent: trim for trim in trims}
        fields, number = self._encoder.parent_fields, self._encoder.number_field
        for query in surplus_queries(trims, fields, number):
            body = {
                "query": {"bool": {"filter": [query]}},
                "size": FOUND_AT_ONCE,
                "sort": ["_doc"],
                "version": True,
                "track_total_hits": False,
                "_source": [*fields, number],
            }
            while True:
                answer = self._client.request("POST", f"{self._index}/_search", body)
                if answer.get("timed_out") or (answer.get("_shards") or {}).get("failed"):
                    raise TransientError("some shards of the index do not answer")
                hits = answer["hits"]["hits"]
                records = [r for hit in hits if (r := self._removal(hit, due)) is not None]
                deleted = sum(
                    self._removed(records[i : i + REMOVED_AT_ONCE])
                    for i in range(0, len(records), REMOVED_AT_ONCE)
                )
                if len(hits) < FOUND_AT_ONCE or not deleted:
                    break
                self._client.request("POST", f"{self._index}/_refresh")

    def _removal(self, hit: dict[str, Any], due: Mapping[Parent, Trim]) -> Record | None:
        """What deletes a chunk that was found; None if the chunk is to stay."""
        source = hit.get("_source") or {}
        number = value_at(source, self._encoder.number_field)
        trim = due.get(tuple([value_at(source, name) for name in self._encoder.parent_fields]))
        if trim is None or not isinstance(number, int) or number < trim.keep:
            return None
        meta = {"_id": hit["_id"]}
        if hit.get("_routing") is not None:
            meta["routing"] = hit["_routing"]
        if trim.version is not None:
            if hit["_version"] > trim.version:
                return None
            meta |= {"version": trim.version, "version_type": "external_gte"}
        body = line({"delete": meta})
        return Record("delete", hit["_id"], body, len(body))

    def _removed(self, records: list[Record]) -> int:
        """Deletes chunks; gives how many are gone now. Raises as `send` does."""
        outcomes = self.send(records)
        if outcomes is None:
            return len(records)
        for outcome in outcomes:
            if outcome.state == RETRY_STATE:
                raise TransientError(outcome.message, outcome.retry_after)
            if outcome.state == REJECTED_STATE:
                raise TerminalError(f"a chunk can't be deleted: {outcome.message}", outcome.reason)
        return sum(outcome is WRITTEN for outcome in outcomes)

    def _outcome(self, record: Record, item: dict[str, Any]) -> Outcome:
        ((_, result),) = item.items()
        status = int(result["status"])
        if status < 300 or (record.op == "delete" and status == 404 and "error" not in result):
            return WRITTEN
        kind, reason = kind_and_reason(result.get("error") or {})
        message = f"{kind}: {shorten(reason, 400)} (status {status})"
        if status == 409:
            # A newer version is there, or the document that was to be created. What another
            # writer came between is sent again.
            versioned = VERSIONED in record.body.partition(b"\n")[0]
            return STALE if versioned or record.op == "create" else retry(message)
        where = self._client.where
        if status in (401, 403) or kind == "index_closed_exception":
            closed = kind == "index_closed_exception"
            way = "open the index" if closed else "let this user write, or lift the index's block"
            raise FatalError(f"{where} refuses to write: {message}; {way}", "not-allowed")
        if _OF_THE_INDEX.search(reason):
            way = "mend the index, its alias or its pipeline"
            raise FatalError(f"{where} takes no document: {message}; {way}", "refused-all")
        if kind == "index_not_found_exception":
            raise FatalError(f"{where}: {message}; create the index, then run again", "no-index")
        if is_passing(status):
            return retry(message)
        return rejected(_REASONS.get(kind, "refused"), message)


FOUND_AT_ONCE = 5000
"""Surplus chunks that one search asks for; a server gives 10,000 at most."""
REMOVED_AT_ONCE = 1000
QUERIED_AT_ONCE = 100
"""Groups of documents in one search: few enough for the clauses that a server allows."""


def surplus_queries(
    trims: Sequence[Trim], fields: Sequence[str], number: str
) -> Iterator[dict[str, Any]]:
    """Queries that find the surplus chunks, nearly always one."""
    clauses = []
    for (keep, *first), last in grouped(trims).items():
        parts: list[dict[str, Any]] = [
            {"term": {name: value}} for name, value in zip(fields[:-1], first, strict=True)
        ]
        parts.append({"terms": {fields[-1]: last}})
        if keep:
            parts.append({"range": {number: {"gte": keep}}})
        clauses.append({"bool": {"filter": parts}})
    for i in range(0, len(clauses), QUERIED_AT_ONCE):
        yield {
            "bool": {"should": clauses[i : i + QUERIED_AT_ONCE], "minimum_should_match": 1},
        }


REQUEST_BYTES = 8 << 20
"""Well below the 100 MiB that a server takes, and enough for it to be busy."""


class SearchTarget(AliasTarget[SearchIndex, IndexInfo, SearchStore]):
    """The index that a step writes to; what Elasticsearch and OpenSearch have in common."""

    noun = "index"
    ends_load_quickly = True
    dialect: ClassVar[Dialect]
    client_class: ClassVar[type[LibraryClient]]

    def __init__(
        self, settings: SearchSettings, connection: SearchConnection, context: StepContext
    ) -> None:
        super().__init__(context)
        self.settings, self.connection = settings, connection

    def client(self) -> SearchClient:
        """The client that everything of this run in this process shares."""
        return self.client_class.shared(self.connection, self.settings, self.context.run)

    def pipeline(self, info: IndexInfo) -> str | None:
        """The ingest pipeline to name with each request; None leaves it to the index."""
        return None

    def catalog(self) -> AbstractContextManager[SearchIndex]:
        """See `TargetBase`."""
        try:
            client = self.client()
        except TransientError as e:
            raise JobError(f"{e}: check the endpoint and the network") from e
        return nullcontext(SearchIndex(client, self.dialect, self.settings))

    def store(self, catalog: SearchIndex, info: IndexInfo) -> SearchStore:
        """See `TargetBase`."""
        self.refuse(outdated(catalog))
        encoder = RowEncoder(
            self.settings, info.fields, base64_vectors=self.dialect.takes_base64(catalog.version)
        )
        return SearchStore(catalog.client, self.settings.index, encoder, self.pipeline(info))

    def encoder(self, info: IndexInfo | None) -> RowEncoder:
        """See `TargetBase`."""
        return RowEncoder(self.settings, self._planned() if info is None else info.fields)

    def holdings(self, catalog: SearchIndex, info: IndexInfo) -> Holdings:
        """See `TargetBase`."""
        return IndexHoldings(catalog, info, self.context)

    @property
    def alias(self) -> str | None:
        """See `AliasTarget`."""
        return self.settings.alias

    @property
    def target_name(self) -> str:
        """See `AliasTarget`."""
        return self.settings.index

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
        return self.settings.recreates

    def sources(self) -> dict[str, str]:
        """See `TargetBase`."""
        return self.settings.sources()

    def filled(self, info: IndexInfo) -> dict[str, str]:
        """See `TargetBase`."""
        if self.settings.action_type == "delete":
            return {}
        return self.sources() or {name: name for name in info.fields}

    @property
    def takes_others(self) -> bool:
        """See `TargetBase`."""
        return self.settings.takes_other_columns

    def dimensions(self, info: IndexInfo) -> dict[str, int]:
        """See `TargetBase`."""
        vectors = [f for f in info.fields.values() if f.metric not in (None, "other")]
        return {f.name: f.dimension for f in vectors if f.dimension is not None}

    def planned(self, catalog: SearchIndex) -> IndexInfo | None:
        """See `TargetBase`."""
        return catalog.planned()

    def remember_epoch(self, epoch: int) -> list[str]:
        """See `TargetBase`; tells how long an index that was made elsewhere remembers deletes."""
        notes = super().remember_epoch(epoch)
        with self.catalog() as catalog:
            if not catalog.forgets_soon():
                return notes
        name = self.settings.index
        told = (
            f"index {name!r} forgets a delete after 60 s, as it has no setting index.gc_deletes. "
            "An older change of the row that comes later would bring the row back: "
            f'PUT /{name}/_settings {{"index.gc_deletes": "{GC_DELETES}"}}'
        )
        return [*notes, *self.note([told])]

    def conclude(self) -> list[str]:
        """See `AliasTarget`; first makes all rows visible, whatever `refresh_interval` says."""
        try:
            with self.catalog() as catalog:
                catalog.refresh()
        except JobError as e:
            self.note([f"rows are visible after the index's own refresh_interval: {e}"])
        return super().conclude()

    def missing(self, catalog: SearchIndex) -> list[str]:
        """See `TargetBase`."""
        return missing(self.settings, catalog, mark_of(self.context, self.sources()))

    def mismatches(self, catalog: SearchIndex, info: IndexInfo) -> list[str]:
        """See `TargetBase`."""
        return mismatches(self.settings, info)

    def irreplaceable(self, catalog: SearchIndex, info: IndexInfo) -> list[str]:
        """See `TargetBase`."""
        if info.is_stream or catalog.is_alias():
            return [
                f"{self.settings.index!r} is another name of index {info.name!r}, which would be "
                "dropped with all its names: name the index itself, or create it anew by hand"
            ]
        problems = uncreatable(self.settings)
        return [f"index {info.name!r} can't be made anew: {p}" for p in problems]

    def obstacles(self, catalog: SearchIndex, info: IndexInfo | None) -> list[str]:
        """See `TargetBase`."""
        name, problems = self.settings.index, outdated(catalog)
        if info is not None and self.context.write.instead_of and catalog.is_alias():
            problems.append(f"--into {name}: this is an alias of {info.name!r}: name a new index")
        if info is None or not self.drops:
            problems += blocks(catalog.client, catalog.path)
        return [*problems, *misnamed(self.settings, catalog)]

    def notes(self, catalog: SearchIndex, info: IndexInfo | None) -> list[str]:
        """See `TargetBase`."""
        return [*unknown_version(catalog), *notes(self.settings, info)]

    @property
    def index_when(self) -> str:
        """See `TargetBase`."""
        return self.settings.index_when

    def deferred(self, catalog: SearchIndex) -> dict[str, Any] | None:
        """See `TargetBase`; what is spared is known once the index is there."""
        return {}

    def make_ready(self, catalog: SearchIndex, info: IndexInfo) -> None:
        """See `TargetBase`; an index that was created just now does without refreshes."""
        if info.mark is None or info.mark.deferred != {} or not self._defers:
            return
        try:
            catalog.spare(info)
        except JobError as e:
            if isinstance(e.__cause__, TransientError):
                raise
            self.note([f"index {info.name!r} is loaded as it is: {e}"])

    def build(
        self,
        catalog: SearchIndex,
        info: IndexInfo,
        deferred: Mapping[str, Any],
        on_progress: OnWords,
    ) -> list[str]:
        """See `TargetBase`; sets back how often the index is refreshed, and its replicas."""
        if deferred:
            catalog.restore(info, deferred)
        try:
            catalog.remember(info, dataclasses.replace(info.mark or Mark(), deferred=None))
        except JobError as e:
            if deferred or isinstance(e.__cause__, TransientError):
                raise  # otherwise nothing was spared, as this user may not do so
        return []

    def undone(self, catalog: SearchIndex, info: IndexInfo, deferred: Mapping[str, Any]) -> str:
        """See `TargetBase`."""
        if not deferred:
            return ""
        back = orjson.dumps(dict(deferred)).decode()
        return (
            f"index {info.name!r} is not refreshed yet, and has no replicas: the next run of the "
            f"job sets that back, and by hand: PUT /{info.name}/_settings {back}"
        )

    def limits(self, store: SearchStore) -> WriteLimits:
        """See `TargetBase`."""
        rows = self.settings.batch_size
        return WriteLimits(rows=rows, bytes=REQUEST_BYTES, in_flight=self.in_flight)

    def nearest(
        self,
        catalog: SearchIndex,
        info: IndexInfo,
        vector: VectorLike,
        k: int,
        vector_column: str | None,
    ) -> list[dict[str, Any]]:
        """See `TargetBase`; the hits also have `_id`."""
        vectors = [f for f in info.fields.values() if f.is_vector]
        if not vectors:
            raise JobError(
                f"index {info.name!r} has no field of type {self.dialect.vector_type}; search an "
                "index that has one"
            )
        field = vector_field(f"index {info.name!r}", vectors, self.sources(), vector_column)
        try:
            array = as_vector(field.name, vector)
        except TerminalError as e:
            raise JobError(str(e)) from e
        if field.dimension is not None and len(array) != field.dimension:
            raise JobError(
                f"index {self.settings.index!r}: field {field.name!r} has {field.dimension} "
                f"dimensions, and the vector to search with has {len(array)}; use the model "
                "and dimension that filled the index"
            )
        return catalog.search(info, field, array, k)

    def _planned(self) -> dict[str, Field]:
        """The fields that the job's own columns, or its `indexBody`, would make."""
        dialect = self.dialect
        if self.settings.index_body is not None:
            mappings = self.settings.index_body.get("mappings") or {}
            return {f.name: f for f in fields_of(dialect, "", mappings)}
        return {
            c.name: field_of(
                dialect,
                c.name,
                dialect.vector_mapping(c) if c.is_vector else {"type": c.type, **c.mapping},
            )
            for c in self.settings.column
        }
