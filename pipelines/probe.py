"""A small job before the real one, where a worker that can't start would leave that one hanging.

A pool of workers (EXTERNAL) does not tell the runner that a worker has died. What is run here is
pickled as it is, not by name, so that it works on a worker without vecferry, too, and says so.
"""

from __future__ import annotations

import inspect
import textwrap
import threading
import types
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from vecferry.errors import JobError, shorten
from vecferry.pipelines import needs as needs_module

SECONDS = 30.0
_NAMESPACE = "vecferry.probe"


def probe(runner: str, options: PipelineOptions, needs: dict[str, Any], workers: int) -> None:
    """Runs on every worker a check of what it has; JobError says what is missing."""
    source = "from __future__ import annotations\n" + "\n".join(
        textwrap.dedent(inspect.getsource(part))
        for part in (needs_module._python, needs_module._version, needs_module._there,
                     needs_module.missing, needs_module.complaint)
    )  # fmt: skip
    found: list[Any] = []

    def run() -> None:
        try:
            pipeline = beam.Pipeline(runner, options=options)
            _ = (
                pipeline
                | beam.Create(range(4 * workers))
                | beam.Reshuffle()
                | beam.Map(_by_value(_look), source=source, needs=needs)
            )
            result = pipeline.run()
            found.append(result)
            result.wait_until_finish()
            found.append(result.metrics().query()["counters"])
        except Exception as e:
            found.append(e)

    thread = threading.Thread(target=run, name="vecferry-probe", daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        if found:
            found[0].cancel()
        raise JobError(
            f"no worker answered within {SECONDS:.0f} s: look at the log of the pool that "
            "--environment_config names; its Python must have apache-beam, and it must be started "
            "as vecferry-worker --pool PORT or with --container_executable=vecferry-worker"
        )
    last = found[-1]
    if isinstance(last, Exception):
        raise JobError(f"a first small job on the workers failed: {shorten(last, 500)}")
    names = [m.key.metric.name for m in last if m.key.metric.namespace == _NAMESPACE]
    problems = sorted(name for name in names if name != "able")
    if problems or not names:
        raise JobError(problems or "the workers did not say what they have")


def _look(element: int, source: str, needs: dict[str, Any]) -> int:
    import importlib.metadata
    import importlib.util
    import sys

    names: dict[str, Any] = {"importlib": importlib, "sys": sys}
    exec(source, names)
    problems = names["missing"](needs)
    message = names["complaint"](problems) if problems else "able"
    Metrics.counter("vecferry.probe", message).inc()
    return element


def _by_value(function: Any) -> Any:
    """A copy that is pickled with its code: its module may be absent where it is run."""
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy
