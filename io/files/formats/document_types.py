"""What a document is: by its first bytes, and for texts, which have none, by its name.

Where the two contradict each other, the bytes are right. Where the bytes say nothing that fits the
name, the document is refused.

Apart from `document_servant` because nothing is parsed here, and `bench.documents` asks as well.
"""

from __future__ import annotations

import re
import zipfile

from vecferry.io.files.formats.signatures import known
from vecferry.io.files.parsers.archive import open_archive
from vecferry.io.files.parsers.base import Refused

_TEXTS = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".eml": "eml",
}  # fmt: skip
_BINARY = {
    ".pdf", ".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx", ".xlsx", ".xlsm", ".epub",
    ".doc", ".xls", ".ppt", ".msg", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp",
}  # fmt: skip
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"GIF8": "gif",
    b"BM": "bmp",
}
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML = re.compile(
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html[\s>])", re.I | re.S
)
_MAIL = re.compile(
    rb"(?:(?:[A-Za-z][A-Za-z0-9-]*:[^\r\n]*|[ \t][^\r\n]*)\r?\n)*?"
    rb"(?:message-id|mime-version|received|return-path|dkim-signature):",
    re.I,
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_UTF16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_PARTS = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OPEN_DOCUMENTS = {"text": "odt", "spreadsheet": "ods", "presentation": "odp"}
_LOOKED_AT = 8192


def type_of(data: bytes, path: str) -> str:
    """The type of a document; a type without a parser is told as well, such as ``png``.

    Raises Refused where nobody knows it.
    """
    head = data[:_LOOKED_AT]
    if head.lstrip()[:5] == b"%PDF-" or b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK"):
        return _packed(data)
    if head.startswith(_OLD_OFFICE):
        return _old_office(data)
    for mark, kind in _IMAGES.items():
        if head.startswith(mark) and (kind != "bmp" or _CONTROL.search(head)):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    ending = _ending(path)
    if head.startswith(_UTF16_OR_32):
        return _TEXTS.get(ending, "text")
    found = known(head)
    if found is not None and not found.name.startswith("utf-"):
        raise Refused("unknown-type", f"is {found.name}, and no document; {found.advice}")
    if _CONTROL.search(head):
        raise Refused(
            "unknown-type",
            "is of no type that is known; leave the file out of the pattern, or name a parser of "
            "your own for its type",
        )
    if _HTML.match(head):
        return "html"
    if _MAIL.match(head) and ending != ".md":
        return "eml"
    if ending in _BINARY:
        raise Refused(
            "unknown-type",
            f"is named {ending}, and its first bytes are those of a text; write it anew, or name "
            "it .txt",
        )
    return _TEXTS.get(ending, "text")


def _ending(path: str) -> str:
    name = path.rpartition("/")[2].rpartition("!")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _packed(data: bytes) -> str:
    """What a zip file is."""
    with open_archive(data) as archive:
        names = archive.namelist()
        if "[Content_Types].xml" in names:
            return _office(archive, names)
        if "META-INF/container.xml" in names:
            return "epub"
        if "mimetype" in names:
            with archive.open("mimetype") as part:
                said = part.read(200).decode("ascii", "replace").strip()
            if kind := _OPEN_DOCUMENTS.get(said.removeprefix(_OPEN_DOCUMENT)):
                return kind
    raise Refused(
        "unknown-type",
        "is a zip file, and no document that is known; if documents are packed in it, name it "
        ".zip or set compress to zip",
    )


def _office(archive: zipfile.ZipFile, names: list[str]) -> str:
    macros = next((n for n in names if n.lower().endswith("vbaproject.bin")), None)
    kind = next(
        (kind for part, kind in _PARTS.items() if any(n.startswith(part) for n in names)), ""
    )
    if macros is not None:
        raise Refused(
            "macros", f"holds macros ({macros}); save it without them, as {kind or 'docx'}"
        )
    if not kind:
        raise Refused("unknown-type", "is a package of Office, and no docx, pptx or xlsx")
    return kind


def _old_office(data: bytes) -> str:
    """Encrypted documents are packed as the old ones were; the names in it tell them apart."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise Refused("encrypted-document", "needs a password; save the document without one")
    for name, kind in (("WordDocument", "doc"), ("PowerPoint", "ppt"), ("Workbook", "xls")):
        if name.encode("utf-16-le") in data:
            return kind
    return "msg" if "__substg1.0".encode("utf-16-le") in data else "ole"


def no_parser(document_type: str) -> Refused:
    """Why a document of a type without a parser is refused."""
    advice = {
        "doc": "save it as docx",
        "ppt": "save it as pptx",
        "xls": "save it as xlsx",
        "msg": "save it as eml",
        "odt": "save it as docx",
        "ods": "save it as xlsx",
        "odp": "save it as pptx",
    }.get(document_type, "convert it to pdf")
    return Refused(
        "unknown-type",
        f"is of the type {document_type}, which no parser reads; {advice}, or name a parser of "
        "your own",
    )
