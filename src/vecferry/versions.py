"""Versions of changes: 63-bit whole numbers that order the changes of one key; the greater wins.

A version is ``epoch << 52 | ordinal``. The source gives the ordinal: how far into its own history a
change lies. The epoch grows whenever older ordinals can no longer be compared: after a resync, for
another table or server, for a position that fell. 63 bits are what a signed 64-bit integer holds,
and what Elasticsearch takes as an external version.
"""

from __future__ import annotations

from vecferry.errors import FatalError

ORDINAL_BITS = 52
EPOCH_BITS = 11
MAX_ORDINAL = (1 << ORDINAL_BITS) - 1
MAX_EPOCH = (1 << EPOCH_BITS) - 1
MAX_VERSION = (1 << (ORDINAL_BITS + EPOCH_BITS)) - 1


def pack(epoch: int, ordinal: int) -> int:
    """The version of a change; raises FatalError where the epoch or the ordinal does not fit."""
    if not 0 <= epoch <= MAX_EPOCH:
        raise FatalError(
            f"version: the epoch {epoch} does not fit into {EPOCH_BITS} bits (0 to {MAX_EPOCH}); "
            "fill a new target, and remove the positions of the old one"
        )
    if not 0 <= ordinal <= MAX_ORDINAL:
        raise FatalError(
            f"version: the place {ordinal} in the source's history does not fit into "
            f"{ORDINAL_BITS} bits (0 to {MAX_ORDINAL}); begin a new epoch with a resync"
        )
    return epoch << ORDINAL_BITS | ordinal


def unpack(version: int) -> tuple[int, int]:
    """The epoch and the ordinal of a version; raises ValueError where it is not a version."""
    if not 0 <= version <= MAX_VERSION:
        raise ValueError(f"{version} is not a version: it must lie within 0 and {MAX_VERSION}")
    return version >> ORDINAL_BITS, version & MAX_ORDINAL


def first_of(epoch: int) -> int:
    """The least version of an epoch: all that is less belongs to an older epoch."""
    return pack(epoch, 0)
