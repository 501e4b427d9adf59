"""A report in the lines that a person reads when a run is over.

Stands apart from `vecferry.pipelines.cli.commands` because it knows reports, and no command line.
"""

from __future__ import annotations

import json

from vecferry.money import NANO, shown
from vecferry.pipelines.run.report import EmbedCounts, Report


def _cost(embed: EmbedCounts) -> str:
    if embed.cost is None or embed.currency is None:
        return ""
    return f", {shown(embed.cost * NANO, embed.currency)}"


def _keys(report: Report) -> str:
    keys = report.keys
    return f" under {keys.shown} keys" if keys is not None and keys.replaced else ""


def describe(report: Report) -> str:
    """A report as a person reads it."""
    if report.state == "RUNNING":
        return "\n".join([f"{report.job}: RUNNING as {report.run}", *report.follow])
    embed = report.embed
    lines = [
        f"{report.job}: {report.state} in {report.seconds:.1f} s",
        f"  read {report.rows_read:,}  written {report.rows_written:,}{_keys(report)}  "
        f"rejected {report.rows_rejected:,}  dropped {report.rows_dropped:,}  "
        f"deleted {report.rows_deleted:,}  stale {report.rows_stale:,}"
        + (f"  refused and not kept {report.rows_unkept:,}" if report.rows_unkept else "")
        + (f"  unfinished {report.rows_unfinished:,}" if report.rows_unfinished else "")
        + (f"  added {report.rows_added:,}" if report.rows_added else "")
        + (f"  ({report.rows_split:,} rows were split)" if report.rows_split else "")
        + ("" if report.counts == "committed" or not report.lost else "  (as far as known)"),
        f"  {embed.requests:,} embedding requests, {embed.inputs:,} inputs, "
        f"{embed.cache_hits:,} cache hits, {embed.tokens:,} tokens{_cost(embed)}",
    ]
    if embed.latency_ms is not None:
        ms = embed.latency_ms
        lines.append(
            f"  at most {embed.most_in_flight:,} in flight; milliseconds a request: least "
            f"{ms.min:,.0f}, mean {ms.mean:,.0f}, median {ms.p50:,.0f}, 95 % {ms.p95:,.0f}, "
            f"most {ms.max:,.0f}"
        )
    trouble = {
        "retries": embed.retries,
        "answers of 429": embed.throttled,
        "batches halved": embed.bisections,
    }
    if any(trouble.values()):
        lines.append("  " + ", ".join(f"{n:,} {name}" for name, n in trouble.items()))
    changed = {
        "texts cut to what the model takes": embed.texts_truncated,
        "texts embedded in pieces, as the mean of their vectors": embed.texts_split,
        "images scaled down or encoded anew": embed.images_scaled,
    }
    lines += [f"  {n:,} {name}" for name, n in changed.items() if n]
    if report.rounds is not None:
        at = report.position and report.position["at"]
        lines.append(f"  {report.rounds:,} rounds; position: {json.dumps(at)}")
    lines += [f"  {r.rows:,} rejected by {r.step}: {r.reason}" for r in report.rejected_by]
    if report.rejects:
        lines.append(f"  rejects: {report.rejects}")
    lines += [f"  {note}" for note in report.notes]
    if report.error:
        lines.append(f"  {report.error}")
    return "\n".join(lines)
