"""EPUB: the chapters in the order in which a book is read."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from vecferry.io.files.parsers.archive import open_archive, require_harmless
from vecferry.io.files.parsers.base import Document, Parsed, Refused
from vecferry.io.files.parsers.pdf import too_many
from vecferry.io.files.parsers.web import to_markdown

_CONTAINER = "META-INF/container.xml"
_RIGHTS = "META-INF/encryption.xml"


def parse(document: Document) -> Parsed:
    """A page a chapter of the spine; chapters of pictures alone are empty."""
    archive = open_archive(document.data)
    require_harmless(archive, document)
    names = set(archive.namelist())
    root = _tree(archive, _CONTAINER).find(".//{*}rootfile")
    place = "" if root is None else root.get("full-path", "")
    package = _tree(archive, place)
    items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
    folder = posixpath.dirname(place)
    spine = []
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is not None and "html" in item.get("media-type", ""):
            spine.append(posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "")))))
    if len(spine) > document.max_pages:
        raise Refused("too-many-pages", too_many(len(spine), document.max_pages))
    chapters = [name for name in dict.fromkeys(spine) if name in names]
    if _RIGHTS in names and _has_locked(archive, chapters):
        raise Refused("encrypted-document", "is locked by digital rights; use a copy without them")
    title = package.findtext(".//{*}metadata/{http://purl.org/dc/elements/1.1/}title")
    return Parsed(pages=_pages(archive, chapters), title=(title or "").strip() or None)


def _tree(archive: zipfile.ZipFile, name: str) -> Any:
    from lxml import etree

    try:
        data = archive.read(name)
    except KeyError as e:
        raise Refused(
            "damaged-document", f"is an EPUB without its part {name!r}; write it anew"
        ) from e
    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))


def _has_locked(archive: zipfile.ZipFile, chapters: list[str]) -> bool:
    """Fonts may be scrambled without the book being locked."""
    locked = {
        unquote(node.get("URI", ""))
        for node in _tree(archive, _RIGHTS).iterfind(".//{*}CipherReference")
    }
    return not locked.isdisjoint(chapters)


def _pages(archive: zipfile.ZipFile, chapters: list[str]) -> Iterator[str]:
    for name in chapters:
        yield to_markdown(archive.read(name))
