"""What the libraries that read documents keep of real ones: words, their order, rows of tables.

    python -m bench.documents FILE_OR_FOLDER ...

Each library that is installed reads each document of its type. What half of them agree on stands in
for the truth. `words` is the share of its words, `order` the share of its pairs of neighbours. Rows
of tables count in `rows` where they came as rows of a Markdown table. A library that fails shows
its error. Nothing here is needed to read documents; the candidates are

    pip install pypdf pypdfium2 pdfminer.six trafilatura readability-lxml markdownify mammoth \\
        python-docx python-pptx openpyxl python-calamine 'markitdown[pdf,docx,pptx,xlsx]'
"""

from __future__ import annotations

import importlib.util
import io
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

Read = Callable[[bytes, str], str]

OURS = "vecferry"
_WORD = re.compile(r"\w+")
_ROW = re.compile(r"^\s*\|(?!\s*:?-{2,})", re.M)


def _ours(data: bytes, name: str) -> str:
    from vecferry.io.files.formats.document_types import type_of
    from vecferry.io.files.parsers import parser_of
    from vecferry.io.files.parsers.base import Document

    kind = type_of(data, name)
    parser = parser_of(kind, {})
    assert parser is not None, f"no parser reads {kind}"
    return "\n\n".join(parser(Document(data=data, path=name, type=kind)).pages)


def _pypdf(data: bytes, name: str) -> str:
    import pypdf

    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)


def _pypdfium2(data: bytes, name: str) -> str:
    import pypdfium2

    document = pypdfium2.PdfDocument(data)
    return "\n".join(page.get_textpage().get_text_bounded() for page in document)


def _pdfminer(data: bytes, name: str) -> str:
    from pdfminer.high_level import extract_text

    return str(extract_text(io.BytesIO(data)))


def _trafilatura(data: bytes, name: str) -> str:
    import trafilatura

    return trafilatura.extract(data, output_format="markdown", include_tables=True) or ""


def _readability(data: bytes, name: str) -> str:
    from readability import Document

    return _markdownify(Document(data.decode("utf-8", "replace")).summary().encode(), name)


def _markdownify(data: bytes, name: str) -> str:
    from markdownify import markdownify

    return str(markdownify(data.decode("utf-8", "replace"), heading_style="ATX"))


def _mammoth(data: bytes, name: str) -> str:
    import mammoth

    return _markdownify(mammoth.convert_to_html(io.BytesIO(data)).value.encode(), name)


def _python_docx(data: bytes, name: str) -> str:
    import docx
    from docx.table import Table

    lines: list[str] = []
    for part in docx.Document(io.BytesIO(data)).iter_inner_content():
        if isinstance(part, Table):
            lines += ["| " + " | ".join(c.text for c in row.cells) + " |" for row in part.rows]
        else:
            lines.append(part.text)
    return "\n".join(lines)


def _python_pptx(data: bytes, name: str) -> str:
    from pptx import Presentation

    return "\n".join(
        shape.text_frame.text
        for slide in Presentation(io.BytesIO(data)).slides
        for shape in slide.shapes
        if shape.has_text_frame
    )


def _openpyxl(data: bytes, name: str) -> str:
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    return "\n".join(_table(sheet.iter_rows(values_only=True)) for sheet in book.worksheets)


def _calamine(data: bytes, name: str) -> str:
    from python_calamine import CalamineWorkbook

    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    return "\n".join(_table(book.get_sheet_by_name(n).to_python()) for n in book.sheet_names)


def _table(rows: Iterable[Iterable[object]]) -> str:
    return "\n".join(
        "| " + " | ".join("" if v is None else str(v) for v in row) + " |" for row in rows
    )


def _markitdown(data: bytes, name: str) -> str:
    from markitdown import MarkItDown

    return str(MarkItDown(enable_plugins=False).convert_stream(io.BytesIO(data)).text_content)


def _kreuzberg(data: bytes, name: str) -> str:
    import kreuzberg

    config = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False)
    return str(kreuzberg.extract_bytes_sync(data, _MIME[Path(name).suffix], config=config).content)


_OFFICE = "application/vnd.openxmlformats-officedocument."
_MIME = {
    ".pdf": "application/pdf",
    ".html": "text/html",
    ".epub": "application/epub+zip",
    ".docx": f"{_OFFICE}wordprocessingml.document",
    ".pptx": f"{_OFFICE}presentationml.presentation",
    ".xlsx": f"{_OFFICE}spreadsheetml.sheet",
}
CANDIDATES: dict[str, dict[str, Read]] = {
    ".pdf": {"pypdf": _pypdf, "pypdfium2": _pypdfium2, "pdfminer": _pdfminer},
    ".html": {
        "trafilatura": _trafilatura,
        "readability": _readability,
        "markdownify": _markdownify,
    },
    ".docx": {"mammoth": _mammoth, "docx": _python_docx},
    ".pptx": {"pptx": _python_pptx},
    ".xlsx": {"openpyxl": _openpyxl, "python_calamine": _calamine},
    ".epub": {},
}
for _of_type in CANDIDATES.values():
    _of_type |= {"markitdown": _markitdown, "kreuzberg": _kreuzberg, OURS: _ours}


def found_at(places: Iterable[str]) -> Iterator[Path]:
    """The documents of these files and folders."""
    for place in map(Path, places):
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (file for file in files if file.suffix in CANDIDATES and file.is_file())


def compare(file: Path) -> None:
    """Prints a line for each library that reads files of this type."""
    data, texts = file.read_bytes(), dict[str, str]()
    print(f"\n{file.name} ({len(data):,} bytes)")
    took = {}
    for name, read in CANDIDATES[file.suffix].items():
        if importlib.util.find_spec(name) is None:
            continue
        began = time.perf_counter()
        try:
            texts[name] = read(data, file.name)
        except Exception as e:  # whatever a library raises is its result
            print(f"  {name:<15} {type(e).__name__}: {str(e)[:90]!r}")
        took[name] = time.perf_counter() - began
    words = {name: _WORD.findall(text.lower()) for name, text in texts.items()}
    agreed = _agreed([Counter(found) for found in words.values()])
    in_order = _agreed([Counter(pairwise(found)) for found in words.values()])
    for name, found in words.items():
        print(
            f"  {name:<15} words {_share(Counter(found), agreed):4.0%}  "
            f"order {_share(Counter(pairwise(found)), in_order):4.0%}  "
            f"rows {len(_ROW.findall(texts[name])):>5}  "
            f"{len(found):>7,} words in all  {took[name] * 1000:>8,.0f} ms"
        )


def _agreed(all_found: list[Counter[object]]) -> Counter[object]:
    """What at least half of them have, as often as they all have it."""
    agreed: Counter[object] = Counter()
    for thing in set().union(*all_found):
        counts = sorted((found[thing] for found in all_found), reverse=True)
        agreed[thing] = counts[max(0, -(-len(counts) // 2) - 1)]
    return +agreed


def _share(found: Counter[object], agreed: Counter[object]) -> float:
    return (found & agreed).total() / agreed.total() if agreed else 1.0


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    for document in found_at(sys.argv[1:]):
        compare(document)
