"""Writes rows into a Milvus collection."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.io.milvus.client import handle_with_retries
from vecferry.io.milvus.settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.io.sink.writer import SinkWriter
from vecferry.process import once
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class WriteToMilvus(OperatorTransform):
    """Write each row into a Milvus collection.

    Takes dicts or `Change`s; gives each as it came in once Milvus has acknowledged it, on the
    output `written`, and what it can't take as a `Reject` on `rejected`. Vectors are 1-D float32
    arrays (lists are taken too). With an own primary key and `writeMode` upsert, rows that come
    twice leave one copy; with automatic ids they leave two.

    A collection that is missing is created (`schemaCreateMode` createIfNotExist, the default), with
    an index on each vector and loaded; `recreate` is for jobs only, as bundles are repeated.

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
    prepared: bool = False

    main = "written"
    verb = "Write"
    step_type = "milvus"

    def __post_init__(self) -> None:
        # No super().__init__(): the base is a dataclass, whose __init__ would clear the context.
        if self.settings.schema_create_mode == "recreate" and not self.prepared:
            raise ValueError(
                "schemaCreateMode 'recreate' would drop the collection again with each bundle that "
                "is repeated; drop it before the pipeline and use 'createIfNotExist'"
            )

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the writer."""
        return functools.partial(
            make_writer, self.settings, self.connection, self.prepared, context
        )


def make_writer(
    settings: MilvusSettings, connection: MilvusConnection, prepared: bool, context: StepContext
) -> SinkWriter:
    """The writer of one bundle; the first one in a process makes the target ready if need be."""
    target = MilvusTarget(settings, connection, context)
    if not prepared:
        handle_with_retries(connection, context.run, context.retry_deadline)
        once(("milvus-prepared", context.run, context.step), lambda: _prepare(target))
    return target.operator()


def _prepare(target: MilvusTarget) -> bool:
    target.prepare()
    return True
