"""Documents as rows: each type, a row a file or a page, and hostile ones that cost themselves."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.effort import LONG, some
from tests.io.files import documents as made
from tests.io.files.hostile import HOSTILE, LIMITS, MOST_TEXT, Hostile
from tests.io.files.test_source import read, reader, rejects, rows
from vecferry.errors import FatalError, JobError
from vecferry.io.files.formats import document as document_format
from vecferry.io.files.formats.document_types import type_of
from vecferry.io.files.parsers import CLIENTS, Document, Refused, parser_of
from vecferry.io.files.settings import FilesSettings
from vecferry.io.files.source import FileSource
from vecferry.kinds import Client
from vecferry.process import end_run
from vecferry.rows import Change, Reject

TYPES = ["text", "markdown", "html", "pdf", "docx", "pptx", "xlsx", "epub", "eml"]
ROW = "| Dover | 11:42 |"


def documents(folder: Path, **job: Any) -> FileSource:
    """A reader of the documents in a folder."""
    return reader(folder, fileFormat="document", **job)


def parsed(data: bytes, path: str, **more: Any) -> tuple[str | None, list[str]]:
    """The title and the pages of a document, parsed here."""
    kind = type_of(data, path)
    parser = parser_of(kind, {})
    assert parser is not None
    found = parser(Document(data=data, path=path, type=kind, **more))
    return found.title, list(found.pages)


@pytest.fixture
def all_types(tmp_path: Path) -> Path:
    """A folder with a sound document of each type."""
    for name, make in made.SOUND.items():
        (tmp_path / name).write_bytes(make())
    return tmp_path


@pytest.mark.slow
def test_each_type_becomes_a_row(all_types: Path) -> None:
    """With its text, its title, and what the store says of the file."""
    os.utime(all_types / "a.txt", (0, 86_400.9))
    found = rows(documents(all_types))
    assert [row["type"] for row in found] == TYPES
    assert [row["path"] for row in found] == list(made.SOUND)
    assert {row["title"] for row in found[1:]} == {made.TITLE}
    lacking = [row["type"] for row in found if made.WORDS not in row["text"]]
    assert lacking == ["xlsx"]
    assert all(row["size"] == (all_types / row["path"]).stat().st_size for row in found)
    assert found[0] == {
        "path": "a.txt", "text": made.WORDS, "title": None, "type": "text", "page": None,
        "modified": "1970-01-02T00:00:00Z", "size": len(made.WORDS),
    }  # fmt: skip


@pytest.mark.slow
def test_each_page_becomes_a_row(all_types: Path) -> None:
    """Pages count from 1, and stand in the origin."""
    (all_types / "d.pdf").write_bytes(made.pdf(["one", "", "three"]))
    source = documents(all_types, perPage=True)
    items = [i for i in read(source) if isinstance(i, Change)]
    pages = {path: [i for i in items if i["path"] == path] for path in made.SOUND}
    counts = {path[2:]: len(found) for path, found in pages.items()}
    ones = ("txt", "md", "html", "docx", "eml")
    assert counts == {"pdf": 3, "pptx": 2, "xlsx": 2, "epub": 2, **dict.fromkeys(ones, 1)}
    assert [(i["page"], i["text"].strip(), i.origin) for i in pages["d.pdf"]] == [
        (1, "one", "d.pdf:1"), (2, "", "d.pdf:2"), (3, "three", "d.pdf:3"),
    ]  # fmt: skip
    assert source.counts.values["bytes-read"] == source.plan().size.bytes


def test_tables_and_order_are_kept() -> None:
    """Tables are those of Markdown, between what stands before and behind them."""
    for name, data in (("e.docx", made.docx()), ("f.pptx", made.pptx()), ("g.xlsx", made.xlsx())):
        _, pages = parsed(data, name)
        assert ROW in "\n".join(pages), name
    _, (word,) = parsed(made.docx(), "e.docx")
    assert [word.index(x) for x in ("# Water", made.WORDS, ROW, "noon")] == sorted(
        word.index(x) for x in ("# Water", made.WORDS, ROW, "noon")
    )
    _, slides = parsed(made.pptx(), "f.pptx")
    assert slides[1].endswith("Say it slowly.")
    _, chapters = parsed(made.epub(3), "h.epub")
    assert [c.splitlines()[0] for c in chapters] == [f"# Chapter {n}" for n in (1, 2, 3)]


def test_a_web_page_gives_its_main_content() -> None:
    """Without menus, scripts and feet; a short page, in which nothing stands out, as a whole."""
    title, (text,) = parsed(made.html(), "c.html")
    assert title == made.TITLE
    assert all(word in text for word in ("Paragraph 8", "Dover", "11:42"))
    assert not any(word in text for word in ("Shop", "Cookies", "evil"))
    _, (text,) = parsed(b"<html><body><h2>Tides</h2><ul><li>low</li></ul></body></html>", "x")
    assert "Tides" in text
    assert "low" in text


def test_tags_that_are_nested_too_deep_lose_no_text_in_silence() -> None:
    """The page is refused, where its parser would leave out what stands deepest."""
    for depth in (200, 400):
        inner = "<div>" * depth + "<p>The deepest tide.</p>" + "</div>" * depth
        page = f"<html><body><p>Above.</p>{inner}</body></html>".encode()
        if depth == 200:
            assert "The deepest tide." in parsed(page, "a.html")[1][0]
        else:
            with pytest.raises(Refused, match="nested over 255 deep"):
                parsed(page, "a.html")


def test_a_mail_gives_what_it_forwards() -> None:
    """Other attachments are named; without a plain text, HTML is read."""
    inner = made.eml("<p>The <b>ebb</b> is strong.</p>", html=True)
    title, (text,) = parsed(made.eml(inner=inner), "i.eml")
    assert title == made.TITLE
    for words in ("From: harbour@example.org", made.WORDS, "**ebb** is strong", "chart.png"):
        assert words in text
    assert text.index(made.WORDS) < text.index(f"Subject: {made.TITLE}")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", made.pdf(), "pdf"),
        ("a.pdf", made.docx(), "docx"),
        ("a.md", b"<!DOCTYPE html><p>x", "html"),
        ("a.txt", made.eml(), "eml"),
        ("a.html", made.xlsx(), "xlsx"),
        ("README", b"plain words", "text"),
        ("a.md", "é".encode("utf-16"), "markdown"),
        ("a.scan", b"\x89PNG\r\n\x1a\n", "png"),
        ("a", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"), "doc"),
    ],
)
def test_the_first_bytes_win_over_the_name(name: str, data: bytes, kind: str) -> None:
    """A text has no such bytes, so that its name counts."""
    assert type_of(data, name) == kind


def test_a_text_is_decoded_as_its_mark_or_the_job_says() -> None:
    """Else it is refused, and no sign is guessed."""
    assert parsed("höher".encode("utf-16"), "a.txt")[1] == ["höher"]
    assert parsed("潮".encode("gbk"), "a.txt", encoding="gbk")[1] == ["潮"]
    with pytest.raises(Refused, match=r"byte 1 is not utf-8.*set `encoding`"):
        parsed("höher".encode("latin-1"), "a.txt")


@pytest.mark.slow
def test_columns_are_taken_by_name(tmp_path: Path) -> None:
    """Constants and the file's name as elsewhere; types are kept."""
    (tmp_path / "a.md").write_bytes(b"# T\n")
    column = ["text", {"name": "size", "type": "string"}, {"name": "lang", "value": "en"}]
    column.append({"name": "file", "from": "fileName"})
    source = documents(tmp_path, column=column)
    assert rows(source) == [{"text": "# T\n", "size": "4", "lang": "en", "file": "a.md"}]
    settings = source.settings
    assert settings.column_types() == {"text": "string", "size": "string"}
    whole = FilesSettings.model_validate({"object": "*", "fileFormat": "document"})
    assert list(whole.outputs() or {}) == list(document_format.COLUMNS)
    assert whole.column_types() == document_format.COLUMNS


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"column": ["body"]}, "column 'body' is none of a document; it has path, text"),
        ({"column": [{"index": 0}]}, "column 'column_0' is none of a document"),
        ({"column": [{"name": "n", "from": "lineNumber"}]}, "take the column page"),
        ({"skipHeader": True}, "remove skipHeader"),
        ({"recordPath": "$.x"}, "recordPath means nothing in a document file"),
        ({"documentLimits": {"memoryBytes": 1000}}, "greater than or equal to 268435456"),
        ({"fileFormat": "jsonl", "perPage": True}, "perPage means nothing in a jsonl file"),
        ({"fileFormat": "csv", "skipHeader": True, "parsers": {"x": "y"}}, "parsers means nothing"),
    ],
)
def test_what_a_job_says_wrongly_is_told(job: dict[str, Any], words: str) -> None:
    """Before a file is opened."""
    with pytest.raises(ValueError, match=words):
        FilesSettings.model_validate({"object": "*", "fileFormat": "document", **job})


