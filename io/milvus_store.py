"""A Milvus collection as the write loop sees it."""

from __future__ import annotations

from typing import Any

from vecferry.io.milvus_client import MilvusHandle
from vecferry.io.milvus_errors import classify
from vecferry.io.milvus_rows import DELETING, INSERTING, UPSERTING, RowEncoder
from vecferry.io.milvus_schema import CollectionInfo
from vecferry.io.milvus_settings import MilvusSettings
from vecferry.io.sink_store import WRITTEN, Outcome, Record, retry


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
        make = RequestMaker(
            database="" if database == "default" else database,
            collection=settings.collection,
            partition=settings.partition,
            fields=encoder.fields,
            dynamic=encoder.dynamic,
            key=info.key,
        )
        self._calls = (
            (UPSERTING, "Upsert", make.upsert),
            (INSERTING, "Insert", make.insert),
            (DELETING, "Delete", make.delete),
        )

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys: one call for each operation that is among them.

        Where a later call fails, the records of the earlier ones are told as written, so that an
        insert is not repeated for the sake of a delete; the rest is to be sent again.
        """
        done: set[str] = set()
        for op, method, request in self._calls:
            mine = [r for r in records if r.op == op]
            if not mine:
                continue
            sent: list[Any] = [r.key if op == DELETING else r.body for r in mine]
            try:
                self._handle.write(method, request(sent))
            except Exception as e:
                if not done:
                    raise
                later = retry(str(self.classify(e)))
                return [WRITTEN if r.op in done else later for r in records]
            done.add(op)
        return None
