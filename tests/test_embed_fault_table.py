"""What the engine makes of each fault, as one table that the docs show and this test makes.

``VECFERRY_WRITE_DOCS=1 pytest tests/test_embed_fault_table.py`` writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.embed_support import embedder, good, on_its_own_row, rejects, rows_of, run, settings_for
from tests.endpoint_server import EndpointServer, every
from vecferry.errors import FatalError, TransientError

DOCS = Path(__file__).parent.parent / "docs" / "embedding.md"
ROWS = 200
BEGIN = "<!-- made by tests/test_embed_fault_table.py -->"


def now_and_then(kind):
    """The second request and each seventh after it."""
    return lambda n, _: kind if n % 7 == 1 else None


def poisoned(rows):
    """Each fiftieth row holds what the server refuses."""
    return [
        {**row, "text": f"{row['text']} POISON"} if row["id"] % 50 == 25 else row for row in rows
    ]


FAULTS = {
    "none": None,
    "short: the first vector is missing": now_and_then("short"),
    "short, and without `index`": now_and_then("short-without-index"),
    "reordered, each answer": every(1, "reorder"),
    "`index` as a string, each answer": every(1, "string-index"),
    "an index twice": now_and_then("repeat-index"),
    "a foreign index": now_and_then("foreign-index"),
    "one vector too many": now_and_then("extra"),
    "one vector of another size": now_and_then("one-short-vector"),
    "NaN in a vector": now_and_then("nan"),
    "null for a vector": now_and_then("null-vector"),
    "HTML with status 200": now_and_then("html"),
    "a body cut short": now_and_then("truncated"),
    "a connection reset": now_and_then("reset"),
    "status 503": now_and_then("503"),
    "a poison text in every 50 rows": None,
    "null for a vector, each answer": every(1, "null-vector"),
    "all vectors of another size": every(1, "wrong-dimension"),
    "401": every(1, "401"),
    "a redirect": every(1, "redirect"),
    "503, each answer": every(1, "503"),
}


def _line(name):
    rows = rows_of(ROWS)
    if "poison" in name:
        rows = poisoned(rows)
    with EndpointServer(fault=FAULTS[name]) as server:
        engine = embedder(settings_for(server, retryDeadlineSeconds=3), concurrent=1)
        out, ended = [], "done"
        try:
            out = run(engine, rows)
        except (FatalError, TransientError):
            ended = "failed"
        engine.close()
        requests = str(server.number)
    if name == "503, each answer":
        requests = "until the deadline"
    assert all(on_its_own_row(row) for row in good(out)), name
    assert ended == "failed" or len(good(out)) + len(rejects(out)) == ROWS
    return f"| {name} | {len(good(out))} | {len(rejects(out))} | {requests} | {ended} |"


@pytest.mark.slow
def test_the_table_of_faults_in_the_docs_is_what_happens():
    """No fault stores a wrong vector, loses a good row, or costs more requests than it must."""
    made = [
        BEGIN,
        "",
        f"| {ROWS} rows in 20 requests; the endpoint gives | stored | rejected | requests | job |",
        "|---|---|---|---|---|",
        *map(_line, FAULTS),
    ]
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition("\n\n## ")
    if os.environ.get("VECFERRY_WRITE_DOCS"):
        DOCS.write_text(before + "\n".join(made) + "\n\n## " + after)
    else:
        assert (BEGIN + table).strip().splitlines() == made
