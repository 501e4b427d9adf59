"""Writes rows into a Milvus collection."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.io.milvus.settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.io.sink.transform import WriteTransform


@dataclass(kw_only=True, eq=False)
class WriteToMilvus(WriteTransform):
    """Write each row into a Milvus collection.

    Takes dicts or `Change`s. The output `written` gives each as it came in, once Milvus has
    acknowledged it. The output `rejected` gives a `Reject` for each row that can't be written.

    Vectors are 1-D float32 arrays or lists. With an own primary key and `writeMode` upsert, rows
    that come twice leave one copy; with automatic ids they leave two.

    With `schemaCreateMode` createIfNotExist, the default, a missing collection is created, with an
    index on each vector, and loaded. `recreate` is for jobs only, as bundles are repeated.

    Args:
      settings: the collection and its columns.
      connection: the server, or a Milvus Lite file, which works within one process only.
      prepared: the target has been made ready before the pipeline; workers create nothing.

    Raises:
      ValueError: `recreate` without `prepared`.
      JobError: at run time, where the rows can't fit the collection.
    """

    settings: MilvusSettings
    connection: MilvusConnection

    step_type = "milvus"
    target = MilvusTarget