def test_a_missing_library_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the source is made, so that `check` and each worker say so."""
    monkeypatch.setattr(document_format, "CLIENTS", (Client("no_such_pdf", CLIENTS[0].install),))
    with pytest.raises(JobError, match=r"needs no_such_pdf: pip install 'vecferry\[documents\]'"):
        documents(tmp_path)
    monkeypatch.setattr(document_format, "CLIENTS", CLIENTS)
    with pytest.raises(JobError, match="no installed package brings a parser 'acme'"):
        documents(tmp_path, parsers={"png": "acme"})


OWN = """
from vecferry.io.files.parsers.base import Document, Parsed, Refused

def read(document: Document) -> Parsed:
    if len(document.data) > 100:
        raise Refused("blurred", "can't be made out")
    if document.path.endswith("dead.png"):
        import os
        os.abort()
    return Parsed(pages=[f"{document.type} of {len(document.data)}", "second"], title="Scan")
"""


@pytest.mark.slow
def test_a_parser_of_ones_own_reads_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the entry point of an installed package; also a type that only the name tells."""
    site, folder = tmp_path / "site", tmp_path / "in"
    (site / "acme_ocr-1.dist-info").mkdir(parents=True)
    (site / "acme_ocr.py").write_text(OWN)
    (site / "acme_ocr-1.dist-info" / "METADATA").write_text("Name: acme-ocr\nVersion: 1\n")
    (site / "acme_ocr-1.dist-info" / "entry_points.txt").write_text(
        "[vecferry.parsers]\nacme-ocr = acme_ocr:read\n"
    )
    monkeypatch.syspath_prepend(str(site))
    folder.mkdir()
    png = b"\x89PNG\r\n\x1a\n\0"
    for name, data in {
        "a.png": png,
        "b.png": png + bytes(99),
        "dead.png": png,
        "e.dwg": b"\0A",
    }.items():
        (folder / name).write_bytes(data)
    source = documents(
        folder,
        parsers={"png": "acme-ocr", "dwg": "acme-ocr"},
        documentLimits={"seconds": 59},  # a process that was started earlier knows no acme-ocr
    )
    items = read(source)
    told = [
        (i.reason, i.message) if isinstance(i, Reject) else (i["type"], i["title"], i["text"])
        for i in items
    ]
    crashed = "dead.png crashed its parser (SIGABRT), or took all memory that it may; write the "
    assert told == [
        ("png", "Scan", "png of 9\n\nsecond"),
        ("blurred", "b.png can't be made out"),
        ("parser-crashed", crashed + "document anew"),
        ("dwg", "Scan", "dwg of 2\n\nsecond"),
    ]


