"""A key that servers echo is in nothing that a run prints, reports or keeps."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.effort import some
from tests.pipelines.run.echoes import (
    Echo,
    HttpEcho,
    MilvusEcho,
    MysqlEcho,
    PostgresEcho,
    RedisEcho,
)
from tests.pipelines.support import Bench, step

KEY = "sk9fQ2x7Lm3ZtwPq8vN0yR4cD5eF6gH1"
SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    lambda key: urllib.parse.quote(key[:4]) + "".join(f"%{ord(c):02X}" for c in key[4:]),
    lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    lambda key: f"{key[:11]}\n {key[11:]}",
    lambda key: key[:25],
]


@pytest.fixture(scope="module")
def echo() -> Generator[HttpEcho]:
    """One server for the endpoints of this module."""
    echo = HttpEcho()
    with echo.running():
        yield echo


def shown(bench: Bench, *arguments: str) -> str:
    """Everything that a run leaves for people to read."""
    outcome = bench.call("run", *arguments, "--report", str(bench.folder / "report.json"))
    texts = [outcome.out, outcome.err]
    texts += [path.read_text() for path in sorted((bench.folder / "rejects").rglob("*.jsonl"))]
    report = bench.folder / "report.json"
    return "\n".join([*texts, report.read_text() if report.exists() else ""])


def leaks(text: str) -> list[str]:
    """The runs of 8 characters of the key, and of its base64 forms, that a text shows."""
    forms = [KEY, *(base64.b64encode(f"{u}:{KEY}".encode()).decode()[6:] for u in ("", "u", "us"))]
    return [f[i : i + 8] for f in forms for i in range(len(f) - 7) if f[i : i + 8] in text]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("offset", some([150, 390, *(n for n in range(0, 460, 13))], 1))
def test_an_endpoint_may_echo_its_key_at_any_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], echo: HttpEcho, status: int, offset: int
) -> None:
    """In stdout, stderr, report and rejects."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "1", "text": f"about {KEY} here"}, {"id": "2", "text": "b"}])
    bench.job["setting"]["errorLimit"] = {"record": "9"}
    bench.step("Embed").update(
        modelProvider="openai",
        modelName="m",
        endpoint=f"{echo.url}/v1",
        apiKey=KEY,
        retryDeadline=1,
    )
    echo.status = status
    for spelling in SPELLINGS:
        echo.text = f"{'x ' * (offset // 2)}{spelling(KEY)} {'y ' * 200}"
        for more in (["--no-preflight"], ["--no-preflight", "--json"]):
            assert leaks(shown(bench, *more)) == []


@dataclass(frozen=True)
class Store:
    """A store that echoes: its server, and what a job that uses it changes in the main job.

    `told` is False where a run goes on without the store, and with less to say of it. At the stages
    `unheard`, the client drops the words of the server.
    """

    server: Callable[[], Any]
    use: Callable[[Bench, Any], None]
    told: bool = True
    unheard: tuple[str, ...] = ()


def _into(kind: str, **parameter: Any) -> Callable[[Bench, Any], None]:
    """A job that writes into a store of `kind`, at the address of the server."""

    def use(bench: Bench, echo: Any) -> None:
        bench.sources["Vectors"] = {"type": kind, **_source(kind, echo)}
        bench.job["steps"][-1].update(
            stepType=kind, parameter={"datasource": "Vectors", **parameter}
        )

    return use


def _out_of(kind: str, **parameter: Any) -> Callable[[Bench, Any], None]:
    """A job that reads from a store of `kind`."""

    def use(bench: Bench, echo: Any) -> None:
        bench.sources["Rows"] = {"type": kind, **_source(kind, echo)}
        reader = step(kind, "reader", "Reader", datasource="Rows", **parameter)
        bench.job["steps"][:2] = [reader]

    return use


