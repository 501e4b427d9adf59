"""How full the engine keeps an endpoint: requests a second against the ideal, at the server.

The endpoint runs in a process of its own and takes 100 ms for a request of 10 inputs. The ideal is
``in flight x 10 / 0.1 s``, from the first request to the last answer. The sides run one by one, in
a process each: vecferry's engine in a Beam pipeline on FnApiRunner, and with urllib3 as its HTTP
client. A plain thread pool over requests and Beam's own embedding transform follow. Prints ratios.
`bench.race` adds other libraries.

Usage::

    python -m bench.embed [--seconds 20] [--in-flight 16 64]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

from bench import embed_clients, embed_others
from bench.embed_endpoint import (
    BATCH,
    LATENCY,
    LATENCY_OPTION,
    authority,
    endpoint,
    seen_by,
    through_engine,
)

CONTESTANTS = {
    "vecferry": through_engine,
    **{f"with {name}": embed_clients.through(name) for name in embed_clients.MAKERS},
    "thread pool": embed_others.through_pool,
    "MLTransform": embed_others.through_mltransform,
}
OVER_TLS = [run for name, run in CONTESTANTS.items() if name.startswith(("vecferry", "with "))]
ONE_BY_ONE = {"MLTransform"}
"""What has one request under way, and gets as many rows as take it equally long."""
HEAD = (
    "in flight  vectors      what          rows/s  of ideal  requests  most under way  CPU µs/row"
)


def measure(
    name: str,
    in_flight: int,
    seconds: float,
    json_floats: bool,
    tls: bool = False,
    python: str = sys.executable,
) -> dict[str, Any] | str:
    """Runs a contestant in its own process: what the server saw, or why it can't run here."""
    ideal = in_flight * BATCH / LATENCY
    rows = int(ideal * seconds / (in_flight if name in ONE_BY_ONE else 1)) // BATCH * BATCH
    shape = ["--json-floats"] if json_floats else []
    with authority(tls) as files, endpoint(*LATENCY_OPTION, *shape, *files) as url:
        run = ["embed_others"] if name in embed_others.RIVALS else ["embed", "--run"]
        command = [python, "-m", f"bench.{run[0]}", *run[1:], name, url, str(rows), str(in_flight)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip() or "it ended without a word").splitlines()[-1]
        seen = seen_by(url)
    counted, cpu = done.stdout.split()[-2:]
    if not int(counted) == rows == seen["inputs"]:
        return f"{counted} of {rows} rows got a vector, and the server saw {seen['inputs']} inputs"
    rate = seen["inputs"] / seen["seconds"]
    return {
        "ratio": rate / ideal,
        "rows_s": rate,
        "cpu_us_row": float(cpu) / rows * 1e6,
        **seen,
    }


def line(name: str, in_flight: int, json_floats: bool, seen: dict[str, Any] | str) -> str:
    """What is printed below `HEAD` of what `measure` gave."""
    begin = f"{in_flight:9}  {'JSON floats' if json_floats else 'base64':11}  {name:12}"
    if isinstance(seen, str):
        return f"{begin}  no figure: {seen}"
    return (
        f"{begin}  {seen['rows_s']:6.0f}  {seen['ratio']:8.3f}  {seen['requests']:8}  "
        f"{seen['most_under_way']:14}  {seen['cpu_us_row']:10.0f}"
    )


def main() -> None:
    """Prints a line for each contestant, shape of vectors and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--only", choices=list(CONTESTANTS), nargs="+", default=list(CONTESTANTS))
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, url, rows, in_flight = options.run
        print(CONTESTANTS[name](url, int(rows), int(in_flight)), time.process_time())
        return
    print(HEAD)
    failed = False
    for in_flight in options.in_flight:
        for json_floats in (False, True):
            for name in options.only:
                if options.tls and CONTESTANTS[name] not in OVER_TLS:
                    continue
                seen = measure(name, in_flight, options.seconds, json_floats, options.tls)
                print(line(name, in_flight, json_floats, seen), flush=True)
                failed |= isinstance(seen, str) and not seen.startswith("ModuleNotFoundError")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
