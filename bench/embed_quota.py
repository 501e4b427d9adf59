"""How well the engine keeps to a quota: answers of 429, and time against the ideal.

The endpoint takes 5 requests a second, 5 at once, and 100 ms for each. The engine has 16 in flight
and 200 batches to send. The engine finds the quota by itself, with each kind of Retry-After and
without one. Then ``requestsPerMinute: 300`` tells the quota. Prints the share of 429s and the ratio
of times.

Usage::

    python -m bench.embed_quota [--batches 200]
"""

from __future__ import annotations

import argparse

from bench.embed_endpoint import BATCH, LATENCY_OPTION, endpoint, seen_by, through_engine

RATE, BURST, IN_FLIGHT = 5, 5, 16


def main() -> None:
    """Prints a line for each way in which the quota is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    ideal = (options.batches - BURST) / RATE
    print("Retry-After  requestsPerMinute  answers  of them 429   share     time  of ideal")
    for wish in ("seconds", "date", "none"):
        for minute in (None, RATE * 60):
            quota = ["--quota", str(RATE), str(BURST), "--retry-after", wish]
            with endpoint(*quota, *LATENCY_OPTION) as url:
                rows = options.batches * BATCH
                assert through_engine(url, rows, IN_FLIGHT, requests_per_minute=minute) == rows
                seen = seen_by(url)
            refused = seen["statuses"].get("429", 0)
            print(
                f"{wish:11}  {minute or '':17}  {seen['requests']:7}  {refused:11}  "
                f"{refused / seen['requests']:6.1%}  {seen['seconds']:5.1f} s  "
                f"{seen['seconds'] / ideal:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