def _source(kind: str, echo: Any) -> dict[str, Any]:
    at = {"host": "127.0.0.1", "port": echo.port, "database": "d"}
    login = {"username": "user", "password": KEY}
    keys = {"accessKeyId": "id-of-the-key", "accessKeySecret": KEY}
    sources: dict[str, dict[str, Any]] = {
        "postgresql": {**at, **login},
        "hologres": {**at, **login},
        "mysql": {**at, **login},
        "elasticsearch": {"endpoint": f"http://127.0.0.1:{echo.port}", **login},
        "opensearch": {"endpoint": f"http://127.0.0.1:{echo.port}", **login},
        "milvus": {"endpoint": f"http://127.0.0.1:{echo.port}", "token": f"user:{KEY}"},
        "s3": {
            "endpoint": f"http://127.0.0.1:{echo.port}", "bucket": "b", "pathStyle": True,
            **keys, "sessionToken": KEY[::-1],
        },
        "oss": {"endpoint": f"http://localhost:{echo.port}", "bucket": "b", **keys},
        "odps": {
            "endpoint": f"http://127.0.0.1:{echo.port}/api", "project": "p",
            "accessId": "id-of-the-key", "accessKey": KEY,
        },
    }  # fmt: skip
    return sources[kind]


def _cached(bench: Bench, echo: Any) -> None:
    bench.job["setting"]["vectorCache"] = {"uri": f"redis://:{KEY}@127.0.0.1:{echo.port}/0"}


def _fields(vector: str) -> list[dict[str, Any]]:
    return [
        {"name": "id", "type": "keyword", "primaryKey": True},
        {"name": "text", "type": "text"},
        {"name": "vector", "type": vector, "dimension": 64},
    ]


_TABLE = [
    {"name": "id", "type": "text", "primaryKey": True},
    {"name": "text", "type": "text"},
    {"name": "vector", "type": "vector", "dimension": 64},
]
_FIELDS = [
    {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
    {"name": "text", "type": "VarChar", "maxLength": 1000},
    {"name": "vector", "type": "FloatVector", "dimension": 64},
]
_FILES = {"object": ["a.jsonl"], "fileFormat": "jsonl", "column": ["id", "text"]}
STORES = {
    "elasticsearch": Store(
        HttpEcho, _into("elasticsearch", index="texts", column=_fields("dense_vector"))
    ),
    "opensearch": Store(HttpEcho, _into("opensearch", index="texts", column=_fields("knn_vector"))),
    "milvus": Store(
        MilvusEcho, _into("milvus", collection="texts", column=_FIELDS), unheard=("login",)
    ),
    "postgresql": Store(PostgresEcho, _into("postgresql", table="texts", column=_TABLE)),
    "hologres": Store(PostgresEcho, _into("hologres", table="texts", column=_TABLE)),
    "postgresql reader": Store(
        PostgresEcho, _out_of("postgresql", table="texts", column=["id", "text"])
    ),
    "mysql reader": Store(MysqlEcho, _out_of("mysql", table="texts", column=["id", "text"])),
    "s3 denied": Store(lambda: HttpEcho(403, xml=True), _out_of("s3", **_FILES)),
    "s3 refused": Store(lambda: HttpEcho(400, xml=True), _out_of("s3", **_FILES)),
    "oss": Store(lambda: HttpEcho(403, xml=True), _out_of("oss", **_FILES)),
    "odps": Store(
        lambda: HttpEcho(403, xml=True), _out_of("odps", table="texts", column=["id", "text"])
    ),
    "redis": Store(RedisEcho, _cached, told=False),
}


def _stages(store: Store) -> tuple[str, ...]:
    stages: tuple[str, ...] = store.server().stages
    return stages


@pytest.mark.slow
@pytest.mark.parametrize("offset", some([150, 390, *(n for n in range(0, 460, 13))], 1))
@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name in STORES for stage in _stages(STORES[name])]
)
def test_a_store_may_echo_its_key_at_any_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, stage: str, offset: int
) -> None:
    """With `check --connect`, `preview` and `run`, when it refuses the login or what comes next."""
    store = STORES[name]
    echo: Echo = store.server()
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "1", "text": "a"}])
    with echo.running():
        store.use(bench, echo)
        echo.stage = stage
        for spelling in SPELLINGS:
            echo.text = f"{'x ' * (offset // 2)}{spelling(KEY)} {'y ' * 200}"
            for more in ([], ["--no-preflight", "--json"], ["-vv"]):
                assert leaks(shown(bench, *more)) == []
            outcomes = [bench.call("check", "--connect"), bench.call("preview")]
            assert [leaks(outcome.out + outcome.err) for outcome in outcomes] == [[], []]
            if store.told:
                assert outcomes[0].status == 2
                # Behind that, the key stands in the middle, which a long message loses.
                assert "***" in outcomes[0].err or offset > 52 or stage in store.unheard
