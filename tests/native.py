"""Damaged bytes for the libraries in C that read them: what makes one of them crash or hang?

`python -m tests.native NAME FIRST COUNT` reads damaged contents of a library, by their seeds, in
this process, and prints each seed before it. `ends` runs it in children and counts how they end.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MOST_MEMORY = 4 << 30
SECONDS = 60
"""No damaged content takes longer to read."""

Contents = Callable[[], list[bytes]]


@dataclass(frozen=True)
class Library:
    """A library: sound contents, and what reads a content as vecferry does."""

    contents: Contents
    read: Callable[[bytes], object]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy of some bytes with one kind of damage."""
    found = bytearray(data)
    at = rng.randrange(len(found))
    kind = rng.randrange(8)
    if kind == 0:
        found[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del found[at:]
    elif kind == 2:
        del found[at : at + rng.randrange(1, 300)]
    elif kind == 3:
        found[at:at] = rng.choice(
            [b'"', b"\0", b"\r", b"\n", b"\xff", b"\xef\xbb\xbf", b"[" * 300, b"\\",
             b"\xed\xa0\x80", b",", b"}", b"1e999"]
        )  # fmt: skip
    elif kind == 4:
        found[at : at + 8] = rng.randbytes(8)
    elif kind == 5:
        found[at:at] = found[: rng.randrange(1, 2000)]
    elif kind == 6:
        other = rng.randrange(len(found))
        found[at], found[other] = found[other], found[at]
    else:
        for _ in range(20):
            found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def _table() -> Any:
    import datetime
    import decimal

    import pyarrow as pa

    n = 300
    return pa.table(
        {
            "id": pa.array(range(n)),
            "text": [f"Weg {i} 中文" * (i % 4) if i % 7 else None for i in range(n)],
            "same": ["x", "yy", ""] * (n // 3),
            "real": [i / 3 for i in range(n)],
            "flag": [bool(i & 1) if i % 5 else None for i in range(n)],
            "amount": [decimal.Decimal(i) / 100 for i in range(n)],
            "day": [datetime.date(2000, 1, 1) + datetime.timedelta(i) for i in range(n)],
            "time": pa.array(
                [datetime.datetime(2000, 1, 1) + datetime.timedelta(i / 7) for i in range(n)],
                pa.timestamp("ns"),
            ),
            "more": [[i, None, i * i] if i % 9 else None for i in range(n)],
            "vector": pa.array([[i / 2, 1.0, 2.0] for i in range(n)], pa.list_(pa.float32())),
            "inner": [{"a": i, "b": [str(i)]} for i in range(n)],
        }
    )


def _parquet() -> list[bytes]:
    import pyarrow.parquet as pq

    found = []
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        for more in ({}, {"use_dictionary": False, "data_page_version": "2.0"}):
            sink = io.BytesIO()
            pq.write_table(_table(), sink, row_group_size=110, compression=codec, **more)
            found.append(sink.getvalue())
    return found


def _orc() -> list[bytes]:
    import pyarrow.orc

    from tests.contracts.files import FORMATS

    found = [case.make() for case in FORMATS if case.name == "a.orc"]
    for codec in ("uncompressed", "snappy", "zlib", "lz4", "zstd"):
        for more in ({}, {"dictionary_key_size_threshold": 0.9}):
            sink = io.BytesIO()
            pyarrow.orc.write_table(
                _table(), sink, stripe_size=1, batch_size=64, compression=codec, **more
            )
            found.append(sink.getvalue())
    return found


def _read_columns(kind: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        from vecferry.io.common.arrow import column_values
        from vecferry.io.files.formats.orc import OrcTable
        from vecferry.io.files.formats.parquet import ParquetTable

        table = {"orc": OrcTable, "parquet": ParquetTable}[kind](io.BytesIO(data))
        for unit in range(table.units):
            for batch in table.batches(unit, None):
                for column in batch.columns:
                    column_values(column, None)
        return table

    return read


def _pictures() -> list[bytes]:
    import numpy as np
    import PIL.Image

    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    plain = PIL.Image.fromarray(noise)
    found = []
    for kind, options in [
        ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}),
        ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}),
        ("WEBP", {}), ("WEBP", {"lossless": True}),
    ]:  # fmt: skip
        sink = io.BytesIO()
        plain.save(sink, kind, **options)
        found.append(sink.getvalue())
    return found


def _prepare(data: bytes) -> object:
    from vecferry.transforms.embed.images import prepare
    from vecferry.transforms.embed.images.spec import ImageRules

    rules = [
        ImageRules(model="m", most_bytes=1 << 20, formats=frozenset({"jpeg"}), most_pixels=200),
        ImageRules(model="m", most_bytes=1 << 20, formats=None, most_pixels=None),
    ]
    return [prepare.prepare(b"k", data, rule) for rule in rules]


