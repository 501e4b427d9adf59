"""Unpacks files as they are read: gzip, bzip2, zstd, and the members of a zip.

Each gives what it has block by block, so that a small file that unpacks to a huge one costs no
memory. Members of gzip, bzip2 and zstd that follow one another are one text, as in their tools.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

SKIP_BYTES = 1 << 16

UNPACK_ERRORS = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What is raised besides OSError where a packed file is damaged."""

Open = Callable[[], Any]


class Damaged(Exception):
    """A file that is not what its job says, or not whole; the text goes behind its name."""


class _Kept(io.RawIOBase):
    """Reads `raw`, and leaves it open when it is closed itself."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> Any:
        return self._raw.read(size)


def _zstd(raw: Any) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(_Kept(raw), mode="r"), "zstd")


_STREAMS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw, mode="rb"),
    "bzip2": lambda raw: bz2.BZ2File(raw, mode="rb"),
    "zstd": _zstd,
}


def what_is_there(stream: Any) -> Callable[[int], bytes]:
    """How to read a stream: what a packed one has comes before it finds that the rest is missing.

    A stream that knows no such reading is read as it is.
    """
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    return read


def members(path: str, raw: Any, packing: str) -> Iterator[tuple[str, Open]]:
    """The files in the packed file `raw`: the path for origins, and what opens each anew.

    A zip has one for each member, ``path!member``, and ``path!member#2`` for a second one of that
    name; the others have one, under their own path.
    Names of members that begin with a dot or an underscore are passed over, as among files.
    Streams have `read1`. Raises Damaged for a zip that is encrypted or packed in an unknown way.
    """
    if packing != "zip":

        def fresh() -> Any:
            raw.seek(0)
            return _STREAMS[packing](raw)

        yield path, fresh
        return
    seen: Counter[str] = Counter()
    with _archive(raw) as archive:
        for info in archive.infolist():
            hidden = any(part[:1] in "._" for part in info.filename.split("/") if part)
            if info.is_dir() or hidden:
                continue
            if info.flag_bits & 1:
                raise Damaged(f"is encrypted (its member {info.filename!r}); unpack it first")
            seen[info.filename] += 1
            times = seen[info.filename]
            again = "" if times == 1 else f"#{times}"
            yield f"{path}!{info.filename}{again}", functools.partial(_member, archive, info)


def _archive(raw: Any) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (ValueError, NotImplementedError, struct.error) as e:  # a name that is not UTF-8, say
        raise Damaged(f"is not a sound zip file ({e}); write it anew, or correct `compress`") from e


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    try:
        return archive.open(info)
    except (NotImplementedError, ValueError) as e:
        raise Damaged(f"has a member {info.filename!r} that can't be unpacked ({e})") from e


def skip(stream: Any, size: int) -> None:
    """Passes `size` bytes of a stream."""
    while size > 0 and (data := stream.read(min(size, SKIP_BYTES))):
        size -= len(data)


def explain(packing: str | None, error: BaseException) -> str:
    """What is wrong with a packed file, to go behind its name; empty where that is not known."""
    cut = isinstance(error, EOFError) or "runcated" in str(error)
    if packing and cut:
        return f"ends in the middle of its {packing} stream: it was cut off; write it anew"
    sound = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
    if packing and not (sound and error.errno is not None):  # type: ignore[attr-defined]
        return f"is not a sound {packing} file ({error}); write it anew, or correct `compress`"
    return ""
