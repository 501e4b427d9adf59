"""Reads files into rows, without Beam: lists them, cuts them into splits, reads one split."""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint

from vecferry.errors import FatalError, JobError, VecferryError
from vecferry.io.files.connections import FileConnection, StdinConnection
from vecferry.io.files.formats.base import FileSplit
from vecferry.io.files.formats.document import Kept
from vecferry.io.files.formats.unpack import UNPACK_ERRORS, Damaged, explain
from vecferry.io.files.settings import FilesSettings
from vecferry.io.files.stores.base import FileInfo, NoFile
from vecferry.io.files.stores.remote import ResumingFile
from vecferry.rows import Change, Reject
from vecferry.settings import Settings
from vecferry.steps import Counts, Plan, Size, StepContext

SPLIT_BYTES = 64 << 20
LEAST_SPLIT_BYTES = 1 << 20
"""Splits for several processes have at least so many bytes, where the file has them."""

_UNREADABLE = (OSError, Damaged, *UNPACK_ERRORS)


class FileSource:
    """The reader of the stepTypes oss, s3, hdfs, gcs and file; see `vecferry.steps.Reader`.

    The origin of a row is ``path:place``: the path within the data source's folder, and the place
    in the file as the format counts.
    """

    def __init__(
        self,
        settings: FilesSettings,
        connection: Settings | None,
        context: StepContext,
        *,
        split_bytes: int = SPLIT_BYTES,
    ) -> None:
        self.settings, self.context, self.counts = settings, context, Counts()
        self._split_bytes = split_bytes
        if settings.reads_stdin:
            connection = StdinConnection()
        if not isinstance(connection, FileConnection):
            raise JobError(
                f"a data source of type {type(connection).__name__!r} holds no files that can be "
                "read: use one of local, oss, s3, hdfs, gcs"
            )
        self._store = connection.open_files(context.retry_deadline)
        self._store.heed(context)
        self._listed: list[FileInfo] | None = None
        self._spec = settings.spec
        self._format = self._spec.reader(context, self._store.open)

    def check(self) -> None:
        """Raises JobError where there is nothing to read or the first file can't be opened."""
        for first in self._files()[:1]:
            raw = None
            try:
                with self._store.open(first.path, first) as raw:
                    if first.size:
                        self._format.check(first.path, raw)
            except (FatalError, *_UNREADABLE) as e:
                raise JobError(str(self._failed(first.path, raw, e))) from e

    def plan(self) -> Plan:
        """The parts of all files, sorted, and the bytes of all as they are stored.

        The files are those that `check` has listed, else they are listed now. Raises JobError where
        a pattern matches nothing.
        """
        files = self._files()
        size = sum(f.size for f in files)
        least = self.context.read.least_splits
        step = self._split_bytes
        if least > 1:
            step = min(step, max(LEAST_SPLIT_BYTES, size // least))
        splits = [split for file in files for split in self._cut(file, step)]
        return Plan(splits=splits, size=Size(bytes=size))

    def read(self, split: FileSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        Raises FatalError if the file is gone, has changed since it was listed, or can't be read to
        its end. The rows before that place have been given by then.
        """
        file = FileInfo(split.path, split.size, split.version)
        self._require_unchanged(file)
        count, raw = self.counts.add, None
        try:
            with self._store.open(split.path, file) as raw:
                for items, size in self._format.batches(split, raw):
                    left = iter(items)
                    try:
                        yield from left
                    finally:
                        # Also where the consumer has had enough: what it took is counted.
                        count("rows-read", len(items) - length_hint(left))
                        count("bytes-read", size)
        except _UNREADABLE as e:
            raise self._failed(split.path, raw, e) from e
        self._require_unchanged(file)

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier, or a reject again.

        Where columns go by what the file says of itself (a header line), it must still be there.
        """
        if self._spec.whole_files:
            return next(self.reread_all(raw, origin))
        try:
            return self._format.reread(raw, origin)
        except _UNREADABLE as e:
            raise FatalError(self._unreadable(origin.rpartition(":")[0], e)) from e

    def reread_all(self, raw: str | bytes, origin: str) -> Iterator[Change | Reject]:
        """The rows of a record that was rejected earlier; those of a document may be several.

        A document is read from its file as the file is now.
        """
        if not self._spec.whole_files:
            yield self.reread(raw, origin)
            return
        kept = Kept.of(raw)
        try:
            file = self._store.info(kept.file)
        except OSError as e:
            raise FatalError(self._unreadable(kept.file, e)) from e
        found = False
        for split in self._cut(file):
            for item in self.read(split):
                if kept.is_of(item):
                    found = True
                    yield item
        if not found:
            message = f"{kept.document} is not in {kept.file} any more"
            yield self.context.reject("missing-document", message, raw=raw, origin=origin)

    def _files(self) -> list[FileInfo]:
        """The files of the job, listed once."""
        if self._listed is None:
            self._listed = self._list()
        return self._listed

    def _list(self) -> list[FileInfo]:
        rooted = self.context.step_type == "hdfs"
        found: dict[str, FileInfo] = {}
        problems: list[str] = []
        if self.settings.default_fs:
            self._store.require_here(self.settings.default_fs)
        for pattern in self.settings.paths:
            try:
                files = self._store.find(self._store.relative(pattern, rooted=rooted))
                found |= {f.path: f for f in files}
            except NoFile as e:
                if not self.settings.success_on_no_file:
                    problems += e.problems
            except JobError as e:
                problems += e.problems
            except FatalError as e:
                problems.append(str(e))
            except OSError as e:
                problems.append(self._broken(pattern, e))
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])
        return sorted(found.values(), key=lambda f: f.path)

    def _cut(self, file: FileInfo, step: int | None = None) -> list[FileSplit]:
        step = step or self._split_bytes

        def part(start: int, end: int | None) -> FileSplit:
            return FileSplit(file.path, start, end, file.size, file.version, file.modified)

        whole = self._spec.whole_files or (file.size and not self._spec.splittable)
        if whole or self._spec.packing(file.path):
            return [part(0, None)]
        return [part(at, min(at + step, file.size)) for at in range(0, file.size, step)]

    def _require_unchanged(self, file: FileInfo) -> None:
        if self._store.reads_one_version:
            return
        try:
            now = self._store.info(file.path)
        except FileNotFoundError as e:
            raise FatalError(self._unreadable(file.path, e)) from e
        if now != file:
            raise FatalError(
                f"step {self.context.step!r}: {file.path} changed since it was listed "
                f"({file.size} bytes then, {now.size} now); run the job again when nobody "
                "writes to its files"
            )

    def _failed(self, path: str, raw: object, error: Exception) -> Exception:
        """What to raise: pyarrow turns all that its file raises into an error of its own."""
        error = (raw.failure if isinstance(raw, ResumingFile) else None) or error
        told = isinstance(error, VecferryError)
        return error if told else FatalError(self._unreadable(path, error))

    def _unreadable(self, path: str, error: BaseException) -> str:
        return f"step {self.context.step!r}: {self._broken(path, error)}"

    def _broken(self, path: str, error: BaseException) -> str:
        if isinstance(error, FileNotFoundError):
            what = "vanished since it was listed; run the job again when nobody moves its files"
        elif isinstance(error, PermissionError):
            if error.filename:
                path = str(error.filename)
            what = "may not be read by this user; change its permissions"
        elif isinstance(error, Damaged):
            what = str(error)
        else:
            what = explain(self._spec.packing(path), error) or f"can't be read: {error}"
        return f"{path} {what}"
