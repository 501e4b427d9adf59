"""Kinds of tables that the reference implementation makes in tests."""

from __future__ import annotations

COLUMNS = {"id": "BIGINT NOT NULL", "text": "STRING", "n": "INT"}
ONLY = {"write-only": "true"}
"""Its writers compact nothing."""
KINDS: dict[str, tuple[dict[str, str], bool]] = {
    # options, and whether rows may be deleted
    "no changelog": (ONLY, True),
    "changelog of the input": ({"changelog-producer": "input", **ONLY}, True),
    "changelog by lookup": ({"changelog-producer": "lookup"}, True),
    "changelog by full compaction": ({"changelog-producer": "full-compaction"}, True),
    "a sequence field": ({"sequence.field": "n", **ONLY}, True),
    "partial updates": ({"merge-engine": "partial-update", **ONLY}, False),
    "aggregation": (
        {"merge-engine": "aggregation", "fields.n.aggregate-function": "sum", **ONLY},
        False,
    ),
    "first rows": ({"merge-engine": "first-row"}, False),
    "first rows, not compacted": ({"merge-engine": "first-row", **ONLY}, False),
    "deletion vectors": ({"deletion-vectors.enabled": "true"}, True),
    "dynamic buckets": ({"bucket": "-1", **ONLY}, True),
}
"""Kinds of tables with a key."""
