"""What a job makes of each fault of an endpoint, as one table that the docs show.

``VECFERRY_WRITE_DOCS=1 pytest tests/transforms/embed/test_fault_table.py`` writes it anew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, counts_add_up, main_job, rejects_of, rows
from tests.transforms.embed.endpoints.server import (
    EndpointServer,
    Fault,
    Quota,
    every,
    share,
    vector_of,
)
from vecferry.transforms.embed.caller import HARMLESS

DOCS = Path(__file__).parents[3] / "docs" / "embedding.md"
BEGIN = "<!-- made by tests/transforms/embed/test_fault_table.py -->"
ROWS, BATCH, DIMENSION = 200, 10, 64
REQUESTS = ROWS // BATCH
OUTAGE = 20.0
HEAVY = sum(len(row["text"]) for row in rows(BATCH)) * 6 // 10
"""Letters of six texts or so."""
LONG = 200
"""Letters of a text that the endpoint takes, where it refuses long ones."""
SPLITS = 2 * math.ceil(math.log2(BATCH))
"""Extra requests that one poison row in a batch may cost."""


REFUSED_EACH: dict[str, Any] = {"allowed": lambda _: REQUESTS // 2 + 2 * BATCH}
"""What may be asked until each text of a batch, and a harmless one, are refused."""
AWAY: dict[str, Any] = {
    "allowed": lambda faulty: REQUESTS // 2 + faulty,
    "allows": "as time allows",
    "cell": "until the deadline",
    "settings": {"retryDeadlineSeconds": 2},
}
"""The same of a fault that may pass: it is waited for."""


def now_and_then(kind: str) -> Fault:
    """The second request and each seventh after it."""
    return lambda n, _: kind if n % 7 == 1 else None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, and what the rules allow of it.

    `allowed` says how many requests there may be, given how many answers were bad. `paid` says how
    many inputs may be in answers of status 200. `allows`, `cell` and `bill` stand in the table for
    numbers that differ from run to run. A case that is `probed` has the harmless text sent.
    """

    fault: Fault | None = None
    quota: tuple[float, float] | None = None
    poison: int = 0
    long: int = 0
    rejected: int = 0
    status: int = 0
    allowed: Callable[[int], int] = lambda faulty: REQUESTS + faulty
    paid: Callable[[int], int] = lambda faulty: ROWS + BATCH * faulty
    bill: str | None = None
    allows: str | None = None
    cell: str | None = None
    concurrent: int = 1
    outage: bool = False
    probed: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def passing(kind: str, **more: Any) -> Case:
    """A fault of every seventh answer, which is asked again once."""
    return Case(fault=now_and_then(kind), **more)


def harmless(kind: str | None) -> Case:
    """A fault of every answer that costs nothing."""
    fault = every(1, kind) if kind else None
    return Case(fault=fault, allowed=lambda _: REQUESTS, paid=lambda _: ROWS)


def fatal(kind: str, requests: int = 1, paid: int = 0) -> Case:
    """A fault of every answer that ends the job as soon as it is known."""
    return Case(fault=every(1, kind), status=1, allowed=lambda _: requests, paid=lambda _: paid)


def of_four_texts(kind: str, cost: int, paid: int) -> Case:
    """A fault of each request that holds one of four texts, which are rejected."""
    return Case(
        fault=lambda _, inputs: kind if any("POISON" in text for text in inputs) else None,
        poison=50, rejected=4, allowed=lambda _: REQUESTS + 4 * cost, paid=lambda _: paid,
    )  # fmt: skip


