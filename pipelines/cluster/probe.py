"""A small job before the real one, where a worker that can't start would leave that one hanging.

Stands apart from `launch` because workers run it, and may lack the rest.

A pool of workers (EXTERNAL) does not tell the runner that a worker has died. What is run here is
pickled as it is, not by name, so that it also works on a worker without vecferry, and says so.
"""

from __future__ import annotations

import inspect
import logging
import textwrap
import threading
import types
from typing import Any

import apache_beam as beam

from vecferry.errors import JobError, redact
from vecferry.pipelines.cluster import requirements as needs_module
from vecferry.pipelines.cluster.runners import RunnerConfig
from vecferry.pipelines.run.failures import root_cause

SECONDS = 30.0
log = logging.getLogger(__name__)
_NAMESPACE = "vecferry.probe"


def probe(where: RunnerConfig, name: str, needs: dict[str, Any]) -> None:
    """Runs a job called `name` that looks at what workers have; JobError says what is missing."""
    found: list[Any] = []
    thread = threading.Thread(target=_run, args=(where, name, needs, found), daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise JobError(
            f"no worker answered within {SECONDS:.0f} s{_ended(where, name, found)}; look at the "
            "log of the pool that --environment_config names. Its Python must have apache-beam. "
            "The pool must be started as vecferry-worker --pool PORT, or as Beam's own with "
            "--container_executable=vecferry-worker"
        )
    last = found[-1]
    if isinstance(last, Exception):
        raise JobError(f"a first small job on the workers failed: {root_cause(last)}")
    names = [m.key.metric.name for m in last if m.key.metric.namespace == _NAMESPACE]
    problems = sorted(name for name in names if name != "able")
    if problems or not names:
        raise JobError(problems or "the workers did not say what they have")


def _run(where: RunnerConfig, name: str, needs: dict[str, Any], found: list[Any]) -> None:
    parts: list[Any] = [needs_module._python, needs_module._version, needs_module._there]
    parts += [needs_module.missing, needs_module.complaint]
    texts = [textwrap.dedent(inspect.getsource(part)) for part in parts]
    source = "\n".join(["from __future__ import annotations", *texts])
    try:
        pipeline = beam.Pipeline(where.runner, options=where.beam_options(name, "{}"))
        _ = (
            pipeline
            | beam.Create(range(4 * where.parallelism))
            | beam.Reshuffle()
            | beam.Map(_by_value(_look), source=source, needs=needs)
        )
        result = pipeline.run()
        found.append(result)
        result.wait_until_finish()
        found.append(result.metrics().query()["counters"])
    except Exception as e:
        found.append(e)


def _ended(where: RunnerConfig, name: str, found: list[Any]) -> str:
    """Ends the small job; what Flink says of its failures, if any."""
    told = ""
    try:
        job = where.flink.find(name) if where.flink else None
        if where.flink is not None and job is not None:
            failures = where.flink.failures(job)
            told = f" ({root_cause(RuntimeError(failures[0]))})" if failures else ""
            where.flink.cancel(job)
        elif found:
            found[0].cancel()
    except Exception as e:
        log.warning("a first small job could not be ended: %s", redact(str(e)))
    return told


def _look(element: int, source: str, needs: dict[str, Any]) -> int:
    import importlib.metadata
    import importlib.util
    import os
    import sys

    from apache_beam.metrics import Metrics

    names: dict[str, Any] = {"importlib": importlib, "os": os, "sys": sys}
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
