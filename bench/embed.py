"""How full the engine keeps an endpoint: requests a second against the ideal, at the server.

The endpoint runs in a process of its own and takes 100 ms for a request of 10 inputs. The ideal is
``in flight x 10 / 0.1 s``, from the first request to the last answer. The sides run one by one, in
a process each: vecferry's engine in a Beam pipeline on FnApiRunner, and with urllib3 as its HTTP
client. A plain thread pool over requests, LlamaIndex, and Beam's own embedding transform
follow. Prints ratios.

Usage::

    python -m bench.embed [--seconds 20] [--in-flight 16 64] [--llamaindex PYTHON]

LlamaIndex wants other versions of libraries than the rest: give the interpreter of a virtual
environment that has llama-index-embeddings-openai-like. Without it the line is skipped.
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
    "LlamaIndex": embed_others.through_llamaindex,
    "MLTransform": embed_others.through_mltransform,
}
OVER_TLS = [run for name, run in CONTESTANTS.items() if name.startswith(("vecferry", "with "))]
ONE_BY_ONE = {"MLTransform"}
"""What has one request under way, and gets as many rows as take it equally long."""


def measure(
    name: str,
    in_flight: int,
    seconds: float,
    json_floats: bool,
    tls: bool,
    python: str = sys.executable,
) -> dict[str, Any] | str:
    """Runs a contestant in its own process: what the server saw, or why it can't run here."""
    ideal = in_flight * BATCH / LATENCY
    rows = int(ideal * seconds / (in_flight if name in ONE_BY_ONE else 1)) // BATCH * BATCH
    shape = ["--json-floats"] if json_floats else []
    with authority(tls) as files, endpoint(*LATENCY_OPTION, *shape, *files) as url:
        command = [python, "-m", "bench.embed", "--run", name, url, str(rows), str(in_flight)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            error = done.stderr.strip().splitlines()[-1]
            if error.startswith("ModuleNotFoundError"):
                return error
            raise SystemExit(done.stderr[-2000:])
        seen = seen_by(url)
    assert int(done.stdout.split()[0]) == rows == seen["inputs"]
    rate = seen["inputs"] / seen["seconds"]
    cpu = float(done.stdout.split()[1])
    return {"ratio": rate / ideal, "rows_s": rate, "cpu_us_row": cpu / rows * 1e6, **seen}


def main() -> None:
    """Prints a line for each contestant, shape of vectors and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--only", choices=list(CONTESTANTS), nargs="+", default=list(CONTESTANTS))
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--llamaindex", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, url, rows, in_flight = options.run
        print(CONTESTANTS[name](url, int(rows), int(in_flight)), time.process_time())
        return
    print(
        "in flight  vectors      what          rows/s  of ideal  requests  most under way  "
        "CPU µs/row"
    )
    for in_flight in options.in_flight:
        for json_floats in (False, True):
            for name in options.only:
                if options.tls and CONTESTANTS[name] not in OVER_TLS:
                    continue
                python = options.llamaindex if name == "LlamaIndex" else sys.executable
                seen = measure(name, in_flight, options.seconds, json_floats, options.tls, python)
                shape = "JSON floats" if json_floats else "base64"
                begin = f"{in_flight:9}  {shape:11}  {name:12}"
                if isinstance(seen, str):
                    print(f"{begin}  skipped: {seen}", flush=True)
                    continue
                print(
                    f"{begin}  {seen['rows_s']:6.0f}  {seen['ratio']:8.3f}  "
                    f"{seen['requests']:8}  {seen['most_under_way']:14}  "
                    f"{seen['cpu_us_row']:10.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
