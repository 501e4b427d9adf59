"""Rows in shape: rows that are left out, columns that are edited, rows that repeat others.

- `expressions`: conditions and values in CEL, the Common Expression Language
- `patterns`: how texts are replaced
- `operations`: what rules do to values
- `filtering`, `editing`, `deduplicating`: the three operators

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.transforms.shape.settings import DeduplicateSettings as DeduplicateSettings
    from vecferry.transforms.shape.settings import EditSettings as EditSettings
    from vecferry.transforms.shape.settings import FilterSettings as FilterSettings
    from vecferry.transforms.shape.transform import DeduplicateRows as DeduplicateRows
    from vecferry.transforms.shape.transform import EditColumns as EditColumns
    from vecferry.transforms.shape.transform import FilterRows as FilterRows

__getattr__ = hands_on(
    __name__,
    {
        "DeduplicateRows": "transform",
        "DeduplicateSettings": "settings",
        "EditColumns": "transform",
        "EditSettings": "settings",
        "FilterRows": "transform",
        "FilterSettings": "settings",
    },
)