@pytest.mark.slow
def test_our_parsers_reach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that would connect to a host or start a program is stopped."""
    script = (
        "import sys; from multiprocessing import Pipe\n"
        "from vecferry.io.files.formats.document_servant import DocumentServant\n"
        "import socket, subprocess\n"
        "servant = DocumentServant(Pipe()[0]); servant._own = True\n"
        "for act in (lambda: socket.create_connection(('127.0.0.1', 9)),\n"
        "            lambda: socket.getaddrinfo('localhost', 9),\n"
        "            lambda: subprocess.run(['true'])):\n"
        "    try:\n        act()\n    except PermissionError as e:\n        print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.stdout.count("a parser may not do") == 3


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of the processes that were started."""
    found: list[int] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **more: Any) -> Any:
        found.append((made := popen(*arguments, **more)).pid)
        return made

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


COSTLY = {"operators.pdf", "cells.xlsx", "attributes.html", "bomb.pdf", "tables.html", "parts.eml"}
"""Documents that take seconds or much memory before they are given up."""
USUAL = [h for h in HOSTILE if h.name not in COSTLY][:10] + [
    h
    for h in HOSTILE
    if h.name in ("bomb.docx", "laughs.xlsx", "macros.docm", "lying.pptx", "cells.xlsx", "cut.epub")
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile", some([USUAL, HOSTILE], 1), ids=lambda found: f"{len(found)} documents"
)
def test_a_hostile_document_costs_itself(
    tmp_path: Path, hostile: list[Hostile], started: list[int]
) -> None:
    """Each is rejected with its own reason, those around it are read, and memory is bounded.

    One process parses them all; only one that a document ends is replaced.
    """
    reasons = {one.name: one.reasons for one in hostile}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10  # of other tests
    # A child counts as large as this process is, since it begins as a copy of it.
    for one in hostile:
        (tmp_path / one.name).write_bytes(one.make())
    for name, make in made.SOUND.items():
        for order in "0z":
            (tmp_path / f"{order}{name}").write_bytes(make())
    source = documents(tmp_path, documentLimits=LIMITS, maxLineBytes=MOST_TEXT)
    items = read(source)
    end_run(source.context.run)
    refused = [item for item in items if isinstance(item, Reject)]
    wrong = [r.message for r in refused if r.reason not in reasons[r.origin.partition("!")[0]]]
    assert wrong == []
    assert {r.origin.partition("!")[0] for r in refused} == set(reasons)
    assert all(r.message.startswith(r.origin) for r in refused)
    found = [dict(item) for item in items if isinstance(item, Change)]
    assert [row["type"] for row in found] == [*TYPES, *TYPES]
    ended = {"parser-crashed", "too-much-memory", "too-slow"}
    assert len(started) <= 1 + sum(r.reason in ended for r in refused)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    assert most <= max(before, own, LIMITS["memoryBytes"])


