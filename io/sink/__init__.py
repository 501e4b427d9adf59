"""What the writers into all stores share: the write loop, targets, marks, checks of values.

Beside the modules that every connector has:

- `store`: what a store gives to the write loop
- `writer`: the write loop: batches, order, counts
- `delivery`: one batch on its way: retries, halves, rows at fault
- `mark`: what made the vectors of a target, compared with the job
- `room`: how much one write may hold, learned from refusals
- `substitutes`: what goes in place of a refused change
- `parents`: documents as a whole: their chunks, and what is trimmed
- `document_writer`: the write loop over documents
- `reconcile`: rows that the source no longer has, deleted
- `background`: long work, while the launcher tells how far it is

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.sink.store import STALE as STALE
    from vecferry.io.sink.store import WRITTEN as WRITTEN
    from vecferry.io.sink.store import Block as Block
    from vecferry.io.sink.store import BlockStore as BlockStore
    from vecferry.io.sink.store import Outcome as Outcome
    from vecferry.io.sink.store import Record as Record
    from vecferry.io.sink.store import Store as Store
    from vecferry.io.sink.store import TooLargeError as TooLargeError
    from vecferry.io.sink.store import WriteLimits as WriteLimits
    from vecferry.io.sink.store import rejected as rejected
    from vecferry.io.sink.store import retry as retry
    from vecferry.io.sink.target import AliasCatalog as AliasCatalog
    from vecferry.io.sink.target import AliasTarget as AliasTarget
    from vecferry.io.sink.target import Catalog as Catalog
    from vecferry.io.sink.target import Described as Described
    from vecferry.io.sink.target import Encoder as Encoder
    from vecferry.io.sink.target import TargetBase as TargetBase
    from vecferry.io.sink.target import vector_field as vector_field
    from vecferry.io.sink.transform import WriteTransform as WriteTransform
    from vecferry.io.sink.writer import BlockWriter as BlockWriter
    from vecferry.io.sink.writer import SinkWriter as SinkWriter

__getattr__ = hands_on(
    __name__,
    {
        "AliasCatalog": "target",
        "AliasTarget": "target",
        "Catalog": "target",
        "Described": "target",
        "Encoder": "target",
        "TargetBase": "target",
        "vector_field": "target",
        "WriteTransform": "transform",
        "BlockWriter": "writer",
        "SinkWriter": "writer",
        "Block": "store",
        "BlockStore": "store",
        "Outcome": "store",
        "Record": "store",
        "STALE": "store",
        "Store": "store",
        "TooLargeError": "store",
        "WRITTEN": "store",
        "WriteLimits": "store",
        "rejected": "store",
        "retry": "store",
    },
)
