"""Reads documents as rows: a child process parses them, and rejects are made of what it refuses.

Apart from `document` because a check of a job loads that module, and none of what reads a file.

The origin of a row is ``path``, or ``path:page`` with a row a page. A document that is not read
costs itself alone: the files around it are read.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Iterator
from typing import IO, Any, cast

import orjson

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.apart import Child, Children, Limits, Lost, children_of
from vecferry.io.files.formats.base import FileSplit
from vecferry.io.files.formats.document import DocumentSpec, Kept
from vecferry.io.files.formats.document_servant import PAGES, PARSER, REFUSED
from vecferry.io.files.formats.records import Items, object_to_row
from vecferry.io.files.formats.signatures import look_packed
from vecferry.io.files.formats.unpack import UNPACK_ERRORS, Damaged, explain, members
from vecferry.rows import Change, Reject, Row
from vecferry.steps import StepContext

_BLOCK = 1 << 20
_SILENCE = 10
"""A child may be silent so many times longer than it may work: the machine may be busy."""


_MOST_KEPT = 0.75
"""A child that takes more of its memory between two documents does not read the next one."""


class DocumentFiles:
    """The format document; see `vecferry.io.files.formats.base.FileReader`."""

    def __init__(self, spec: DocumentSpec, context: StepContext) -> None:
        self.spec, self.context = spec, context
        seconds = spec.limits.seconds
        self._limits = Limits(
            memory=spec.limits.memory_bytes, seconds=seconds, silence=_SILENCE * seconds
        )

    def check(self, path: str, raw: object) -> None:
        """A document that can't be read is a reject, so none is looked at."""

    def batches(self, split: FileSplit, raw: object) -> Iterator[tuple[Items, int]]:
        """The rows of the documents in a file; the bytes come with the last."""
        packing = self.spec.packing(split.path)
        if packing is None:
            yield from self._document(split, split.path, cast("IO[bytes]", raw), split.size)
        else:
            for path, file, size in self._unpacked(split, raw, packing):
                if isinstance(file, Reject):
                    yield [file], 0
                else:
                    yield from self._document(split, path, file, size)
        yield [], split.size

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The source reads the whole file again."""
        raise NotImplementedError

    def _unpacked(
        self, split: FileSplit, raw: Any, packing: str
    ) -> Iterator[tuple[str, IO[bytes] | Reject, int]]:
        """The members of a packed file, each in a temporary file of bounded size."""
        most, path = self.spec.limits.max_bytes, split.path
        try:
            look_packed(raw, packing)
            for path, fresh in members(split.path, raw, packing):
                with tempfile.TemporaryFile() as file, contextlib.closing(fresh()) as stream:
                    while file.tell() <= most and (data := stream.read(_BLOCK)):
                        file.write(data)
                    yield path, file, file.tell()
        except Damaged as e:
            yield path, self._reject(split, path, "damaged-document", str(e)), 0
        except (OSError, *UNPACK_ERRORS) as e:
            if not (words := explain(packing, e)):
                raise
            yield path, self._reject(split, path, "damaged-document", words), 0

    def _document(
        self, split: FileSplit, path: str, raw: IO[bytes], size: int
    ) -> Iterator[tuple[Items, int]]:
        most = self.spec.limits.max_bytes
        if not size:
            yield [self._reject(split, path, "empty-document", "has no byte; remove it")], 0
            return
        if size > most:
            words = f"has {size:,} bytes, and maxBytes is {most:,}; raise documentLimits.maxBytes"
            yield [self._reject(split, path, "too-large", words)], 0
            return
        children = children_of(self.context.scope, PARSER, self._limits)
        try:
            child = children.take()
        except Lost as e:
            yield [self._lost(split, path, e)], 0
            return
        try:
            kind, answer = child.ask(raw, "document", path, size, self._options())
            told = orjson.loads(answer)
            if kind == REFUSED:
                yield [self._reject(split, path, told["reason"], told["message"])], 0
                return
            to_row, page = object_to_row(self.spec, path), 0
            fixed = {"title": told["title"], "type": told["type"], "size": size}
            while (answered := child.ask(raw, "pages"))[0] == PAGES:
                items: Items = []
                for text in orjson.loads(answered[1]):
                    page += 1
                    items.append(self._item(split, path, page, text, fixed, to_row))
                yield items, 0
        except Lost as e:
            yield [self._lost(split, path, e)], 0
        finally:
            self._let_go(children, child, raw)

    def _let_go(self, children: Children, child: Child, raw: IO[bytes]) -> None:
        """Gives the child back; one that a document left too little memory is ended."""
        if not child.asked:
            with contextlib.suppress(Lost):
                _, taken = child.ask(raw, "close")
                if int(taken) > self._limits.memory * _MOST_KEPT:
                    child.end()
                    return
        children.give(child)

    def _options(self) -> dict[str, Any]:
        limits = self.spec.limits
        return {
            "per_page": self.spec.per_page,
            "max_text": self.spec.max_bytes,
            "max_pages": limits.max_pages,
            "max_unpacked_bytes": limits.max_unpacked_bytes,
            "encoding": self.spec.encoding,
            "parsers": self.spec.parsers,
        }

    def _item(
        self, split: FileSplit, path: str, page: int, text: Any, fixed: Row, to_row: Any
    ) -> Change | Reject:
        number = page if self.spec.per_page else None
        if isinstance(text, int):
            words = (
                f"has a text of {text:,} bytes, and maxLineBytes is {self.spec.max_bytes:,}; "
                "raise maxLineBytes, or set perPage"
            )
            return self._reject(split, path, "text-too-long", words, number)
        row = {
            "path": path, "text": text, "title": fixed["title"], "type": fixed["type"],
            "page": number, "modified": _iso(split.modified), "size": fixed["size"],
        }  # fmt: skip
        try:
            return Change(row if to_row is None else to_row(row), origin=self._origin(path, number))
        except UnfitValue as e:
            return self._reject(split, path, e.reason, str(e), number)

    def _origin(self, path: str, page: int | None) -> str:
        return path if page is None else f"{path}:{page}"

    def _reject(
        self, split: FileSplit, path: str, reason: str, words: str, page: int | None = None
    ) -> Reject:
        where = path if page is None else f"{path}, page {page}"
        return self.context.reject(
            reason,
            f"{where} {words}" if reason != "wrong-type" else f"{where}: {words}",
            raw=Kept(split.path, path, page).raw,
            origin=self._origin(path, page),
        )

    def _lost(self, split: FileSplit, path: str, lost: Lost) -> Reject:
        reason, words = _words(lost)
        return self._reject(split, path, reason, words)


def _words(lost: Lost) -> tuple[str, str]:
    if lost.how == "slow":
        return (
            "too-slow",
            f"took over {lost.detail} s to parse; raise documentLimits.seconds, or write the "
            "document anew",
        )
    if lost.how == "memory":
        return (
            "too-much-memory",
            f"needs more than {int(lost.detail) >> 20:,} MiB to parse; raise "
            "documentLimits.memoryBytes, or cut the document",
        )
    if lost.how == "killed":
        return (
            "too-much-memory",
            "was not parsed: its process was killed, perhaps for lack of memory; give the job "
            "more memory",
        )
    if lost.how == "crashed":
        return (
            "parser-crashed",
            f"crashed its parser ({lost.detail}), or took all memory that it may; write the "
            "document anew",
        )
    return (
        "parser-crashed",
        f"ended its parser (exit status {lost.detail}); write the document anew",
    )


def _iso(modified: float | None) -> str | None:
    if modified is None:
        return None
    at = datetime.datetime.fromtimestamp(modified, datetime.UTC).replace(microsecond=0)
    return at.isoformat().replace("+00:00", "Z")
