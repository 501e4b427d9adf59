"""The headings above a place, against a parser of Markdown."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from vecferry.rows import Change
from vecferry.steps import StepContext
from vecferry.transforms.text_split import TextSplitSettings
from vecferry.transforms.text_split.headings import Headings
from vecferry.transforms.text_split.splitter import Splitter

PAGES = sorted((Path(__file__).parents[3] / "docs").rglob("*.md"))
TRICKY = {
    "fenced code": "# A\n\n```sh\n# not one\n```\n\n## B\nx\n",
    "a longer fence": "# A\n\n````\n```\n# not one\n````\n## B\n",
    "tildes": "# A\n\n~~~ python\n# not one\n~~~\n\n# C\n",
    "an open fence": "# A\n\n```\n# not one\n",
    "code between backticks": "# A\n\n```x``` is code\n\n## B\n",
    "underlined": "A\n===\n\nB\n---\n\nC\n=\n",
    "a rule": "# A\n\n---\n\n## B\n\n***\n",
    "a table": "# A\n\n| x |\n|---|\n| # y |\n",
    "closing signs": "# A ##\n\n## B #x\n\n## C\\#\n",
    "no heading": "#hashtag\n\n    # code\n\n####### seven\n",
    "up and down": "# A\n### B\n## C\n#### D\n# E\n",
    "no text": "# A\n\n#\n\nx\n",
}


def by_parser(text: str) -> list[tuple[int, str]]:
    """Line and path of each heading that stands in no list or quote, as the parser has it."""
    stack: list[tuple[int, str]] = []
    found = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, inline in itertools.pairwise(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        level = int(token.tag[1])
        stack = [above for above in stack if above[0] < level]
        if inline.content:
            stack.append((level, inline.content))
        found.append((token.map[0], " > ".join(title for _, title in stack)))
    return found


def otherwise(text: str) -> list[tuple[int, str]]:
    """The lines at whose begin the headings are not those of the parser."""
    headings, expected = Headings(text), dict(by_parser(text))
    place, above, found = 0, "", []
    for number, line in enumerate(text.split("\n")):
        above = expected.get(number, above)
        if headings.at(place) != above:
            found.append((number, line))
        place += len(line) + 1
    return found


@pytest.mark.parametrize("text", TRICKY.values(), ids=TRICKY)
def test_headings_are_those_of_a_parser(text: str) -> None:
    """Also where something only looks like one."""
    assert otherwise(text) == []


def test_headings_of_the_own_pages_are_those_of_a_parser() -> None:
    """All of them, some with long code."""
    assert {page.name: found for page in PAGES if (found := otherwise(page.read_text()))} == {}


def test_line_ends_of_windows_move_nothing() -> None:
    """Places are those in the text as it came."""
    text = "# A\r\n\r\nx\r\n\r\nB\r\n---\r\n\r\ny\r\n"
    headings = Headings(text)
    assert [headings.at(text.index(c)) for c in "xy"] == ["A", "A > B"]


def test_a_front_matter_holds_no_heading() -> None:
    """Its last line would else be one that is underlined."""
    text = "---\ntitle: x\n# note\n---\ntext\n\n# A\n\ny"
    headings = Headings(text)
    assert [headings.at(text.index(c)) for c in ("text", "y")] == ["", "A"]
    assert Headings("---\na: b\n---\n# A\n\ny").at(19) == "A"


def test_headings_may_stand_before_the_text() -> None:
    """For the embedding; start and end are those of the text alone."""
    text = "# Tides\n\n## Ebb\n\n" + "Water goes. " * 20
    settings = TextSplitSettings.model_validate(
        {"sourceColumnName": "text", "by": "markdown", "chunkSize": 60, "prependHeadings": True}
    )
    operator = Splitter(settings, None, StepContext(step="Split", step_type="text-splitting"))
    rows = [item for item, _ in operator.process(Change({"text": text, "path": "a"}))]
    last = rows[-1]
    assert isinstance(last, Change)
    assert last["headings"] == "Tides > Ebb"
    assert last["chunk"] == f"Tides > Ebb\n\n{text[last['chunk_start'] : last['chunk_end']]}"
