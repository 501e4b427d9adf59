"""What a file is by its first bytes, so that a file of another kind is refused by its name.

Without this, a packed file or a document is read as lines, and each line becomes a reject.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vecferry.io.files.formats.unpack import Damaged

HEAD_BYTES = 32 << 10
"""So much of a file is looked at."""

_UNPACK = "unpack the file, or pack it with gzip, bzip2, zip or zstd"
_CONVERT = "convert the file to utf-8, for example with iconv"
_EXPORT = "export the file as csv or parquet"


@dataclass(frozen=True, slots=True)
class Signature:
    """A kind of file: its name in errors, what to do, and how its first bytes look.

    `packing` is what a job calls the kind as a compression, `file_format` as a format.
    """

    name: str
    advice: str
    matches: Callable[[bytes], Any]
    packing: str = ""
    file_format: str = ""


def _begins(*marks: bytes) -> Callable[[bytes], Any]:
    return lambda head: head.startswith(marks)


def _binary(mark: bytes) -> Callable[[bytes], Any]:
    """The mark is made of letters, so a control character must stand near."""
    return lambda head: head.startswith(mark) and _CONTROL.search(head, len(mark), 300)


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def _pairs(first: int, head: bytes) -> bool:
    """Whether most of each second byte are zero, the one at `first` to begin with, and no other."""
    zeros, others = head[first:512:2], head[1 - first : 512 : 2]
    return len(zeros) >= 4 and 2 * zeros.count(0) > len(zeros) and not others.count(0)


def _packed(packing: str, *marks: bytes) -> Signature:
    advice = f"set compress to {packing}"
    return Signature(f"a {packing} file", advice, _begins(*marks), packing=packing)


def _columnar(name: str, mark: bytes) -> Signature:
    article = "an" if name[0] in "aeiou" else "a"
    advice = f"set fileFormat to {name}"
    return Signature(f"{article} {name} file", advice, _binary(mark), file_format=name)


def _document(name: str, matches: Callable[[bytes], Any], advice: str = "") -> Signature:
    return Signature(name, f"set fileFormat to document{advice}", matches, file_format="document")


_SHEET = ", or export the file as csv to have a row of each line"

SIGNATURES = (
    _document("an Excel workbook (xlsx)", lambda head: _is_office(head, b"xl"), _SHEET),
    _document("an Office document (docx or pptx)", lambda head: _is_office(head)),
    _document("an EPUB book", lambda head: head[30:58] == b"mimetypeapplication/epub+zip"),
    _packed("gzip", b"\x1f\x8b"),
    _packed("bzip2", *(b"BZh%d1AY&SY" % n for n in range(1, 10))),
    _packed("zip", b"PK\x03\x04", b"PK\x05\x06"),
    _packed("zstd", b"\x28\xb5\x2f\xfd"),
    Signature("an xz file", _UNPACK, _begins(b"\xfd7zXZ\0")),
    Signature("an lz4 file", _UNPACK, _begins(b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18")),
    Signature("a snappy file", _UNPACK, _begins(b"\xff\x06\0\0sNaPpY", b"\x82SNAPPY\0")),
    Signature("an lzo file", _UNPACK, _begins(b"\x89LZO\0\r\n")),
    Signature("a 7z archive", _UNPACK, _begins(b"7z\xbc\xaf\x27\x1c")),
    Signature("a rar archive", _UNPACK, _begins(b"Rar!\x1a\x07")),
    Signature("a compress file (.Z)", _UNPACK, _begins(b"\x1f\x9d")),
    Signature("a tar archive", _UNPACK, lambda head: head[257:262] == b"ustar"),
    _columnar("parquet", b"PAR1"),
    _columnar("orc", b"ORC"),
    Signature("an encrypted parquet file", _EXPORT, _binary(b"PARE")),
    Signature("an avro file", "convert the file to parquet or jsonl", _begins(b"Obj\x01")),
    Signature("an Arrow file", "convert the file to parquet", _begins(b"ARROW1\0\0")),
    Signature("a Feather file", "convert the file to parquet", _binary(b"FEA1")),
    Signature("a Hadoop sequence file", _EXPORT, _binary(b"SEQ")),
    Signature("an RCFile", "write the table as orc or parquet", _binary(b"RCF")),
    Signature("an Excel workbook (xls)", _EXPORT, _begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")),
    Signature("an SQLite database", _EXPORT, _begins(b"SQLite format 3\0")),
    _document("a PDF document", _begins(b"%PDF-")),
    Signature("utf-32 text", _CONVERT, _begins(b"\xff\xfe\0\0", b"\0\0\xfe\xff")),
    Signature(
        "utf-16 text",
        _CONVERT,
        # Each line feed and each ASCII character has a zero.
        lambda head: head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head,
    ),
    Signature("utf-16 text", _CONVERT, lambda head: _pairs(0, head) or _pairs(1, head)),
)
"""The kinds of files that are known by their first bytes; the first that matches counts."""


def _is_office(head: bytes, folder: bytes = b"") -> bool:
    """Whether a zip has the parts of Office; any program writes them in an order of its own."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    named = re.search(rb"PK\x03\x04.{26}(xl|word|ppt)/", head, re.DOTALL)
    if folder:
        return named is not None and named[1] == folder
    return named is not None or b"[Content_Types].xml" in head[:2048]


