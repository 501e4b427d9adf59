"""A folder of this machine as a store of files, by fsspec."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vecferry.durable import create_file
from vecferry.errors import JobError
from vecferry.io.files.stores.base import FileInfo, FileStore, Listed, NoRoot

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*/*")
_LINK = "link"
TICK_SECONDS = 0.03
"""A file system tells two changes apart that are so far from each other."""
WHOLE_SECONDS = 2.0
"""The same for one that knows whole seconds only."""


class LocalStore(FileStore):
    """A folder of this machine: symbolic links are followed as long as they stay inside.

    A version is the time of change. A mark is the time when anything of the file changed last, and
    the file's number on its disk. Nobody can set that time back.
    """

    def __init__(self, folder: str) -> None:
        from fsspec.implementations.local import LocalFileSystem

        root = os.path.abspath(folder)
        super().__init__(root, root)
        self.fs, self._real_root = LocalFileSystem(), os.path.realpath(root)

    def relative(self, pattern: str, *, rooted: bool = False) -> str:
        """As elsewhere; the folder stands in for the store that a URL names."""
        if url := _URL.match(pattern):
            pattern, rooted = pattern[url.end() :], True
        elif pattern.startswith("~"):
            pattern = os.path.expanduser(pattern)
        return super().relative(pattern, rooted=rooted)

    def info(self, path: str) -> FileInfo:
        """The file as it is now; FileNotFoundError where it is gone."""
        return self._info(path, os.stat(self._locate(path)))

    def walk(self, pattern: str) -> Iterator[FileInfo]:
        """As elsewhere; JobError for a link to a file that is gone, and a name not in UTF-8."""
        for file in super().walk(pattern):
            if file.version != _LINK:
                yield self._spelt(file)
            elif target := self._target(file.path):
                yield self._spelt(target)

    def unsettled(self, file: FileInfo) -> float:
        """Until its last change is older than a tick of its file system."""
        changed = int(file.mark.partition(".")[0])
        tick = TICK_SECONDS if changed % 1_000_000_000 else WHOLE_SECONDS
        return min(tick, max(0.0, tick - (time.time() - changed / 1e9)))

    def root_mark(self) -> str:
        """The number of the folder on its disk; a disk that is not mounted has another folder."""
        try:
            return str(os.stat(self.root).st_ino)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NoRoot(self._no_root()) from e

    def open(self, path: str, file: FileInfo | None = None) -> Any:
        """The file, opened for reading bytes; FileNotFoundError where it is a pipe or a device."""
        real = self._locate(path)
        mode = os.stat(real).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe waits for its writer
            raise FileNotFoundError(errno.ENOENT, "a pipe or a device is not a file", path)
        return self.fs.open(real, "rb")

    def create(self, path: str, data: bytes) -> bool:
        """Links a whole file to its path, so that the file survives the loss of power."""
        real = Path(self._locate(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        return create_file(real, data)

    def remove(self, path: str) -> None:
        """Unlinks the file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._locate(path))

    def age(self, path: str) -> float:
        """By the clock of this machine."""
        return time.time() - os.stat(self._locate(path)).st_mtime

    def _locate(self, path: str) -> str:
        """The full path of a relative one."""
        real = os.path.realpath(os.path.join(self.root, path))
        if os.path.commonpath([self._real_root, real]) != self._real_root:
            raise JobError(self._outside(path))
        return real

    def _require_root(self) -> None:
        if not self.fs.isdir(self.root):
            raise NoRoot(self._no_root())

    def _info(self, path: str, found: os.stat_result) -> FileInfo:
        mark = f"{found.st_ctime_ns}.{found.st_ino}"
        return FileInfo(path, found.st_size, str(found.st_mtime), found.st_mtime, mark)

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(self._locate(path))

    def _named(self, path: str) -> list[FileInfo]:
        try:
            info = self.fs.info(self._locate(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        if info["type"] == "directory":
            return self._match(f"{path}/*" if path != "." else "*")
        if info["type"] != "file":
            raise JobError(f"{path!r} in {self.root!r} is a pipe or a device: name a file")
        return [self._spelt(self.info(path))]

    def _match(self, pattern: str) -> list[FileInfo]:
        found = []
        for file in super()._match(pattern):
            if file.version != _LINK:
                found.append(self._spelt(file))
            elif target := self._target(file.path):
                found.append(self._spelt(target))
        return found

    def _spelt(self, file: FileInfo) -> FileInfo:
        """The file, where its path is a text that an origin can be made of."""
        if not file.path.isprintable() and any("\ud800" <= c <= "\udfff" for c in file.path):
            raise JobError(
                f"{file.path!r} in {self.root!r} has a name that is not UTF-8: rename the file"
            )
        return file

    def _target(self, path: str) -> FileInfo | None:
        """The file that a link leads to; None for anything else."""
        try:
            info = self.fs.info(self._locate(path))
        except FileNotFoundError as e:
            raise JobError(
                f"{path!r} in {self.root!r} is a link to a file that is gone; remove the link, or "
                "bring the file back"
            ) from e
        return self.info(path) if info["type"] == "file" else None

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        try:
            with os.scandir(self._locate(folder)) as entries:
                known = [e for e in entries if e.name.startswith(head)]
        except (FileNotFoundError, NotADirectoryError):
            return
        base = f"{folder}/" if folder else ""
        for entry in known:
            path = base + entry.name
            if entry.is_symlink():
                yield entry.name, FileInfo(path, 0, _LINK)
            elif entry.is_file():
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # it is gone since
                    continue
                yield entry.name, self._info(path, found)
            elif entry.is_dir() and not deep:
                yield entry.name, None
            elif entry.is_dir() and entry.name[0] not in "._":
                for below, file in self._list(path, "", True):
                    yield f"{entry.name}/{below}", file

    def _some_paths(self) -> Iterable[str]:
        for folder, _, files in self.fs.walk(self.root, maxdepth=4):
            for name in files:
                yield posixpath.relpath(posixpath.join(folder, name), self.root)
