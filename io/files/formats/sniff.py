"""Guesses how a file must be read, from its first bytes: packing, format, encoding, delimiter.

Nothing else reads a file by guessing. A job says how its files are; this writes what it says first.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from typing import IO, Any

from vecferry.errors import JobError
from vecferry.io.files.formats.base import COMPRESSIONS
from vecferry.io.files.formats.signatures import HEAD_BYTES, known
from vecferry.io.files.formats.unpack import UNPACK_ERRORS, Damaged, members, what_is_there

RECORDS = 100
"""So many records are looked at."""

_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".tab": "tsv", ".parquet": "parquet", ".orc": "orc", ".md": "document",
    ".markdown": "document", ".html": "document", ".htm": "document", ".eml": "document",
}  # fmt: skip
_DELIMITERS = (",", "\t", ";", "|", "\x01")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d+)*|\.\d+)([eE][-+]?\d+)?%?")
_ENCODINGS = ["gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "cp1251"]
_NO_TEXT = re.compile(rb"[\x02-\x08\x0e-\x1a\x1c-\x1f\x7f]")
MOST_STRANGE = 0.02
"""A text may hold a few control characters, such as those that a terminal left."""
LONGEST_NAME = 64
"""A field of a header is hardly longer."""


def sniff(path: str, raw: IO[bytes]) -> dict[str, Any]:
    """The parameters of a reader for the open file at `path`, without its columns.

    Raises JobError for a file that no reader takes, with what to do.
    """
    head = _read(raw)
    if not head:
        raise JobError(
            f"{path}: is empty, so nobody can tell what its rows would be; name a file with rows"
        )
    found = known(head)
    said: dict[str, Any] = {}
    if found is not None and found.file_format:
        return {"fileFormat": found.file_format}
    bare = path
    if found is not None and found.packing:
        ending = _ending(path)
        if COMPRESSIONS.get(ending) != found.packing:
            said["compress"] = found.packing
        else:
            bare = path[: -len(ending)]
        head = _unpacked(path, raw, found.packing)
        found = known(head)
    if found is not None:
        raise JobError(f"{path}: is {found.name}, which no reader takes; {found.advice}")
    strange = len(_NO_TEXT.findall(head))
    if b"\0" in head or strange > MOST_STRANGE * len(head):
        raise JobError(
            f"{path}: holds bytes that texts do not have, and is not of a kind that is known; "
            "convert the file to CSV, JSON lines or parquet"
        )
    if not head.strip():
        raise JobError(
            f"{path}: holds blank lines alone, so nobody can tell what its rows are; "
            "name a file with rows"
        )
    encoding, text = _decoded(head)
    if encoding != "utf-8":
        said["encoding"] = encoding
    whole = len(head) < HEAD_BYTES
    return {**_format(bare, text if whole else text.rpartition("\n")[0] or text), **said}


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _read(raw: Any) -> bytes:
    head: bytes = raw.read(HEAD_BYTES)
    return head


def _unpacked(path: str, raw: Any, packing: str) -> bytes:
    try:
        for _, fresh in members(path, raw, packing):
            stream, head = fresh(), b""
            while len(head) < HEAD_BYTES and (
                more := what_is_there(stream)(HEAD_BYTES - len(head))
            ):
                head += more
            return head
    except (OSError, Damaged, *UNPACK_ERRORS) as e:
        raise JobError(f"{path}: is not a sound {packing} file ({e}); write it anew") from e
    raise JobError(f"{path}: holds no file; pack one into it")


def _decoded(head: bytes) -> tuple[str, str]:
    """The encoding of a text and the text; a character that is cut at the end does not count."""
    try:
        return "utf-8", head.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        if e.start >= len(head) - 3 and len(head) >= HEAD_BYTES:
            return "utf-8", head[: e.start].decode("utf-8-sig")
    from charset_normalizer import from_bytes

    lines = head.rpartition(b"\n")[0] or head
    best = from_bytes(lines, cp_isolation=_ENCODINGS).best()
    if best is not None and best.encoding in _ENCODINGS:
        return best.encoding, str(best)
    return "latin-1", lines.decode("latin-1")


def _format(path: str, text: str) -> dict[str, Any]:
    ending = _ENDINGS.get(_ending(path), "")
    if ending == "document":
        return {"fileFormat": ending}
    if text.lstrip()[:1] in ("{", "[") and ending not in ("csv", "tsv"):
        first = next(line for line in text.splitlines() if line.strip())
        return {"fileFormat": "jsonl" if _is_object(first) and ending != "json" else "json"}
    delimiter, records = _dialect(text, ending)
    if delimiter is None:
        if ending not in ("csv", "tsv"):
            return {"fileFormat": "text"}
        delimiter = "\t" if ending == "tsv" else ","
        records = _records(text, delimiter)
    said: dict[str, Any] = {"fileFormat": "csv"}
    if delimiter == "\t" and '"' not in text:
        said["fileFormat"] = "tsv"
    elif delimiter != ",":
        said["fieldDelimiter"] = delimiter
    return said | {"skipHeader": has_header(records)}


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _dialect(text: str, ending: str) -> tuple[str | None, list[list[str]]]:
    """The delimiter with which most records have the same number of fields, and the records."""
    best: tuple[float, bool, int] = (0.0, False, 0)
    found: tuple[str | None, list[list[str]]] = (None, [])
    for delimiter in _DELIMITERS:
        records = _records(text, delimiter)
        if not records:
            continue
        width, times = Counter(map(len, records)).most_common(1)[0]
        prose = all(field.startswith(" ") for record in records for field in record[1:])
        rank = (times / len(records), not prose, width)
        if width > 1 and rank[0] >= (0.5 if ending else 0.9) and rank > best:
            best, found = rank, (delimiter, records)
    return found


def _records(text: str, delimiter: str) -> list[list[str]]:
    found = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if record:
                found.append(record)
            if len(found) > RECORDS:
                break
    except csv.Error:
        return []
    return found


def has_header(records: list[list[str]]) -> bool:
    """Whether the first record seems to hold names: short, distinct, and none of them a number."""
    if not records:
        return False
    first, rest = records[0], records[1:]
    names = [field.strip() for field in first]
    if len(set(names)) < len(names) or not all(names):
        return False
    if any(_NUMBER.fullmatch(name) or len(name) > LONGEST_NAME for name in names):
        return False
    if not rest:
        return True
    # A value that comes again further down is not a name, and names have no sentences' ends.
    again = any(
        names[i] == record[i] for record in rest for i in range(min(len(names), len(record)))
    )
    return not again and not any(name[-1] in ".!?。" for name in names)
