"""Options of ``vecferry run`` that matter on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a job runs where its workers are other processes.

    `shared_files` says that they see this machine's files, `detach` that the launcher leaves once
    the job runs; with `secrets` ``worker`` no secret is part of what is submitted.
    """

    shared_files: bool = False
    detach: bool = False
    secrets: str = "job"


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them; the command gets them as `cluster`."""

    @click.option(
        "--shared-files", is_flag=True, help="Workers see this machine's files (one host, a share)."
    )
    @click.option("--detach", is_flag=True, help="Leave once the job runs, and say how to go on.")
    @click.option(
        "--secrets",
        type=click.Choice(["job", "worker"]),
        default="job",
        show_default=True,
        help="Where ${…} of secrets are filled: here, or in each worker's own environment.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, shared_files: bool, detach: bool, secrets: str, **rest: Any) -> Any:
        cluster = ClusterOptions(shared_files=shared_files, detach=detach, secrets=secrets)
        return command(*args, cluster=cluster, **rest)

    return wrapped
