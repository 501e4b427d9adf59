"""A Milvus collection as the write loop sees it."""

from __future__ import annotations

from vecferry.io.milvus_client import MilvusHandle, classify
from vecferry.io.milvus_rows import DELETING, INSERTING, UPSERTING, RowEncoder
from vecferry.io.milvus_schema import CollectionInfo
from vecferry.io.milvus_settings import MilvusSettings
from vecferry.io.sink_store import Outcome, Record


class MilvusStore:
    """A collection as the write loop sees it."""

    def __init__(
        self, settings: MilvusSettings, database: str, info: CollectionInfo, handle: MilvusHandle
    ) -> None:
        from vecferry.io.milvus_wire import RequestMaker

        encoder = RowEncoder(settings, info)
        self.encode = encoder.encode
        self.classify = classify
        self._handle = handle
        self._make = RequestMaker(
            database="" if database == "default" else database,
            collection=settings.collection,
            partition=settings.partition,
            fields=encoder.fields,
            dynamic=encoder.dynamic,
            key=info.key,
        )

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys: one call for each operation that is among them.

        Where a later call fails, all are sent again: upserts and deletes may be repeated.
        """
        make, write = self._make, self._handle.write
        for op, method, request in (
            (UPSERTING, "Upsert", make.upsert),
            (INSERTING, "Insert", make.insert),
        ):
            bodies = [r.body for r in records if r.op == op]
            if bodies:
                write(method, request(bodies))
        keys = [r.key for r in records if r.op == DELETING]
        if keys:
            write("Delete", make.delete(keys))
        return None
