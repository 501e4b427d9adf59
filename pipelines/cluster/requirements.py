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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob

_CLIENTS = {
    "milvus": ("pymilvus", "milvus"),
    "elasticsearch": ("elasticsearch", "elasticsearch"),
    "opensearch": ("opensearchpy", "opensearch"),
    "odps": ("odps", "odps"),
    "mysql": ("pymysql", "mysql"),
    "postgresql": ("psycopg", "postgresql"),
    "hologres": ("psycopg", "postgresql"),
    "s3": ("boto3", "s3"),
    "oss": ("boto3", "s3"),
    "gcs": ("google.cloud.storage", "gcs"),
}
"""A stepType or a type of data source -> its client's module and the extra that brings it."""


def worker_requirements(
    resolved: ResolvedJob, folder: str = "", secrets: str = "job"
) -> dict[str, Any]:
    """What the workers of a job must have, as values of JSON; `folder` is where they complain."""
    clients: dict[str, str] = {}
    for step in resolved.steps:
        types = [getattr(step.connection, "type", None)]
        # A folder stands in for a store, so the stepType of a reader of files tells nothing.
        types += [] if step.kind.sources and "local" in step.kind.sources else [step.kind.step_type]
        clients |= dict(_CLIENTS[name] for name in types if name in _CLIENTS)
        if getattr(step.settings, "model_provider", None) == "local":
            clients["wordllama"] = "local"
    cache = resolved.job.setting.vector_cache
    if cache is not None and not cache.uri.startswith("sqlite:"):
        clients["redis"] = "redis"
    if "://" in folder:
        clients |= _file_system(folder)
    return {
        "python": _python(),
        "packages": {name: _version(name) for name in ("vecferry", "apache-beam")},
        "clients": clients,
        "environment": _variables(resolved) if secrets == "worker" else [],
        "reports": folder,
    }


def _file_system(url: str) -> dict[str, str]:
    """The module that fsspec needs for a URL, where it brings none itself; no extra has it."""
    from fsspec.registry import known_implementations

    known = known_implementations.get(url.partition("://")[0], {})
    module = str(known.get("class", "fsspec")).partition(".")[0]
    return {} if module == "fsspec" else {module: ""}


def _variables(resolved: ResolvedJob) -> list[str]:
    """The variables of the environment that workers fill secrets with."""
    from vecferry.errors import JobError
    from vecferry.secrets import WRITTEN_OUT, names_of, written_out
    from vecferry.settings import secrets_in

    cache = resolved.job.setting.vector_cache
    models = [m for s in resolved.steps for m in (s.settings, s.connection)]
    secrets = [value for model in (*models, cache) for value in secrets_in(model)]
    if written_out(secrets):
        raise JobError(WRITTEN_OUT)
    return names_of(secrets)


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
    for module, extra in needs["clients"].items():
        if not _there(module):
            package = f"'vecferry[{extra}]'" if extra else module
            problems.append(f"it lacks {module}, which the job needs: pip install {package} there")
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
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
