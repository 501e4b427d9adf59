"""The child that parses documents; see `vecferry.io.files.formats.apart_child`.

Apart from `vecferry.io.files.formats.document_files` because the child loads parsers, and its
parent none. A document is parsed whole before its first page is told, so that no half of one
becomes rows. Our own parsers may neither connect to anything nor start a program.
"""

from __future__ import annotations

import gc
import io
import logging
import re
import resource
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import orjson

from vecferry.errors import shorten
from vecferry.io.files.formats.apart_child import END, FAULT, ParentFile, Servant
from vecferry.io.files.formats.document_types import no_parser, type_of
from vecferry.io.files.parsers import parser_of
from vecferry.io.files.parsers.base import Document, Parsed, Refused

PARSED, PAGES, REFUSED = b"p", b"t", b"n"
"""The first byte of an answer, beside those of `vecferry.io.files.formats.apart_child`."""

MOST_BYTES = 1 << 20
"""About the most bytes of texts that one answer holds; one text may have more."""
_BLOCK = 1 << 20
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
_WORD = re.compile(r"\w")
_FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")


class _Fault(Exception):
    """What is not the document's fault."""


class DocumentServant(Servant):
    """Parses one document at a time."""

    goes_on: ClassVar[frozenset[str]] = frozenset({"pages", "close"})

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._texts: Iterator[str | int] = iter(())
        self._own = False
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        sys.addaudithook(self._watch)

    def _watch(self, event: str, _: Any) -> None:
        if self._own and event in _FORBIDDEN:
            raise PermissionError(f"a parser may not do {event}")

    def document(self, path: str, size: int, options: dict[str, Any]) -> None:
        """Parses a document: its type, its title and how many texts there are."""
        kind = ""
        data = _all_of(ParentFile(self.connection, size))
        try:
            named = options["parsers"]
            kind = _type(data, path, named)
            try:
                parser = parser_of(kind, named)
            except Exception as e:  # a package that can't be loaded is not the document's fault
                raise _Fault(f"the parser of {kind} can't be loaded: {e}") from e
            if parser is None:
                raise no_parser(kind)
            document = Document(
                data=data,
                path=path,
                type=kind,
                encoding=options["encoding"],
                max_pages=options["max_pages"],
                max_unpacked_bytes=options["max_unpacked_bytes"],
            )
            self._own = kind not in named
            try:
                parsed = parser(document)
                texts = _texts(parsed, options, kind)
            finally:
                self._own = False
        except Refused as e:
            self._refuse(e.reason, str(e))
        except RecursionError:
            self._refuse("too-deep", "is nested too deep; write the document anew")
        except (MemoryError, _Fault):
            raise
        except Exception as e:
            what = f"{type(e).__name__}: {shorten(e)}" if str(e) else type(e).__name__
            self._refuse(
                "damaged-document",
                f"is not a sound {kind or 'document'} ({what}); write the document anew",
            )
        else:
            self._texts = iter(texts)
            title = None if parsed.title is None else _clean(parsed.title)
            told = {"type": kind, "title": title, "count": len(texts)}
            self.connection.send_bytes(PARSED + orjson.dumps(told))

    def pages(self) -> None:
        """The next texts, about a megabyte of them; a number stands for a text of so many bytes."""
        taken: list[str | int] = []
        size = 0
        while size < MOST_BYTES and (text := next(self._texts, None)) is not None:
            taken.append(text)
            size += len(text) if isinstance(text, str) else 1
        self.connection.send_bytes(PAGES + orjson.dumps(taken) if taken else END)

    def close(self) -> None:
        """Lets go of the document, and tells the address space that is still taken."""
        self._texts = iter(())
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        self.connection.send_bytes(END + str(pages * resource.getpagesize()).encode())

    def explain(self, error: Exception) -> bytes:
        """A fault is ours: those of documents are refused above."""
        return FAULT + f"{type(error).__name__}: {error}".encode(errors="replace")

    def _refuse(self, reason: str, message: str) -> None:
        told = {"reason": reason, "message": _clean(message)}
        self.connection.send_bytes(REFUSED + orjson.dumps(told))


PARSER = f"{DocumentServant.__module__}:{DocumentServant.__name__}"


def _all_of(file: ParentFile) -> bytes:
    data = io.BytesIO()
    while block := file.read(_BLOCK):
        data.write(block)
    return data.getvalue()


def _type(data: bytes, path: str, named: dict[str, str]) -> str:
    """The type of a document; a package may read a type that only the ending of a name tells."""
    try:
        return type_of(data, path)
    except Refused:
        ending = path.rpartition(".")[2].lower()
        if ending in named:
            return ending
        raise


def _texts(parsed: Parsed, options: dict[str, Any], kind: str) -> list[str | int]:
    """The texts of the rows; Refused where there is none in the whole document."""
    pages = []
    for page in parsed.pages:
        pages.append(_clean(page))
        if len(pages) > options["max_pages"]:
            raise Refused(
                "too-many-pages",
                f"has over {options['max_pages']:,} pages; raise documentLimits.maxPages",
            )
    if not any(map(_WORD.search, pages)):
        what = f"has no text in its {len(pages):,} pages" if len(pages) > 1 else "has no text"
        advice = (
            "if its pages are images, name a parser of your own that reads them"
            if kind == "pdf"
            else "leave the file out of the pattern"
        )
        raise Refused("no-text", f"{what}; {advice}")
    if not options["per_page"]:
        written = [page.strip("\n") for page in pages if page.strip()]
        pages = pages if len(pages) == 1 else ["\n\n".join(written)]
    return [_bounded(page, options["max_text"]) for page in pages]


def _clean(text: str) -> str:
    """`text` as JSON and stores can hold it, without characters that nobody sees."""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode())


def _bounded(text: str, most: int) -> str | int:
    size = len(text.encode())
    return text if size <= most else size
