"""A hundred hostile documents, made here, each with the reasons for which it may be rejected."""

from __future__ import annotations

import functools
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.io.files import documents as made

LIMITS = {
    "maxBytes": 20 << 20,
    "maxUnpackedBytes": 64 << 20,
    "maxPages": 1000,
    "seconds": 5,
    "memoryBytes": 512 << 20,
}
"""The limits under which these documents are hostile."""
MOST_TEXT = 2 << 20
"""`maxLineBytes` beside them."""


@dataclass(frozen=True)
class Hostile:
    """A document: the name of its file, its bytes, and the reasons that fit."""

    name: str
    make: Callable[[], bytes]
    reasons: tuple[str, ...]


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(
        f'<!ENTITY {x} "{f"&{y};" * 10}">' for x, y in zip("bcdefghi", "abcdefgh", strict=True)
    )
    + "]><w>&i;</w>"
)
LOOP = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "&b;"><!ENTITY b "&a;">]><x>&a;</x>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'
DAMAGED, DEEP = "damaged-document", "too-deep"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)

_MAIN = {
    "docx": "word/document.xml",
    "pptx": "ppt/presentation.xml",
    "xlsx": "xl/workbook.xml",
    "epub": "OEBPS/book.opf",
}


@functools.cache
def _sound(kind: str) -> bytes:
    return {"docx": made.docx, "pptx": made.pptx, "xlsx": made.xlsx, "epub": made.epub}[kind]()


def _parts(kind: str) -> dict[str, bytes | str]:
    with zipfile.ZipFile(io.BytesIO(_sound(kind))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with(kind: str, **parts: bytes | str) -> bytes:
    """The sound document with other parts; `main` is the part that says what is in it."""
    changed = {_MAIN[kind] if k == "main" else k: v for k, v in parts.items()}
    return made.packed({**_parts(kind), **changed})


def _bomb(kind: str) -> bytes:
    return made.packed({**_parts(kind), "media/a.bin": bytes(80 << 20)})


def _overlapping(kind: str) -> bytes:
    """Many names for the same packed bytes of a megabyte."""
    one = made.packed({**_parts(kind), "x.bin": bytes(1 << 20)})
    end = one.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", one[end + 16 : end + 20])[0]
    directory = one[start:end]
    last = directory[directory.rindex(b"PK\x01\x02") :]
    more = directory + last * 100
    count = struct.unpack("<H", one[end + 10 : end + 12])[0] + 100
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(more), start, 0)
    return one[:start] + more + tail


def _lying(kind: str) -> bytes:
    """The main part says that it has ten bytes."""
    data = bytearray(_sound(kind))
    name = _MAIN[kind].encode()
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(name))
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(data)


def _locked(kind: str) -> bytes:
    """The flag of the main part says that it is encrypted."""
    data = bytearray(_sound(kind))
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(_MAIN[kind].encode()))
    data[at + 8] |= 1
    return bytes(data)


def _deep_xml() -> str:
    return '<?xml version="1.0"?>' + "<a>" * 50_000 + "</a>" * 50_000


def _many_parts(kind: str) -> bytes:
    return made.packed({**_parts(kind), **{f"x/{n}": b"" for n in range(20_500)}})


def _of_packages() -> list[Hostile]:
    found = []
    for kind in _MAIN:
        cases: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
            "bomb": (functools.partial(_bomb, kind), ("too-large",)),
            "overlap": (functools.partial(_overlapping, kind), ("too-large",)),
            "lying": (functools.partial(_lying, kind), (DAMAGED,)),
            "laughs": (functools.partial(_with, kind, main=LAUGHS), ("xml-entities",)),
            "loop": (functools.partial(_with, kind, main=LOOP), ("xml-entities",)),
            "outside": (functools.partial(_with, kind, main=OUTSIDE), ("xml-entities",)),
            "wide": (
                functools.partial(_with, kind, main=LAUGHS.encode("utf-16")),
                ("xml-entities",),
            ),
            "locked": (functools.partial(_locked, kind), ("encrypted-document",)),
            "cut": (lambda kind=kind: _sound(kind)[: len(_sound(kind)) // 2], (DAMAGED,)),
            "hollow": (functools.partial(_with, kind, main=b""), (DAMAGED,)),
            "garbage": (functools.partial(_with, kind, main=b"\x01\x02 no XML"), (DAMAGED,)),
            "deep": (functools.partial(_with, kind, main=_deep_xml()), (DAMAGED, DEEP, "no-text")),
            "parts": (functools.partial(_many_parts, kind), ("too-large",)),
        }
        found += [Hostile(f"{n}.{kind}", make, reasons) for n, (make, reasons) in cases.items()]
        if kind == "epub":
            continue
        macro = functools.partial(
            _with, kind, **{f"{_MAIN[kind].partition('/')[0]}/vbaProject.bin": b"x"}
        )
        found.append(Hostile(f"macros.{kind[:-1]}m", macro, ("macros",)))
        ole = _OLE + "EncryptedPackage".encode("utf-16-le")
        found.append(Hostile(f"password.{kind}", lambda ole=ole: ole, ("encrypted-document",)))
    return found


def _laughing_cells() -> bytes:
    """A sheet whose cells all are the same long text, which the file has once."""
    text = "ha" * 100_000
    strings = f'<sst xmlns="{_MAIN_NS}" count="1" uniqueCount="1"><si><t>{text}</t></si></sst>'
    cells = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(1, 20_000))
    sheet = f'<worksheet xmlns="{_MAIN_NS}"><sheetData>{cells}</sheetData></worksheet>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    override = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    types = _parts("xlsx")["[Content_Types].xml"]
    assert isinstance(types, bytes)
    return _with(
        "xlsx",
        **{
            "[Content_Types].xml": types.replace(b"</Types>", override.encode()),
            "xl/sharedStrings.xml": strings,
            "xl/worksheets/sheet1.xml": sheet,
            "xl/worksheets/sheet2.xml": sheet,
        },
    )


