"""Texts and images of a row into vectors.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.transforms.embed.settings import EmbedSettings as EmbedSettings
    from vecferry.transforms.embed.transform import Embed as Embed

__getattr__ = hands_on(
    __name__,
    {
        "Embed": "transform",
        "EmbedSettings": "settings",
    },
)
