"""The contract of all browsers: what a data source holds, told alike, by the real servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.io.files.stores.support import place_in
from tests.io.milvus.support import Lite
from tests.io.odps.server import OdpsServer
from tests.io.odps.support import talks
from tests.io.search.support import SERVERS, Store, one_after_the_other
from tests.io.search.support import rows as documents
from tests.io.search.support import write as write_documents
from tests.io.tables.support import place as database
from tests.pipelines.support import Bench
from tests.services.mariadb import Mariadb
from tests.services.postgres import Postgres
from vecferry.browse import Browser
from vecferry.errors import JobError
from vecferry.pipelines import registry
from vecferry.pipelines.job import look
from vecferry.settings import Connection


@dataclass
class Held:
    """A data source, and one thing in it that has rows."""

    connection: Connection
    path: str
    columns: list[str]
    within: str = ""
    key: str | None = None
    hidden: tuple[str, ...] = ()
    drafts: bool = True

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


CSV = b"id,title\n" + b"".join(b"%d,row %d\n" % (i, i) for i in range(50))


@contextmanager
def files(store: str, folder: Path) -> Iterator[Held]:
    with place_in(store, folder) as place:
        for name in ("look/b.csv", "look/a.csv", "look/more/c.csv"):
            place.put(name, CSV)
        yield Held(place.connection, "look/b.csv", ["id", "title"], within="look")


@contextmanager
def tables(kind: Any, folder: Path) -> Iterator[Held]:
    db = database(kind)
    rows = [f"{i}, 'row {i}'" for i in range(50)]
    names = [db.table("id INT PRIMARY KEY, title VARCHAR(20)", *rows) for _ in range(2)]
    schema = "shop" if db.dialect == "mysql" else "public"
    yield Held(db.connection(), f"{schema}/{names[0]}", ["id", "title"], within=schema, key="id")


@contextmanager
def hologres(folder: Path) -> Iterator[Held]:
    from vecferry.io.hologres import HologresConnection

    with tables(Postgres, folder) as held:
        given = held.connection.model_dump(by_alias=True, exclude_none=True)
        connection = HologresConnection.model_validate(
            {**given, "type": "hologres", "password": held.connection.password}  # type: ignore[attr-defined]
        )
        yield Held(connection, held.path, held.columns, held.within, held.key, drafts=False)


@contextmanager
def odps(folder: Path) -> Iterator[Held]:
    from vecferry.io.odps import OdpsConnection

    with OdpsServer() as server:
        server.add(talks(50))
        connection = OdpsConnection(**server.connection())
        yield Held(connection, "talks/split=dev", ["id", "sentence", "split"], within="talks")


@contextmanager
def milvus(folder: Path) -> Iterator[Held]:
    lite = Lite(folder)
    target = lite.target()
    from tests.io.milvus.support import rows, write

    write(target, rows(50))
    yield Held(
        lite.connection(), "docs", ["id", "text", "vector"], key="id", hidden=("vector",),
        drafts=False,
    )  # fmt: skip
    lite.close()


@contextmanager
def paimon(folder: Path) -> Iterator[Held]:
    from tests.io.paimon.support import WHY, Warehouse, row

    pytest.importorskip("pypaimon", reason=WHY)
    warehouse = Warehouse(folder)
    for name in ("trails", "other"):
        warehouse.make(name, keys=["id"]).write(row(i) for i in range(50))
    yield Held(
        warehouse.connection, "shop/trails", ["id", "title", "price"], within="shop", key="id"
    )


@contextmanager
def search(kind: str, folder: Path) -> Iterator[Held]:
    store = Store(kind)
    target = store.target()
    write_documents(target, documents(50))
    target.row_count()  # makes them visible
    columns = ["id", "n", "text", "vector"]  # a mapping is sorted by name
    yield Held(store.connection, target.settings.index, columns, hidden=("vector",), drafts=False)
    store.close()


PLACES: dict[str, Any] = {
    **{store: lambda folder, store=store: files(store, folder) for store in
       ("local", "s3", "oss", "hdfs", "gcs")},
    "mysql": lambda folder: tables(Mariadb, folder),
    "postgresql": lambda folder: tables(Postgres, folder),
    "hologres": hologres, "odps": odps, "milvus": milvus, "paimon": paimon,
    **{kind: lambda folder, kind=kind: search(kind, folder) for kind in SERVERS},
}  # fmt: skip
IN_PROCESS = ("local", "odps", "milvus", "paimon")
PLAIN = [
    pytest.param(name, marks=() if name in IN_PROCESS else pytest.mark.service)
    for name in PLACES
    if name not in SERVERS
]


@pytest.fixture(params=[*PLAIN, *one_after_the_other(SERVERS)])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    """A data source of each type."""
    with PLACES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def browser(held: Held) -> Iterator[Browser]:
    """Its browser."""
    with look.opened(held.connection, "here") as browser:
        yield browser


def _all(browser: Browser, path: str, limit: int) -> list[str]:
    """The paths of all entries, page by page."""
    found, after = [], None
    while True:
        page = browser.browse(path, limit, after)
        assert len(page.entries) <= limit
        found += [entry.path for entry in page.entries]
        after = page.next
        if after is None:
            return found


@pytest.mark.slow
def test_a_browser_tells_what_there_is_page_by_page(held: Held, browser: Browser) -> None:
    """Pages of one entry are together one large page; what holds rows leads to columns and rows."""
    assert browser.test()
    whole = _all(browser, held.within, 1000)
    assert held.path in whole
    assert _all(browser, held.within, 1) == whole
    if held.within:
        top = {e.path: e for e in browser.browse("", 1000, None).entries}
        assert top[held.within].holds
    told = browser.columns(held.path)
    assert [c.name for c in told.columns] == held.columns
    assert [c.name for c in told.columns if c.key] == ([held.key] if held.key else [])
    assert all(c.type for c in told.columns)
    rows = browser.sample(held.path, 7)
    assert len(rows) == 7
    assert {name for row in rows for name in row} - {"_id"} == {*held.columns} - {*held.hidden}
    for ask in (browser.columns, lambda path: browser.sample(path, 1)):
        with pytest.raises(JobError, match=r"no|not"):
            ask(held.path.replace(held.name, f"{held.name[:-1]}x"))
    if held.drafts:
        draft = browser.draft(held.path)
        assert registry.kind_of(draft.step_type, "reader").role == "reader"
        assert [c.name for c in draft.columns] == held.columns
        assert draft.columns[0].type == "long"
    else:
        with pytest.raises(JobError, match=r"target|written to"):
            browser.draft(held.path)


def test_each_type_of_data_source_can_be_looked_at() -> None:
    """A new one needs a browser as well, and a place above."""
    types = registry.connections()
    assert {name for name, kind in types.items() if kind.browser is None} == set()
    assert set(types) <= set(PLACES)


def test_a_file_of_milvus_lite_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A look changes nothing."""
    with look.opened(Lite(tmp_path).connection(), "here") as browser:
        assert browser.browse("", 10, None).entries == []
        with pytest.raises(JobError, match="does not exist"):
            browser.columns("docs")
    assert list(tmp_path.iterdir()) == []


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A folder with data sources and a file."""
    bench = Bench(tmp_path, capsys)
    monkeypatch.chdir(tmp_path)
    bench.write_lines(CSV.decode().splitlines(), "a.csv")
    return bench


def _line(bench: Bench, *given: str) -> Any:
    bench.save()
    return bench.line("sources", *given, "-d", "sources.json")


def test_the_command_line_shows_what_browsers_tell(bench: Bench) -> None:
    """In words and as JSON."""
    listed = _line(bench, "list", "--json").json["sources"]
    assert [(s["name"], s["type"]) for s in listed] == [("Files", "local"), ("Vectors", "milvus")]
    assert "Files" in _line(bench, "test", "Files").out
    assert "a.csv" in _line(bench, "browse", "Files").out
    for number in range(2):
        bench.write_lines(["x"], f"b{number}.txt")
    page = _line(bench, "browse", "Files", "--limit", "2", "--json").json
    assert ([e["path"] for e in page["entries"]], page["next"]) == (["a.csv", "b0.txt"], "b0.txt")
    assert "more: --after b0.txt" in _line(bench, "browse", "Files", "--limit", "2").out
    columns = _line(bench, "columns", "Files", "a.csv")
    assert "skipHeader: True" in columns.out
    told = _line(bench, "columns", "Files", "a.csv", "--json").json["columns"]
    assert [c["type"] for c in told] == ["long", "string"]
    sampled = _line(bench, "sample", "Files", "a.csv", "--rows", "2", "--json").json["rows"]
    assert sampled == [{"id": "0", "title": "row 0"}, {"id": "1", "title": "row 1"}]
    assert "row 1" in _line(bench, "sample", "Files", "a.csv").out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("browse", "Fils"), "did you mean 'Files'"),
        (("columns", "Files", "b.csv"), "Files/b.csv: no file matches"),
        (("columns", "Files", "../sources.json"), "leads out"),
        (("browse", "Files", "none"), "no file matches"),
        (("columns", "Vectors", "docs"), "does not exist"),
    ],
)
def test_what_is_not_there_is_told(bench: Bench, given: tuple[str, ...], words: str) -> None:
    """Exit status 2."""
    outcome = _line(bench, *given)
    assert (outcome.status, words in outcome.err) == (2, True), outcome.err


SILENT: dict[str, dict[str, Any]] = {
    "mysql": {"host": "127.0.0.1", "username": "u", "database": "d"},
    "s3": {"bucket": "b", "accessKeyId": "k", "accessKeySecret": "s"},
    "elasticsearch": {},
    "odps": {"project": "p", "accessId": "i", "accessKey": "k"},
    "milvus": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SILENT)
def test_a_look_at_a_server_that_never_answers_ends(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the seconds of a look, however the client waits."""
    monkeypatch.setattr("vecferry.pipelines.cli.sources.SECONDS", 0.5)
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        place: dict[str, Any] = {"endpoint": f"http://127.0.0.1:{port}", "port": port}
        bench.sources["Silent"] = {"type": kind, **place, **SILENT[kind]}
        outcome = _line(bench, "test", "Silent")
    assert outcome.status == 2
    assert "Silent: " in outcome.err
    assert threading.active_count() < before + 50
