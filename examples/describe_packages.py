"""Writes what the installed Python packages say of themselves, as JSON lines.

    python examples/describe_packages.py data/packages.jsonl

Each package's summary and long description is cut into pieces of at most 400 characters, one
a line: ``{"id": "numpy:3", "package": "numpy", "text": "…"}``. Real texts, and nothing downloaded.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SHORTEST, LONGEST = 80, 400
"""Characters: paragraphs below the first are joined to the next, above the second they are cut."""

_NOISE = [
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_+"), r"\1"),  # links of reStructuredText: their words stay
    (re.compile(r"\[?!\[[^\]]*\]\([^)]*\)(\]\([^)]*\))?"), " "),  # badges of Markdown
    (re.compile(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])"), r"\1"),  # links of Markdown
    (re.compile(r"<!--.*?-->|<[^>\n]{1,300}>", re.DOTALL), " "),  # HTML
    (re.compile(r"^\s*\.\. .*(\n\s+:.*)*$", re.MULTILINE), " "),  # directives
    (re.compile(r"^\s*[|+=\-~*^\"'#:`]+[|+=\-~*^\"'#:`\s]*$", re.MULTILINE), "\n"),  # rules
    (re.compile(r"``|`_+|\*\*|\|[A-Za-z0-9-]+\|_*"), ""),  # marks around words
]
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a description as plain lines, without markup that says nothing."""
    for pattern, replacement in _NOISE:
        text = pattern.sub(replacement, text)
    for block in re.split(r"\n\s*\n", text):
        line = " ".join(block.split()).strip("#=*- ")
        if sum(c.isalpha() for c in line) > 0.5 * len(line):
            yield line


def chunks(text: str) -> Iterator[str]:
    """Pieces of `SHORTEST` to `LONGEST` characters, cut between sentences where possible."""
    held = ""
    for paragraph in paragraphs(text):
        for sentence in _SENTENCE_END.split(paragraph):
            for start in range(0, len(sentence), LONGEST):
                piece = sentence[start : start + LONGEST]
                if held and len(held) + 1 + len(piece) > LONGEST:
                    yield held
                    held = ""
                held = f"{held} {piece}".strip()
        if len(held) >= SHORTEST:
            yield held
            held = ""
    if len(held) >= SHORTEST // 2:
        yield held


def descriptions() -> Iterator[dict[str, str]]:
    """A row for each piece of each installed package, a package once, ordered by name."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower()] = distribution.metadata
    for name, metadata in sorted(found.items()):
        about = metadata.get_payload() or metadata.get("Description") or ""
        summary = (metadata["Summary"] or "").strip()
        texts = [f"{name}: {summary}"] if summary else []
        texts += chunks(str(about))
        for n, text in enumerate(dict.fromkeys(texts)):
            yield {"id": f"{name}:{n}", "package": name, "text": text}


def main(path: str) -> None:
    """Writes the file and says what is in it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    packages = set()
    rows = 0
    with target.open("w", encoding="utf-8") as out:
        for row in descriptions():
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            packages.add(row["package"])
            rows += 1
    print(f"{rows} pieces of text about {len(packages)} packages in {target}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "data/packages.jsonl")
