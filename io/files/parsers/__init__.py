"""The parsers of documents that vecferry has, by type, and how one of a package is found.

`Document`, `Parsed` and `Refused` are what a parser of a package needs; see `base`. Each parser
imports its library when it is called. So a child process loads what its documents need.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import cast

from vecferry.io.files.parsers.base import GROUP
from vecferry.io.files.parsers.base import Document as Document
from vecferry.io.files.parsers.base import Parsed as Parsed
from vecferry.io.files.parsers.base import Parser as Parser
from vecferry.io.files.parsers.base import Refused as Refused
from vecferry.kinds import Client

PARSERS = {
    "text": "vecferry.io.files.parsers.plain:parse_text",
    "markdown": "vecferry.io.files.parsers.plain:parse_markdown",
    "html": "vecferry.io.files.parsers.web:parse_page",
    "pdf": "vecferry.io.files.parsers.pdf:parse",
    "docx": "vecferry.io.files.parsers.office:parse_docx",
    "pptx": "vecferry.io.files.parsers.office:parse_pptx",
    "xlsx": "vecferry.io.files.parsers.office:parse_xlsx",
    "epub": "vecferry.io.files.parsers.epub:parse",
    "eml": "vecferry.io.files.parsers.mail:parse",
}
"""The function of each type, as ``module:name``."""

_EXTRA = "vecferry[documents]"
CLIENTS = tuple(
    Client(module, _EXTRA)
    for module in (
        "bs4",
        "lxml",
        "mammoth",
        "markdownify",
        "openpyxl",
        "pptx",
        "pypdfium2",
        "trafilatura",
    )
)
"""The libraries of all parsers."""


def parser_of(kind: str, named: Mapping[str, str]) -> Parser | None:
    """The parser of a type: the entry point that `named` has for the type, or ours."""
    if kind in named:
        return cast("Parser", _entry_point(named[kind]).load())
    if kind not in PARSERS:
        return None
    module, _, name = PARSERS[kind].partition(":")
    return cast("Parser", getattr(importlib.import_module(module), name))


def _entry_point(name: str) -> importlib.metadata.EntryPoint:
    found = tuple(importlib.metadata.entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(sorted(importlib.metadata.entry_points(group=GROUP).names)) or "none"
        raise LookupError(
            f"no installed package brings a parser {name!r}; there are: {known}. Install its "
            f"package, or correct the name"
        )
    return found[0]


def require_entry_points(named: Mapping[str, str]) -> None:
    """Raises LookupError where a parser is not installed."""
    for name in named.values():
        _entry_point(name)
