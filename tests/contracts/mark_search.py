"""The contract of marks on search stores; the tests run with the others of their servers."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import requests

from tests.services.elasticsearch import Elasticsearch9Server, ElasticsearchServer
from tests.services.opensearch import OpenSearchServer
from tests.services.server import running
from vecferry.io.elasticsearch import ElasticsearchConnection, ElasticsearchSettings
from vecferry.io.elasticsearch.target import ElasticsearchTarget
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.steps import WriteOptions
from vecferry.testing.marks import ONE, OTHER, MarkContract, MarkPlace, rows
from vecferry.testing.sinks import DIMENSION, write

SERVERS = {
    "elasticsearch": ElasticsearchServer,
    "elasticsearch9": Elasticsearch9Server,
    "opensearch": OpenSearchServer,
}


class MarkedIndices(MarkPlace):
    """Indices of one server."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.step_type = kind.rstrip("9")
        self.server = server = running(SERVERS[kind])
        kinds = (ElasticsearchSettings, ElasticsearchTarget)
        vector: dict[str, Any] = {"type": "dense_vector", "dims": DIMENSION}
        if kind == "opensearch":
            kinds = (OpenSearchSettings, OpenSearchTarget)
            vector = {"type": "knn_vector", "dimension": DIMENSION, "engine": "lucene"}
            self.connection: Any = OpenSearchConnection(endpoint=server.url)
        else:
            self.connection = ElasticsearchConnection(
                endpoint=server.url, username=server.user, password=server.password
            )
        self._settings, self._target = kinds
        self.columns = [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            {"name": "vector", **vector},
        ]

    def make(self, name, context, **settings: Any):
        given = self._settings.model_validate({"index": name, **settings})
        return self._target(given, self.connection, context)

    def by_hand(self, name, note=None):
        vector = {"type": "dense_vector", "dims": DIMENSION}
        if self.step_type == "opensearch":
            method = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}
            vector = {"type": "knn_vector", "dimension": DIMENSION, "method": method}
        fields = {"id": {"type": "keyword"}, "text": {"type": "text"}, "vector": vector}
        body: dict[str, Any] = {"mappings": {"properties": fields}}
        if self.step_type == "opensearch":
            body["settings"] = {"index.knn": True}
        if note:
            body["mappings"]["_meta"] = {"owner": note}
        self.server.request("PUT", f"/{name}", body)

    def note(self, name):
        (found,) = self.server.request("GET", f"/{name}/_mapping").values()
        return json.dumps(found["mappings"].get("_meta"), ensure_ascii=False)

    def meant(self, alias):
        try:
            (name,) = self.server.request("GET", f"/_alias/{alias}")
        except requests.HTTPError:
            return None
        return name

    def close(self):
        super().close()
        names = self.server.request("GET", f"/{self.name}*/_settings")
        for name in names:
            self.server.request("DELETE", f"/{name}")


class SearchMarks(MarkContract):
    """The contract, and what only stores with `_meta` and the request of aliases can show."""

    def test_the_alias_of_a_step_moves_beside_an_index_of_that_name(self, place):
        """A job may name its index, and its readers an alias."""
        alias, new = f"{place.name}a", f"{place.name}y"
        first = place.target(alias=alias)
        first.prepare()
        write(first, rows(2))
        first.conclude()
        moved = first.settings.moved(new, switch=True)
        assert moved["alias"] == alias
        second = place.target(OTHER, new, **{**moved, "index": new, "aliasMode": "exclusive"})
        second.prepare()
        write(second, rows(3))
        second.conclude()
        assert place.meant(alias) == new
        assert first.settings.moved(new, switch=False)["alias"] is None

    def test_an_alias_of_several_indices_exchanges_one(self, place):
        """As of an index a month: only the job's own gives way to the new one."""
        alias, old, new = (f"{place.name}{end}" for end in ("a", "x", "y"))
        for name in (place.name, old):
            month = place.target(name=name, alias=alias)
            month.prepare()
            month.conclude()
        moved = {**month.settings.moved(new, switch=True), "index": new}
        target = place.target(OTHER, new, **moved)
        target.context = dataclasses.replace(target.context, write=WriteOptions(instead_of=old))
        target.prepare()
        write(target, rows(1))
        target.conclude()
        assert set(place.server.request("GET", f"/_alias/{alias}")) == {place.name, new}

    def test_an_alias_keeps_its_filter_and_routing(self, place):
        """Only what it names changes: readers may rely on the rest."""
        alias, old, new = (f"{place.name}{end}" for end in ("a", "x", "y"))
        place.target(name=old).prepare()
        told = {"filter": {"term": {"id": "k1"}}, "index_routing": "1", "search_routing": "1"}
        add = {"index": old, "alias": alias, **told}
        place.server.request("POST", "/_aliases", {"actions": [{"add": add}]})
        target = place.target(OTHER, new, alias=alias, aliasMode="exclusive")
        target.prepare()
        target.conclude()
        found = place.server.request("GET", f"/_alias/{alias}")
        assert found == {new: {"aliases": {alias: told}}}

    def test_the_request_that_a_message_shows_puts_an_alias_in_an_index_place(self, place):
        """What a person is told to send works as it is told."""
        old = place.target()
        old.prepare()
        new = f"{place.name}y"
        switching = place.target(OTHER, new, alias=place.name, into=True)
        with pytest.raises(Exception, match="POST /_aliases") as caught:
            switching.check()
        filling = place.target(OTHER, new, into=True)
        filling.prepare()
        body = str(caught.value).partition("POST /_aliases ")[2]
        place.server.request("POST", "/_aliases", json.loads(body))
        assert place.meant(place.name) == new

    def test_the_request_that_a_message_shows_creates_a_marked_index(self, place):
        """What would create a missing index is the whole of it."""
        with pytest.raises(Exception, match="this would create it") as caught:
            place.target(schemaCreateMode="ignore").check()
        body = str(caught.value).partition(f"PUT /{place.name} ")[2]
        place.server.request("PUT", f"/{place.name}", json.loads(body))
        assert ONE.model in place.note(place.name)
        assert place.target(schemaCreateMode="ignore").check() == []
