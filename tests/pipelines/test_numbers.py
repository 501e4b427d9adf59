"""A number in a job or a data source has one reading, in each setting of each step."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from vecferry.errors import JobError
from vecferry.io.milvus.client import MilvusHandle
from vecferry.io.mysql_cdc.gtid import MariaGtids, MysqlGtids
from vecferry.io.mysql_cdc.source import MySqlChanges
from vecferry.io.paimon.blobs import _PLACE
from vecferry.io.paimon.changes import PaimonChanges
from vecferry.io.paimon.settings import _milliseconds
from vecferry.io.search import browse, catalog
from vecferry.pipelines import registry
from vecferry.pipelines.autoetl.tokens import tokens_of
from vecferry.pipelines.cli.cron import cron_times
from vecferry.pipelines.cluster import runners
from vecferry.pipelines.job import model as job_model
from vecferry.pipelines.job.problems import validate
from vecferry.pipelines.job.schedule import ScheduledTime
from vecferry.pipelines.registry import load
from vecferry.pipelines.templates import metadata
from vecferry.settings import Settings
from vecferry.transforms.embed.endpoints import client, proxies
from vecferry.transforms.shape.patterns import _template

SPELLINGS = ["7_68", "７６８", "٣", "²", "0x300", "1e", "--1", "1,000", ".", "inf", "NaN"]
"""Python's int and float, or pydantic, take some of them."""


def models() -> list[type[BaseModel]]:
    """All settings of steps, of data sources and of a job, and those within them."""
    roots = [load(kind.settings) for kinds in registry.kinds().values() for kind in kinds]
    roots += [load(connection.settings) for connection in registry.connections().values()]
    todo: list[Any] = [*roots, job_model.Job]
    found: dict[type[BaseModel], None] = {}
    while todo:
        one = todo.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            if one not in found:
                found[one] = None
                todo += [field.annotation for field in one.model_fields.values()]
        else:
            todo += get_args(one)
    return list(found)


def numbers() -> Iterator[tuple[type[BaseModel], str, type]]:
    """Each field that takes only a number: its model, its name in a job, its kind."""
    for one in models():
        for name, field in one.model_fields.items():
            union = get_origin(field.annotation) in (Union, types.UnionType)
            kinds = set(get_args(field.annotation) if union else (field.annotation,))
            kinds.discard(type(None))
            if kinds and kinds <= {int, float}:
                yield one, field.alias or name, float if float in kinds else int


CASES = [pytest.param(*case, id=f"{case[0].__name__}.{case[1]}") for case in numbers()]


def problem(one: type[BaseModel], name: str, value: object) -> str:
    """What is wrong with one field; empty where it is taken. Other fields may be missing."""
    found = validate(one, {name: value}, "job")[1]
    return "; ".join(text for text in found if text.startswith(f"job.{name} is "))


def test_the_table_has_the_settings_of_all_connectors() -> None:
    """Or the next test would prove nothing."""
    assert len(CASES) > 40
    assert all(issubclass(case.values[0], Settings) for case in CASES)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "name", "kind"), CASES)
def test_a_number_given_as_a_text_is_of_ascii_digits(
    one: type[BaseModel], name: str, kind: type
) -> None:
    """`7_68` is not 768: a slip in a setting is told, and never read as another number."""
    for text in SPELLINGS:
        assert problem(one, name, text), text
    assert "number" in problem(one, name, "7_68")
    fits = [n for n in (1, 8, 64, 1024, 100_000, 1 << 30) if not problem(one, name, n)]
    assert fits
    for n in fits:
        assert problem(one, name, f" {n} ") == problem(one, name, f"+{n}") == ""
    if kind is float and not problem(one, name, 0.5):
        assert problem(one, name, "5e-1") == problem(one, name, ".5") == ""
    if kind is float:
        assert problem(one, name, "1e999")


@pytest.mark.parametrize("text", SPELLINGS)
def test_an_option_of_a_runner_and_a_value_of_a_template_have_the_same_reading(text: str) -> None:
    """With words, where `int` would raise or read another number."""
    with pytest.raises(JobError, match="must be a whole number of 1 or more"):
        runners._number([f"--parallelism={text}"], "parallelism")
    with pytest.raises(ValueError, match="must be a number"):
        metadata._number(text)


