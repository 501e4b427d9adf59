"""A number in a job or a data source has one reading, in each setting of each step."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from vecferry.errors import JobError
from vecferry.pipelines import registry
from vecferry.pipelines.cluster import runners
from vecferry.pipelines.job import model as job_model
from vecferry.pipelines.job.problems import validate
from vecferry.pipelines.registry import load
from vecferry.pipelines.templates import metadata
from vecferry.settings import Settings

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
