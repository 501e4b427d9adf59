"""What the two public writers of search stores share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson

from vecferry.errors import FatalError, JobError, TerminalError, TransientError, shorten
from vecferry.io.search.catalog import IndexInfo, SearchIndex, blocks
from vecferry.io.search.checks import mismatches, notes, uncreatable
from vecferry.io.search.client import SearchClient, classify, is_passing, patiently, told
from vecferry.io.search.dialect import Dialect, Field
from vecferry.io.search.settings import SearchSettings
from vecferry.io.search.values import RowEncoder
from vecferry.io.sink.mark import Marking, mark_of, tell_once
from vecferry.io.sink.store import STALE, WRITTEN, Outcome, Record, WriteLimits, rejected, retry
from vecferry.io.sink.vectors import as_vector
from vecferry.io.sink.writer import SinkWriter
from vecferry.process import once
from vecferry.retry import call_with_retries
from vecferry.rows import Change, Reject, Row
from vecferry.steps import StepContext

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
        self.classify = classify
        self._client, self._path = client, f"/{quote(index, safe='')}/_bulk"
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

    def _outcome(self, record: Record, item: dict[str, Any]) -> Outcome:
        ((_, result),) = item.items()
        status = int(result["status"])
        if status < 300 or (record.op == "delete" and status == 404 and "error" not in result):
            return WRITTEN
        kind, reason = told(result.get("error") or {})
        message = f"{kind}: {shorten(reason, 400)} (status {status})"
        if status == 409:
            # A newer version is there, or the document that was to be created. What another
            # writer came between is sent again.
            versioned = VERSIONED in record.body.partition(b"\n")[0]
            return STALE if versioned or record.op == "create" else retry(message)
        if status in (401, 403) or kind == "index_closed_exception":
            raise FatalError(f"{self._client.where} refuses to write: {message}", "not-allowed")
        if _OF_THE_INDEX.search(reason):
            raise FatalError(f"{self._client.where} takes no document: {message}", "refused-all")
        if kind == "index_not_found_exception":
            raise FatalError(f"{self._client.where}: {message}", "no-index")
        if is_passing(status):
            return retry(message)
        return rejected(_REASONS.get(kind, "refused"), message)


logger = logging.getLogger(__name__)

REQUEST_BYTES = 8 << 20
"""Well below the 100 MiB that a server takes, and enough for it to be busy."""
WRITES_IN_FLIGHT = 4


class SearchTarget:
    """The index that a step writes to; what Elasticsearch and OpenSearch have in common.

    `check` and `prepare` are for the launcher, `operator` for the workers.
    """

    dialect: Dialect

    def __init__(self, settings: SearchSettings, connection: Any, context: StepContext) -> None:
        self.settings, self.connection, self.context = settings, connection, context

    def client(self) -> SearchClient:
        """The client that everything of this run in this process shares."""
        raise NotImplementedError

    def pipeline(self, info: IndexInfo) -> str | None:
        """The ingest pipeline to name with each request; None leaves it to the index."""
        return None

    def check(self) -> list[str]:
        """Whether this job can write there; changes nothing. Gives notes for people, also logged.

        Raises:
          JobError: with every reason why it can't.
        """
        index = self._index()
        _, found = self._version(index)
        info = index.describe()
        self._refuse([*self._unready(index, info), *self._alias_problems(index)])
        told = self._tell([*found, *notes(self.settings, info)])
        return told if info is None else [*told, *self._remarks(index, info)]

    def prepare(self) -> None:
        """Creates the index where it is missing and may be; marks it with what makes its vectors.

        Once in a job. Raises JobError.
        """
        index = self._index()
        info = index.describe()
        self._refuse([*self._unready(index, info), *self._alias_problems(index)])
        if info is not None:
            if not self.settings.recreates:
                self._remember(index, info)
                return
            index.drop(info.name)
        index.create(mark_of(self.context, self.settings.sources()))
        self._refuse(mismatches(self.settings, self._existing(index)))

    @property
    def concludes(self) -> bool:
        """Whether something is left to do once the job is done."""
        return self.settings.alias is not None

    def conclude(self) -> list[str]:
        """Moves the step's alias to the index; once in a job, after it is done. Tells so.

        Raises:
          JobError: it can't be moved, or the index that the command line named is empty.
        """
        alias = self.settings.alias
        if alias is None:
            return []
        index = self._index()
        name = self._existing(index).name
        if self.context.instead_of and index.is_empty():
            raise JobError(f"index {name!r} holds no document, so alias {alias!r} was not moved")
        index.point_alias(name, self.context.instead_of)
        return [f"alias {alias!r} names index {name!r} now"]

    def unfinished(self) -> str | None:
        """What `conclude` would have done, in words, for a job that is not done."""
        alias = self.settings.alias
        return (
            None if alias is None else f"alias {alias!r} was not moved to {self.settings.index!r}"
        )

    def operator(self) -> SinkWriter:
        """A writer for one bundle; waits for a cluster that is away."""
        context = self.context
        key = (self.dialect.store, "store", context.run, context.step)
        store = call_with_retries(
            lambda: patiently(lambda: once(key, self._store)),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}",
        )
        most = max(1, WRITES_IN_FLIGHT // context.parallelism)
        limits = WriteLimits(rows=self.settings.batch_size, bytes=REQUEST_BYTES, in_flight=most)
        return SinkWriter(store, limits, context)

    def search(self, vector: Any, k: int, vector_column: str | None = None) -> list[dict[str, Any]]:
        """The `k` documents nearest to `vector`, nearest first: `score`, `_id`, all but vectors.

        `vector_column` is the field, or the job's column that goes into it; by default the first.
        """
        index = self._index()
        info = self._existing(index)
        tell_once(self.context, "mark", self._marking(index, info).strangers())
        field = self._vector_field(info, vector_column)
        try:
            array = as_vector(field.name, vector)
        except TerminalError as e:
            raise JobError(str(e)) from e
        if field.dimension is not None and len(array) != field.dimension:
            raise JobError(
                f"index {self.settings.index!r}: field {field.name!r} has {field.dimension} "
                f"dimensions, and the vector to search with has {len(array)}"
            )
        return index.search(field, array, k)

    def row_count(self) -> int:
        """How many documents the index holds now."""
        return self._index().count()

    def preview(self, change: Change | Row) -> dict[str, Any] | Reject:
        """The document as the server would get it, or the reject it would become."""
        change = change if isinstance(change, Change) else Change(change)
        key = (self.dialect.store, "preview", self.context.run, self.context.step)
        encoder = once(key, self._preview_encoder)
        try:
            return encoder.shown(change)
        except TerminalError as e:
            return self.context.reject(e.reason, str(e), row=change)

    def _preview_encoder(self) -> RowEncoder:
        info = self._index().describe()
        return RowEncoder(self.settings, self._planned() if info is None else info.fields)

    def _store(self) -> SearchStore:
        index = self._index()
        version, found = self._version(index)
        info = self._existing(index)
        self._refuse(mismatches(self.settings, info))
        self._tell([*found, *notes(self.settings, info)])
        encoder = RowEncoder(
            self.settings, info.fields, base64_vectors=self.dialect.takes_base64(version)
        )
        return SearchStore(index.client, self.settings.index, encoder, self.pipeline(info))

    def _index(self) -> SearchIndex:
        try:
            client = self.client()
        except TransientError as e:
            raise JobError(f"{e}: check the endpoint and the network") from e
        return SearchIndex(client, self.dialect, self.settings)

    def _existing(self, index: SearchIndex) -> IndexInfo:
        info = index.describe()
        if info is None:
            raise JobError(f"{index.client.where}: {index.no_index(index.neighbours())}")
        return info

    def _planned(self) -> dict[str, Field]:
        """The fields that the job's own columns would make."""
        dialect = self.dialect
        return {
            c.name: dialect.field(
                c.name, dialect.vector_mapping(c) if c.is_vector else {"type": c.type}
            )
            for c in self.settings.column
        }

    def _version(self, index: SearchIndex) -> tuple[tuple[int, int] | None, list[str]]:
        """The server's version, and a note where it may not be read; an old one is refused."""
        version, least = index.version(), self.dialect.least_version
        store, wanted = self.dialect.store, ".".join(map(str, least))
        if version is None:
            note = f"{store} does not tell its version to this user; {wanted} or newer is needed"
            return None, [note]
        if version < least:
            shown = ".".join(map(str, version))
            raise JobError(f"{index.client.where} is {store} {shown}; {wanted} or newer is needed")
        return version, []

    def _unready(self, index: SearchIndex, info: IndexInfo | None) -> list[str]:
        """Why the job can't write: the index is missing and can't be made, or doesn't fit."""
        settings = self.settings
        if info is None:
            return [*blocks(index.client, index.path), *self._missing(index)]
        if self.context.instead_of and index.is_alias():
            return [f"--into {settings.index}: this is an alias of {info.name!r}: name a new index"]
        if not settings.recreates:
            marks = self._marking(index, info).refusals()
            return [*mismatches(settings, info), *blocks(index.client, index.path), *marks]
        if info.is_stream or index.is_alias():
            return [
                f"{settings.index!r} is another name of index {info.name!r}, which would be "
                "dropped with all its names: name the index itself, or create it anew by hand"
            ]
        return [f"index {info.name!r} can't be made anew: {p}" for p in uncreatable(settings)]

    def _missing(self, index: SearchIndex) -> list[str]:
        """Why the job can't do without the index, which is not there."""
        settings = self.settings
        what = f"{index.client.where}: {index.no_index(index.neighbours())}"
        problems = uncreatable(settings)
        if settings.creates:
            return [f"{what} and can't be created: {p}" for p in problems]
        way = ""
        if not problems and all(c.dimension for c in settings.column if c.is_vector):
            mark = mark_of(self.context, settings.sources())
            body = orjson.dumps(index.body(mark)).decode()
            way = f"; this would create it: PUT /{settings.index} {body}"
        return [f"{what}; create it, or set schemaCreateMode to createIfNotExist{way}"]

    def _alias_problems(self, index: SearchIndex) -> list[str]:
        alias, name = self.settings.alias, self.settings.index
        if alias is None or index.names(alias) != "index":
            return []
        swap = [{"remove_index": {"index": alias}}, {"add": {"index": name, "alias": alias}}]
        request = orjson.dumps({"actions": swap}).decode()
        return [
            f"alias {alias!r} is the name of an index already, and can't be both: choose another "
            f"alias; or fill {name!r} without moving one, and then put it in the place of that "
            f"index, which deletes the index: POST /_aliases {request}"
        ]

    def _marking(self, index: SearchIndex, info: IndexInfo) -> Marking:
        settings = self.settings
        filled = settings.sources() or {name: name for name in info.fields}
        if settings.action_type == "delete":
            filled = {}
        what = f"index {info.name!r}"
        return Marking(self.context, what, info.mark, filled, index.is_empty)

    def _remarks(self, index: SearchIndex, info: IndexInfo) -> list[str]:
        if self.settings.recreates:
            return []
        return tell_once(self.context, "mark", self._marking(index, info).remarks())

    def _remember(self, index: SearchIndex, info: IndexInfo) -> None:
        """Marks an index that is there, where that is due; one that refuses it is told of."""
        self._remarks(index, info)
        mark = self._marking(index, info).to_write()
        if mark is None:
            return
        try:
            index.remember(info, mark)
        except JobError as e:
            tell_once(self.context, "mark", [f"what makes the vectors was not kept: {e}"])

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])

    def _tell(self, told: list[str]) -> list[str]:
        def log() -> bool:
            for note in told:
                logger.warning("step %r: %s", self.context.step, note)
            return True

        once((self.dialect.store, "notes", self.context.run, self.context.step), log)
        return told

    def _vector_field(self, info: IndexInfo, name: str | None) -> Field:
        vectors = [f for f in info.fields.values() if f.is_vector]
        if not vectors:
            raise JobError(f"index {info.name!r} has no field of type {self.dialect.vector_type}")
        if name is None:
            return vectors[0]
        into = {source: field for field, source in self.settings.sources().items()}
        for field in vectors:
            if field.name in (name, into.get(name)):
                return field
        known = ", ".join(f.name for f in vectors)
        raise JobError(f"index {info.name!r} has no vector field {name!r}; it has {known}")


def refuse_recreate(settings: SearchSettings, prepared: bool) -> None:
    """Raises ValueError where a repeated bundle would drop what was written."""
    if settings.recreates and not prepared:
        raise ValueError(
            "schemaCreateMode 'recreate' (or cleanup) would drop the index again with each bundle "
            "that is repeated; drop it before the pipeline and use 'createIfNotExist'"
        )


def make_writer(
    make_target: Callable[[StepContext], SearchTarget], prepared: bool, context: StepContext
) -> SinkWriter:
    """The writer of one bundle; the first one in a process makes the index ready if need be."""
    target = make_target(context)
    if not prepared:
        key = (target.dialect.store, "prepared", context.run, context.step)
        call_with_retries(
            lambda: patiently(lambda: once(key, lambda: _prepare(target))),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}",
        )
    return target.operator()


def _prepare(target: SearchTarget) -> bool:
    target.prepare()
    return True
