"""How a run stands as metrics: for Prometheus, which asks, and for a collector of OpenTelemetry.

Apart from `vecferry.pipelines.run.events` because these libraries are an extra.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from vecferry.errors import JobError
from vecferry.pipelines.run.events import SECOND, Event, Teller

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, in seconds, of the buckets of latencies."""
EXPORT_SECONDS = 10.0
"""How often a collector is told."""

_MISSING = "--metrics: pip install 'vecferry[metrics]'"


def metrics_teller(where: str) -> Teller:
    """What tells metrics: at ``HOST:PORT`` or ``:PORT``, or to the collector at an http(s) URL.

    Raises JobError for another text, a port that is taken, or a library that is not installed.
    """
    if where.startswith(("http://", "https://")):
        return OtlpMetrics(where)
    parts = urlsplit(f"//{where}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None or parts.path:
        raise JobError(
            f"--metrics {where}: is neither an address for Prometheus to ask, such as :9100, nor "
            "the URL of a collector, such as http://127.0.0.1:4318; give one of both"
        )
    return PrometheusMetrics(parts.hostname or "0.0.0.0", port)


class _Latest:
    """The last event, and all answers so far in buckets."""

    every = SECOND

    def __init__(self) -> None:
        self.event: Event | None = None
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def take(self, event: Event) -> None:
        """Keeps an event."""
        for ms, n in event.latency.items():
            self.buckets[bisect.bisect_left(BUCKETS, ms / 1000)] += n
            self.seconds += n * ms / 1000
        self.event = event


class PrometheusMetrics(_Latest):
    """Answers Prometheus at an address until the run is over."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as e:
            raise JobError(f"{_MISSING}: {e}") from e
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as e:
            raise JobError(f"--metrics {host}:{port}: {e}; give an address that is free") from e

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return int(self._server.server_port)

    def describe(self) -> list[Any]:
        """Nothing: what there is becomes known as the run goes on."""
        return []

    def collect(self) -> Iterator[Any]:
        """The metrics as they are now; called by the server for each question."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        event = self.event
        if event is None:
            return
        for name, n in event.counts.items():
            told = _name(name)
            yield CounterMetricFamily(told, f"{name} of the run so far", value=n)
        rejects = CounterMetricFamily(
            "vecferry_rejects", "Rejects so far, by step and reason", labels=["step", "reason"]
        )
        for (step, reason), n in event.rejects.items():
            rejects.add_metric([step, reason], n)
        yield rejects
        for name, value in _gauges(event):
            yield GaugeMetricFamily(name, name.removeprefix("vecferry_"), value=value)
        waits = GaugeMetricFamily(
            "vecferry_wait_seconds", "How long a server is waited for", labels=["who"]
        )
        for wait in event.waits:
            waits.add_metric([wait.who], event.at - wait.since)
        yield waits
        phase = GaugeMetricFamily("vecferry_phase", "1 for the phase of the run", labels=["phase"])
        phase.add_metric([event.phase], 1)
        yield phase
        total, told_buckets = 0, []
        for end, n in zip([*map(str, BUCKETS), "+Inf"], self.buckets, strict=True):
            total += n
            told_buckets.append((end, total))
        yield HistogramMetricFamily(
            "vecferry_embed_request_seconds",
            "How long answered embedding requests took",
            buckets=told_buckets,
            sum_value=self.seconds,
        )

    def close(self) -> None:
        """Answers no longer."""
        self._server.shutdown()
        self._server.server_close()


class OtlpMetrics(_Latest):
    """Tells a collector of OpenTelemetry, every `EXPORT_SECONDS` and at the end.

    `OTEL_EXPORTER_OTLP_HEADERS` and the other variables of the exporter hold.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
        except ImportError as e:
            raise JobError(f"{_MISSING}: {e}") from e
        path = "" if urlsplit(url).path.rstrip("/") else "/v1/metrics"
        exporter = OTLPMetricExporter(endpoint=url.rstrip("/") + path, timeout=5)
        reader = PeriodicExportingMetricReader(
            exporter, export_interval_millis=EXPORT_SECONDS * 1000
        )
        self._provider = MeterProvider(
            [reader], Resource.create({"service.name": "vecferry"}), shutdown_on_exit=False
        )
        self._meter = self._provider.get_meter("vecferry")
        self._known: set[str] = set()
        self._latency = self._meter.create_histogram(
            "vecferry_embed_request_seconds", "s", explicit_bucket_boundaries_advisory=BUCKETS
        )
        self._meter.create_observable_counter("vecferry_rejects", [self._rejects])

    def take(self, event: Event) -> None:
        """Keeps an event, and lets the collector know of counters that are new."""
        super().take(event)
        for name in event.counts.keys() - self._known:
            self._known.add(name)
            self._meter.create_observable_counter(
                _name(name), [functools.partial(self._count, name)]
            )
        for name, _ in _gauges(event):
            if name not in self._known:
                self._known.add(name)
                self._meter.create_observable_gauge(name, [functools.partial(self._gauge, name)])
        for ms, n in event.latency.items():
            for _ in range(n):
                self._latency.record(ms / 1000)

    def _count(self, name: str, _: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation

        event = self.event
        return [] if event is None else [Observation(event.counts.get(name, 0))]

    def _gauge(self, name: str, _: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation

        event = self.event
        return [] if event is None else [Observation(v) for n, v in _gauges(event) if n == name]

    def _rejects(self, _: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation

        event = self.event
        return [
            Observation(n, {"step": step, "reason": reason})
            for (step, reason), n in (event.rejects.items() if event is not None else ())
        ]

    def close(self) -> None:
        """Tells what is left, and ends."""
        self._provider.shutdown(timeout_millis=5000)


def _name(counter: str) -> str:
    return f"vecferry_{counter.replace('-', '_')}"


def _gauges(event: Event) -> list[tuple[str, float]]:
    share, eta = event.share, event.eta
    found = [
        ("vecferry_in_flight", float(event.in_flight)),
        ("vecferry_seconds", event.seconds),
    ]
    if share is not None:
        found.append(("vecferry_share_read", share))
    if eta is not None:
        found.append(("vecferry_eta_seconds", eta))
    return found
