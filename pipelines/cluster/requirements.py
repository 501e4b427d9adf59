"""What a worker must have to run a job: versions and clients, told in the job's options.

The module imports neither Beam nor vecferry's other parts when it is loaded, so that a worker can
say what it lacks.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecferry.kinds import ConnectionType, Kind
    from vecferry.pipelines.job.resolve import ResolvedJob


def worker_requirements(
    resolved: ResolvedJob, folder: str = "", secrets: str = "job"
) -> dict[str, Any]:
    """What the workers of a job must have, as values of JSON; `folder` is where they complain.

    `clients` holds the module of each client library with what pip is told for it, `modules` what a
    program has registered without a package.
    """
    from vecferry.pipelines.job.clients import clients_of

    clients = {client.module: client.install for _, client in clients_of(resolved)}
    if "://" in folder:
        clients |= _file_system(folder)
    packages, modules = _origins(resolved)
    return {
        "python": _python(),
        "packages": {name: _version(name) for name in ("vecferry", "apache-beam", *packages)},
        "modules": modules,
        "clients": clients,
        "environment": _variables(resolved) if secrets == "worker" else [],
        "reports": folder,
    }


def _named(resolved: ResolvedJob) -> Iterator[Kind | ConnectionType]:
    """The kinds of the steps and the types of their data sources."""
    from vecferry.pipelines.registry import default

    for step in resolved.steps:
        yield step.kind
        found = default().connection(step.connection.type) if step.connection else None
        if found is not None:
            yield found


def _origins(resolved: ResolvedJob) -> tuple[list[str], list[str]]:
    """The packages, other than vecferry, from which the steps come; and modules without a package.

    A class of the program itself (`__main__`) travels with the job.
    """
    from vecferry.pipelines.registry import default

    packages, modules = set(), set()
    for named in _named(resolved):
        package = default().package_of(named)
        if package is not None:
            packages.add(package.name)
        else:
            modules.add(named.settings.partition(":")[0].partition(".")[0])
    return sorted(packages), sorted(modules - {"vecferry", "__main__"})


def _file_system(url: str) -> dict[str, str]:
    """The module that fsspec needs for a URL, where it brings none itself; no extra has it."""
    from fsspec.registry import known_implementations

    known = known_implementations.get(url.partition("://")[0], {})
    module = str(known.get("class", "fsspec")).partition(".")[0]
    return {} if module == "fsspec" else {module: module}


def _variables(resolved: ResolvedJob) -> list[str]:
    """The variables of the environment that workers fill texts with."""
    from vecferry.secrets import names_of, secrets_in, texts_in

    cache = resolved.job.setting.vector_cache
    models = [m for s in resolved.steps for m in (s.settings, s.connection)]
    held = [*models, cache]
    return names_of(texts_in(held), secrets_in(held), resolved.as_written())


def missing(needs: dict[str, Any]) -> list[str]:
    """What this process lacks of `needs`, each with the remedy; empty where it can work."""
    problems = []
    if needs["python"] != _python():
        problems.append(
            f"its Python is {_python()}, and the job was submitted with {needs['python']}: "
            "what is pickled by one can't be read by the other"
        )
    for name, wanted in needs["packages"].items():
        found = _version(name)
        if found != wanted:
            has = f"{name} {found}" if found else f"no {name}"
            problems.append(
                f"it has {has}, and the job was submitted with {name} {wanted}: "
                f"pip install '{name}=={wanted}' there, or submit with its version"
            )
    for name in needs.get("environment", ()):
        if name not in os.environ:
            problems.append(
                f"its environment has no {name}, which --secrets worker fills in there: set it "
                "where workers are started"
            )
    for module in needs.get("modules", ()):
        if not _there(module):
            problems.append(
                f"it lacks {module}, which holds a step of the job: install its package there, or "
                "send the package with the job by --extra_package"
            )
    for module, package in needs["clients"].items():
        if not _there(module):
            quoted = f"'{package}'" if "[" in package else package
            problems.append(f"it lacks {module}, which the job needs: pip install {quoted} there")
    return problems


def complaint(problems: list[str]) -> str:
    """The message of a worker that can't run a job."""
    import socket

    return f"the worker on {socket.gethostname()} can't run this job: {'; '.join(problems)}"


def packed(needs: dict[str, Any]) -> str:
    """`needs` as the value of an option."""
    return json.dumps(needs, separators=(",", ":"))


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _there(module: str) -> bool:
    # As `vecferry.kinds.Client` tells it; the probe sends this text to workers without vecferry.
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
