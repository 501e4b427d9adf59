"""BLOBs as places: where in the files of a table they lie, and reading them there.

A place is a text, ``database.table/URI#offset+length``. So rows stay small, and whoever needs a
BLOB reads it by the catalog that knows the files: the threads of an image step.
"""

from __future__ import annotations

import re
import threading
from types import TracebackType
from typing import Any, Self

from vecferry.errors import FatalError, JobError, shorten
from vecferry.io.paimon.client import Table, classify, open_catalog
from vecferry.io.paimon.settings import PaimonConnection

_PLACE = re.compile(r"(?P<table>[^/.]+\.[^/]+)/(?P<uri>.+)#(?P<offset>[0-9]+)\+(?P<length>[0-9]+)")


def place_of(table: str, descriptor: bytes) -> str:
    """Where the BLOB that pypaimon describes lies; `table` has the name of its database."""
    from pypaimon.table.row.blob import BlobDescriptor

    found = BlobDescriptor.deserialize(descriptor)
    return f"{table}/{found.uri}#{found.offset}+{found.length}"


class Blob:
    """A BLOB, opened for reading."""

    def __init__(self, table: Table, uri: str, offset: int, size: int, files: CatalogFiles) -> None:
        self.size = size
        self._table, self._uri, self._offset, self._files = table, uri, offset, files

    def read(self, most: int) -> bytes:
        """Its first `most` bytes; raises TransientError, FatalError and FileNotFoundError."""
        try:
            data: bytes = self._table.file_io.read_file_range(
                self._uri, self._offset, min(most, self.size)
            )
        except FileNotFoundError:
            raise
        except Exception as e:
            raise self._files.explained(e) from e
        return bytes(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class CatalogFiles:
    """The BLOBs of all tables of a catalog, by their places; used by many threads."""

    def __init__(self, connection: PaimonConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._catalog: Any = None
        self._tables: dict[str, Table] = {}

    def relative(self, pattern: str) -> str:
        """The place itself; JobError for a text that is none."""
        if _PLACE.fullmatch(pattern) is None:
            raise JobError(
                f"{shorten(pattern, 80)!r} is not the place of a BLOB: the reader gives them with "
                "blobAsDescriptor: true; for other paths name the data source of the files"
            )
        return pattern

    def open(self, path: str) -> Blob:
        """The BLOB at a place; JobError where that is outside of its table."""
        found = _PLACE.fullmatch(path)
        assert found is not None
        table = self._table(found["table"])
        uri, folder = found["uri"], f"{str(table.table_path).rstrip('/')}/"
        if not uri.startswith(folder) or ".." in uri.split("/"):
            raise JobError(f"{shorten(uri, 80)!r} is not a file of table {found['table']}")
        return Blob(table, uri, int(found["offset"]), int(found["length"]), self)

    def _table(self, name: str) -> Table:
        with self._lock:
            if name not in self._tables:
                try:
                    if self._catalog is None:
                        self._catalog = open_catalog(self._connection)
                    self._tables[name] = self._catalog.get_table(name)
                except Exception as e:
                    raise self.explained(e) from e
            return self._tables[name]

    def explained(self, error: Exception) -> Exception:
        """What an error of pypaimon means."""
        found = classify(error, self._connection)
        return FatalError(str(found)) if found is error else found
