"""The report of a run as one page of HTML, with drawings of how the run went.

Apart from `vecferry.pipelines.run.summary` because a page needs what happened meanwhile.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence

from vecferry.errors import hide_secrets
from vecferry.pipelines.run.events import SECOND, Event
from vecferry.pipelines.run.report import Report, latency_of
from vecferry.pipelines.run.summary import describe

MOST_POINTS = 600
"""Points of a line; of a longer run each point stands for more seconds."""
DATA = "vecferry-report"
"""The id of the element of a page that holds the report as JSON."""

_WIDTH, _HEIGHT = 720, 160
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }
svg { width: 100%; height: auto; background: #8881; } polyline { fill: none; stroke: #06c; }
text { font-size: 11px; fill: currentColor; } rect { fill: #06c; } pre { white-space: pre-wrap; }
"""


class Course:
    """How a run went: counters and latencies at moments, no more than `MOST_POINTS` of them."""

    every = SECOND

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.counts: list[dict[str, int]] = []
        self.p95: list[float] = []
        self._latency: Counter[int] = Counter()
        self._step, self._seen = 1, 0

    def take(self, event: Event) -> None:
        """Keeps an event, or leaves it out where there are many."""
        self._latency.update(event.latency)
        self._seen += 1
        if self._seen % self._step and event.phase != "ended":
            return
        told = latency_of(self._latency)
        self._latency = Counter()
        self.seconds.append(event.seconds)
        self.counts.append(event.counts)
        self.p95.append(0.0 if told is None else told.p95)
        if len(self.seconds) >= MOST_POINTS:
            self._step *= 2
            for kept in (self.seconds, self.counts, self.p95):
                del kept[::2]

    def close(self) -> None:
        """Nothing: the page is made later."""

    def rate(self, name: str) -> list[float]:
        """How fast a counter grew before each moment, a second."""
        rates, before, then = [], 0, 0.0
        for seconds, counts in zip(self.seconds, self.counts, strict=True):
            n = counts.get(name, 0)
            rates.append(max(0.0, (n - before) / max(seconds - then, 0.05)))
            before, then = n, seconds
        return rates


def page(report: Report, course: Course) -> str:
    """The page, which loads nothing from elsewhere and runs no script."""
    title = html.escape(f"{report.job}: {report.state}")
    lines = {
        "rows read a second": course.rate("rows-read"),
        "rows written a second": course.rate("rows-written"),
        "embedding requests a second": course.rate("embed-requests"),
        "cache hits a second": course.rate("cache-hits"),
        "milliseconds of an embedding request (95 % are faster)": course.p95,
    }
    drawn = [_line(name, course.seconds, values) for name, values in lines.items() if any(values)]
    rejects = [(f"{r.step}: {r.reason}", r.rows) for r in report.rejected_by]
    phases = list(report.phases.items())
    data = json.dumps(report.model_dump()).replace("<", "\\u003c")
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>
<body><h1>{title}</h1>
<pre>{html.escape(describe(report))}</pre>
{"".join(drawn)}
{_bars("rejects by step and reason", rejects)}
{_bars("seconds by phase", phases)}
<script type="application/json" id="{DATA}">{data}</script>
</body></html>
"""
    return hide_secrets(text)


def _line(name: str, seconds: Sequence[float], values: Sequence[float]) -> str:
    """A value over time."""
    most, end = max(values), max(seconds) or 1.0
    points = " ".join(
        f"{s / end * _WIDTH:.1f},{_HEIGHT - v / most * (_HEIGHT - 20):.1f}"
        for s, v in zip(seconds, values, strict=True)
    )
    return (
        f'<h2>{html.escape(name)}</h2><svg viewBox="0 0 {_WIDTH} {_HEIGHT + 16}" role="img" '
        f'aria-label="{html.escape(name)}"><polyline points="{points}"/>'
        f'<text x="2" y="12">{most:,.4g}</text>'
        f'<text x="{_WIDTH - 2}" y="{_HEIGHT + 12}" text-anchor="end">{end:,.1f} s</text></svg>'
    )


def _bars(name: str, values: Sequence[tuple[str, float]]) -> str:
    """A bar for each name."""
    if not values:
        return ""
    most = max(value for _, value in values) or 1
    bars = "".join(
        f'<rect x="0" y="{22 * i + 4}" width="{max(1.0, value / most * 300):.1f}" height="14"/>'
        f'<text x="{max(1.0, value / most * 300) + 6:.1f}" y="{22 * i + 15}">'
        f"{html.escape(label)}: {value:,.6g}</text>"
        for i, (label, value) in enumerate(values)
    )
    return (
        f'<h2>{html.escape(name)}</h2><svg viewBox="0 0 {_WIDTH} {22 * len(values) + 4}" '
        f'role="img" aria-label="{html.escape(name)}">{bars}</svg>'
    )
