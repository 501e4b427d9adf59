"""Texts and Markdown, as they stand."""

from __future__ import annotations

import codecs
import re

from vecferry.io.files.parsers.base import Document, Parsed, Refused

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)


def decoded(document: Document) -> str:
    """The text of a document, in the encoding of its byte order mark or of the job."""
    data = document.data
    encoding = next((e for mark, e in _MARKS.items() if data.startswith(mark)), document.encoding)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as e:
        raise Refused(
            "invalid-encoding",
            f"byte {e.start} is not {encoding} ({e.reason}); correct the file, or set `encoding`",
        ) from e
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_text(document: Document) -> Parsed:
    """A text has no title."""
    return Parsed(pages=[decoded(document)])


def parse_markdown(document: Document) -> Parsed:
    """The title is that of the front matter, else the first heading."""
    text = decoded(document)
    return Parsed(pages=[text], title=title_of(text))


def title_of(text: str) -> str | None:
    """The title of Markdown."""
    front = _FRONT.match(text)
    if front and (said := _FRONT_TITLE.search(front[1])):
        return said[1]
    heading = _HEADING.search(text)
    return heading[1] if heading else None
