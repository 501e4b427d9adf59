"""Word, PowerPoint and Excel in their formats of XML: docx, pptx and xlsx."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from vecferry.io.files.parsers.archive import open_archive, require_harmless
from vecferry.io.files.parsers.base import Document, Parsed, Refused
from vecferry.io.files.parsers.pdf import too_many
from vecferry.io.files.parsers.plain import title_of
from vecferry.io.files.parsers.web import to_markdown

_DEEPEST_GROUP = 50


def _opened(document: Document) -> io.BytesIO:
    with open_archive(document.data) as archive:
        require_harmless(archive, document)
    return io.BytesIO(document.data)


def parse_docx(document: Document) -> Parsed:
    """Headings, lists and tables as Markdown; images are left out, notes stand at the end."""
    import mammoth

    html = mammoth.convert_to_html(
        _opened(document), convert_image=mammoth.images.img_element(lambda image: {"src": ""})
    ).value
    text = to_markdown(html)
    return Parsed(pages=[text], title=_core_title(document) or title_of(text))


def _core_title(document: Document) -> str | None:
    from lxml import etree

    with open_archive(document.data) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return None
        data = archive.read("docProps/core.xml")
    safe = etree.XMLParser(resolve_entities=False, no_network=True)
    found = etree.fromstring(data, safe).findtext("{http://purl.org/dc/elements/1.1/}title")
    return (found or "").strip() or None


def parse_pptx(document: Document) -> Parsed:
    """A page a slide: its shapes in their order, tables as Markdown, the notes behind them."""
    from pptx import Presentation

    presentation = Presentation(_opened(document))
    slides = list(presentation.slides)
    if len(slides) > document.max_pages:
        raise Refused("too-many-pages", too_many(len(slides), document.max_pages))
    title = (presentation.core_properties.title or "").strip() or None
    if title in (None, "PowerPoint Presentation") and slides and slides[0].shapes.title is not None:
        title = slides[0].shapes.title.text_frame.text.strip() or None
    return Parsed(pages=map(_slide, slides), title=title)


def _slide(slide: Any) -> str:
    title = slide.shapes.title
    parts = [] if title is None else [f"# {' '.join(title.text_frame.text.split())}"]
    parts += _shapes((s for s in slide.shapes if title is None or s.shape_id != title.shape_id), 0)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        parts.append(slide.notes_slide.notes_text_frame.text)
    return "\n\n".join(part for part in map(str.strip, parts) if part.strip("# "))


def _shapes(shapes: Iterable[Any], depth: int) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):
            if depth > _DEEPEST_GROUP:
                raise Refused("too-deep", "has shapes in groups over 50 deep")
            yield from _shapes(shape.shapes, depth + 1)
        elif shape.has_text_frame:
            yield shape.text_frame.text.replace("\x0b", "\n")
        elif shape.has_table:
            yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
        elif shape.has_chart:
            yield _chart(shape.chart)


def _chart(chart: Any) -> str:
    """The numbers of a chart; its title above them."""
    title = chart.chart_title.text_frame.text if chart.has_title else ""
    rows: list[list[object]] = []
    for plot in chart.plots:
        series = list(plot.series)
        rows.append(["", *(one.name for one in series)])
        values = [list(one.values) for one in series]
        for at, category in enumerate(plot.categories):
            rows.append([category, *(v[at] if at < len(v) else None for v in values)])
    return f"{title}\n\n{table(rows)}".strip()


def parse_xlsx(document: Document) -> Parsed:
    """A page a sheet: a table of the values as they were last computed."""
    import openpyxl

    book = openpyxl.load_workbook(_opened(document), read_only=True, data_only=True)
    sheets = book.worksheets
    if len(sheets) > document.max_pages:
        raise Refused("too-many-pages", too_many(len(sheets), document.max_pages))
    title = (book.properties.title or "").strip() or None
    return Parsed(pages=map(_sheet, sheets), title=title)


def _sheet(sheet: Any) -> str:
    rows = []
    for row in sheet.iter_rows(values_only=True):
        width = next((n for n in range(len(row), 0, -1) if row[n - 1] not in (None, "")), 0)
        if width:
            rows.append(list(row[:width]))
    return f"## {sheet.title}\n\n{table(rows)}" if rows else ""


def table(rows: list[list[Any]]) -> str:
    """Rows as a table of Markdown; the first one is its head."""
    width = max(map(len, rows), default=0)
    lines = [
        "| " + " | ".join(map(_cell, [*row, *[None] * (width - len(row))])) + " |" for row in rows
    ]
    if lines:
        lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return " ".join(text.split()).replace("|", "\\|")
