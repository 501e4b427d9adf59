"""Whether memory stays level: the peak of the process at 10^5 and 10^6 rows of distinct texts.

The endpoint runs in a process of its own, as fast as it can. The cache has its usual 64 MB, and
vectors have 256 dimensions, so the cache is full after some 50,000 rows. Prints the peaks of
resident memory and their ratio.

Usage::

    python -m bench.embed_memory [--rows 100000 1000000]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from bench.embed_endpoint import endpoint, seen_by, through_engine

DIMENSION = 256
IN_FLIGHT = 16


def measure(rows: int) -> float:
    """Embeds so many rows in a process of its own; its peak in MB."""
    with endpoint() as url:
        command = [sys.executable, "-m", "bench.embed_memory", "--run", url, str(rows)]
        began = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seen = seen_by(url)
    peak = float(done.stdout)
    assert seen["inputs"] == rows
    seconds = time.monotonic() - began
    print(f"{rows:9,} rows  {seen['requests']:7,} requests  {seconds:6.0f} s  {peak:6.0f} MB")
    return peak


def main() -> None:
    """Prints a line for each number of rows, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        url, rows = options.run
        assert through_engine(url, int(rows), IN_FLIGHT, dimension=DIMENSION) == int(rows)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    peaks = [measure(rows) for rows in options.rows]
    print(f"ratio {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
