"""What a vector cache costs: the engine alone, with every text in the cache and with none.

*warm*: all texts are known, and nothing is sent. The first line is the same engine with all vectors
in memory. *cold*: no text is known, and all texts are put in. The endpoint takes 100 ms for 10
inputs, with 16 requests under way. Beside *cold* stand the same engine without a cache, and the
ideal. ``redis+1ms`` is Redis behind a proxy that holds each packet back for 1 ms, as a network
would. Prints medians of runs in turn, each in a process of its own.

Usage::

    python -m bench.embed_cache [--rows 20000] [--times 3]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.embed_endpoint import BATCH, DIMENSION, LATENCY, LATENCY_OPTION, endpoint, text_of
from tests.services.redis_server import RedisServer

IN_FLIGHT = 16


def embed(url: str, uri: str | None, rows: int, *, twice: bool) -> float:
    """Embeds rows with an engine, without Beam, and gives the seconds of the last pass."""
    from vecferry.rows import Change
    from vecferry.steps import RunContext, StepContext
    from vecferry.transforms.embed import EmbedSettings
    from vecferry.transforms.embed.engine import Embedder

    settings = EmbedSettings(
        model_provider="openai",
        model_name="text-embedding-v4",
        api_key="sk-test",
        endpoint=url,
        dimension=DIMENSION,
        cache_bytes=(2 if twice else 0) << 30,
        vector_cache={"uri": uri} if uri else None,
        embedding_columns=[{"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}],
    )
    context = StepContext(
        step="Embed", step_type="embedding-transformer", shared=RunContext(concurrent=IN_FLIGHT)
    )
    for _ in range(2 if twice else 1):
        engine = Embedder(settings, None, context)
        found, started = 0, time.perf_counter()
        for i in range(rows):
            for row, _ in engine.process(Change({"id": i, "text": text_of(i)})):
                found += len(row["vector"]) == DIMENSION
        found += sum(len(row["vector"]) == DIMENSION for row, _ in engine.finish())
        seconds = time.perf_counter() - started
        engine.close()
        assert found == rows, found
    engine._shared.close()
    return seconds


@contextmanager
def delayed(uri: str) -> Iterator[str]:
    """The same Redis, 1 ms away in each direction."""
    command = [sys.executable, "-m", "bench.embed_cache", "--proxy", str(urlsplit(uri).port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"redis://127.0.0.1:{process.stdout.readline().strip()}/0"
        finally:
            process.terminate()


async def proxy(port: int) -> None:
    """Listens and hands on what comes after 1 ms."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 20):
            loop.call_later(0.001, writer.write, data)
        loop.call_later(0.001, writer.close)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def measure(url: str, uri: str | None, rows: int, *, twice: bool = False) -> float:
    """Rows a second of a run in a process of its own."""
    command = [sys.executable, "-m", "bench.embed_cache", "--run", url, uri or "", str(rows)]
    done = subprocess.run([*command, str(int(twice))], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return rows / float(done.stdout)


def compare(url: str, uris: dict[str, str | None], rows: int, times: int) -> None:
    """Runs the contestants in turn and prints their medians."""
    import redis

    seen: dict[tuple[str, str], list[float]] = {}
    cold_rows = min(rows, 10 * int(IN_FLIGHT * BATCH / LATENCY))
    for _ in range(times):
        for name, uri in uris.items():
            if name == "sqlite":
                uri = f"sqlite:///{tempfile.mkdtemp()}/cache.db"
            elif uri is not None:
                with redis.Redis.from_url(uris["redis"] or "") as client:
                    client.flushall()
            seen.setdefault(("cold", name), []).append(measure(url, uri, cold_rows))
            if uri is not None and cold_rows < rows:
                measure(url, uri, rows)  # the rest goes in, too
            seen.setdefault(("warm", name), []).append(measure(url, uri, rows, twice=uri is None))
    print("          what           rows/s  ratio  µs/row")
    for kind, beside in (("cold", "none"), ("warm", "none")):
        base = statistics.median(seen[kind, beside])
        for name in uris:
            rate = statistics.median(seen[kind, name])
            shown = "in memory" if (kind, name) == ("warm", "none") else name
            print(f"{kind:8}  {shown:12}  {rate:8,.0f}  {rate / base:5.2f}  {1e6 / rate:6.1f}")
    print(f"ideal of cold: {IN_FLIGHT * BATCH / LATENCY:,.0f} rows/s")


def main() -> None:
    """Prints a line for each kind of cache, cold and warm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--proxy", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        url, uri, rows, twice = options.run
        print(embed(url, uri or None, int(rows), twice=twice == "1"))
        return
    if options.proxy:
        asyncio.run(proxy(options.proxy))
        return
    server = RedisServer()
    server.install()
    server.start()
    try:
        with endpoint(*LATENCY_OPTION) as url, delayed(server.uri) as away:
            uris = {"none": None, "sqlite": "sqlite", "redis": server.uri, "redis+1ms": away}
            compare(url, uris, options.rows, options.times)
    finally:
        server.stop()
        server.remove()


if __name__ == "__main__":
    main()
