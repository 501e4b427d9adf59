"""Tables of MaxCompute (ODPS), read.

Beside the modules that every connector has:

- `partitions`: the partitions of a table that a job means
- `plan`: the download sessions and their splits

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.odps.settings import OdpsConnection as OdpsConnection
    from vecferry.io.odps.settings import OdpsSettings as OdpsSettings
    from vecferry.io.odps.transform import ReadFromOdps as ReadFromOdps

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromOdps": "transform",
        "OdpsConnection": "settings",
        "OdpsSettings": "settings",
    },
)
