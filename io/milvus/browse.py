"""What a database of Milvus holds; see `vecferry.browse`. A path is a collection, or an alias."""

from __future__ import annotations

import uuid
from typing import Any

from vecferry.browse import ColumnInfo, Draft, Entry, Page, TableInfo, page_of, parts_of
from vecferry.errors import JobError
from vecferry.io.milvus.catalog import Collection, CollectionInfo
from vecferry.io.milvus.settings import MilvusConnection, MilvusSettings
from vecferry.process import end_run


class MilvusBrowser:
    """Collections of a server, or of a Milvus Lite file that is there already."""

    def __init__(self, connection: MilvusConnection, seconds: float) -> None:
        most = min(connection.connect_timeout_ms, int(seconds * 1000))
        self._connection = connection.model_copy(update={"connect_timeout_ms": most})
        self._run = f"look-{uuid.uuid4().hex[:8]}"

    def test(self) -> str:
        """Lists the collections."""
        names = self._catalog().neighbours()
        return f"Milvus at {self._connection.endpoint}: {len(names)} collections"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """The collections; their numbers of rows are told by `columns`."""
        parts_of(path, ())
        names = self._catalog().neighbours()
        return page_of((Entry(name=n, path=n, kind="collection") for n in names), limit, after)

    def columns(self, path: str) -> TableInfo:
        """The fields of a collection, with the dimensions of vectors."""
        catalog, info = self._collection(path)
        stats = catalog.ask(catalog.handle.client.get_collection_stats, info.name)
        columns = [
            ColumnInfo(
                name=field.name,
                type=field.type + (f"({field.dimension})" if field.dimension else ""),
                key=field.primary,
                nullable=field.nullable,
            )
            for field in info.fields
        ]
        details: dict[str, str | int | bool] = {
            "collection": info.name, "dynamic": info.dynamic, "rows": int(stats["row_count"]),
        }  # fmt: skip
        if info.mark is not None:
            details["vectors"] = ", ".join(f"{n}: {m}" for n, m in info.mark.makers.items())
        return TableInfo(columns=columns, details=details)

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """Some rows, vectors left out; a collection that is not loaded is not loaded for it."""
        catalog, info = self._collection(path)
        fields = [f.name for f in info.fields if not f.is_vector]
        client = catalog.handle.client
        found = catalog.ask(client.query, info.name, limit=rows, output_fields=fields)
        return [dict(row) for row in found]

    def draft(self, path: str) -> Draft:
        """Raises JobError: collections are written to, and not read."""
        raise JobError(f"{path}: a collection of Milvus is a target; begin with a source of rows")

    def close(self) -> None:
        """Closes the client."""
        end_run(self._run)

    def _catalog(self, collection: str = "x") -> Collection:
        settings = MilvusSettings.model_validate({"collection": collection})
        return Collection(settings, self._connection, self._run)

    def _collection(self, path: str) -> tuple[Collection, CollectionInfo]:
        (name,) = parts_of(path, ("collection",), least=1)
        catalog = self._catalog(name)
        info = catalog.describe()
        if info is None:
            raise JobError(catalog.absent())
        return catalog, info