@pytest.mark.long
def test_a_hundred_documents_are_hostile() -> None:
    """Each has a name of its own."""
    assert LONG
    assert len({one.name for one in HOSTILE}) == len(HOSTILE) >= 100


@pytest.mark.slow
def test_a_pipe_is_passed_over_and_a_link_out_is_refused(tmp_path: Path) -> None:
    """Neither is waited for or read."""
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe.pdf")
    (folder / "a.md").write_bytes(b"words")
    assert [row["path"] for row in rows(documents(folder, object="**"))] == ["a.md"]
    (tmp_path / "secret.md").write_bytes(b"words")
    (folder / "b.md").symlink_to(tmp_path / "secret.md")
    with pytest.raises(JobError, match=r"b\.md' leads out of"):
        documents(folder, object="**").plan()


@pytest.mark.slow
def test_documents_within_packed_files_are_read(tmp_path: Path) -> None:
    """The size is that of the document, the path has the member."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x/a.pdf", made.pdf(["one", "two"]))
        archive.writestr("b.md", b"")
    (tmp_path / "in.zip").write_bytes(packed.getvalue())
    source = documents(tmp_path, perPage=True)
    one, two, empty = read(source)
    assert [(i["path"], i["page"], i["size"]) for i in (one, two)] == [  # type: ignore[index]
        ("in.zip!x/a.pdf", 1, len(made.pdf(["one", "two"]))),
        ("in.zip!x/a.pdf", 2, len(made.pdf(["one", "two"]))),
    ]
    assert one.origin == "in.zip!x/a.pdf:1"
    assert isinstance(empty, Reject)
    assert (empty.reason, empty.origin) == ("empty-document", "in.zip!b.md")
    assert source.counts.values == {"rows-read": 3, "bytes-read": len(packed.getvalue())}
    (again,) = source.reread_all(empty.raw or "", empty.origin)
    assert again == empty


@pytest.mark.slow
def test_a_rejected_document_is_read_again_with_all_its_pages(tmp_path: Path) -> None:
    """Once it is mended; one that is gone fails the replay by its name."""
    (tmp_path / "a.pdf").write_bytes(b"")
    source = documents(tmp_path, perPage=True)
    (reject,) = rejects(source)
    assert reject.raw is not None
    (tmp_path / "a.pdf").write_bytes(made.pdf(["one", "two"]))
    again = list(source.reread_all(reject.raw, reject.origin))
    assert [item.origin for item in again] == ["a.pdf:1", "a.pdf:2"]
    (tmp_path / "a.pdf").unlink()
    with pytest.raises(FatalError, match=r"a\.pdf vanished"):
        source.reread(reject.raw, reject.origin)


@pytest.mark.slow
def test_a_page_whose_text_is_too_long_is_rejected_alone(tmp_path: Path) -> None:
    """And is read again by itself."""
    (tmp_path / "a.pdf").write_bytes(made.pdf(["x" * 50, "two"]))
    source = documents(tmp_path, perPage=True, maxLineBytes=20)
    reject, row = read(source)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.origin) == ("text-too-long", "a.pdf:1")
    assert "a.pdf, page 1 has a text of 50 bytes, and maxLineBytes is 20" in reject.message
    assert isinstance(row, Change)
    mended = documents(tmp_path, perPage=True)
    (again,) = mended.reread_all(reject.raw or "", reject.origin)
    assert again["text"] == "x" * 50  # type: ignore[index]