_MAIN_NS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def _pdf_tree(kids: str, count: int = 1, *more: str) -> bytes:
    pages = f"<< /Type /Pages /Count {count} /Kids [{kids}] >>"
    return made.pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", pages, *more])


def _pdf_with(contents: bytes, more: str = "") -> bytes:
    return made.pdf_of(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
            made.FONT,
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            "/Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>",
            made.stream(contents, more),
        ]
    )


def _deep_tree() -> bytes:
    nodes = [f"<< /Type /Pages /Count 1 /Kids [{n + 1} 0 R] >>" for n in range(2, 3000)]
    return made.pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", *nodes])


def _locked_pdf() -> bytes:
    rights = f"/Filter /Standard /V 1 /R 2 /P -44 /O <{'41' * 32}> /U <{'42' * 32}>"
    data = made.pdf()
    return data.replace(b"/Info 4 0 R", f"/Encrypt << {rights} >> /ID [<00> <00>]".encode())


def _text_operators() -> bytes:
    body = b"BT /F1 1 Tf " + b"(all the same words) Tj " * 400_000 + b"ET"
    return _pdf_with(zlib.compress(body), "/Filter /FlateDecode")


def _flate_bomb() -> bytes:
    data = bytes(400 << 20)
    for _ in range(3):
        data = zlib.compress(data, 9)
    return _pdf_with(data, "/Filter [/FlateDecode /FlateDecode /FlateDecode]")


def _xref_loop() -> bytes:
    """The table of objects comes before itself."""
    return (
        b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Prev 9 /Root 1 0 R >>\n"
        b"startxref\n9\n%%EOF"
    )


def _noise(seed: int, size: int = 4000) -> bytes:
    return random.Random(seed).randbytes(size)


def _nested_mail(depth: int) -> bytes:
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n"
    return head * depth + b"Subject: x\r\n\r\nthe end\r\n"


def _nested_parts(depth: int) -> bytes:
    head = "From: a@example.org\r\nMIME-Version: 1.0\r\n"
    for n in range(depth):
        head += f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n'
    return (head + "Content-Type: text/plain\r\n\r\nthe end\r\n").encode()


def _packed_bomb() -> bytes:
    return made.packed({"big.txt": b"a" * (21 << 20)})


_UNKNOWN = ("unknown-type",)

