"""Collections of Milvus, written.

Beside the modules that every connector has:

- `wire`: the requests of Milvus's protocol, made at once for a whole batch
- `holdings`: what stands in a collection, read and removed

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.milvus.settings import MilvusConnection as MilvusConnection
    from vecferry.io.milvus.settings import MilvusSettings as MilvusSettings
    from vecferry.io.milvus.transform import WriteToMilvus as WriteToMilvus

__getattr__ = hands_on(
    __name__,
    {
        "WriteToMilvus": "transform",
        "MilvusConnection": "settings",
        "MilvusSettings": "settings",
    },
)
