"""The race against other libraries: who keeps an endpoint how full, and at what CPU a row.

The server, the inputs and the number in flight are those of `bench.embed`. Each rival gets an
environment of its own, which uv fills from PyPI. They stay in the cache folder of the test servers,
and `VECFERRY_SERVICES` names another. Beam's own transform runs in the environment of vecferry.
What can't be installed, or gets no vectors from the server, is told with the reason.

Usage::

    python -m bench.race [--seconds 20] [--in-flight 16 64] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.embed import CONTESTANTS, HEAD, line, measure
from bench.embed_others import RIVALS
from tests.services.install import Unavailable, package, virtual_environment

NEEDS = {
    "LlamaIndex": ("llama-index-embeddings-openai-like",),
    "Pathway": ("pathway[xpack-llm]",),
    "CocoIndex": ("cocoindex", "openai"),
}
"""What a rival's environment has, each in its latest release; the first is the rival itself."""
OURS = ("vecferry", "MLTransform")
RELEASE = "import importlib.metadata as m, sys; print(m.version(sys.argv[1].partition('[')[0]))"


def installed(name: str) -> tuple[Path, str]:
    """The Python of a rival's environment and the rival's release. Raises Unavailable."""
    folder = package(
        f"race-{name.lower()}", lambda part: virtual_environment(part / "venv", *NEEDS[name])
    )
    python = folder / "venv/bin/python"
    command = [python, "-c", RELEASE, NEEDS[name][0]]
    return python, subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """Installs the rivals, and prints a line for each, shape of vectors and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    names = [*OURS, *RIVALS]
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    options = parser.parse_args()
    pythons: dict[str, str | Unavailable] = {}
    for name in options.only:
        if name not in RIVALS:
            assert name in CONTESTANTS
            pythons[name] = sys.executable
            continue
        try:
            python, release = installed(name)
        except Unavailable as e:
            pythons[name] = e
            continue
        pythons[name] = str(python)
        print(f"{name}: {NEEDS[name][0]} {release}", flush=True)
    print(HEAD)
    for in_flight in options.in_flight:
        for json_floats in (False, True):
            for name, found in pythons.items():
                seen = (
                    measure(name, in_flight, options.seconds, json_floats, python=found)
                    if isinstance(found, str)
                    else str(found)
                )
                print(line(name, in_flight, json_floats, seen), flush=True)


if __name__ == "__main__":
    main()
