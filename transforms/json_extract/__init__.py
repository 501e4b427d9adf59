"""Fields of JSON text into columns.

- `extractor`: finds the fields of a text

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.transforms.json_extract.settings import JsonExtractSettings as JsonExtractSettings
    from vecferry.transforms.json_extract.transform import ExtractJson as ExtractJson

__getattr__ = hands_on(
    __name__,
    {
        "ExtractJson": "transform",
        "JsonExtractSettings": "settings",
    },
)