def _lines() -> list[bytes]:
    rows = [{"id": i, "t": f"ü{i}" * (i % 9), "n": [1.5, None, {"a": i}]} for i in range(60)]
    return ["\n".join(json.dumps(r, ensure_ascii=i) for r in rows).encode() for i in (True, False)]


def _documents() -> list[bytes]:
    return [b"[" + lines.replace(b"\n", b",") + b"]" for lines in _lines()]


def _json(module: str, call: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        loads = importlib.import_module(module)
        for name in call.split("."):
            loads = getattr(loads, name)
        return [loads(line) for line in data.split(b"\n")]  # type: ignore[operator]

    return read


def _ijson(data: bytes) -> object:
    import ijson

    return list(ijson.items(io.BytesIO(data), "item"))


def _yaml(data: bytes) -> object:
    from vecferry.pipelines.job.documents import _parse_yaml

    return _parse_yaml(data.decode(errors="replace"))


def _written() -> list[bytes]:
    import yaml

    rows = [json.loads(line) for line in _lines()[0].split(b"\n")]
    return [yaml.safe_dump(rows, allow_unicode=True).encode()]


def _packed(pack: Callable[[bytes], bytes]) -> Contents:
    return lambda: [pack(b"".join(_lines()) * n) for n in (1, 40)]


def _zip(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", data)
        archive.writestr("b.jsonl", data)
    return sink.getvalue()


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.Codec("zstd").compress(data))


def _unpack(packing: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        from vecferry.io.files.formats.unpack import members, what_is_there

        for _, opened in members("a", io.BytesIO(data), packing):
            stream = opened()
            while what_is_there(stream)(1 << 16):
                pass
        return None

    return read


def _csv() -> list[bytes]:
    return ["\n".join(f'{i},"a ""{i}"" b",{i * i}' for i in range(900)).encode()]


def _read_csv(data: bytes) -> object:
    import pyarrow as pa
    import pyarrow.csv

    return pyarrow.csv.read_csv(
        pa.BufferReader(data), pyarrow.csv.ReadOptions(use_threads=False)
    ).to_pylist()


def _stream() -> list[bytes]:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, _table().schema) as writer:
        writer.write_table(_table(), max_chunksize=100)
    return [sink.getvalue()]


def _read_stream(data: bytes) -> object:
    import pyarrow as pa

    from vecferry.io.common.arrow import column_values, require_sound

    batches = list(pa.ipc.open_stream(io.BytesIO(data)))
    for batch in batches:
        require_sound(batch)
    return [column_values(c, None) for batch in batches for c in batch.columns]


LIBRARIES = {
    "orc": Library(_orc, _read_columns("orc")),
    "parquet": Library(_parquet, _read_columns("parquet")),
    "images": Library(_pictures, _prepare),
    "orjson": Library(_lines, _json("orjson", "loads")),
    "msgspec": Library(_lines, _json("msgspec", "json.decode")),
    "yaml": Library(_written, _yaml),
    "ijson": Library(_documents, _ijson),
    "arrow csv": Library(_csv, _read_csv),
    "arrow stream": Library(_stream, _read_stream),
    "zstd": Library(_packed(_zstd), _unpack("zstd")),
    "gzip": Library(_packed(gzip.compress), _unpack("gzip")),
    "bzip2": Library(_packed(bz2.compress), _unpack("bzip2")),
    "zip": Library(_packed(_zip), _unpack("zip")),
}


def content(library: Library, seed: int, made: list[bytes]) -> bytes:
    """The damaged content of a seed."""
    return damaged(made[seed % len(made)], random.Random(seed))


def ends(name: str, count: int, python: str = sys.executable) -> dict[str, Any]:
    """How often reading ends in values, in an error, and with which seeds in a crash or a hang."""
    counts: Counter[str] = Counter()
    lost: list[tuple[int, str]] = []
    first = 0
    while first < count:
        last, how = first, "hang"
        for line in _told(name, first, count, python):
            kind, _, rest = line.partition(" ")
            if kind == "seed":
                last = int(rest)
            elif kind == "ended":
                how = rest
            else:
                counts[kind] += 1
        if how == "0":
            break
        lost.append((last, how))
        first = last + 1
    return {**counts, "lost": lost}


def _told(name: str, first: int, count: int, python: str) -> Iterator[str]:
    command = [python, "-m", "tests.native", name, str(first), str(count)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert child.stdout is not None
    with child, child.stdout:
        for line in child.stdout:
            yield line.rstrip()
    yield f"ended {child.returncode}"


def main(name: str, first: str, count: str) -> None:
    """Reads the damaged contents of some seeds; prints the seed, then `read` or `words`."""
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = LIBRARIES[name]
    made = library.contents()
    for data in made:
        library.read(data)
    for seed in range(int(first), int(count)):
        print("seed", seed, flush=True)
        signal.alarm(SECONDS)
        try:
            library.read(content(library, seed, made))
        except MemoryError:
            print("memory", flush=True)
        except Exception:
            print("words", flush=True)
        else:
            print("read", flush=True)
    signal.alarm(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
