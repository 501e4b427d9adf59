"""Tables of Paimon, read: whole, and what changed in them.

Beside the modules that every connector has:

- `blobs`: BLOBs as places, which the threads of an image step read
- `batches`: record batches of a split, bounded by bytes
- `condition`: the condition of a job, tried on batches and handed to pypaimon
- `planning`: what each snapshot has touched, by the inner parts of pypaimon
- `groups`: which of these rows are looked up together
- `lake`: keys and rows of files
- `changes`: the source of a sync
- `consumer`: what keeps snapshots from expiry

A public name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.io.paimon.settings import PaimonConnection as PaimonConnection
    from vecferry.io.paimon.settings import PaimonSettings as PaimonSettings
    from vecferry.io.paimon.transform import ReadFromPaimon as ReadFromPaimon
    from vecferry.io.paimon.transform import ReadPaimonChanges as ReadPaimonChanges

__getattr__ = hands_on(
    __name__,
    {
        "ReadFromPaimon": "transform",
        "ReadPaimonChanges": "transform",
        "PaimonConnection": "settings",
        "PaimonSettings": "settings",
    },
)
