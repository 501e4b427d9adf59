"""Positions in a folder of this machine.

Apart from `vecferry.pipelines.run.positions` because a store of positions needs no pipeline.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vecferry.durable import create_file, is_part, sync_folder
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.positions.place import NEAR, Pace

LEFT_BEHIND_SECONDS = 3600.0
"""A part of a file that is so old belongs to no process that still writes it."""


class FolderPlace:
    """A file for each name. Nothing is made until a name is created."""

    def __init__(self, folder: str | Path, pace: Pace = NEAR) -> None:
        self._folder = Path(os.path.abspath(os.path.expanduser(folder)))
        self.where = str(folder)
        self.pace = pace

    def names(self, prefix: str = "") -> list[str]:
        """The files whose names begin with `prefix`."""
        with self._faults():
            try:
                found = os.listdir(self._folder)
            except FileNotFoundError:
                return []
        return [name for name in found if name.startswith(prefix) and not is_part(name)]

    def read(self, name: str) -> bytes | None:
        """The file's bytes."""
        with self._faults():
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """Links a whole file to its name."""
        with self._faults():
            self._make_folder()
            return create_file(self._folder / name, data, lasting=lasting)

    def remove(self, name: str) -> None:
        """Unlinks the file."""
        with self._faults():
            (self._folder / name).unlink(missing_ok=True)

    def age(self, name: str) -> float | None:
        """By the clock that stamps files: of this machine, or of the server of a shared folder."""
        probe = f"probe-{uuid.uuid4().hex}"
        with self._faults():
            try:
                made = (self._folder / name).stat().st_mtime
            except FileNotFoundError:
                return None
            try:
                create_file(self._folder / probe, b"", lasting=False)
            except PermissionError:  # who may only read has a clock of his own at least
                return time.time() - made
            try:
                return (self._folder / probe).stat().st_mtime - made
            finally:
                (self._folder / probe).unlink()

    def check(self) -> None:
        """Makes the folder, and removes parts of files whose writers were killed."""
        with self._faults():
            self._make_folder()
            for name in os.listdir(self._folder):
                if not is_part(name) and not name.startswith("probe-"):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    path = self._folder / name
                    if time.time() - path.stat().st_mtime > LEFT_BEHIND_SECONDS:
                        path.unlink()

    def close(self) -> None:
        """Nothing is open."""

    def _make_folder(self) -> None:
        missing = []
        folder = self._folder
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        self._folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns errors of the file system into ours."""
        try:
            yield
        except (PermissionError, NotADirectoryError, FileExistsError) as e:
            raise FatalError(
                f"positions {self.where}: {e.strerror} ({e.filename}); name a folder that this "
                "user may read and write"
            ) from e
        except NotImplementedError as e:
            raise JobError(f"positions {self.where}: {e}; name a folder on another disk") from e
        except OSError as e:
            raise TransientError(f"positions {self.where}: {e.strerror or e}") from e
