"""Follows the files of a job: reads new and changed ones, and deletes the rows of those that go.

No store tells what happened in a folder. So each round lists the files, and compares them with the
list of those that the target holds (`vecferry.io.files.manifest`). What differs is the round, in
the order of paths, as far as `roundFiles` and `ROUND_BYTES` go. A full load is the same from an
empty list, in parts of one listing.

A round reads a file in the state that was listed, or nothing of the file. If a file has another
state by then, or is gone, the round leaves the file. The list then tells a state that was never
read, so the next listing differs from the list. A store whose older states come back must tell them
apart (`FileInfo.mark`). Only a listing says that a file is gone. Who reads never concludes that. A
listing is not believed where a pattern matches nothing any more, nor where the folder is away. What
was there in this process is then waited for, as a server is.

A version is the number of the round. In a round each file stands once. A round that was broken off
is repeated as it was written down (`Manifests.intend`). So one version of a file is one state of
the file, and two states come in the order of their rounds. Rounds follow each other under one
lease. Hence a target needs no versions to keep whole documents, as nothing overtakes anything. Only
a worker of a cluster that outlives its job could still write an older document. That holds for each
sync into a target without versions, and a note of the run says so.

Stands apart from `source` because that reads each file once, in splits of any size.
"""

from __future__ import annotations

import contextlib
import logging
import posixpath
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from vecferry.errors import FatalError, JobError, TransientError, VecferryError
from vecferry.io.files.formats.base import FileSplit
from vecferry.io.files.listing import (
    SortedLines,
    file_of,
    key_of,
    line_of,
    path_of,
    size_of,
)
from vecferry.io.files.manifest import Lost, Manifests, moment
from vecferry.io.files.source import FileSource
from vecferry.io.files.stores.base import NO_BUCKET, FileInfo, NoFile, NoRoot, regex
from vecferry.io.files.whole_files import WholeFiles
from vecferry.positions import Position
from vecferry.positions.place import Place
from vecferry.rows import INSERT, UPDATE, Change, Reject
from vecferry.steps import Lag, Plan, Size, Span
from vecferry.versions import pack

log = logging.getLogger(__name__)

At = dict[str, Any]
"""`Position.at`: the `load`, the `round`, the `list` of files with how many `files` it has.

`listed` is when that list was made, in milliseconds. In a full load, `part` is the part that comes
next, of `parts`, and `after` is the last path of the part before.
"""

ROUND_BYTES = 1 << 30
SPLIT_FILES, SPLIT_BYTES = 256, 32 << 20
TIDY_SECONDS = 60.0
TOLD = 3
"""So many files of a split are named that were left."""
LOOKED_INTO = 3
"""So many files are opened to tell whether the job fits them."""
KNOWN_LISTS = 4
TRIES = 3
"""So often a file is looked at that changes while it is read once."""


@dataclass(frozen=True, slots=True)
class FolderSplit:
    """Files to read, or to delete.

    Attributes:
      files: the lines of files, as `line_of` makes them.
      gone: the paths of files that are gone.
      kind: of the rows.
      version: of all changes.
      once: whether a file may be read in another state than the one listed.
      root: what told the folder when the round was planned; see `FileStore.root_mark`.
    """

    files: tuple[bytes, ...]
    gone: tuple[str, ...] = ()
    kind: str = INSERT
    version: int | None = None
    once: bool = False
    root: str = ""


