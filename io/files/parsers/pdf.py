"""PDF, by PDFium: the text of each page in the order in which the page has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vecferry.io.files.parsers.base import Document, Parsed, Refused

_END = 4096
"""Within so many bytes at its end a PDF has its mark; PDFium would read on without."""
_NO_TITLES = ("", "untitled", "(anonymous)")
"""What programs write where nobody gave a title."""


def parse(document: Document) -> Parsed:
    """Nothing is asked of a reader, so a document that needs a password is refused."""
    import pypdfium2

    if b"%%EOF" not in document.data[-_END:]:
        raise Refused("damaged-document", "is a PDF that was cut off; write the document anew")
    try:
        opened = pypdfium2.PdfDocument(document.data)
    except pypdfium2.PdfiumError as e:
        if "password" in str(e).lower():
            raise Refused(
                "encrypted-document", "needs a password; save the document without one"
            ) from e
        raise Refused(
            "damaged-document", f"is not a sound PDF ({e}); write the document anew"
        ) from e
    count = len(opened)
    if count > document.max_pages:
        raise Refused("too-many-pages", too_many(count, document.max_pages))
    title = opened.get_metadata_value("Title").strip()
    known = title.lower() not in _NO_TITLES
    return Parsed(pages=_pages(opened, count), title=title if known else None)


def too_many(count: int, most: int) -> str:
    """What is wrong with a document of `count` pages."""
    return (
        f"has {count:,} pages, and maxPages is {most:,}; raise documentLimits.maxPages, or cut "
        "the document"
    )


def _pages(opened: Any, count: int) -> Iterator[str]:
    import pypdfium2

    for number in range(count):
        try:
            page = opened[number]
        except pypdfium2.PdfiumError as e:
            raise Refused(
                "damaged-document", f"has a page {number + 1} that can't be read ({e})"
            ) from e
        text = page.get_textpage()
        found: str = text.get_text_bounded()
        text.close()
        page.close()
        # PDFium marks a hyphen at the end of a line by a character that no text may hold.
        yield found.replace("\r\n", "\n").replace("\ufffe", "-").replace("\x00", "")
