"""What a job may say about Hologres: the connection and the writer."""

from __future__ import annotations

from typing import ClassVar, Literal

from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.tables.settings import TableConnection


class HologresConnection(TableConnection):
    """A database of a Hologres instance, which speaks PostgreSQL's protocol."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})
    scheme: ClassVar[str] = "postgresql"
    default_port: ClassVar[int] = 80

    type: Literal["hologres"] = "hologres"


class HologresSettings(WriterSettings):
    """What the step `hologres` may say; its vectors are arrays of float4."""

    connection_class: ClassVar[type[TableConnection]] = HologresConnection
    source_type: ClassVar[str] = "hologres"
    vector_types: ClassVar[tuple[str, ...]] = ("float4[]",)
    indexes: ClassVar[tuple[str, ...]] = ("HGraph", "Proxima", "none")
