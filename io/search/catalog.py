"""One index of one cluster: what is asked of it and made of it, outside of writing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vecferry.errors import JobError, TransientError, near
from vecferry.io.search.client import Body, SearchClient, StatusError, ask
from vecferry.io.search.dialect import Dialect, Field
from vecferry.io.search.settings import SearchSettings
from vecferry.io.sink.mark import NAME, Mark, from_json, to_json
from vecferry.io.sink.values import Vector
from vecferry.numbers import digits_of

GC_DELETES = "1d"
"""How long an index that we create remembers the version of what was deleted (60 s otherwise)."""
REPLICAS = "index.number_of_replicas"
SPARED = {"index.refresh_interval": "-1", REPLICAS: "0"}
"""What an index that we create is set to while it is loaded."""
_AUTO_REPLICAS = "index.auto_expand_replicas"
MOST_NAMES = 20


@dataclass(frozen=True)
class IndexInfo:
    """An index that exists. `fields` are by their dotted names; `meta` is its mapping's `_meta`,
    `routed` says that each document needs a routing.
    """

    name: str
    fields: dict[str, Field]
    strict: bool
    meta: dict[str, Any]
    routed: bool = False

    @property
    def mark(self) -> Mark | None:
        """What made the vectors in it; None where it does not say."""
        return from_json(self.meta.get(NAME))

    @property
    def is_stream(self) -> bool:
        """Whether this is the newest index of a data stream, which only takes new documents."""
        return self.name.startswith(".ds-")


class SearchIndex:
    """The index of a step, or what its alias names."""

    def __init__(self, client: SearchClient, dialect: Dialect, settings: SearchSettings) -> None:
        self.client, self.dialect, self.settings = client, dialect, settings
        self.where = client.where
        self.path = f"/{quote(settings.index, safe='')}"

    @functools.cached_property
    def version(self) -> tuple[int, int] | None:
        """The server's version; None where this user may not read it."""
        for path in ("/", "/_nodes?filter_path=nodes.*.version"):
            try:
                read = functools.partial(self._read, path)
                answer = ask(self.client, read, "reading its version")
            except JobError as e:
                if isinstance(e.__cause__, StatusError) and e.__cause__.status != 401:
                    continue  # it may not be read, or a gateway in between has no such path
                raise
            if not isinstance(answer, dict):
                continue
            texts = [str(n.get("version")) for n in (answer.get("nodes") or {}).values()]
            if isinstance(answer.get("version"), dict):
                texts.append(str(answer["version"].get("number")))
            found = [v for v in map(_parsed, texts) if v]
            if found:
                return min(found)
        return None

    def describe(self) -> IndexInfo | None:
        """What is there now; None where there is nothing of this name."""
        answer = ask(self.client, self._mapping, f"reading index {self.settings.index!r}")
        if not answer:
            return None
        if len(answer) > 1:
            raise JobError(
                f"{self.client.where}: {self.settings.index!r} names {len(answer)} indices "
                f"({', '.join(sorted(answer)[:5])}): name one of them, or an alias of one"
            )
        ((name, body),) = answer.items()
        return self._info(name, body.get("mappings") or {})

    def planned(self) -> IndexInfo | None:
        """What `indexBody` would create; None where the job has none."""
        body = self.settings.index_body
        if body is None:
            return None
        return self._info(self.settings.index, body.get("mappings") or {})

    def _info(self, name: str, mappings: dict[str, Any]) -> IndexInfo:
        fields = {f.name: f for f in fields_of(self.dialect, "", mappings)}
        strict = str(mappings.get("dynamic", "true")) == "strict"
        routed = bool((mappings.get("_routing") or {}).get("required"))
        return IndexInfo(name, fields, strict, dict(mappings.get("_meta") or {}), routed)

    def forgets_soon(self) -> bool:
        """Whether a delete is forgotten after 60 s, as the index says nothing of that."""
        answer = _read(self.client, f"{self.path}/_settings")
        settings = [body.get("settings") or {} for body in answer.values()]
        return any("index.gc_deletes" not in one for one in settings)

    def spare(self, info: IndexInfo) -> None:
        """Lets an index that holds no row yet do without refreshes and replicas.

        What its settings were is kept in the mark first. Raises JobError where it is refused.
        """
        mark, found = info.mark or Mark(), self._settings_of(info)
        spared = {name: found.get(name) for name in SPARED}
        if str(found.get(_AUTO_REPLICAS, "false")).lower() != "false":
            del spared[REPLICAS]
        self.remember(info, dataclasses.replace(mark, deferred=spared))
        self._put_settings(info, {name: SPARED[name] for name in spared})

    def restore(self, info: IndexInfo, deferred: Mapping[str, Any]) -> None:
        """Sets back what was spared, but for what somebody set otherwise meanwhile."""
        found = self._settings_of(info)
        back = {
            name: deferred[name]
            for name, value in SPARED.items()
            if name in deferred and str(found.get(name)) == value
        }
        if back:
            self._put_settings(info, back)

    def _settings_of(self, info: IndexInfo) -> dict[str, Any]:
        path = f"/{quote(info.name, safe='')}/_settings?flat_settings=true"
        answer = ask(self.client, lambda: self._read(path), "reading the index's settings")
        return dict((answer.get(info.name) or {}).get("settings") or {})

    def _put_settings(self, info: IndexInfo, settings: dict[str, Any]) -> None:
        path = f"/{quote(info.name, safe='')}/_settings"
        ask(self.client, lambda: self._write("PUT", path, settings), "setting the index up")

    def neighbours(self) -> list[str]:
        """The names of the indices that there are; none where they may not be listed."""
        try:
            answer = self.client.request("GET", "/_cat/indices?h=index&format=json")
        except (StatusError, TransientError):
            return []
        return sorted(str(i["index"]) for i in answer if not str(i["index"]).startswith("."))

    def count(self) -> int:
        """How many documents it holds, after all that was written is made visible."""
        self.refresh()
        answer = ask(self.client, lambda: self._read(f"{self.path}/_count"), "counting")
        return int(answer["count"])

    def is_empty(self) -> bool:
        """Whether it holds no document; who may not read it is not told so."""
        try:
            return not self.count()
        except JobError as e:
            if isinstance(e.__cause__, StatusError) and e.__cause__.status == 403:
                return False
            raise

    def create(self, mark: Mark, replaced: IndexInfo | None) -> None:
        """Creates it, as `body` says; one that another worker created meanwhile stays.

        What it replaces is dropped first.
        """
        if replaced is not None:
            old = f"/{quote(replaced.name, safe='')}"
            ask(self.client, lambda: self._write("DELETE", old), "dropping the index")
        body = self.body(mark)

        def put() -> None:
            try:
                self._write("PUT", self.path, body)
            except StatusError as e:
                if e.kind != "resource_already_exists_exception":
                    raise

        ask(self.client, put, "creating the index")

    def is_alias(self) -> bool:
        """Whether the name is an alias, not an index."""
        return self.names(self.settings.index) == "alias"

    def names(self, name: str) -> str | None:
        """What a name stands for now: ``index``, ``alias``, or None for nothing."""
        read = functools.partial(self._found, f"/{quote(name, safe='')}/_alias")
        answer = ask(self.client, read, f"reading {name!r}")
        return None if not answer else "index" if name in answer else "alias"

    def remember(self, info: IndexInfo, mark: Mark) -> None:
        """Writes what made its vectors into its mapping, beside what else stands in `_meta`."""
        body = {"_meta": {**info.meta, NAME: to_json(mark)}}
        path = f"/{quote(info.name, safe='')}/_mapping"
        ask(self.client, lambda: self._write("PUT", path, body), "marking the index")

    def body(self, mark: Mark | None = None) -> dict[str, Any]:
        """What would create it, with a mark that says what makes its vectors.

        That is `indexBody` as it is written, but for the mark.
        """
        if self.settings.index_body is not None:
            written = self.settings.index_body
            mappings = dict(written.get("mappings") or {})
            if mark is not None:
                mappings["_meta"] = {**(mappings.get("_meta") or {}), NAME: to_json(mark)}
            return {**written, "mappings": mappings}
        settings = {"index.gc_deletes": GC_DELETES, **self.dialect.index_settings}
        for least, newer in self.dialect.newer_settings.items():
            if (self.version or least) >= least:
                settings |= newer
        settings |= dict(_flat("", self.settings.settings))
        properties = {
            c.name: self.dialect.vector_mapping(c) if c.is_vector else {"type": c.type, **c.mapping}
            for c in self.settings.column
            if not c.is_meta
        }
        given = self.settings.dst_dynamic
        dynamic = self.settings.dynamic if given is None else given
        mappings = {"dynamic": dynamic, "properties": properties}
        if mark is not None:
            mappings["_meta"] = {NAME: to_json(mark)}
        return {"settings": settings, "mappings": mappings}

    def point_alias(self, alias: str, info: IndexInfo, instead_of: str | None) -> None:
        """Lets an alias name this index alone, or beside others but `instead_of`."""
        name, exclusive = info.name, self.settings.alias_mode == "exclusive"
        gone = "*" if exclusive else instead_of
        kept = {} if gone is None else self._filter_of(alias, gone)
        actions: list[dict[str, Any]] = [{"add": {**kept, "index": name, "alias": alias}}]
        if gone is not None and (exclusive or self.names(gone)):
            actions.insert(0, {"remove": {"index": gone, "alias": alias, "must_exist": False}})
        body = {"actions": actions}
        ask(self.client, lambda: self._write("POST", "/_aliases", body), "moving the alias")

    def _filter_of(self, alias: str, index: str) -> dict[str, Any]:
        """Filter and routing of an alias of `index`, or of its only index (``*``)."""
        read = functools.partial(self._found, f"/_alias/{quote(alias, safe='')}")
        answer = ask(self.client, read, f"reading alias {alias!r}") or {}
        found = [b["aliases"][alias] for name, b in answer.items() if index in ("*", name)]
        return dict(found[0]) if len(found) == 1 else {}

    def search(self, info: IndexInfo, field: Field, vector: Vector, k: int) -> list[dict[str, Any]]:
        """The nearest documents: `score`, `_id` and every field but vectors."""
        self.refresh()
        body = self.dialect.knn(field, vector, k)
        body["_source"] = {"excludes": [f.name for f in info.fields.values() if f.is_vector]}
        answer = ask(
            self.client, lambda: self._write("POST", f"{self.path}/_search", body), "searching"
        )
        return [
            {"score": _score(hit), "_id": hit["_id"], **(hit.get("_source") or {})}
            for hit in answer["hits"]["hits"]
        ]

    def absent(self) -> str:
        """That it is missing, and which there are."""
        name, existing = self.settings.index, self.neighbours()
        there = f" (there are: {', '.join(existing[:MOST_NAMES])})" if existing else ""
        return f"index {name!r} does not exist{near(name, existing)}{there}"

    def refresh(self) -> None:
        """Makes all that was written visible, where this user may."""

        def refresh() -> None:
            try:
                self._write("POST", f"{self.path}/_refresh")
            except StatusError as e:
                if e.status != 403:  # who may only read sees what the server shows by itself
                    raise

        ask(self.client, refresh, "refreshing")

    def _mapping(self) -> Any:
        return self._found(f"{self.path}/_mapping")

    def _found(self, path: str) -> Any:
        try:
            return self._read(path)
        except StatusError as e:
            if e.status == 404:
                return None
            raise

    def _read(self, path: str) -> Any:
        return self.client.request("GET", path)

    def _write(self, method: str, path: str, body: Body = None) -> Any:
        return self.client.request(method, path, body)