AT = ScheduledTime(datetime(2026, 11, 1, tzinfo=UTC))
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def paimon_until(digit: str) -> Any:
    """The snapshot that ``--until`` names."""
    table: Any = SimpleNamespace(_ask=lambda _, ask: ask(), _snapshot_place=lambda n: {"at": n})
    return PaimonChanges.parse_until(table, digit)["at"]


def mysql_until(digit: str) -> Any:
    """The offset in a log that ``--until`` names."""
    server: Any = SimpleNamespace(_ask=lambda _, ask: ask(None), _named=lambda _, p: {"at": p})
    return MySqlChanges.parse_until(server, f"binlog.000012:{digit}")["at"].offset


def milvus_version(digit: str) -> Any:
    """What a server tells of itself."""
    told = SimpleNamespace(is_lite=False, _told=f"v{digit}.4.1")
    return MilvusHandle.version.fget(told)  # type: ignore[attr-defined]


REFUSED = "refused"
READINGS: dict[str, tuple[Callable[[str], Any], Any, Any]] = {
    "milliseconds": (lambda d: _milliseconds(f"{d}45"), 345, REFUSED),
    "a snapshot": (paimon_until, 3, REFUSED),
    "a place in a log": (mysql_until, 3, REFUSED),
    "a GTID's range": (
        lambda d: str(MysqlGtids.parsed(f"{UUID}:1-{d}")), f"{UUID}:1-3", REFUSED
    ),
    "a GTID": (lambda d: str(MariaGtids.parsed(f"0-1-{d}")), "0-1-3", REFUSED),
    "a BLOB's place": (lambda d: bool(_PLACE.fullmatch(f"db.t/u#{d}+1")), True, False),
    "cron's hour": (lambda d: cron_times(f"0 {d} * * *").values[1], (3,), REFUSED),
    "cron's step": (lambda d: cron_times(f"0 */{d} 1 1 *").values[1][:2], (0, 3), REFUSED),
    "days of a schedule": (lambda d: AT.scheduled(f"yyyymmdd+{d}"), "20261104", REFUSED),
    "a business date": (lambda d: AT.business(f"yyyymmdd+{d}"), "20261103", REFUSED),
    "months of a schedule": (
        lambda d: AT.scheduled(f"add_months(yyyymmdd,{d})"), "20270201", REFUSED
    ),
    "a token of SQL": (lambda d: tokens_of(d, "x")[0].kind, "number", "word"),
    "documents of an index": (browse._number, 3, None),
    "a version of a cluster": (lambda d: catalog._parsed(f"{d}.1"), (3, 1), None),
    "a version of Milvus": (milvus_version, (3, 4), None),
    "a port without a proxy": (lambda d: proxies._holds(f"h:{d}", "h", 3), True, False),
    "a group of a pattern": (lambda d: 3 in _template(f"\\{d}", 5), True, REFUSED),
    "a limit that is learned": (
        lambda d: bool(client._LIMIT.search(f"at most {d} texts")), True, False
    ),
    "tokens that are learned": (
        lambda d: bool(client._TOKENS.search(f"up to {d} tokens")), True, False
    ),
}  # fmt: skip
"""By what is read: how, what 3 gives, and what a digit that is not one of ASCII gives."""


@pytest.mark.parametrize("what", READINGS)
@pytest.mark.parametrize("digit", ["3", "٣", "３", "३", "³"])
def test_only_digits_of_ascii_are_read_as_a_number(what: str, digit: str) -> None:
    """In places, times, versions and answers; what is refused is refused in words."""
    read, given, otherwise = READINGS[what]
    try:
        found = read(digit)
    except (JobError, ValueError) as e:
        found = str(e) if "invalid literal" in str(e) else REFUSED
    assert found == (given if digit == "3" else otherwise)


@pytest.mark.parametrize("step", ["0", "00", "9" * 5000])
def test_a_step_of_cron_that_leads_nowhere_is_refused(step: str) -> None:
    """In words, and not by what Python says of a range or of a long number."""
    with pytest.raises(JobError, match="is not a minute"):
        cron_times(f"*/{step} * * * *") if len(step) < 3 else cron_times(f"{step} * * * *")
