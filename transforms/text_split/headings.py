"""Under which headings each place of a Markdown text stands.

Apart from `splitter` because Markdown is read here, and a parser of Markdown checks it in a test.

A scan of the lines that can be headings, since a parser would cost more than the splitting itself.
It knows headings with ``#``, headings that are underlined, fenced code and a YAML front matter.
Headings inside lists, quotes and HTML count as text.
"""

from __future__ import annotations

import re
from bisect import bisect_right

SEPARATOR = " > "

# Begins with a letter that is there as it is, so that the engine leaps from line to line.
_LINES = re.compile(
    r"""\n[ ]{0,3}(?:
      (?P<fence>`{3,}(?=[^`\n]*$)|~{3,})
    | (?P<level>\#{1,6})(?:[ \t]+(?P<text>[^\n]*?))?(?:[ \t]+\#+)?[ \t]*$
    | (?P<line>=+|-+)[ \t]*$
    )""",
    re.MULTILINE | re.VERBOSE,
)
_UNDERLINED = re.compile(r"[ ]{0,3}(?![-*+>#|\d`~]|[ ])[^\n]*\S")
_FRONT = re.compile(r"---[ \t]*\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")


class Headings:
    """The headings of one Markdown text."""

    def __init__(self, text: str) -> None:
        # Each line, the first included, now has a line end before it; places move by one.
        text = "\n" + text.replace("\r\n", " \n")
        self._starts: list[int] = []
        self._above: list[str] = []
        stack: list[tuple[int, str]] = []
        front = _FRONT.match(text, 1)
        first = place = front.end() - 1 if front else 0
        while found := _LINES.search(text, place):
            start, place = found.start(), found.end()
            if found["fence"]:
                first = place = _behind_fence(text, place, found["fence"])
                continue
            if found["line"]:
                above = _UNDERLINED.match(text, text.rfind("\n", 0, start) + 1, start)
                if above is None or above.start() <= first:
                    continue
                first, start = place, above.start() - 1
                level, title = 1 if found["line"][0] == "=" else 2, above.group().strip()
            else:
                first = place
                level, title = len(found["level"]), (found["text"] or "").strip()
            while stack and stack[-1][0] >= level:
                stack.pop()
            if title:
                stack.append((level, title))
            self._starts.append(start)
            self._above.append(SEPARATOR.join(title for _, title in stack))

    def at(self, place: int) -> str:
        """The headings above the character at `place`, the outermost first; a heading counts."""
        index = bisect_right(self._starts, place)
        return self._above[index - 1] if index else ""


def _behind_fence(text: str, place: int, fence: str) -> int:
    """Where the code ends that a fence begins; the end of the text if nothing closes it."""
    end = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    closing = end.search(text, place)
    return closing.end() if closing else len(text)
