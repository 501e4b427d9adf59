"""Makes documents of each type, small and sound; no file of another program is needed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage

TABLE = [["Port", "High water"], ["Dover", "11:42"], ["Lowestoft", "09:58"]]
WORDS = "The tide is out."
TITLE = "Tide tables"


def pdf_of(objects: Sequence[bytes | str], *, more: str = "", version: str = "1.7") -> bytes:
    """A PDF of these objects, numbered from 1; the first one is its catalog."""
    data = bytearray(f"%PDF-{version}\n%\xe2\xe3\n".encode("latin-1"))
    places = []
    for number, one in enumerate(objects, 1):
        places.append(len(data))
        body = one.encode("latin-1") if isinstance(one, str) else one
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    at = len(data)
    data += f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    data += f"trailer\n<< /Size {len(places) + 1} /Root 1 0 R {more} >>\n".encode()
    return bytes(data + f"startxref\n{at}\n%%EOF\n".encode())


def stream(data: bytes, more: str = "") -> bytes:
    """A stream object."""
    return f"<< /Length {len(data)} {more} >>\nstream\n".encode() + data + b"\nendstream"


FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(pages: Sequence[str] = (WORDS,), title: str | None = TITLE) -> bytes:
    """A PDF with a line of text on each page, which share a font."""
    kids = " ".join(f"{5 + 2 * n} 0 R" for n in range(len(pages)))
    objects: list[bytes | str] = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        FONT,
        "<< >>" if title is None else f"<< /Title ({title}) >>",
    ]
    for n, text in enumerate(pages):
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {6 + 2 * n} 0 R >>"
        )
        shown = text.replace("(", r"\(").replace(")", r"\)")
        objects.append(stream(f"BT /F1 12 Tf 72 700 Td ({shown}) Tj ET".encode() if text else b""))
    return pdf_of(objects, more="/Info 4 0 R")


def packed(parts: dict[str, bytes | str]) -> bytes:
    """A zip of these parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
    'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_CORE = (
    '<?xml version="1.0"?><cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/'
    '2006/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    f"<dc:title>{TITLE}</dc:title></cp:coreProperties>"
)


def _paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx_parts() -> dict[str, bytes | str]:
    """The parts of a Word document: a heading, a paragraph, a table, a paragraph."""
    cells = "".join(
        "<w:tr>" + "".join(f"<w:tc>{_paragraph(cell)}</w:tc>" for cell in row) + "</w:tr>"
        for row in TABLE
    )
    body = (
        _paragraph("Water", "Heading1")
        + _paragraph(WORDS)
        + f"<w:tbl>{cells}</w:tbl>"
        + _paragraph("It comes back at noon.")
    )
    return {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _RELS,
        "docProps/core.xml": _CORE,
        "word/document.xml": f"<w:document {_W}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f'<w:styles {_W}><w:style w:type="paragraph" w:styleId="Heading1">'
        '<w:name w:val="heading 1"/></w:style></w:styles>',
        "word/_rels/document.xml.rels": _RELS.replace(
            "officeDocument/2006/relationships/officeDocument",
            "officeDocument/2006/relationships/styles",
        ).replace("word/document.xml", "styles.xml"),
    }


def docx() -> bytes:
    """A Word document."""
    return packed(docx_parts())


def pptx(slides: int = 2) -> bytes:
    """A presentation: a title and text on each slide, a table on the last one, and notes."""
    from pptx import Presentation
    from pptx.util import Inches

    made = Presentation()
    made.core_properties.title = TITLE
    for n in range(slides):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = f"Slide {n + 1}"
        slide.placeholders[1].text = WORDS
    place = (Inches(1), Inches(1), Inches(4), Inches(2))
    table = slide.shapes.add_table(len(TABLE), 2, *place).table
    for y, row in enumerate(TABLE):
        for x, cell in enumerate(row):
            table.cell(y, x).text = cell
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def xlsx(sheets: int = 2) -> bytes:
    """A workbook with the table on each sheet, a row left out."""
    import openpyxl

    book = openpyxl.Workbook()
    book.properties.title = TITLE
    book.remove(book.active)
    for n in range(sheets):
        sheet = book.create_sheet(f"Sheet {n + 1}")
        for y, row in enumerate(TABLE):
            for x, cell in enumerate(row):
                sheet.cell(2 * y + 1, x + 1, cell)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def epub_parts(chapters: int = 2) -> dict[str, bytes | str]:
    """The parts of a book whose chapters are not in the order of their names."""
    names = [f"c{chapters - n}.xhtml" for n in range(chapters)]
    items = "".join(
        f'<item id="{n}" href="text/{n}" media-type="application/xhtml+xml"/>'
        for n in sorted(names)
    )
    spine = "".join(f'<itemref idref="{n}"/>' for n in names)
    parts: dict[str, bytes | str] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:'
        'opendocument:xmlns:container"><rootfiles><rootfile full-path="OEBPS/book.opf"/>'
        "</rootfiles></container>",
        "OEBPS/book.opf": '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{TITLE}</dc:title>'
        f"</metadata><manifest>{items}</manifest><spine>{spine}</spine></package>",
    }
    for n, name in enumerate(names):
        parts[f"OEBPS/text/{name}"] = (
            '<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">'
            f"<head><title>x</title></head><body><h1>Chapter {n + 1}</h1><p>{WORDS}</p>"
            "</body></html>"
        )
    return parts


def epub(chapters: int = 2) -> bytes:
    """A book."""
    return packed(epub_parts(chapters))


def eml(body: str = WORDS, inner: bytes | None = None, html: bool = False) -> bytes:
    """An e-mail; `inner` is a message that it forwards."""
    message = EmailMessage()
    message["From"], message["To"] = "harbour@example.org", "boats@example.org"
    message["Subject"], message["Date"] = TITLE, "Tue, 01 Dec 2026 09:00:00 +0000"
    message["Message-ID"] = "<1@example.org>"
    message.set_content(body, subtype="html" if html else "plain")
    if inner is not None:
        import email
        import email.policy

        message.add_attachment(email.message_from_bytes(inner, policy=email.policy.default))
        message.add_attachment(b"x", maintype="image", subtype="png", filename="chart.png")
    return message.as_bytes()


def html(body: str = "") -> bytes:
    """A page with a menu, an article with a table, and a foot."""
    rows = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in TABLE)
    article = "".join(
        f"<p>Paragraph {n}. {WORDS} It comes back at noon, as always.</p>" for n in range(9)
    )
    return (
        f"<!DOCTYPE html><html><head><title>{TITLE}</title><script>evil()</script></head><body>"
        "<nav><a href='/'>Home</a> <a href='/shop'>Shop</a></nav>"
        f"<article><h1>{TITLE}</h1>{article}<table>{rows}</table>{body}</article>"
        "<footer>Cookies and terms</footer></body></html>"
    ).encode()


SOUND = {
    "a.txt": lambda: WORDS.encode(),
    "b.md": lambda: f"# {TITLE}\n\n{WORDS}\n".encode(),
    "c.html": html,
    "d.pdf": pdf,
    "e.docx": docx,
    "f.pptx": pptx,
    "g.xlsx": xlsx,
    "h.epub": epub,
    "i.eml": eml,
}
"""A sound document of each type, by a name for it."""
