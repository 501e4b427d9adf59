"""Whether the servers that a runner's options name are there, asked before a job is sent.

Stands apart from `runners` because it opens connections, and `runners` reads options only.
"""

from __future__ import annotations

import os
import socket
from typing import Any
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
)

from vecferry.errors import JobError
from vecferry.pipelines.cluster.flink import Flink

CONNECT_SECONDS = 5.0


def unreachable(name: str, options: PipelineOptions) -> list[str]:
    """A problem for each server or program that the runner called `name` would wait for in vain."""
    problems = []
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint and endpoint != "embed":
        what = "a Beam job server"
        problems += refused("job_endpoint", str(endpoint), what) or _silent(str(endpoint))
    master = options.view_as(SparkRunnerOptions).spark_master_url
    if name == "SparkRunner" and master and master.startswith("spark://"):
        problems += refused("spark_master_url", str(master), "Spark's master")
    flink = options.view_as(FlinkRunnerOptions).flink_master
    if name == "FlinkRunner" and flink and not flink.startswith("["):
        try:
            Flink(flink).check()
        except JobError as e:
            problems += e.problems
    if name == "PrismRunner":
        problems += _no_program(options.view_as(PrismRunnerOptions).prism_location)
    return problems


def refused(option: str, given: str, what: str) -> list[str]:
    """A problem where nobody listens at an address."""
    parts = urlsplit(given if "://" in given else f"//{given}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        return [f"--{option} {given}: must be HOST:PORT of {what}"]
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as e:
        why = e.strerror or str(e)
        return [f"--{option} {given}: {what} can't be reached there ({why}): is it running?"]
    return []


def _silent(endpoint: str) -> list[str]:
    """A problem where somebody listens who doesn't speak gRPC: Beam would wait without end."""
    import grpc

    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            return [
                f"--job_endpoint {endpoint}: what listens there does not answer as a job server of "
                "Beam; name its job port, by default 8099, and not a port of Flink or Spark"
            ]
    return []


def _no_program(location: Any) -> list[str]:
    if not location or "://" in str(location) or os.access(location, os.X_OK):
        return []
    return [f"--prism_location {location}: is not a program; name the program of Prism"]
