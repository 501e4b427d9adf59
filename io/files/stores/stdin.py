"""Standard input as a store of one file, called ``-``.

Rows are cut, checked and read again as those of any file. So all of the input is first written into
a file in the temporary folder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
import threading
from typing import IO, cast

from vecferry.errors import JobError
from vecferry.io.files.stores.base import FileInfo
from vecferry.io.files.stores.local import LocalStore

_NAME = "-"


class _Spool:
    """The folder that holds the input; one in a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: str | None = None
        self._whole = False

    @property
    def folder(self) -> str:
        """The folder, which goes when the process ends."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="vecferry-stdin-")
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
            return self._folder

    def fill(self) -> None:
        """Reads the input to its end, once. Raises JobError for a terminal."""
        folder = self.folder
        with self._lock:
            if self._whole:
                return
            source = sys.__stdin__
            if source is None or stat.S_ISCHR(os.fstat(source.fileno()).st_mode):
                raise JobError(
                    "the path - is standard input, and nothing is piped into it; pipe rows in, as "
                    "in cat rows.jsonl | vecferry run JOB"
                )
            with open(os.path.join(folder, _NAME), "wb") as file:
                shutil.copyfileobj(cast("IO[bytes]", source.buffer), file, 1 << 20)
            self._whole = True


_spool = _Spool()


class StdinStore(LocalStore):
    """A store whose one file is read from standard input when it is first asked for."""

    def __init__(self) -> None:
        super().__init__(_spool.folder)
        self.name = "standard input"

    def find(self, pattern: str) -> list[FileInfo]:
        """The one file."""
        _spool.fill()
        return super().find(pattern)

    def open(self, path: str, file: FileInfo | None = None) -> IO[bytes]:
        """The one file, opened."""
        _spool.fill()
        opened: IO[bytes] = super().open(path, file)
        return opened
