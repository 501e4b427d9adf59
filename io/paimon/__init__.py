"""Tables of Paimon, read: whole, and what changed in them.

Beside the modules that every connector has:

- `batches`: record batches of a split, bounded by bytes
- `condition`: the condition of a job, tried on batches and handed to pypaimon

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.paimon.settings import PaimonConnection as PaimonConnection
    from vecferry.io.paimon.settings import PaimonSettings as PaimonSettings
    from vecferry.io.paimon.transform import ReadFromPaimon as ReadFromPaimon

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromPaimon": "transform",
        "PaimonConnection": "settings",
        "PaimonSettings": "settings",
    },
)
