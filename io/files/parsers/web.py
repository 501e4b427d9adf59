"""HTML: the main content of a page by trafilatura, and whole pieces of HTML by markdownify."""

from __future__ import annotations

import contextlib
import re

from vecferry.io.files.parsers.base import Document, Parsed, Refused

_BLANK = re.compile(r"\n{3,}")
# libxml2 stops reading at its limits. Versions before 2.13 name that an internal error.
_STOPPED = ("ERR_RESOURCE_LIMIT", "ERR_INTERNAL_ERROR")


def parse_page(document: Document) -> Parsed:
    """The main content of a web page; the whole page where none stands out."""
    import lxml.html
    import trafilatura

    _require_shallow(document.data)
    tree = trafilatura.load_html(document.data)
    if tree is None:
        return Parsed(pages=[to_markdown(document.data)])
    title = _title(tree)
    text = trafilatura.extract(
        tree, output_format="markdown", include_tables=True, include_comments=False
    )
    return Parsed(pages=[text or to_markdown(lxml.html.tostring(tree))], title=title)


def _require_shallow(html: str | bytes) -> None:
    """Raises Refused where tags are nested deeper than libxml2 goes: it leaves the rest out."""
    from lxml import etree

    parser = etree.HTMLParser()
    with contextlib.suppress(etree.LxmlError):  # whoever reads it says what is wrong
        etree.fromstring(html.encode() if isinstance(html, str) else html, parser)
    if any(entry.type_name in _STOPPED for entry in parser.error_log):
        raise Refused("too-deep", "has tags nested over 255 deep, or is too large; write it anew")


def _title(tree: object) -> str | None:
    for path in ("//title", "//h1"):
        for node in tree.xpath(path):  # type: ignore[attr-defined]
            if text := " ".join(node.text_content().split()):
                return text
    return None


def to_markdown(html: str | bytes) -> str:
    """All of a piece of HTML, without scripts, styles and images."""
    from bs4 import BeautifulSoup
    from bs4.element import ProcessingInstruction
    from markdownify import MarkdownConverter

    _require_shallow(html)
    soup = BeautifulSoup(html, "lxml")
    for tag in soup(["script", "style", "template", "noscript", "img", "svg", "head"]):
        tag.decompose()
    for declaration in soup.find_all(string=lambda text: isinstance(text, ProcessingInstruction)):
        declaration.extract()
    made = MarkdownConverter(
        heading_style="ATX", bullets="-", table_infer_header=True
    ).convert_soup(soup)
    return _BLANK.sub("\n\n", made).strip()
