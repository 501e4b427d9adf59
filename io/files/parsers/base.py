"""The seam of document parsers: what one is given, what it gives, how it refuses.

A parser is a function from a `Document` to a `Parsed`. vecferry has one for each type of `PARSERS`
in `vecferry.io.files.parsers`. A package brings others by entry points of the group
``vecferry.parsers``, and a job names them: ``"parsers": {"png": "acme-ocr"}``.

A parser runs in a child process that lives for many documents. The child has no connection and no
key. What the parser raises besides `Refused` rejects the document as damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

GROUP = "vecferry.parsers"
"""The group of entry points."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document to be parsed.

    Attributes:
      data: the bytes of the whole file.
      path: its path within the data source's folder; nothing can be opened by it.
      type: what the file is, such as ``pdf``.
      encoding: of a text, as the job says.
      max_pages: with more pages a document is refused.
      max_unpacked_bytes: of all that is packed within the file.
    """

    data: bytes
    path: str
    type: str
    encoding: str = "utf-8"
    max_pages: int = 5000
    max_unpacked_bytes: int = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What is in a document.

    Attributes:
      pages: the text of each page, slide, sheet or chapter, as Markdown where the type allows.
      title: what the document says it is called.
    """

    pages: Iterable[str]
    title: str | None = None


class Refused(Exception):
    """A document that is not read: the `reason` of its reject, and why, to go behind its path."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


Parser = Callable[[Document], Parsed]
