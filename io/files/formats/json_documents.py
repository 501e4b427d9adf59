"""Reads json files: one document each, whose objects are where `recordPath` says.

Apart from `json` because a check of a job loads that module, and none of what reads a file.

An array is streamed: memory stays at a block and one of its objects.
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Iterator
from typing import Any

import orjson

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.base import FileSplit
from vecferry.io.files.formats.json import JsonSpec
from vecferry.io.files.formats.records import (
    Items,
    no_object,
    object_to_row,
    plain_numbers,
)
from vecferry.io.files.formats.signatures import HEAD_BYTES, look_packed, require_text
from vecferry.io.files.formats.unpack import Damaged, members, what_is_there
from vecferry.nesting import TOO_DEEP, Flattened, is_cut, too_deep
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

log = logging.getLogger(__name__)

BLOCK_BYTES = 64 << 10
FEW_OBJECTS = 64


class JsonDocuments:
    """The format json; see `vecferry.io.files.formats.base.FileReader`.

    The origin of a row is ``path:number``, the place of the object among the records, from 0. A
    rejected object that stands under a key is told with it, as ``{key: object}``.
    """

    def __init__(self, spec: JsonSpec, context: StepContext) -> None:
        self.spec, self.context = spec, context
        self._numbers = spec.numbers
        self._keys = [c.label for c in spec.columns if c.source == "recordKey"]

    def check(self, path: str, raw: Any) -> None:
        """Looks at the beginning; objects need not have all keys."""
        packing = self.spec.packing(path)
        for _, fresh in self._opened(path, raw, packing):
            require_text(_Source(fresh(), "utf-8", self.spec.max_bytes).begin(), packing)
            return

    def _opened(self, path: str, raw: Any, packing: str | None) -> Any:
        if packing is None:
            return [(path, lambda: raw)]
        look_packed(raw, packing)
        return members(path, raw, packing)

    def batches(self, split: FileSplit, raw: Any) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of some objects at a time; a document that breaks off is `Damaged`."""
        packing = self.spec.packing(split.path)
        counted = 0
        for path, fresh in self._opened(split.path, raw, packing):
            for items in self._document(path, fresh(), packing):
                size = max(0, min(raw.tell(), split.size) - counted)
                counted += size
                yield items, size
        yield [], split.size - counted

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of an object that was rejected earlier, or a reject again."""
        path, _, number = origin.rpartition(":")
        if too_deep(raw):
            return self._too_deep(path, int(number))
        value, key = orjson.loads(raw), None
        if self.spec.record_path is not None and self.spec.record_path.keyed:
            ((key, value),) = value.items()
        return self._item(path, value, int(number), object_to_row(self.spec, path), key)

    def _values(self, source: _Source, first: bytes) -> Iterator[tuple[str | None, Any]]:
        """The records of a document, each with its key, or None."""
        import ijson

        where = self.spec.record_path
        prefix = ("item" if first == b"[" else "") if where is None else where.prefix
        if where is not None and where.keyed:
            yield from ijson.kvitems(source, prefix, buf_size=BLOCK_BYTES)
            return
        for value in ijson.items(source, prefix, buf_size=BLOCK_BYTES):
            yield None, value

    def _document(self, path: str, stream: Any, packing: str | None) -> Iterator[Items]:
        import ijson

        source = _Source(stream, self.spec.encoding, self.spec.max_bytes)
        require_text(source.begin(), packing)
        first = source.first()
        if not first:
            return
        to_row = object_to_row(self.spec, path)
        items: Items = []
        n = -1
        try:
            for n, (key, value) in enumerate(self._values(source, first)):
                source.taken = 0
                if source.cut and is_cut(value):
                    items.append(self._too_deep(path, n))
                else:
                    items.append(self._item(path, value, n, to_row, key))
                if len(items) == FEW_OBJECTS:
                    yield items
                    items = []
        except (ijson.JSONError, UnicodeDecodeError, Damaged) as e:
            yield items
            raise Damaged(_explain(e, self.spec.encoding)) from e
        if n < 0 and self.spec.record_path is not None:
            log.warning("%s: nothing is at recordPath; the file gives no rows", path)
        yield items

    def _too_deep(self, path: str, n: int) -> Reject:
        """The reject of an element whose text nobody holds as a whole."""
        message = f"{path}, element {n}: {TOO_DEEP}"
        return self.context.reject("too-deep", message, origin=f"{path}:{n}")

    def _item(self, path: str, value: Any, n: int, to_row: Any, key: str | None) -> Change | Reject:
        origin = f"{path}:{n}"
        try:
            if not isinstance(value, dict):
                raise no_object(value, "the element")
            try:
                value = plain_numbers(value)
            except ValueError as e:
                raise UnfitValue(str(e), "invalid-json") from e
            row = value if to_row is None else to_row(value)
            row.update(dict.fromkeys(self._numbers, n + 1))
            row.update(dict.fromkeys(self._keys, key))
            return Change(row, origin=origin)
        except UnfitValue as e:
            raw = value if key is None else {key: value}
            text = orjson.dumps(raw, default=str).decode()
            message = f"{path}, element {n}: {e}"
            return self.context.reject(e.reason, message, raw=text, origin=origin)


class _Source:
    """Gives a stream as UTF-8 without a byte order mark; too much for one object is Damaged."""

    def __init__(self, stream: Any, encoding: str, most: int) -> None:
        self._read = what_is_there(stream)
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._recode, self._most = encoding != "utf-8", most
        self._held = self._begun = b""
        self._flat = Flattened()
        self.taken = 0

    @property
    def cut(self) -> bool:
        """Whether something so far was nested too deep, and was left out."""
        return self._flat.cut

    def begin(self) -> bytes:
        """The first bytes as they stand; they are given again by `read`."""
        self._begun = self._begun or self._read(BLOCK_BYTES)
        return self._begun[:HEAD_BYTES]

    def first(self) -> bytes:
        """The first byte that is not white space; empty where there is none."""
        while data := self._more(BLOCK_BYTES):
            self._held = (self._held + data).removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
            if self._held and not codecs.BOM_UTF8.startswith(self._held):
                break
        return self._held[:1]

    def read(self, size: int = -1) -> bytes:
        """The next bytes, none at the end; ijson asks for none first, to see their type."""
        if size == 0:
            return b""
        while data := self._held or self._more(size):
            self._held = b""
            self.taken += len(data)
            if self.taken > self._most + 2 * BLOCK_BYTES:
                raise Damaged(
                    f"has an object of more than maxLineBytes ({self._most}); raise that limit"
                )
            if flat := self._flat.after(data):
                return flat
        return b""

    def _more(self, size: int) -> bytes:
        while data := self._begun or self._read(size):
            self._begun = b""
            if not self._recode:
                return bytes(data)
            if text := self._decode(data):
                return text.encode()
        return self._decode(b"", final=True).encode() if self._recode else b""


def _explain(error: Exception, encoding: str) -> str:
    if isinstance(error, Damaged):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"is not {encoding} ({error.reason}); correct the file, or set `encoding`"
    (first, *_), text = error.args, ""
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return f"is not a sound JSON document ({text.splitlines()[0]}); write it anew"
