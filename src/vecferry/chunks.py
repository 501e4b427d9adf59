"""The columns by which chunks of a document are told apart.

Settings load this module and no numpy, which `vecferry.rows` needs.
"""

from __future__ import annotations

CHUNK_INDEX, CHUNK_COUNT = "chunk_index", "chunk_count"
"""The columns of a chunk: its number, from 0, and how many chunks its document has."""
