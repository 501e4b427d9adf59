"""Pages, docstrings, comments and error texts are in plain words, as far as a linter can tell.

``python -m tests.prose FILE…`` tells where a file breaks a rule.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import prose
from tests.code import HELPERS, MODULES, PAGES, ROOT, SCRIPTS, TESTS

EXAMPLES = Path(__file__)
"""This module quotes what breaks the rules."""
CODE = [path for path in (*MODULES, *SCRIPTS, *TESTS, *HELPERS) if path != EXAMPLES]


def listed(found: list[prose.Finding]) -> list[str]:
    """The findings as one reads them, by paths from the root."""
    return [f"{f.path.relative_to(ROOT)}:{f.line}: {f.rule}: {f.text}" for f in found]


def test_pages_are_written_in_plain_words() -> None:
    """No page breaks a rule."""
    assert listed([finding for page in PAGES for finding in prose.findings(page)]) == []


def test_the_first_pages_are_short() -> None:
    """A stranger reads the README and the architecture as a whole."""
    lengths = {
        name: len((ROOT / name).read_text(encoding="utf-8").splitlines())
        for name in ("README.md", "docs/architecture.md")
    }
    assert {name: length for name, length in lengths.items() if length > 120} == {}


def test_code_is_written_in_plain_words() -> None:
    """No docstring, comment or error text breaks a rule."""
    assert listed([finding for path in CODE for finding in prose.findings(path)]) == []


def rules_of(text: str, name: str, folder: Path) -> list[str]:
    """The rules that a file of this text breaks."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return [finding.rule for finding in prose.findings(path)]


LONG = " ".join(["Word"] * 26)
GOOD = " ".join(["Word"] * 25)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("There is no way out.", ["is no"]),
        ("`x is no y` stands in code.", []),
        ("It holds for tables, too.", ["too"]),
        ("It is, too, a table", ["too"]),
        ("It is too large, or too small.", []),
        ("The reader shall stop.", ["shall"]),
        ("A file which holds a row which fails.", ["which"]),
        ("A file which fails. A row which fails.", []),
        (LONG, ["length"]),
        (GOOD, []),
        (f"{GOOD}. {GOOD}.", []),
        (f"{GOOD} e.g. More.", ["length"]),
        ("word " * 24 + "`a b c d`.", []),
        ("word " * 24 + "[two words](x.md).", ["length"]),
        ("word " * 24 + "[one](https://a.b/c d e).", []),
        (f"- {GOOD}\n- {GOOD}\n", []),
        (f"{GOOD}\nand more", ["length"]),
        (f"# A heading\n{GOOD}", []),
        (f"```\n{LONG}\n```\n", []),
        (f"<!-- {LONG} -->\n", []),
        (f"| a | {'x' * 121} |\n|---|---|\n", ["cell"]),
        (f"| a | [x](https://{'x' * 121}) |\n", []),
        (f"| `a|b` | {'x' * 100} | {'y' * 100} |\n", []),
        ("word " * 20 + "at 10.5 s. " + "Word " * 20, []),
    ],
)
def test_a_page_is_read_by_sentences(text: str, rules: list[str], tmp_path: Path) -> None:
    """Code, comments and addresses are left out; items, headings and cells end a sentence."""
    assert rules_of(text, "page.md", tmp_path) == rules


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (f'"""{LONG}"""', ["length"]),
        ('"""There is no x."""', ["is no"]),
        (f'"""{GOOD}\n\nArgs:\n  a: {GOOD}\n  b: {GOOD}\n"""', []),
        (f'"""Like this::\n\n    {LONG}\n"""', []),
        ('def f():\n    raise ValueError(f"{x} is no number: give one")', ["is no"]),
        ('x = "is no"', []),
        ("# the reader\n# shall stop\nx = 1", ["shall"]),
        ("x = 1  # the reader shall stop", ["shall"]),
        ("x = 1  # noqa: there is no rule", []),
        ('x = "SELECT x FROM y WHERE there is no z"', []),
        (f'x = "{GOOD}\\n{GOOD}"', []),
    ],
)
def test_code_is_read_by_its_prose(text: str, rules: list[str], tmp_path: Path) -> None:
    """Docstrings, comments and texts of a sentence's length are read, SQL and other code is not."""
    assert rules_of(text, "module.py", tmp_path) == rules
