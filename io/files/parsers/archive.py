"""Documents that are zip files: what their parts unpack to is bounded before one is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile

from vecferry.io.files.parsers.base import Document, Refused

MOST_PARTS = 20_000
_XML = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx")
_LOOKED_AT = 4096


def open_archive(data: bytes) -> zipfile.ZipFile:
    """The zip file of these bytes."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (ValueError, NotImplementedError, struct.error, EOFError, zipfile.BadZipFile) as e:
        raise Refused(
            "damaged-document", f"is not a sound zip file inside ({e}); write the document anew"
        ) from e


def require_harmless(archive: zipfile.ZipFile, document: Document) -> None:
    """Refuses what unpacks to too much, is encrypted, or declares entities in its XML."""
    parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if unpacked > document.max_unpacked_bytes or len(parts) > MOST_PARTS:
        raise Refused(
            "too-large",
            f"unpacks to {unpacked:,} bytes in {len(parts):,} parts, over the limit of "
            f"{document.max_unpacked_bytes:,}; raise documentLimits.maxUnpackedBytes if you trust "
            "its author",
        )
    for part in parts:
        if part.flag_bits & 1:
            raise Refused(
                "encrypted-document", f"has an encrypted part {part.filename!r}; decrypt it first"
            )
        if part.filename.lower().endswith(_XML):
            with archive.open(part) as opened:
                head = opened.read(_LOOKED_AT).replace(b"\0", b"")
            if b"<!ENTITY" in head:
                raise Refused(
                    "xml-entities",
                    f"declares XML entities in its part {part.filename!r}, which no program that "
                    "writes documents does; write the document anew",
                )
