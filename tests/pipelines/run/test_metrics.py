"""Metrics of a run, as Prometheus reads them and as a collector gets them."""

from __future__ import annotations

import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from vecferry.errors import JobError
from vecferry.pipelines.run.events import Event
from vecferry.pipelines.run.metrics import OtlpMetrics, PrometheusMetrics, metrics_teller
from vecferry.steps import Size
from vecferry.waits import Wait

EVENT = Event(
    kind="progress", at=1010.0, phase="running", stopping=False, seconds=10.0,
    counts={"rows-read": 500, "bytes-read": 1000}, rejects={("Embed", "refused"): 3},
    latency=Counter({20: 4, 3000: 1}), in_flight=7, size=Size(bytes=4000),
    waits=[Wait("step 'Embed'", "answers 502", 1000.0, None, 4)],
)  # fmt: skip


def test_prometheus_reads_all_counters() -> None:
    """By the parser of its own client; histograms hold all answers so far."""
    parser = pytest.importorskip("prometheus_client.parser")
    teller = metrics_teller("127.0.0.1:0")
    assert isinstance(teller, PrometheusMetrics)
    try:
        teller.take(EVENT)
        teller.take(EVENT)
        with urllib.request.urlopen(f"http://127.0.0.1:{teller.port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        teller.close()
    found = {
        (s.name, *sorted(s.labels.values())): s.value
        for family in parser.text_string_to_metric_families(text)
        for s in family.samples
    }
    assert found["vecferry_rows_read_total",] == 500
    assert found["vecferry_rejects_total", "Embed", "refused"] == 3
    assert found["vecferry_in_flight",] == 7
    assert found["vecferry_share_read",] == 0.25
    assert found["vecferry_eta_seconds",] == 30
    assert found["vecferry_wait_seconds", "step 'Embed'"] == 10
    assert found["vecferry_phase", "running"] == 1
    assert found["vecferry_embed_request_seconds_bucket", "0.025"] == 8
    assert found["vecferry_embed_request_seconds_bucket", "+Inf"] == 10
    assert found["vecferry_embed_request_seconds_sum",] == pytest.approx(6.16)


def test_a_collector_is_told_by_otlp() -> None:
    """At the end of the run at the latest, with the numbers of the last event."""
    messages = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            got.append((self.path, messages.ExportMetricsServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        teller = metrics_teller(f"http://127.0.0.1:{server.server_port}")
        assert isinstance(teller, OtlpMetrics)
        teller.take(EVENT)
        teller.close()
        server.shutdown()
    path, request = got[-1]
    metrics = {
        metric.name: metric
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert path == "/v1/metrics"
    assert metrics["vecferry_rows_read"].sum.data_points[0].as_int == 500
    assert metrics["vecferry_rejects"].sum.data_points[0].as_int == 3
    assert metrics["vecferry_in_flight"].gauge.data_points[0].as_double == 7
    assert metrics["vecferry_embed_request_seconds"].histogram.data_points[0].count == 5


@pytest.mark.parametrize("where", ["9100", "host", ":none", "ftp://x:1", "127.0.0.1:80/path"])
def test_what_is_no_address_is_refused(where: str) -> None:
    """With examples of both kinds."""
    with pytest.raises(JobError, match="neither an address for Prometheus"):
        metrics_teller(where)


def test_a_port_that_is_taken_is_refused() -> None:
    """Before the run."""
    pytest.importorskip("prometheus_client")
    teller = metrics_teller("127.0.0.1:0")
    assert isinstance(teller, PrometheusMetrics)
    try:
        with pytest.raises(JobError, match="give an address that is free"):
            metrics_teller(f"127.0.0.1:{teller.port}")
    finally:
        teller.close()
