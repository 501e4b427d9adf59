"""The linter of prose: it reads pages and Python, and tells where a sentence breaks a rule.

``python -m tests.prose FILE…`` prints each place as ``FILE:LINE: RULE: SENTENCE``, and exits with 1
if there was one. The rules stand in CONTRIBUTING.md under "Plain words".
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_WORDS = 25
"""Words in a sentence; a span of code counts as one word."""
MOST_IN_A_CELL = 120
"""Characters in a table cell, without the addresses of links."""

PATTERNS = {
    "is no": re.compile(r"\b(is|are) no\b", re.IGNORECASE),
    "too": re.compile(r", too[.,;:)]"),
    "shall": re.compile(r"\bshall\b", re.IGNORECASE),
    "which": re.compile(r"\bwhich\b.*\bwhich\b", re.IGNORECASE | re.DOTALL),
}
RULES = (*PATTERNS, "length", "cell")

_FENCE = re.compile(r"^\s*(```|~~~)")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.) +")
_HEADING = re.compile(r"^#+ +")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)")
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_NO_PROSE = re.compile(r"^\s*([A-Z]{3,} |[{<(\[#\\])|\(\?:|\\d|\)\?|\.\*|\]\+")
"""Texts that are SQL, JSON, a pattern or the like."""
_DRAWN = re.compile("[├└│┌─]")
_SHORT = re.compile(r"\b(e\.g|i\.e|etc|cf|vs|approx|No)\.", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+(?=[\"'“(\[*_]*[A-Z0-9`¤…]|vecferry)")
_WORD = re.compile(r"[^\s]*\w[^\s]*|¤")
_PLACE = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Finding:
    """A sentence that breaks a rule.

    Args:
        path: the file.
        line: the line where the paragraph, the cell, the docstring or the comment begins.
        rule: one of `RULES`.
        text: the sentence, code and links taken out.
    """

    path: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Passage:
    """A piece of prose that no sentence crosses: a paragraph, an item, a heading, a cell."""

    line: int
    text: str
    cell: bool = False


def plain(text: str) -> str:
    """The text with each span of code as one sign, and links as their words."""
    return " ".join(_LINK.sub(r"\1", _CODE.sub("¤", text)).split())


def sentences(text: str) -> list[str]:
    """The sentences of a passage, as `plain` gives it."""
    whole = _SHORT.sub(lambda found: found[0].replace(".", "·"), text)
    return [sentence for sentence in _END.split(whole) if sentence.strip()]


def words(sentence: str) -> int:
    """How many words a sentence has; dashes, arrows and signs alone do not count."""
    return len(_WORD.findall(sentence))


def broken_rules(passage: Passage) -> Iterator[tuple[str, str]]:
    """Each rule that a passage breaks, with the sentence at fault."""
    text = plain(passage.text)
    if passage.cell and len(_LINK.sub(r"\1", passage.text).strip()) > MOST_IN_A_CELL:
        yield "cell", text
    for sentence in sentences(text):
        yield from ((rule, sentence) for rule, found in PATTERNS.items() if found.search(sentence))
        if words(sentence) > MOST_WORDS:
            yield "length", f"({words(sentence)}) {sentence}"


def cells(row: str) -> list[str]:
    """The cells of a table's row; a bar in code or behind a backslash is not a border."""
    hidden = _CODE.sub(lambda code: code[0].replace("|", "¦"), row.replace(r"\|", "¦"))
    return [cell.strip() for cell in hidden.strip().strip("|").split("|")]


def passages_of_page(text: str) -> Iterator[Passage]:
    """The prose of a page in Markdown: no fenced block, no comment."""
    kept: list[str] = []
    begun, fenced = 1, False
    text = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        fence = bool(_FENCE.match(line))
        row = line.lstrip().startswith("|") and not fenced
        ends = fenced or fence or row or not line.strip()
        if kept and (ends or _ITEM.match(line) or _HEADING.match(line)):
            yield Passage(begun, " ".join(kept))
            kept = []
        fenced ^= fence
        if row and not re.fullmatch(r"[\s|:-]+", line):
            yield from (Passage(number, cell, cell=True) for cell in cells(line))
        if ends:
            continue
        begun = begun if kept else number
        kept.append(_HEADING.sub("", _ITEM.sub("", line)).strip())
        if _HEADING.match(line):
            yield Passage(begun, kept.pop())


