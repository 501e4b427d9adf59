"""Positions in a store of files behind a service: an object store, HDFS.

Apart from `vecferry.pipelines.run.positions` because a test of positions needs no job.
"""

from __future__ import annotations

import uuid
from typing import IO, Protocol

from vecferry.durable import is_part
from vecferry.errors import JobError
from vecferry.positions.folder import LEFT_BEHIND_SECONDS
from vecferry.positions.place import FAR, Pace


class Files(Protocol):
    """What positions need of a store of files; each store of `io/files/stores` has this."""

    name: str

    def names(self, folder: str = "", head: str = "") -> list[str]:
        """The names of the files right in a folder that begin with `head`."""

    def open(self, path: str) -> IO[bytes]:
        """The file, opened for reading bytes; FileNotFoundError."""

    def create(self, path: str, data: bytes) -> bool:
        """Makes a whole file; False where the path exists."""

    def remove(self, path: str) -> None:
        """Removes a file, which may be gone already."""

    def age(self, path: str) -> float:
        """Seconds since a file was changed, by the store's clock; FileNotFoundError."""


class FilesPlace:
    """A file for each name in the folder that a store has for its root."""

    def __init__(self, files: Files, pace: Pace = FAR) -> None:
        self._files = files
        self.where, self.pace = files.name, pace

    def names(self, prefix: str = "") -> list[str]:
        """The files right in the folder."""
        return [name for name in self._files.names("", prefix) if not is_part(name)]

    def read(self, name: str) -> bytes | None:
        """The file's bytes."""
        try:
            with self._files.open(name) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """As the store does it: on the condition that the name does not exist."""
        return self._files.create(name, data)

    def remove(self, name: str) -> None:
        """Removes the file."""
        self._files.remove(name)

    def age(self, name: str) -> float | None:
        """By the clock of the service."""
        try:
            return self._files.age(name)
        except FileNotFoundError:
            return None

    def check(self) -> None:
        """Creates a file twice: services exist that ignore the condition, and overwrite."""
        for name in self._files.names("", "probe-") + self._files.names("", ".part-"):
            age = self.age(name)
            if age is not None and age > LEFT_BEHIND_SECONDS:
                self.remove(name)
        probe = f"probe-{uuid.uuid4().hex}"
        try:
            if not self.create(probe, b"first") or self.create(probe, b"second"):
                raise JobError(
                    f"positions {self.where}: the service overwrites objects though it is told not "
                    "to, so two runs could store positions at once; turn the bucket's versioning "
                    "off if it is OSS, or name another place"
                )
        finally:
            self.remove(probe)

    def close(self) -> None:
        """Clients are kept for the whole process."""