class FollowedFiles(FileSource):
    """A `ChangeSource`, `RangeSource`, `Holds` and `Keeps` of `vecferry.steps`; see there.

    With scanMode `full` it reads all files once, as a `FileSource` does.
    """

    _manifests: Manifests | None = None
    _place: Callable[[], Place] | None = None
    _seen: tuple[str, float, float] | None = None
    _unmatched: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """By list, the patterns that matched nothing; of the last few lists."""
    _there: frozenset[str] = frozenset()
    """The patterns that matched a file in this process."""
    _mark: str | None = None
    """What told the folder when it was listed last."""
    _ends: tuple[str, ...] = ()
    _tidied: float | None = None
    _behind: tuple[tuple[str, int], ...] = ()

    # What the launcher asks

    def check(self) -> None:
        """Raises JobError where there is nothing to read, or none of the first files can be.

        One file at fault does not keep the others from being read.
        """
        if not self.settings.follows:
            super().check()
            return
        found = list(islice(self._walk(), LOOKED_INTO))
        self._there |= {pattern for pattern, _ in found}
        some = [file for _, file in found]
        if not some and not (self.settings.success_on_no_file or self._may_go):
            patterns = ", ".join(map(repr, self._patterns()))
            raise NoFile(f"step {self.context.step!r}: {self._nothing(patterns)}")
        faults = []
        for file in some:
            self._listed = [file]
            try:
                super().check()
            except JobError as e:
                faults.append(e)
            finally:
                self._listed = None
        if faults and len(faults) == len(some):
            raise faults[0]

    def keep_in(self, place: Callable[[], Place]) -> None:
        """See `vecferry.steps.Keeps`: lists of files are kept there."""
        self._place = place

    def identity(self) -> str:
        """The folder of the data source."""
        return self._store.name

    def keys(self) -> tuple[str, ...]:
        """What makes the writer's id: the path, or what tells rows of a file apart."""
        return self.context.read.id_columns or (self._path_column,)

    def span(self, position: Position | None, until: At | None = None) -> Span:
        """The next part of a full load, or what differs between the files and the list of them.

        Raises JobError where a pattern matches nothing any more that did, unless the job allows it.
        If the pattern matched something in this process, that is a TransientError.
        """
        if position is None:
            return self._fresh("the files were not read before")
        at: At = position.at
        try:
            if "part" in at:
                return self._part(at)
            self._lists.root(at["list"])
            return self._changes(at, until)
        except Lost as e:
            why = f"the list of the files that were read is gone ({e})"
            return replace(self._fresh(why), gap=True)

    def end(self) -> At:
        """The files as they are now."""
        name, listed = self._listed_now()
        self._ends = (*self._ends[-1:], name)
        return self._at(name, listed, uuid.uuid4().hex[:8], 1)

    def parse_until(self, text: str) -> At:
        """``now`` is all that files can tell."""
        if text.strip().lower() == "now":
            return self.end()
        raise JobError(
            f"{text!r} is not a place of a folder, which does not tell what was there at another "
            "time; write now"
        )

    def lag(self, position: Position) -> Lag:
        """How many files differed when they were listed last, less those of the rounds since."""
        at: At = position.at
        amount = None if "part" in at else dict(self._behind).get(at["list"])
        return Lag() if amount is None else Lag(amount=amount, unit="files")

    def plan(self, span: Span | None = None) -> Plan:
        """Splits of many short files, or of one long one."""
        if not self.settings.follows:
            return super().plan()
        if span is None:
            root = self._root_mark() if self._mark is None else self._mark
            self._require_root(root)
            now: list[bytes] = []
            matched: set[str] = set()
            for pattern, file in self._walk():
                matched.add(pattern)
                now.append(line_of(file))
            self._require_root(root)
            if self._place is not None:  # a sync, whose target may have rows of these files
                self._require_not_emptied(self._not_in(matched))
            return _plan(((line, None) for line in now), INSERT, None, once=True, root=root)
        self._seen = None
        at: At = span.until
        version = pack(span.epoch, at["round"])
        root = self._root_mark() if self._mark is None else self._mark
        if span.kind == "full":
            lines = self._of_part(span) if span.keys is None else self._of_range(at, span.keys)
            return _plan(((line, None) for line in lines), INSERT, version, root=root)
        found = self._lists.differences(span.since["list"], at["list"])
        return _plan(((line, key) for key, line in found), UPDATE, version, root=root)

    def span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        """The files whose paths lie within, as they were read last; see `RangeSource`."""
        at, phase = position.at, position.phase
        return Span(kind="full", since=at, until=at, phase=phase, keys=(first, last))

    def hold(self, name: str, at: At) -> str | None:
        """Removes lists that nobody needs any more, now and then; see `vecferry.steps.Holds`."""
        now = time.monotonic()
        if self._tidied is None or now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            self._lists.tidy(at["load"], at["round"], {at["list"], *self._ends})
        return None

    def release(self, name: str) -> str | None:
        """Removes all lists."""
        self._lists.forget()
        return None

    # What workers read

    def read(self, split: FileSplit | FolderSplit) -> Iterator[Change | Reject]:
        """The rows of a split; a file is read whole, and gives its rows once it surely is so."""
        if isinstance(split, FileSplit):
            yield from super().read(split)
            return
        files = self._whole_files
        left: list[FileInfo] = []
        for line in split.files:
            file = file_of(line)
            items = files.read(file, split.kind, split.version)
            if items is None and split.once:
                items = self._as_it_is(file, split)
            if items is None:
                left.append(file)
                continue
            yield from items
        for path in split.gone:
            self.counts.add("rows-read")
            yield files.gone(path, split.version)
        if left:
            self._require_root(split.root)
            self._require_left(left)
            names = ", ".join(f.path for f in left[:TOLD]) + (", …" if len(left) > TOLD else "")
            log.warning(
                "step %r: %d files changed or went since they were listed, and are left for the "
                "next round: %s",
                self.context.step,
                len(left),
                names,
            )

    def fetch(
        self, keys: Iterable[tuple[Any, ...]], position: Position | None
    ) -> Iterator[Change | Reject]:
        """The rows of some keys as they are now; those of a file that is gone are left out."""
        names = self.keys()
        wanted = {tuple(key) for key in keys}
        for path in dict.fromkeys(self._path_of(dict(zip(names, k, strict=True))) for k in wanted):
            try:
                file = self._store.info(path)
            except FileNotFoundError:
                continue
            for item in self._as_it_is(file, FolderSplit((), version=None)) or ():
                if isinstance(item, Reject) or tuple(item.get(n) for n in names) in wanted:
                    yield item

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """A row of a file that is followed can't be read alone: the file is mended, and read."""
        if not self.settings.follows:
            return super().reread(raw, origin)
        return self.context.reject(
            "part-of-file",
            "a row of a file that is followed is written with all rows of the file: mend the file, "
            "and the next round reads it",
            raw=raw,
            origin=origin,
        )

    def reread_all(self, raw: str | bytes, origin: str) -> Iterator[Change | Reject]:
        """As `reread`, also of documents."""
        if not self.settings.follows:
            yield from super().reread_all(raw, origin)
            return
        yield self.reread(raw, origin)

    # Spans

    def _fresh(self, why: str) -> Span:
        name, listed = self._listed_now()
        self._require_not_emptied(self._suspects(name))
        parts = self._count_parts(name)
        at = {
            **self._at(name, listed, uuid.uuid4().hex[:8], 1),
            "part": 0,
            "parts": parts,
            "after": "",
        }
        return replace(self._part(at), since=None, fresh=True, why=why)

    def _part(self, at: At) -> Span:
        self._look_again()
        part, parts = at["part"], at["parts"]
        last = part + 1 >= parts
        after = {} if last else {"part": part + 1, "parts": parts, "after": self._last_of(at)}
        whole = {k: v for k, v in at.items() if k not in ("part", "parts", "after")}
        self._behind = ((at["list"], 0),)
        return Span(
            kind="full",
            since=at,
            until={**whole, **after},
            phase="changes" if last else "full",
            part=(part, parts),
        )

    def _changes(self, at: At, until: At | None) -> Span:
        lists, number = self._lists, at["round"] + 1
        nothing = Span(kind="nothing", since=at, until=at)
        name = lists.intended(at["load"], number, at["list"])
        if name is not None:
            self._look_again()
            return self._to(at, name, at["listed"])
        if until is not None and until["listed"] <= at["listed"]:
            return nothing
        goal, listed = (
            self._listed_now() if until is None else (until["list"], int(until["listed"]))
        )
        if until is not None and self._suspects(goal):
            goal, listed = self._listed_now()  # what was away may be back
        end, count, over = b"", 0, 0
        size = 0
        for key, line in self._believed(at["list"], goal):
            whole = count < self.settings.round_files and size < ROUND_BYTES
            if over or not whole:
                over += 1
                continue
            end, count = key, count + 1
            size += 0 if line is None else size_of(line)
        self._behind = ((at["list"], count + over),)
        if not count:
            return nothing
        if over:
            goal, listed = lists.write(_joined(lists, goal, at["list"], end)), at["listed"]
        name = lists.intend(at["load"], number, at["list"], goal)
        self._behind = (*self._behind, (name, over))
        return self._to(at, name, listed if name == goal else at["listed"])

    def _to(self, at: At, name: str, listed: int) -> Span:
        until = self._at(name, listed, at["load"], at["round"] + 1)
        return Span(kind="changes", since=at, until=until)

    def _at(self, name: str, listed: int, load: str, number: int) -> At:
        files = self._lists.root(name).files
        return {"load": load, "round": number, "list": name, "files": files, "listed": listed}

    def _believed(self, old: str, new: str) -> Iterator[tuple[bytes, bytes | None]]:
        """What differs; raises where files are gone because a pattern matches nothing."""
        suspects = self._suspects(new)
        for key, line in self._lists.differences(old, new):
            if line is None and suspects:
                path = path_of(key.decode())
                pattern = next((p for p in suspects if _matches(p, path)), None)
                if pattern is not None:
                    raise self._emptied(pattern, path)
            yield key, line

    def _suspects(self, name: str) -> tuple[str, ...]:
        """The patterns that matched nothing for a list, and may not do so."""
        return () if self._may_go else self._unmatched.get(name, ())

    def _not_in(self, matched: set[str]) -> tuple[str, ...]:
        """The patterns that match nothing, and may not do so."""
        return () if self._may_go else tuple(p for p in self._patterns() if p not in matched)

    def _require_not_emptied(self, suspects: tuple[str, ...]) -> None:
        """Raises where a pattern matches nothing, though this sync has read files once."""
        if not suspects:
            return
        for known in self._lists.lists():
            with contextlib.suppress(Lost):
                for line in self._lists.lines(known):
                    path = path_of(key_of(line).decode())
                    for pattern in suspects:
                        if _matches(pattern, path):
                            raise self._emptied(pattern, path)
        if not self.settings.success_on_no_file:
            nothing = self._nothing(repr(suspects[0]))
            raise NoFile(f"step {self.context.step!r}: {nothing}")

    @property
    def _may_go(self) -> bool:
        return self.settings.may_be_emptied

    def _emptied(self, pattern: str, path: str) -> VecferryError:
        """The error for a pattern of which a file was read before."""
        text = (
            f"step {self.context.step!r}: no file matches {pattern!r} in {self._store.name!r} any "
            f"more, and {path!r} was there before; nothing is deleted; mount the folder or "
            "correct the path, or set mayBeEmptied: true if the rows of all these files are to go"
        )
        return TransientError(text) if pattern in self._there else JobError(text)

    def _away(self, what: object) -> VecferryError:
        """The error for a folder or a bucket that is not there."""
        text = f"step {self.context.step!r}: {what}"
        return TransientError(f"{text}; nothing is deleted") if self._there else JobError(text)

    def _look_again(self) -> None:
        """Lists the files once more where another folder stands in the place of the one listed.

        Raises where a pattern matches nothing there: the files of an older listing are away.
        """
        mark = self._root_mark()
        if self._mark in (None, mark):
            self._mark = mark
            return
        self._seen = None
        name, _ = self._listed_now()
        for pattern in self._suspects(name):
            if pattern in self._there:
                raise self._away(f"no file matches {pattern!r} in {self._store.name!r} any more")

    def _root_mark(self) -> str:
        try:
            return self._store.root_mark()
        except NoRoot as e:
            raise self._away(e) from e
        except OSError as e:
            raise self._unlisted(self._store.name, e) from e

    def _require_root(self, mark: str) -> None:
        """Raises TransientError where files may be gone because their folder is."""
        try:
            same = not mark or self._store.root_mark() == mark
        except (NoRoot, OSError):
            same = False
        if not same:
            raise TransientError(
                f"step {self.context.step!r}: the folder {self._store.name!r} went away while its "
                "files were read; nothing is deleted, and they are read once it is back"
            )

    def _require_left(self, files: list[FileInfo]) -> None:
        """Raises TransientError where a file that was left may come back in the state listed.

        No later listing would tell of it then, so nobody would read it.
        """
        matched: dict[str, bool] = {}
        for file in files:
            patterns = [p for p in self._patterns() if _matches(p, file.path)]
            try:
                if self._store.info(file.path).state == file.state:
                    raise TransientError(
                        f"step {self.context.step!r}: {file.path} was away while it was read; "
                        "nothing is deleted, and it is read once more"
                    )
                continue
            except FileNotFoundError:
                pass
            except OSError as e:
                raise self._unlisted(file.path, e) from e
            for pattern in patterns:
                if pattern not in matched:
                    matched[pattern] = self._matches_some(pattern)
            if patterns and not self._may_go and not any(matched[p] for p in patterns):
                raise TransientError(str(self._emptied(patterns[0], file.path)))

    def _matches_some(self, pattern: str) -> bool:
        try:
            return next(iter(self._store.walk(pattern)), None) is not None
        except JobError:
            return False
        except OSError as e:
            raise self._unlisted(pattern, e) from e

    def _nothing(self, pattern: str) -> str:
        return (
            f"no file matches {pattern} in {self._store.name!r}; correct `object`, or set "
            "successOnNoFile: true if files are yet to come"
        )

    # Lists

    @property
    def _lists(self) -> Manifests:
        if self._manifests is None:
            if self._place is None:
                raise FatalError(
                    f"step {self.context.step!r}: files are followed by a sync alone, which keeps "
                    "the list of them with its positions"
                )
            self._manifests = Manifests(self._place())
        return self._manifests

    def _listed_now(self) -> tuple[str, int]:
        """The root of a new listing, and when it began.

        A listing serves for as long again as it took, until a round begins.
        """
        began = time.monotonic()
        if self._seen is not None and began < self._seen[1]:
            return self._seen[0], int(self._seen[2])
        listed, lines = moment(), SortedLines()
        unsettled: list[FileInfo] = []
        matched: set[str] = set()
        mark = self._root_mark()
        for pattern, file in self._walk():
            matched.add(pattern)
            if self._store.unsettled(file):
                unsettled.append(file)
            else:
                lines.add(line_of(file))
        for file in self._settled(unsettled):
            lines.add(line_of(file))
        self._require_root(mark)
        self._mark = mark
        self._there |= matched
        name = self._lists.write(lines)
        unmatched = tuple(p for p in self._patterns() if p not in matched)
        self._unmatched = dict([*self._unmatched.items(), (name, unmatched)][-KNOWN_LISTS:])
        took = time.monotonic() - began
        self._seen = name, time.monotonic() + took, listed
        return name, listed

    def _settled(self, files: list[FileInfo]) -> Iterator[FileInfo]:
        """Files that were changed a moment ago, in a state that a further change shows in."""
        for _ in range(TRIES):
            if not files:
                return
            time.sleep(max(self._store.unsettled(file) for file in files) + 0.01)
            again: list[FileInfo] = []
            for file in files:
                try:
                    found = self._store.info(file.path)
                except FileNotFoundError:
                    continue
                if self._store.unsettled(found):
                    again.append(found)
                else:
                    yield found
            files = again
        yield from files  # they change all the time: who reads one looks before and after

    def _walk(self) -> Iterator[tuple[str, FileInfo]]:
        """All files with the pattern that each matches; JobError for what can't be listed."""
        step = self.context.step
        if self.settings.default_fs:
            self._store.require_here(self.settings.default_fs)
        for pattern in self._patterns():
            try:
                for file in self._store.walk(pattern):
                    yield pattern, file
            except NoRoot as e:
                if self._may_go and not self._store.keeps_empty_folders:
                    continue  # the bucket has answered
                raise self._away(e) from e
            except JobError as e:
                raise JobError([f"step {step!r}: {p}" for p in e.problems]) from e
            except FatalError as e:
                if e.reason == NO_BUCKET and self._there:
                    raise self._away(e) from e
                raise FatalError(f"step {step!r}: {e}", e.reason) from e
            except PermissionError as e:
                raise JobError(
                    f"step {step!r}: {e.filename} may not be listed by this user; change its "
                    "permissions"
                ) from e
            except OSError as e:
                raise self._unlisted(pattern, e) from e

    def _unlisted(self, what: str, error: OSError) -> TransientError:
        said = f"{error.strerror or error} ({error.filename})"
        return TransientError(f"step {self.context.step!r}: {what} can't be listed: {said}")

    def _patterns(self) -> list[str]:
        rooted = self.context.step_type == "hdfs"
        return [self._store.relative(p, rooted=rooted) for p in self.settings.paths]

    def _count_parts(self, name: str) -> int:
        parts, count, size = 1, 0, 0
        for line in self._lists.lines(name):
            if count >= self.settings.round_files or size >= ROUND_BYTES:
                parts, count, size = parts + 1, 0, 0
            count, size = count + 1, size + size_of(line)
        return parts

    def _last_of(self, at: At) -> str:
        """The path of the last file of a part."""
        last, size = b"", 0
        for count, line in enumerate(self._lists.lines(at["list"], _encoded(at["after"]))):
            if count >= self.settings.round_files or size >= ROUND_BYTES:
                break
            last, size = line, size + size_of(line)
        return path_of(key_of(last).decode()) if last else str(at["after"])

    def _of_part(self, span: Span) -> Iterator[bytes]:
        until: At = span.until
        part = (span.part or (0, 1))[0]
        after = "" if span.since is None or not part else span.since["after"]
        last = _encoded(until["after"]) if "after" in until else None
        for line in self._lists.lines(until["list"], _encoded(after)):
            if last is not None and key_of(line) > last:
                return
            yield line

    def _of_range(self, at: At, keys: tuple[str | None, str | None]) -> Iterator[bytes]:
        first, last = (None if key is None else _encoded(key) for key in keys)
        for line in self._lists.lines(at["list"]):
            key = key_of(line)
            if (first is None or first <= key) and (last is None or key <= last):
                yield line

    # Files

    @property
    def _path_column(self) -> str:
        column = self.settings.path_column
        assert column is not None  # the settings have looked
        return column

    @property
    def _whole_files(self) -> WholeFiles:
        return WholeFiles(
            self._store,
            self._spec,
            self._format,
            self.context,
            self.counts,
            path_column=self._path_column,
            one_row=self._one_row,
        )

    @property
    def _one_row(self) -> bool:
        """Whether the writer takes a file for one row: nothing but the path makes its id."""
        made = self.context.read.id_columns
        return made is not None and set(made) == {self._path_column}

    def _as_it_is(self, file: FileInfo, split: FolderSplit) -> list[Change | Reject] | None:
        """The rows of a file in the state that it has now; None if it is gone."""
        for _ in range(TRIES):
            try:
                file = self._store.info(file.path)
            except FileNotFoundError:
                return None
            items = self._whole_files.read(file, split.kind, split.version)
            if items is not None:
                return items
        raise TransientError(
            f"step {self.context.step!r}: {file.path} changes all the time while it is read"
        )

    def _path_of(self, row: dict[str, Any]) -> str:
        """The path in a key, which is made of the path, of it and a number, or of `chunk_id`."""
        found = row.get(self._path_column)
        return str(row["chunk_id"]).rpartition("#")[0] if found is None else str(found)


