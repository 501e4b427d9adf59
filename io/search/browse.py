"""What a cluster of Elasticsearch or OpenSearch holds; see `vecferry.browse`.

A path is an index, an alias or a data stream.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote

from vecferry.browse import (
    ColumnInfo,
    Draft,
    Entry,
    Page,
    TableInfo,
    not_there,
    page_of,
    parts_of,
)
from vecferry.errors import JobError
from vecferry.io.search.client import LibraryClient, StatusError, ask
from vecferry.io.search.settings import SearchConnection, SearchSettings
from vecferry.numbers import digits_of


class SearchBrowser(abc.ABC):
    """Indices and aliases of a cluster; hidden ones, whose names begin with a dot, are left out."""

    settings_class: ClassVar[type[SearchSettings]]
    client_class: ClassVar[type[LibraryClient]]
    vector_types: ClassVar[frozenset[str]] = frozenset({"dense_vector", "knn_vector"})

    def __init__(self, connection: SearchConnection, seconds: float) -> None:
        self._connection = connection
        self._timeout = int(seconds * 1000)

    @functools.cached_property
    def _client(self) -> LibraryClient:
        given = {"index": "x", "timeout": self._timeout, "column": [{"name": "x", "type": "text"}]}
        return self.client_class(self._connection, self.settings_class.model_validate(given))

    def test(self) -> str:
        """Asks for the version; where a gateway hides it, for the aliases."""
        version: dict[str, Any] = {}
        try:
            version = self._read("/").get("version") or version
        except JobError as e:
            if not isinstance(e.__cause__, StatusError) or e.__cause__.status == 401:
                raise
            self._read("/_cat/aliases?h=alias&format=json")
        told = f"{version.get('distribution', self._client.store)} {version.get('number', '')}"
        return f"{self._client.where}: {told.strip()}"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """Indices with their sizes, and aliases."""
        parts_of(path, ())
        return page_of(self._entries(), limit, after)

    def _entries(self) -> Iterator[Entry]:
        columns = "h=index,docs.count,store.size&bytes=b&format=json"
        for index in self._read(f"/_cat/indices?{columns}"):
            name = str(index["index"])
            if not name.startswith("."):
                yield Entry(
                    name=name, path=name, kind="index", rows=_number(index.get("docs.count")),
                    bytes=_number(index.get("store.size")),
                )  # fmt: skip
        names = {str(alias["alias"]) for alias in self._read("/_cat/aliases?h=alias&format=json")}
        for name in names:
            if not name.startswith("."):
                yield Entry(name=name, path=name, kind="alias")

    def columns(self, path: str) -> TableInfo:
        """The fields of the mapping, those within objects by their dotted names."""
        name = self._name(path)
        answer = self._of(name, "/_mapping")
        mapping = next(iter(answer.values()))["mappings"]
        counted = self._of(name, "/_count")
        columns = list(_fields("", mapping))
        return TableInfo(columns=columns, details={"index": name, "rows": int(counted["count"])})

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """Some documents with their `_id`, vectors left out."""
        name = self._name(path)
        vectors = [
            column.name
            for column in self.columns(path).columns
            if column.type.partition("(")[0] in self.vector_types
        ]
        body = {"size": rows, "query": {"match_all": {}}, "_source": {"excludes": vectors}}
        answer = self._of(name, "/_search", "POST", body)
        return [{"_id": hit["_id"], **hit.get("_source", {})} for hit in answer["hits"]["hits"]]

    def draft(self, path: str) -> Draft:
        """Raises JobError: indices are written to, and not read."""
        raise JobError(f"{path}: an index is a target; begin with a source of rows")

    def close(self) -> None:
        """Closes connections, if there are any."""
        if "_client" in self.__dict__:
            self._client.close()

    def _name(self, path: str) -> str:
        (name,) = parts_of(path, ("index",), least=1)
        return name

    def _of(self, name: str, what: str, method: str = "GET", body: Any = None) -> Any:
        """The answer about an index; JobError names the nearest one where there is none."""
        try:
            return self._read(f"/{quote(name, safe='')}{what}", method, body)
        except JobError as e:
            if isinstance(e.__cause__, StatusError) and e.__cause__.status == 404:
                names = [entry.name for entry in self._entries()]
                raise not_there("index or alias", name, names) from e
            raise

    def _read(self, path: str, method: str = "GET", body: Any = None) -> Any:
        return ask(self._client, lambda: self._client.request(method, path, body), f"{path}")


def _fields(prefix: str, mapping: dict[str, Any]) -> Iterator[ColumnInfo]:
    for name, body in (mapping.get("properties") or {}).items():
        kind = str(body.get("type", "object"))
        dimension = body.get("dims") or body.get("dimension")
        yield ColumnInfo(name=f"{prefix}{name}", type=f"{kind}({dimension})" if dimension else kind)
        yield from _fields(f"{prefix}{name}.", body)


def _number(text: object) -> int | None:
    return digits_of(str(text))
