"""The write loop that all stores share, and what a store gives to it.

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
    from vecferry.io.sink.writer import BlockWriter as BlockWriter
    from vecferry.io.sink.writer import SinkWriter as SinkWriter

__getattr__ = hands_on(
    __name__,
    {
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