def after_good(kind: str, **more: Any) -> Case:
    """A fault of each request after half of the rows, also of one for a harmless text."""
    return Case(
        fault=lambda n, _: kind if n >= REQUESTS // 2 else None, status=1, probed=True,
        **{"paid": lambda _: ROWS // 2, **REFUSED_EACH, **more},
    )  # fmt: skip


def of_large(kind: str, most: int) -> Case:
    """A fault of each request of more than `most` inputs, which does not say how many pass."""
    least = (BATCH + 1) // 2
    while least > most:
        least = (least + 1) // 2
    return Case(
        fault=lambda _, inputs: kind if len(inputs) > most else None,
        allowed=lambda _: math.ceil(ROWS / least) + 8, paid=lambda _: ROWS,
    )  # fmt: skip


def in_batches(kind: str) -> Case:
    """A fault of each answer for several inputs: they are asked for one by one, soon."""
    return Case(
        fault=lambda _, inputs: kind if len(inputs) > 1 else None,
        allowed=lambda _: ROWS + 6, paid=lambda _: ROWS + 6 * BATCH,
    )  # fmt: skip


def of_long(kind: str, over: str, written: int) -> Case:
    """Four texts have 600 letters, and the endpoint takes a third of that."""
    return Case(
        fault=lambda _, inputs: kind if max(map(len, inputs)) > LONG else None,
        long=50, rejected=ROWS - written, settings={"overLimit": over, "modelName": "of mine"},
        allowed=lambda _: REQUESTS + 4 * SPLITS + 12, paid=lambda _: ROWS + 4 * 7,
        cell="as batches meet", bill=f"at most {ROWS + 4 * 7}",
    )  # fmt: skip


def by_chance(kind: str, percent: int, **more: Any) -> Case:
    """A fault of a share of the answers for several inputs, each asked again, then one by one."""
    spread = share(percent, kind)
    return Case(
        fault=lambda n, inputs: spread(n, inputs) if len(inputs) > 1 else None,
        allowed=lambda faulty: REQUESTS + faulty * (1 + BATCH // 2),
        **more,
    )  # fmt: skip


CASES = {
    "none": harmless(None),
    "short: the first vector is missing": passing("short"),
    "short, and without `index`": passing("short-without-index"),
    "reordered, each answer": harmless("reorder"),
    "`index` as a string, each answer": harmless("string-index"),
    "`index` left out where it is 0, each answer": harmless("index-left-out"),
    "`index` 0 for all, each answer": harmless("index-all-zero"),
    "`index` as 1.0, each answer": harmless("index-float"),
    "short, each answer for several inputs": in_batches("short"),
    "one vector too many, each answer for several inputs": in_batches("extra"),
    "one vector for all inputs": passing("same"),
    "one vector for all inputs, each answer for several": in_batches("same"),
    # One more than the engine asks: an answer that another text had is asked for again.
    "one vector for all inputs, each answer": fatal("same", 6, 2 * BATCH + 4),
    "zeros for a vector": passing("zeros"),
    "a text among the numbers": passing("texts"),
    "true among the numbers": passing("booleans"),
    "float32 with the high byte first": passing("big-endian"),
    "negative `usage`, each answer": harmless("usage-negative"),
    "huge `usage`, each answer": harmless("usage-huge"),
    "an index twice": passing("repeat-index"),
    "a foreign index": passing("foreign-index"),
    "one vector too many": passing("extra"),
    "one vector of another size": passing("one-short-vector"),
    "NaN in a vector": passing("nan"),
    "null for a vector": passing("null-vector"),
    "HTML with status 200": passing("html"),
    "a body cut short": passing("truncated"),
    "a connection reset": passing("reset"),
    "503, three of ten answers": Case(fault=share(30, "503"), concurrent=16),
    "429: 5 requests a second, 5 at once": Case(
        quota=(5, 5), concurrent=16, cell=f"{REQUESTS} and the 429s",
        allows=f"{REQUESTS} answers of 429",
        allowed=lambda faulty: REQUESTS + min(faulty, REQUESTS),
    ),
    "… and `requestsPerMinute: 300`": Case(
        quota=(5, 5), concurrent=16, cell=f"{REQUESTS} and the 429s", allows="1 answer of 429",
        allowed=lambda faulty: REQUESTS + min(faulty, 1), settings={"requestsPerMinute": 300},
    ),
    f"nothing for {OUTAGE:g} s: connections are reset, then refused": Case(
        outage=True, concurrent=16, cell=f"{REQUESTS} and those reset",
        allows="16 more, as many as were under way", allowed=lambda _: REQUESTS + 16,
        bill=f"{ROWS} and those reset", settings={"timeoutSeconds": 5},
    ),
    "a poison text in every 50 rows": Case(
        poison=50, rejected=4, allowed=lambda _: REQUESTS + 4 * SPLITS,
    ),
    "500 for one text in 50, each time": of_four_texts("500", 32, ROWS + 4 * 12),
    "503 for one text in 50, each time": of_four_texts("503", 32, ROWS + 4 * 12),
    "200 with an `error` for one text in 50": of_four_texts("error-200", SPLITS, ROWS + 4 * 20),
    "200 with an `error` nested 1,000 deep, for one text in 50": of_four_texts(
        "nested-200", SPLITS, ROWS + 4 * 20
    ),
    "400 with a message nested 1,000 deep, for one text in 50": of_four_texts(
        "nested-400", SPLITS, ROWS
    ),
    "400 for all texts after 100 rows": after_good("400"),
    "413 for all texts after 100 rows": after_good("413"),
    "422 for all texts after 100 rows": after_good("422"),
    "200 with an `error` for all texts after 100 rows": after_good(
        "error-200", paid=lambda _: ROWS // 2 + 5 * BATCH + 1
    ),
    "418 for all texts after 100 rows": after_good("418", **AWAY),
    "451 for all texts after 100 rows": after_good("451", **AWAY),
    "400 for more than 5 inputs, without a word of why": of_large("400", 5),
    "413 for a body of more than half a batch": Case(
        fault=lambda _, inputs: "413" if sum(map(len, inputs)) > HEAVY else None,
        allowed=lambda _: 2 * math.ceil(ROWS / 5) + 8, paid=lambda _: ROWS,
    ),
    "short, each third answer for several inputs": by_chance("short", 33),
    "400 for long texts, without a word of why": of_long("400", "reject", ROWS - 4),
    "… and `overLimit: truncate`": of_long("400", "truncate", ROWS),
    "… and `overLimit: split`": of_long("400", "split", ROWS),
    "429 for two of ten requests, at any rate": Case(
        fault=share(20, "429"), concurrent=4, allowed=lambda faulty: REQUESTS + faulty,
        paid=lambda _: ROWS,
    ),
    "429 for each third request, with `Retry-After: 0`": Case(
        fault=share(33, "429-now"), concurrent=4, allowed=lambda faulty: REQUESTS + faulty,
        paid=lambda _: ROWS,
    ),
    "null for a vector, each answer": fatal("null-vector", 8, 26),
    "all vectors of another size": fatal("wrong-dimension", 2, 2 * BATCH),
    "401": fatal("401"),
    "a redirect": fatal("redirect"),
    "503, each answer": Case(
        fault=every(1, "503"), status=1, cell="until the deadline", allows="as time allows",
        allowed=lambda faulty: faulty, settings={"retryDeadlineSeconds": 2},
    ),
}  # fmt: skip


class _Run:
    """One job against one server that is at fault."""

    def __init__(self, bench: Bench, name: str, outage: float) -> None:
        self.case, self.name, self.faulty = CASES[name], name, 0
        lines = rows(ROWS)
        for row in lines[25 :: self.case.poison] if self.case.poison else ():
            row["text"] += " POISON"
        for row in lines[25 :: self.case.long] if self.case.long else ():
            row["text"] = f"{row['text']} " * 24
        bench.write_lines(list(lines))
        self._outage = outage
        with EndpointServer(fault=self._fault, quota=self._quota()) as server:
            self._server = server
            self._prepare(bench)
            memory_sink.KEPT.clear()
            self.report = bench.run()
            self.requests = server.number
            self.probed = any(seen.inputs == [HARMLESS] for seen in server.requests)
            self.paid = server.inputs_seen
            if self.case.quota:
                self.faulty += server.statuses[429]
        self.lines = {row["id"]: row["text"] for row in lines}
        self.kept = list(memory_sink.KEPT)

    def _fault(self, number: int, inputs: list[Any]) -> str | None:
        if self.case.outage and number == REQUESTS // 2:
            self._server.go_down(self._outage)
            self.faulty += 1
            return "reset"  # so that one request meets the outage, however fast the others are
        kind = self.case.fault(number, inputs) if self.case.fault else None
        self.faulty += kind is not None
        return kind

    def _quota(self) -> Quota | None:
        return Quota(*self.case.quota) if self.case.quota else None

    def _prepare(self, bench: Bench) -> None:
        bench.job = main_job()
        bench.job["steps"][-1] = memory_sink.step()
        bench.job["setting"] = {"speed": {"concurrent": self.case.concurrent}}
        bench.step("Embed").update(
            {
                "modelProvider": "openai",
                "modelName": "text-embedding-v4",
                "apiKey": "sk-test",
                "endpoint": self._server.url,
            }
            | self.case.settings
        )

    def keeps_the_rules(self) -> None:
        """Asserts that every vector is right, no good row lost, no request sent in vain."""
        case, report = self.case, self.report
        assert (report["state"] == "FAILED") == bool(case.status)
        for row in self.kept:
            text = self.lines[row["id"]]
            if len(text) <= LONG:
                assert (row["vector"] == vector_of(text, DIMENSION)).all()
        ids = [row["id"] for row in self.kept]
        assert len(ids) == len(set(ids))
        if not case.status:  # what a failed bundle wrote is written, and not counted
            assert len(ids) == report["rows_written"]
        assert report["rows_rejected"] == case.rejected
        if not case.status:
            assert counts_add_up(report)
            rejected = (
                {reject["row"]["id"] for reject in rejects_of(report)} if case.rejected else set()
            )
            assert {*ids, *rejected} == set(self.lines)
            assert case.poison == 0 or all("POISON" in self.lines[i] for i in rejected)
        assert self.probed or not case.probed
        assert self.requests <= case.allowed(self.faulty)
        assert self.paid <= case.paid(self.faulty)

    def line(self) -> str:
        """The table's line."""
        r, case = self.report, self.case
        requests = case.cell or self.requests
        allowed = case.allows or case.allowed(self.faulty)
        written = len(self.kept)
        return (
            f"| {self.name} | {written} | {r['rows_rejected']} | {case.status} "
            f"| {requests} | {allowed} | {case.bill or self.paid} |"
        )


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("name", CASES)
def test_no_fault_stores_a_wrong_vector_or_costs_a_good_row(bench: Bench, name: str) -> None:
    """Nor more requests than the rules allow; and the docs tell what happens."""
    ran = _Run(bench, name, outage=OUTAGE)
    ran.keeps_the_rules()
    if not os.environ.get("VECFERRY_WRITE_DOCS"):
        assert ran.line() in DOCS.read_text()


@pytest.mark.slow
def test_an_endpoint_that_is_down_for_20_seconds_costs_nothing_but_time(bench: Bench) -> None:
    """The line of the docs is measured with an outage as long as it says."""
    (name,) = (name for name, case in CASES.items() if case.outage)
    ran = _Run(bench, name, outage=OUTAGE)
    ran.keeps_the_rules()
    assert ran.report["seconds"] >= OUTAGE
    if os.environ.get("VECFERRY_WRITE_DOCS"):
        _write([_Run(bench, n, outage=1.0).line() if n != name else ran.line() for n in CASES])
    assert ran.line() in DOCS.read_text()


def test_the_table_of_the_docs_has_a_line_for_each_fault_and_no_other() -> None:
    """In the order of this file."""
    table = DOCS.read_text().partition(BEGIN)[2].partition("\n\n## ")[0]
    names = [line.split(" | ")[0].removeprefix("| ") for line in table.strip().splitlines()]
    assert names[2:] == list(CASES)


def _write(lines: list[str]) -> None:
    before, _, rest = DOCS.read_text().partition(BEGIN)
    _, _, after = rest.partition("\n\n## ")
    head = [
        BEGIN,
        "",
        f"| {ROWS} rows in {REQUESTS} batches; the endpoint gives | written | rejected | exit "
        "status | requests | allowed | inputs paid |",
        "|---|---|---|---|---|---|---|",
    ]
    DOCS.write_text(before + "\n".join([*head, *lines]) + "\n\n## " + after)
