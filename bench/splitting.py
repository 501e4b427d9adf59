"""Megabytes of text a second of CPU that the step `text-splitting` cuts, against its library.

Usage::

    python -m bench.splitting [--megabytes 20] [--runs 3]

The documents are the pages of docs/, each made longer to about 40 kB, in chunks of 1,000
characters or 250 tokens. The library is semantic-text-splitter. Its line is a loop over
`chunk_indices`, and "with rows" also makes a dict of each chunk. All run in turn, in one process.
By tokens, a fiftieth of the text is cut, and the loop has the tokenizer itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent.parent / "docs"
LETTERS, CHARACTERS, TOKENS, FEWER = 40_000, 1000, 250, 50
KINDS = ("paragraph", "markdown", "tokens")


def documents(size: int) -> list[str]:
    """Texts of about `size` characters together."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))]
    found: list[str] = []
    while sum(map(len, found)) < size:
        page = pages[len(found) % len(pages)]
        found.append(f"{len(found)}\n\n" + page * max(1, LETTERS // len(page)))
    return found


def library(kind: str) -> Any:
    """The splitter of the library."""
    import semantic_text_splitter as s

    if kind == "tokens":
        from vecferry.transforms.text_split.cuts import _local

        return s.TextSplitter.from_huggingface_tokenizer_file(str(_local()), TOKENS)
    return (s.MarkdownSplitter if kind == "markdown" else s.TextSplitter)(CHARACTERS)


def bare(kind: str, texts: list[str]) -> int:
    """The loop over the library."""
    splitter = library(kind)
    return sum(len(splitter.chunk_indices(text)) for text in texts)


def with_rows(kind: str, texts: list[str]) -> int:
    """The loop over the library, which makes a dict of each chunk."""
    splitter, made = library(kind), 0
    for number, text in enumerate(texts):
        chunks = splitter.chunk_indices(text)
        rows = [
            {
                "path": f"{number}",
                "chunk": chunk,
                "chunk_id": f"{number}#{i}",
                "chunk_index": i,
                "chunk_count": len(chunks),
                "chunk_start": start,
                "chunk_end": start + len(chunk),
            }
            for i, (start, chunk) in enumerate(chunks)
        ]
        made += len(rows)
    return made


def ours(kind: str, texts: list[str]) -> int:
    """The step, without Beam."""
    from vecferry.rows import Change
    from vecferry.steps import StepContext
    from vecferry.transforms.text_split import TextSplitSettings
    from vecferry.transforms.text_split.splitter import Splitter

    said: dict[str, Any] = {"sourceColumnName": "text", "chunkSize": CHARACTERS, "by": kind}
    if kind == "tokens":
        said |= {"by": "paragraph", "unit": "tokens", "chunkSize": TOKENS}
    settings = TextSplitSettings.model_validate(said)
    splitter = Splitter(settings, None, StepContext(step="Split", step_type="text-splitting"))
    changes = (Change({"path": f"{n}", "text": text}) for n, text in enumerate(texts))
    return sum(len(splitter.process(change)) for change in changes)


SIDES: dict[str, Callable[[str, list[str]], int]] = {
    "library": bare,
    "with rows": with_rows,
    "vecferry": ours,
}


def measured(kind: str, size: int, runs: int) -> Iterator[tuple[str, float]]:
    """Megabytes a second of CPU of each side, the median of some runs."""
    texts = documents(size)
    letters = sum(len(text.encode()) for text in texts)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(runs):
        for side, cut in SIDES.items():
            began = time.process_time()
            assert cut(kind, texts) > size / (2 * CHARACTERS)
            speeds[side].append(letters / 1e6 / (time.process_time() - began))
    for side, found in speeds.items():
        yield side, statistics.median(found)


def main() -> None:
    """Prints a line of JSON for each way to cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for kind in KINDS:
        size = options.megabytes * 1_000_000 // (FEWER if kind == "tokens" else 1)
        found = dict(measured(kind, size, options.runs))
        ratio = {f"of {side}": round(found["vecferry"] / found[side], 2) for side in SIDES}
        ratio.pop("of vecferry")
        told = {f"{side}, MB/s": round(speed, 2) for side, speed in found.items()}
        print(json.dumps({"by": kind, **told, **ratio}), flush=True)


if __name__ == "__main__":
    main()