def known(head: bytes) -> Signature | None:
    """The kind of a file that begins with `head`; None for text and all that nobody knows."""
    return next((s for s in SIGNATURES if s.matches(head)), None)


def require_text(head: bytes, packing: str | None) -> None:
    """Raises Damaged where `head`, unpacked by `packing`, begins a file that is not text."""
    found = known(head)
    if found is None:
        return
    if packing:
        raise Damaged(f"holds {found.name} within its {packing}; unpack the file first")
    raise Damaged(f"is {found.name}; {found.advice}")


def require_packing(head: bytes, packing: str) -> None:
    """Raises Damaged where `head` begins a file of another kind than `packing`."""
    found = known(head)
    packed = packing == "zip" and head.startswith(b"PK")
    if found and found.packing != packing and not packed:
        raise Damaged(f"is not a sound {packing} file: it is {found.name}; {_instead(found)}")
    if found is None and head and _is_text(head):
        raise Damaged(f"is not a sound {packing} file: it is text; set compress to none")


def look_packed(raw: Any, packing: str) -> None:
    """As `require_packing`, of an open file, which is left at its beginning."""
    raw.seek(0)
    head = raw.read(HEAD_BYTES)
    raw.seek(0)
    require_packing(head, packing)


def require_format(head: bytes, file_format: str) -> None:
    """Raises Damaged where `head` begins a file of another kind than the binary `file_format`."""
    found = known(head)
    if found is not None and found.file_format != file_format:
        advice = found.advice
        if found.packing:
            advice = f"unpack the file; {file_format} files are packed within"
        raise Damaged(f"is not a sound {file_format} file: it is {found.name}; {advice}")
    if found is None and _is_text(head):
        raise Damaged(f"is not a sound {file_format} file: it is text; correct fileFormat")


def _instead(found: Signature) -> str:
    return found.advice if found.packing else f"set compress to none: {found.advice}"


def _is_text(head: bytes) -> bool:
    try:
        head[:256].decode()
    except UnicodeDecodeError as e:
        if e.start < len(head[:256]) - 3:
            return False
    return not _CONTROL.search(head, 0, 256)


def require_json_lines(head: bytes, *, objects: bool) -> None:
    """Raises Damaged where `head` begins a JSON document and not an object a line.

    With `objects` each line must be an object, otherwise any text that is JSON.
    """
    if head.lstrip()[:1] not in (b"[", b"{"):
        return
    lines = [line for line in head.split(b"\n") if line.strip()]
    first, second = lines[0].strip(), (lines[1] if len(lines) > 1 else b"")
    array = first.startswith(b"[")
    if array and objects and (first == b"[" or re.match(rb"\[\s*\{", first)):
        raise Damaged("is a JSON array and not JSON lines; set fileFormat to json")
    indented = first[-1:] in b"{[,:" and second[:1] in b" \t" and second
    if indented or (first in (b"[", b"{") and second):
        what = "a JSON array" if array else "JSON text that goes over several lines"
        advice = "set fileFormat to json" if array else "write each object on a line of its own"
        if not array:
            advice += ", or set fileFormat to json if the file is one object"
        raise Damaged(f"is {what} and not JSON lines; {advice}")
