"""Tables of Hologres, written.

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.hologres.settings import HologresConnection as HologresConnection
    from vecferry.io.hologres.settings import HologresSettings as HologresSettings
    from vecferry.io.hologres.transform import WriteToHologres as WriteToHologres

__getattr__ = hands_on(
    __name__,
    {
        "WriteToHologres": "transform",
        "HologresConnection": "settings",
        "HologresSettings": "settings",
    },
)
