"""Rows a second into each store, against its own client and, for Milvus, Beam's own writer.

Usage::

    python bench/sinks.py [--rows 50000] [--dimensions 256 1024] [--stores milvus postgresql …]

Every side writes the same rows idempotently with as many requests in flight, from its first
connection to its last acknowledgement; sides take turns. Prints one table: medians of rows a second
with the CPU of this process in µs a row. A last column has our speed by the speed of the fastest
other side (ours in a pipeline not among them).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from tests.services.server import stop_all

MODULES = {
    "milvus": "sinks_milvus",
    "elasticsearch": "sinks_search",
    "elasticsearch9": "sinks_search",
    "opensearch": "sinks_search",
    "postgresql": "sinks_pg",
    "hologres": "sinks_pg",
}


def main() -> None:
    """Measures each store with each dimension; one server at a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--stores", nargs="+", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    lines = []
    for store in given.stores:
        measure = importlib.import_module(MODULES[store]).measure
        try:
            for dimension in given.dimensions:
                lines.append(measure(store, dimension, given.rows, given.rounds).line())
        finally:
            stop_all()
    print("| store, dimensions | vecferry | others | ratio |\n|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