def fields_of(dialect: Dialect, prefix: str, mapping: dict[str, Any]) -> Iterator[Field]:
    """The fields of a mapping, those within objects also, by their dotted names."""
    for name, body in (mapping.get("properties") or {}).items():
        yield field_of(dialect, f"{prefix}{name}", body)
        if "properties" in body:
            yield from fields_of(dialect, f"{prefix}{name}.", body)


def field_of(dialect: Dialect, name: str, mapping: dict[str, Any]) -> Field:
    """The field that a mapping describes, with what it says of the form of values."""
    return dataclasses.replace(
        dialect.field(name, mapping),
        format=mapping.get("format"),
        lenient=str(mapping.get("ignore_malformed", False)).lower() == "true",
        most_letters=mapping.get("ignore_above"),
    )


def _score(hit: dict[str, Any]) -> float:
    """OpenSearch writes NaN and Infinity as texts, null instead of a missing score."""
    score = hit.get("_score")
    return float("nan") if score is None else float(score)


def _parsed(text: str) -> tuple[int, int] | None:
    parts = text.split(".")
    if len(parts) < 2:
        return None
    major, minor = digits_of(parts[0]), digits_of(parts[1])
    return None if major is None or minor is None else (major, minor)


def _flat(prefix: str, settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names, which all begin with ``index.``."""
    for name, value in settings.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict) and not full.startswith("index.analysis") and full != "analysis":
            yield from _flat(f"{full}.", value)
        else:
            yield full if full.startswith("index.") else f"index.{full}", value


_OF_AN_INDEX = ("index.blocks.write", "index.blocks.read_only")
_OF_A_CLUSTER = ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete")
_CLOSED = "index.verified_before_close"


def blocks(client: SearchClient, path: str) -> list[str]:
    """A problem for each setting that keeps rows out of the index at `path`, with what undoes it.

    Not the one that a full disk sets: that one is waited for. Who may not read settings is told in
    the run.
    """
    return [*_of_the_cluster(client), *_of_the_index(client, path)]


def _of_the_cluster(client: SearchClient) -> Iterator[str]:
    found = _read(client, "/_cluster/settings")
    for kind in ("persistent", "transient"):
        for block in _OF_A_CLUSTER:
            if _is_true(found.get(kind), block):
                yield (
                    f"the cluster may not be written to, as its setting {block} is true: "
                    f'PUT /_cluster/settings {{"{kind}": {{"{block}": null}}}} opens it'
                )


def _of_the_index(client: SearchClient, path: str) -> Iterator[str]:
    for name, body in _read(client, f"{path}/_settings").items():
        settings = body.get("settings")
        if _is_true(settings, _CLOSED):
            yield f"index {name!r} is closed: POST /{name}/_open opens it"
        for block in _OF_AN_INDEX:
            if _is_true(settings, block):
                yield (
                    f"index {name!r} may not be written to, as its setting {block} is true: "
                    f'PUT /{name}/_settings {{"{block}": null}} opens it'
                )


def _read(client: SearchClient, path: str) -> dict[str, Any]:
    try:
        answer = client.request("GET", f"{path}?flat_settings=true")
    except (StatusError, TransientError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_true(settings: object, name: str) -> bool:
    return isinstance(settings, dict) and str(settings.get(name)).lower() == "true"