_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _strings(tree: ast.Module) -> tuple[list[ast.Constant], list[ast.Constant | ast.JoinedStr]]:
    """The docstrings of a module, those under attributes included, and its other texts.

    This goes through all nodes in a third of the time of `ast.walk`.
    """
    docstrings: dict[int, ast.Constant] = {}
    texts: list[ast.Constant | ast.JoinedStr] = []
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.JoinedStr):
            texts.append(node)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node)
        elif not isinstance(node, ast.Name):
            if isinstance(node, _BODIES):
                values = (part.value for part in node.body if isinstance(part, ast.Expr))
                docstrings |= {
                    id(value): value
                    for value in values
                    if isinstance(value, ast.Constant) and isinstance(value.value, str)
                }
            for value in vars(node).values():
                if isinstance(value, list):
                    left += [part for part in value if isinstance(part, ast.AST)]
                elif isinstance(value, ast.AST):
                    left.append(value)
    return list(docstrings.values()), texts


def _of_docstring(node: ast.Constant) -> Iterator[Passage]:
    """A docstring: paragraphs, items, arguments; drawings and blocks after ``::`` are left out."""
    text = str(node.value)
    block: int | None = None
    lines: list[str] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if block is not None and line.strip() and depth <= block:
            block = None
        lines.append("" if block is not None or _DRAWN.search(line) else line)
        if line.rstrip().endswith("::"):
            block = depth
    argument = re.compile(r"^\s+\*{0,2}\w+(?:, \w+)*: ")
    apart = [argument.sub("\n", line) for line in lines]
    for passage in passages_of_page("\n".join(apart)):
        yield Passage(node.lineno, passage.text)


def _of_comments(source: str) -> Iterator[Passage]:
    """Comments; lines of them right below each other are one passage."""
    kept: list[str] = []
    begun = 0
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        whole = re.match(r"^\s*#:? (?!type:|noqa|fmt:|mypy:)(.*)$", line)
        if not whole and kept:
            yield Passage(begun, " ".join(kept))
            kept = []
        behind = re.search(r"\S  # (?!type:|noqa|fmt:|pragma)([^'\"]*)$", line)
        if behind and not whole:
            yield Passage(number, behind[1])
        if whole:
            begun = begun if kept else number
            kept.append(whole[1])


def _of_text(node: ast.Constant | ast.JoinedStr) -> Iterator[Passage]:
    """A text of four words and more, such as an error or help; a value filled in is a word."""
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "¤" for p in node.values)
        text = "".join(str(part) for part in parts)
    else:
        text = _PLACE.sub("¤", str(node.value))
    if text.count(" ") >= 3 and not _NO_PROSE.search(text):
        parts_of_error = re.split(r"; |\n", text)  # what is wrong; what to do
        yield from (Passage(node.lineno, part) for part in parts_of_error)


def passages_of_code(source: str) -> Iterator[Passage]:
    """The prose of a Python module: docstrings, comments and texts such as errors."""
    docstrings, texts = _strings(ast.parse(source))
    for docstring in docstrings:
        yield from _of_docstring(docstring)
    yield from _of_comments(source)
    for text in texts:
        yield from _of_text(text)


def findings(path: Path) -> list[Finding]:
    """What a file breaks; ``.py`` is read as code, and anything else as a page."""
    text = path.read_text(encoding="utf-8")
    passages = passages_of_code(text) if path.suffix == ".py" else passages_of_page(text)
    return [
        Finding(path, passage.line, rule, sentence)
        for passage in passages
        for rule, sentence in broken_rules(passage)
    ]


def main(names: Iterable[str]) -> int:
    """Print what the named files break; the exit status."""
    found = [finding for name in names for finding in findings(Path(name))]
    for finding in found:
        print(finding)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
