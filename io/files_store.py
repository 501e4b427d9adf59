"""Where files lie: opens a data source as an fsspec file system and finds the files of a pattern.

The reader uses nothing but fsspec's `AbstractFileSystem`, so another kind of store is one more
branch of `filesystem`.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from typing import Any

from vecferry.errors import JobError, near, shorten
from vecferry.io.files_connections import LocalConnection
from vecferry.settings import Settings

MOST_NEIGHBOURS = 1000
"""So many names are looked at to find one near to a pattern that matches nothing."""

_MAGIC = re.compile(r"[*?]")
_VERSION_KEYS = ("ETag", "etag", "mtime", "LastModified", "modificationTime", "updated")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file: `path` within the data source's folder, `size` in bytes, `version` as it was listed.

    `version` is the entity tag or the time of change; it differs once the file was rewritten.
    """

    path: str
    size: int
    version: str


def filesystem(connection: Settings) -> FileStore:
    """The store behind a data source; JobError for a kind that no file reader knows."""
    if isinstance(connection, LocalConnection):
        from fsspec.implementations.local import LocalFileSystem

        return LocalStore(LocalFileSystem(), os.path.abspath(connection.path))
    kind = getattr(connection, "type", type(connection).__name__)
    raise JobError(f"a data source of type {kind!r} holds no files that can be read: use 'local'")


class FileStore:
    """The files below one folder of an fsspec file system; nothing outside can be reached."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root.rstrip("/") or "/"

    def relative(self, pattern: str, *, rooted: bool = False) -> str:
        """`pattern` within the folder; JobError where it leads out.

        An absolute path may name something inside the folder. With `rooted`, as for HDFS whose
        paths are all absolute, a leading slash means the folder itself.
        """
        path = posixpath.normpath(pattern)
        if rooted:
            path = path.lstrip("/") or "."
        if path.startswith("/"):
            path = posixpath.relpath(path, self.root)
        if path == ".." or path.startswith("../"):
            raise JobError(self._outside(pattern))
        return path

    def find(self, pattern: str) -> list[FileInfo]:
        """The files of a relative pattern, sorted; JobError where there is none.

        `*` and `?` stay within one name, `**` takes any number of folders. A folder stands for the
        files right in it. Names that begin with a dot or an underscore are passed over, as Hadoop
        does, unless the pattern spells that character.
        """
        self._require_root()
        found = self._match(pattern) if _MAGIC.search(pattern) else self._named(pattern)
        if not found:
            raise JobError(self._nothing(pattern))
        return sorted(found, key=lambda f: f.path)

    def info(self, path: str) -> FileInfo:
        """The file as it is now; FileNotFoundError where it is gone."""
        return self._info(path, self.fs.info(self._locate(path)))

    def open(self, path: str) -> Any:
        """The file, opened for reading bytes."""
        return self.fs.open(self._locate(path), "rb")

    def _locate(self, path: str) -> str:
        """The full path of a relative one."""
        return posixpath.join(self.root, path)

    def _require_root(self) -> None:
        if not self.fs.isdir(self.root):
            raise JobError(
                f"the folder {self.root!r} of the data source does not exist or is no folder; "
                "create it, or correct the data source's `path`"
            )

    def _info(self, path: str, info: dict[str, Any]) -> FileInfo:
        version = next((str(info[k]) for k in _VERSION_KEYS if info.get(k)), "")
        return FileInfo(path, int(info["size"] or 0), version)

    def _named(self, path: str) -> list[FileInfo]:
        try:
            info = self.fs.info(self._locate(path))
        except FileNotFoundError:
            return []
        if info["type"] == "directory":
            return self._match(f"{path}/*" if path != "." else "*")
        return [self._info(path, info)]

    def _match(self, pattern: str) -> list[FileInfo]:
        parts = pattern.split("/")
        first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
        base = self._locate("/".join(parts[:first]) or ".")
        depth = None if "**" in parts else len(parts) - first
        matches = _pattern(parts[first:]).fullmatch
        found = []
        for full, info in self.fs.find(base, maxdepth=depth, detail=True).items():
            within = posixpath.relpath(full, base)
            if matches(within):
                path = posixpath.normpath(posixpath.join(*parts[:first], within))
                if file := self._listed(path, info):
                    found.append(file)
        return found

    def _listed(self, path: str, info: dict[str, Any]) -> FileInfo | None:
        return self._info(path, info) if info["type"] == "file" else None

    def _outside(self, pattern: str) -> str:
        return (
            f"{pattern!r} leads out of the data source's folder {self.root!r}; "
            "name a path inside, or a data source whose folder holds it"
        )

    def _nothing(self, pattern: str) -> str:
        names: list[str] = []
        for folder, _, files in self.fs.walk(self.root, maxdepth=4):
            names += [posixpath.relpath(posixpath.join(folder, f), self.root) for f in files]
            if len(names) >= MOST_NEIGHBOURS:
                break
        hint = near(pattern, names)
        if not hint and names:
            hint = f"; there are {shorten(', '.join(sorted(names)[:5]))}"
        return f"no file matches {pattern!r} in {self.root!r}{hint or '; the folder is empty'}"


class LocalStore(FileStore):
    """A folder of this machine: symbolic links are followed as long as they stay inside."""

    def __init__(self, fs: Any, root: str) -> None:
        super().__init__(fs, root)
        self._real_root = os.path.realpath(root)

    def _locate(self, path: str) -> str:
        real = os.path.realpath(os.path.join(self.root, path))
        if os.path.commonpath([self._real_root, real]) != self._real_root:
            raise JobError(self._outside(path))
        return real

    def _listed(self, path: str, info: dict[str, Any]) -> FileInfo | None:
        if not info.get("islink"):
            return super()._listed(path, info)
        try:
            return super()._listed(path, self.fs.info(self._locate(path)))
        except FileNotFoundError as e:
            raise JobError(f"{path!r} in {self.root!r} is a link to a file that is gone") from e


def _pattern(parts: list[str]) -> re.Pattern[str]:
    """A regular expression for path parts with ``*``, ``?`` and ``**``."""
    text = ""
    for last, part in ((i == len(parts) - 1, p) for i, p in enumerate(parts)):
        if part == "**":
            text += r"(?:(?:[^/._][^/]*/)*[^/._][^/]*)" if last else r"(?:[^/._][^/]*/)*"
            continue
        visible = r"(?![._])" if part[0] in "*?" else ""
        body = re.sub(r"[*]+|[?]|[^*?]+", _regex_piece, part)
        text += visible + body + ("" if last else "/")
    return re.compile(text, re.DOTALL)


def _regex_piece(match: re.Match[str]) -> str:
    piece = match.group()
    return "[^/]*" if piece[0] == "*" else "[^/]" if piece == "?" else re.escape(piece)
