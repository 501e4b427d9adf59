"""Documents into chunks, a row for each.

- `splitter`: cuts a document, and makes the rows
- `cuts`: where a text is cut, by characters or by tokens
- `headings`: under which headings a place of a Markdown text stands

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.transforms.text_split.settings import TextSplitSettings as TextSplitSettings
    from vecferry.transforms.text_split.transform import SplitText as SplitText

__getattr__ = hands_on(
    __name__,
    {
        "SplitText": "transform",
        "TextSplitSettings": "settings",
    },
)
