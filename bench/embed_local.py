"""The local model on one core: its tokenizer asked for each word once, against for each text.

The texts are those of `bench/main_job.py`, 64 a call, each of them new. The two ways take turns in
one process. Vectors are compared to the bit. The figures are CPU of this process, which other work
of the machine changes little; words begin unknown in each round.

Usage::

    python -m bench.embed_local [--rows 30000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import orjson

from vecferry.process import PROCESS
from vecferry.transforms.embed import EmbedSettings
from vecferry.transforms.embed.endpoints.local import LocalEndpoint, Tokens, _load

sys.path.insert(0, str(Path(__file__).parent))

import main_job

BATCH = 64


def embedded(texts: list[str], by_words: bool) -> tuple[float, list[bytes]]:
    """The seconds of CPU for all texts, and the vectors of the last hundred calls."""
    settings = {"modelProvider": "local", "dimension": main_job.DIMENSION, "embeddingColumns": []}
    settings["embeddingColumns"] = [{"sourceColumnNames": ["a"], "embeddingColumnName": "b"}]
    endpoint = LocalEndpoint(EmbedSettings.model_validate(settings).endpoint_spec, 1)
    tokenizer, _ = PROCESS.get(("embed", "wordllama"), _load)
    endpoint._tokens = Tokens(tokenizer)
    endpoint._tokens._by_words = by_words
    found: list[bytes] = []
    begun = time.process_time()
    for at in range(0, len(texts), BATCH):
        vectors = endpoint.embed([*texts[at : at + BATCH]]).vectors
        if at >= len(texts) - 100 * BATCH:
            found += [vector.tobytes() for vector in vectors]
    return time.process_time() - begun, found


def main() -> None:
    """Prints microseconds a row of both ways, and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        main_job.write_texts(path, args.rows)
        texts = [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(args.rounds):
        bits = []
        for by_words in (True, False) if turn % 2 == 0 else (False, True):
            taken, vectors = embedded(texts, by_words)
            seconds[by_words].append(taken)
            bits.append(vectors)
            print(f"  {'words' if by_words else 'texts'}: {taken / args.rows * 1e6:6.1f} µs a row")
        assert bits[0] == bits[1]
    ratio = statistics.median(seconds[False]) / statistics.median(seconds[True])
    print(f"texts / words = {ratio:.2f}; the vectors are the same to the bit")


if __name__ == "__main__":
    main()