def _plan(
    found: Iterable[tuple[bytes | None, bytes | None]],
    kind: str,
    version: int | None,
    *,
    once: bool = False,
    root: str = "",
) -> Plan:
    """Splits of files and of what is gone, in order: pairs of a line, or None, and its key."""
    splits: list[FolderSplit] = []
    files: list[bytes] = []
    gone: list[str] = []
    size = total = 0

    def cut() -> None:
        if files or gone:
            splits.append(FolderSplit(tuple(files), tuple(gone), kind, version, once, root))
            files.clear()
            gone.clear()

    for line, key in found:
        if line is None:
            assert key is not None
            gone.append(path_of(key.decode()))
        else:
            files.append(line)
            size += size_of(line)
            total += size_of(line)
        if len(files) + len(gone) >= SPLIT_FILES or size >= SPLIT_BYTES:
            cut()
            size = 0
    cut()
    return Plan(splits=splits, size=Size(bytes=total))


def _joined(lists: Manifests, new: str, old: str, end: bytes) -> Iterator[bytes]:
    """A newer list up to what names a file, and an older one behind it."""
    for line in lists.lines(new):
        if key_of(line) > end:
            break
        yield line
    yield from lists.lines(old, end)


def _encoded(path: str) -> bytes:
    return path.replace("\n", "\0n").encode()


def _matches(pattern: str, path: str) -> bool:
    """Whether a file was one of a pattern, which may be a folder's name or a file's."""
    if "*" in pattern or "?" in pattern:
        return regex(pattern.split("/")).fullmatch(path) is not None
    folder = posixpath.dirname(path)
    return path == pattern or folder == ("" if pattern == "." else pattern)
