"""The command line.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.pipelines.cli.app import main as main

__getattr__ = hands_on(
    __name__,
    {
        "main": "app",
    },
)
