"""Where files lie: the store behind a data source, and the files of a pattern in it.

A reader knows nothing but `FileStore`; how a kind of store is reached is in a module of its own.
A store knows no data source: each data source hands over what its store needs.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from vecferry.errors import JobError, VecferryError, near, shorten

if TYPE_CHECKING:
    from vecferry.steps import StepContext

MOST_NEIGHBOURS = 1000
"""So many names are looked at to find one near to a pattern that matches nothing."""

RETRY_SECONDS = 600.0
"""So long a store that has answered before is waited for."""

_MAGIC = re.compile(r"[*?]")


NO_BUCKET = "no-bucket"
"""The reason of a FatalError that says: the bucket of the data source does not exist."""


class NoFile(JobError):
    """No file matches a pattern; a job may accept that."""


class NoRoot(JobError):
    """The folder of the data source is not there."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file: `path` within the data source's folder, `size` in bytes, `version` as it was listed.

    `version` is the entity tag or the time of change; it differs once the file was rewritten.
    `modified` is the time of change in seconds since 1970, where the store tells it.
    `mark` is what else the store knows of the file's state. An older version may come back, its
    mark does not.
    """

    path: str
    size: int
    version: str
    modified: float | None = field(default=None, compare=False)
    mark: str = field(default="", compare=False)

    @property
    def state(self) -> tuple[int, str, str]:
        """What tells one state of the file from each other one."""
        return self.size, self.version, self.mark


Listed = tuple[str, FileInfo | None]
"""A name in a folder, with None for a folder."""


class FileStore:
    """The files below one folder of a store; nothing outside can be reached.

    `name` is how the folder is called in messages, `root` its path from the top of the store.
    `reads_one_version` says that a file opened as it was listed gives that version, or an error.
    `keeps_empty_folders` says that a folder is there though no file is in it.
    """

    reads_one_version = False
    keeps_empty_folders = True

    def __init__(self, name: str, root: str) -> None:
        self.name, self.root = name, root.rstrip("/") or "/"

    def relative(self, pattern: str, *, rooted: bool = False) -> str:
        """`pattern` within the folder; JobError where it leads out.

        An absolute path may name something inside the folder. With `rooted`, as for HDFS whose
        paths are all absolute, a leading slash means the folder itself.
        """
        if "\0" in pattern:
            raise JobError(f"{pattern!r} holds a zero byte, which no path does: correct it")
        path = posixpath.normpath(pattern)
        if rooted:
            path = path.lstrip("/") or "."
        if path.startswith("/"):
            path = posixpath.relpath("/" + path.lstrip("/"), self.root)
        if path == ".." or path.startswith("../"):
            raise JobError(self._outside(pattern))
        return path

    def find(self, pattern: str) -> list[FileInfo]:
        """The files of a relative pattern, sorted; NoFile where there is none.

        `*` and `?` stay within one name, `**` takes any number of folders. A folder stands for the
        files right in it. Names that begin with a dot or an underscore are passed over, as Hadoop
        does, unless the pattern spells that character.
        """
        self._require_root()
        found = self._match(pattern) if _MAGIC.search(pattern) else self._named(pattern)
        if not found:
            raise NoFile(self._nothing(pattern))
        return sorted(found, key=lambda f: f.path)

    def walk(self, pattern: str) -> Iterator[FileInfo]:
        """The files of a relative pattern as `find` has them, one by one as the store lists them.

        Memory does not grow with them. A pattern that matches nothing has none.
        """
        self._require_root()
        if _MAGIC.search(pattern):
            yield from self._below("", pattern.split("/"))
        elif self._is_folder(pattern):
            yield from self._below("" if pattern == "." else pattern, ["*"])
        else:
            yield from self._named(pattern)

    def heed(self, context: StepContext) -> None:
        """Lets the run of a step end the waits for a service that is away; a folder never is."""
        return

    def unsettled(self, file: FileInfo) -> float:
        """In how many seconds a further change of the file surely gives it another state."""
        return 0.0

    def root_mark(self) -> str:
        """What tells the folder from another one in its place, such as that of a disk that is away.

        Empty where the store has nothing of the kind. Raises NoRoot where the folder is not there.
        """
        return ""

    def info(self, path: str) -> FileInfo:
        """The file as it is now; FileNotFoundError where it is gone."""
        raise NotImplementedError

    def open(self, path: str, file: FileInfo | None = None) -> Any:
        """The file, opened for reading bytes; it can be sought in.

        `file` is what was listed of it, which spares asking again.
        """
        raise NotImplementedError

    def names(self, folder: str = "", head: str = "") -> list[str]:
        """The names of the files right in a folder that begin with `head`, hidden ones as well.

        A folder that does not exist has none.
        """
        return [name for name, file in self._list(folder, head, False) if file is not None]

    def entries(self, folder: str = "") -> Iterator[Listed]:
        """What is right in a folder, in any order; JobError where the data source's is not there.

        A folder that does not exist has nothing in it.
        """
        self._require_root()
        yield from self._list(folder, "", False)

    def create(self, path: str, data: bytes) -> bool:
        """Makes a file of `data`, and its folders; False where the path exists.

        What exists is left as it is, whoever else creates it at the same moment. A process that is
        killed in here leaves the whole file or none under that path.
        """
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Removes a file; one that does not exist is removed already."""
        raise NotImplementedError

    def age(self, path: str) -> float:
        """Seconds since a file was changed, by the store's own clock; FileNotFoundError."""
        raise NotImplementedError

    def require_here(self, url: str) -> None:
        """Raises JobError where a URL names another store than this."""

    def _require_root(self) -> None:
        """Raises NoRoot where the folder itself is not there."""
        raise NotImplementedError

    def _is_folder(self, path: str) -> bool:
        """Whether a path names a folder."""
        raise NotImplementedError

    def _named(self, path: str) -> list[FileInfo]:
        """The file of that path, or the files right in that folder."""
        raise NotImplementedError

    def _match(self, pattern: str) -> list[FileInfo]:
        """The files of a pattern."""
        return list(self._below("", pattern.split("/")))

    def _below(self, folder: str, parts: list[str]) -> Iterator[FileInfo]:
        """The files of a pattern in a folder: only folders that match are listed."""
        part, rest = parts[0], parts[1:]
        magic = _MAGIC.search(part)
        if not magic and rest:
            yield from self._below(posixpath.join(folder, part), rest)
            return
        deep = part == "**"
        head = "" if deep else part[: magic.start()] if magic else part
        matches = regex(parts if deep else [part]).fullmatch
        for name, file in self._list(folder, head, deep):
            if not name or not matches(name):
                continue
            if file is None:
                if rest and not deep:
                    yield from self._below(posixpath.join(folder, name), rest)
            elif deep or not rest:
                yield file

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        """What is in a folder with a name that begins with `head`; `deep`: all files below it."""
        raise NotImplementedError

    def _some_paths(self) -> Iterable[str]:
        """Paths of some files, to tell what is there."""
        raise NotImplementedError

    def _outside(self, pattern: str) -> str:
        return (
            f"{pattern!r} leads out of the data source's folder {self.name!r}; "
            "name a path inside, or a data source whose folder holds it"
        )

    def _no_root(self) -> str:
        return (
            f"the data source's `path` {self.name!r} does not exist or is not a folder; "
            "create the folder, or correct the path"
        )

    def _nothing(self, pattern: str) -> str:
        folder = posixpath.dirname(pattern)
        beside: list[str] = []
        names: list[str] = []
        hint = "; what there is may not be listed"
        with contextlib.suppress(VecferryError, OSError):  # no such folder, or it may not be listed
            here = islice(self._list(folder, "", False), MOST_NEIGHBOURS)
            beside = [posixpath.join(folder, name) for name, _ in here if name]
        with contextlib.suppress(VecferryError, OSError):  # of a folder that is not the job's
            names = list(islice(self._some_paths(), MOST_NEIGHBOURS))
            # A store may hold a million names that look alike elsewhere.
            hint = near(pattern, beside) or near(pattern, names)
        if not hint and names:
            hint = f"; there are {shorten(', '.join(sorted(names)[:5]))}"
        return f"no file matches {pattern!r} in {self.name!r}{hint or '; the folder is empty'}"


def is_pattern(path: str) -> bool:
    """Whether a path has a wildcard."""
    return _MAGIC.search(path) is not None


def regex(parts: list[str]) -> re.Pattern[str]:
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
