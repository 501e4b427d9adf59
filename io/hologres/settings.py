"""What a job may say about Hologres: the connection and the writer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from vecferry.fields import SourceType
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.tables.connection import TableConnection


class HologresConnection(TableConnection):
    """A database of a Hologres instance, which speaks PostgreSQL's protocol."""

    ignored: ClassVar[frozenset[str]] = frozenset({"name", "description"})
    product: ClassVar[str] = "Hologres"
    scheme: ClassVar[str] = "postgresql"
    default_port: ClassVar[int] = 80

    type: SourceType[Literal["hologres"]] = "hologres"


class HologresSettings(WriterSettings):
    """What the step `hologres` may say; its vectors are arrays of float4."""

    connection_class: ClassVar[type[TableConnection]] = HologresConnection
    source_type: ClassVar[str] = "hologres"
    vector_types: ClassVar[tuple[str, ...]] = ("float4[]",)
    indexes: ClassVar[tuple[str, ...]] = ("HGraph", "Proxima", "none")

    def _document_problems(self) -> Iterator[str]:
        if self.parent_key:
            yield (
                "parentKey is not known to hologres, which writes rows by COPY and documents not "
                "as a whole; leave it out, or write into PostgreSQL"
            )

    def creation_problems(self) -> list[str]:
        """Why a table can't be created from these settings; an empty list if it can."""
        return super().creation_problems() + [
            f"column {c.name!r}: Proxima has no COSINE; set metricType to L2, or to IP for "
            "vectors of length 1"
            for c in self.column
            if c.is_vector and self.index_of(c) == "Proxima" and c.metric == "COSINE"
        ]