HOSTILE: list[Hostile] = [
    Hostile("empty.pdf", lambda: b"", ("empty-document",)),
    Hostile("pages.pdf", lambda: made.pdf(["a"] * 10_000), ("too-many-pages",)),
    Hostile("ring.pdf", lambda: _pdf_tree("2 0 R"), (DAMAGED, "no-text")),
    Hostile("password.pdf", _locked_pdf, ("encrypted-document",)),
    Hostile("cut.pdf", lambda: made.pdf()[:500], (DAMAGED,)),
    Hostile("nested.eml", lambda: _nested_mail(30), (DEEP,)),
    Hostile(
        "deep.html",
        lambda: b"<html>" + b"<div><span>" * 100_000 + b"x",
        (DEEP, "no-text", "too-slow", DAMAGED),
    ),
    Hostile("text.pdf", lambda: b"I am a text, whatever they call me.\n", _UNKNOWN),
    Hostile("cells.xlsx", _laughing_cells, ("too-much-memory", "parser-crashed", "too-slow")),
    Hostile("noise.txt", lambda: _noise(1), _UNKNOWN),
    Hostile("operators.pdf", _text_operators, ("text-too-long", "too-slow", "parser-crashed")),
    *_of_packages(),
    Hostile(
        "ring2.pdf",
        lambda: _pdf_tree("3 0 R", 1, "<< /Type /Pages /Count 1 /Kids [2 0 R] >>"),
        (DAMAGED, "no-text"),
    ),
    Hostile("tree.pdf", _deep_tree, (DAMAGED, "no-text")),
    Hostile(
        "count.pdf",
        lambda: _pdf_tree("3 0 R", 1 << 30, "<< >>"),
        ("too-many-pages", DAMAGED, "no-text"),
    ),
    Hostile("minus.pdf", lambda: _pdf_tree("3 0 R", -5, "<< >>"), (DAMAGED, "no-text")),
    Hostile(
        "kids.pdf", lambda: _pdf_tree(" ".join(["3 0 R"] * 900), 900, "<< >>"), (DAMAGED, "no-text")
    ),
    Hostile("head.pdf", lambda: b"%PDF-1.7\n", (DAMAGED,)),
    Hostile("noise.pdf", lambda: b"%PDF-1.7\n" + _noise(2) + b"\n%%EOF", (DAMAGED,)),
    Hostile("bomb.pdf", _flate_bomb, ("too-much-memory", "parser-crashed", "too-slow", "no-text")),
    Hostile("picture.pdf", lambda: _pdf_with(b"q 10 0 0 10 0 0 cm Q"), ("no-text",)),
    Hostile("filter.pdf", lambda: _pdf_with(b"xxx", "/Filter /Nonsense"), ("no-text", DAMAGED)),
    Hostile(
        "length.pdf",
        lambda: made.pdf_of(
            ["<< /Type /Catalog /Pages 2 0 R >>", "<< /Length 999999999 >>\nstream\n"]
        ),
        (DAMAGED, "no-text"),
    ),
    Hostile("xref.pdf", _xref_loop, (DAMAGED,)),
    Hostile("many.xlsx", lambda: made.xlsx(1001), ("too-many-pages",)),
    Hostile("many.epub", lambda: made.epub(1001), ("too-many-pages",)),
    Hostile(
        "strings.xlsx",
        lambda: _with(
            "xlsx", **{"xl/worksheets/sheet1.xml": "<x", "xl/worksheets/sheet2.xml": "<x"}
        ),
        (DAMAGED,),
    ),
    Hostile(
        "container.epub",
        lambda: made.packed({"META-INF/container.xml": "<container/>"}),
        (DAMAGED,),
    ),
    Hostile(
        "spine.epub",
        lambda: made.packed({k: v for k, v in made.epub_parts().items() if "text/" not in k}),
        ("no-text",),
    ),
    Hostile(
        "rights.epub",
        lambda: made.packed(
            {
                **made.epub_parts(),
                "META-INF/encryption.xml": '<encryption xmlns:enc="e"><enc:CipherReference '
                'URI="OEBPS/text/c1.xhtml"/></encryption>',
            }
        ),
        ("encrypted-document",),
    ),
    Hostile(
        "nothing.html",
        lambda: b"<html><head><title>x</title></head><body></body></html>",
        ("no-text",),
    ),
    Hostile(
        "script.html", lambda: b"<html><body><script>for(;;);</script></body></html>", ("no-text",)
    ),
    Hostile("comment.html", lambda: b"<html><body><!-- " + b"a" * 1_000_000, ("no-text",)),
    Hostile(
        "tables.html",
        lambda: b"<html><body>" + b"<table><tr><td>" * 20_000,
        (DEEP, "no-text", "too-slow", DAMAGED),
    ),
    Hostile(
        "attributes.html",
        lambda: b"<html><body><p " + b" ".join(b"a%d=1" % n for n in range(200_000)) + b">",
        (DAMAGED, "no-text", "too-slow"),
    ),
    Hostile("abyss.eml", lambda: _nested_mail(5000), (DEEP,)),
    Hostile("parts.eml", lambda: _nested_parts(3000), (DEEP, "too-slow")),
    Hostile("blank.txt", lambda: b" \n\t\n" * 100, ("no-text",)),
    Hostile("broken.txt", lambda: b"caf\xe9 and more\n", ("invalid-encoding",)),
    Hostile("broken.md", lambda: b"\xff\xfe\x00\xd8", ("invalid-encoding",)),
    Hostile("text.docx", lambda: b"no Word document\n", _UNKNOWN),
    Hostile("text.png", lambda: b"no picture\n", _UNKNOWN),
    Hostile("empty.docx", lambda: made.packed({}), _UNKNOWN),
    Hostile("program.pdf", lambda: b"\x7fELF\x02\x01\x01" + bytes(100), _UNKNOWN),
    Hostile("gzip.docx", lambda: gzip.compress(b"x"), _UNKNOWN),
    Hostile("base.md", lambda: b"SQLite format 3\0" + bytes(100), _UNKNOWN),
    Hostile("picture.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), _UNKNOWN),
    Hostile("old.doc", lambda: _OLE + "WordDocument".encode("utf-16-le"), _UNKNOWN),
    Hostile(
        "other.odt",
        lambda: made.packed({"mimetype": "application/vnd.oasis.opendocument.text"}),
        _UNKNOWN,
    ),
    Hostile("noise.docx", lambda: b"PK\x03\x04" + _noise(3), (DAMAGED,)),
    Hostile("long.txt", lambda: b"word " * 500_000, ("text-too-long",)),
    Hostile("large.txt", lambda: b"word " * (5 << 20), ("too-large",)),
    Hostile("packed.zip", _packed_bomb, ("too-large",)),
    Hostile("broken.zip", lambda: b"PK\x03\x04" + _noise(4), (DAMAGED,)),
    Hostile("broken.gz", lambda: gzip.compress(b"x" * 100)[:20], (DAMAGED,)),
]
