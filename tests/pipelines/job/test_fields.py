"""Every field of a step, a data source and a job is described; pages and schemas tell the same.

``VECFERRY_WRITE_DOCS=1 pytest tests/pipelines/job/test_fields.py`` writes the tables of the pages
and the schemas in ``docs/schema``. A table stands behind a line ``<!-- fields: CLASS -->``.
``groups a b`` behind the name takes only these groups. ``flat`` puts the fields of parts into the
table, as ``speed.record``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, ValidationError

from tests.code import PAGES, ROOT
from vecferry.fields import GROUPS, Described, described, in_form, models_in, title_of
from vecferry.pipelines.job.forms import form_schema
from vecferry.pipelines.job.model import Job
from vecferry.pipelines.job.schema import data_sources_schema, job_schema
from vecferry.pipelines.registry import Registry, connection_of, settings_of, using
from vecferry.settings import Connection, Settings

MARK = re.compile(r"<!-- fields: (\w+)(?:, groups ([\w ]+))?(, flat)? -->\n")
BUILT_IN = Registry(entry_points=list)
SCHEMAS = {"job.json": job_schema, "data-sources.json": data_sources_schema}
"""The files in ``docs/schema``, and what makes them."""


def with_parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A class of settings and all classes of its parts."""
    yield model
    for field in model.model_fields.values():
        for part in models_in(field.annotation):
            yield from with_parts(part)


def all_models() -> dict[str, type[BaseModel]]:
    """Every class that a job or a file of data sources is made of, by name."""
    kinds = [kind for found in BUILT_IN.kinds().values() for kind in found]
    tops: list[type[BaseModel]] = [Job, *map(settings_of, kinds)]
    tops += map(connection_of, BUILT_IN.connections().values())
    return {model.__name__: model for top in tops for model in with_parts(top)}


MODELS = all_models()
BASES = {base.__name__: base for model in MODELS.values() for base in model.__mro__}
"""These classes, and what they inherit."""


def lacking(model: type[BaseModel]) -> list[str]:
    """What nobody wrote of each field of a class."""
    found = []
    for field in described(model):
        parts = {
            "a description": field.description,
            "a group, by in_form(…)": field.group,
            "examples": field.examples,
            "a title": field.title,
        }
        missing = ", ".join(name for name, value in parts.items() if not value)
        if missing:
            found.append(f"{model.__name__}.{field.name} lacks {missing}")
    return found


def refused(model: type[BaseModel], field: Described, value: Any) -> bool:
    """Whether a class refuses a value of a field; other fields are left out."""
    try:
        model.model_validate({field.name: value})
    except ValidationError as error:
        return any(e["loc"][:1] == (field.name,) for e in error.errors())
    return False


def test_every_field_is_described() -> None:
    """A field that is added without words, group or examples is named here."""
    assert [text for model in MODELS.values() for text in lacking(model)] == []


def test_a_field_without_words_is_told() -> None:
    """The check above finds what is missing."""

    class Bare(Settings):
        price: float | None = None
        tokens: int = Field(default=1, description="how many", json_schema_extra=in_form("limits"))

    assert lacking(Bare) == [
        "Bare.price lacks a description, a group, by in_form(…), examples",
        "Bare.tokens lacks examples",
    ]


def test_groups_are_known_and_conditions_name_fields() -> None:
    """Or a form could not show them."""
    wrong = []
    for model in MODELS.values():
        fields = {field.name: field for field in described(model)}
        for field in fields.values():
            where = f"{model.__name__}.{field.name}"
            wrong += [f"{where}: group"] if field.group not in GROUPS else []
            if field.visible is None:
                continue
            on = fields.get(field.visible["field"])
            wrong += [f"{where}: visible by an unknown field"] if on is None else []
            if on is not None and on.choices:
                wrong += [
                    f"{where}: visible by {value!r}, which {on.name} never is"
                    for value in field.visible.get("values", [])
                    if value not in on.choices
                ]
    assert wrong == []


def test_examples_and_choices_are_taken() -> None:
    """Each by its own class. Secrets are left out, because a text that is seen would be hidden."""
    wrong = [
        f"{model.__name__}.{field.name}: {value!r}"
        for model in MODELS.values()
        for field in described(model)
        for value in (*field.examples, *field.choices)
        if not field.secret and refused(model, field, value)
    ]
    assert wrong == []


def test_pages_say_what_see_points_to() -> None:
    """The page is there, and the heading in it."""
    wrong = []
    for model in MODELS.values():
        for field in described(model):
            page, _, heading = field.see.partition("#")
            path = ROOT / "docs" / page
            text = path.read_text() if page and path.exists() else ""
            headings = [h.lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
            if field.see and (not text or (heading and heading not in headings)):
                wrong.append(f"{model.__name__}.{field.name}: {field.see}")
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("embeddingColumns", "Embedding columns"),
        ("caCert", "CA cert"),
        ("accessKeyId", "Access key ID"),
        ("jdbcUrl", "JDBC URL"),
        ("defaultFS", "Default file system"),
        ("bucket", "Bucket"),
    ],
)
def test_titles_are_made_of_names(name: str, title: str) -> None:
    """Unless the field has a title of its own."""
    assert title_of(name) == title


def properties_in(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """All properties in a schema."""
    if isinstance(schema, dict):
        for name, body in schema.items():
            if name == "properties":
                yield from body.items()
            yield from properties_in(body)
    elif isinstance(schema, list):
        for body in schema:
            yield from properties_in(body)


def written(schema: dict[str, Any]) -> str:
    """A schema as a file that shows in a change which class has changed: a line each."""
    head = {key: body for key, body in schema.items() if key != "$defs"}
    classes = [f"{json.dumps(name)}: {json.dumps(body)}" for name, body in schema["$defs"].items()]
    return json.dumps(head)[:-1] + ', "$defs": {\n' + ",\n".join(classes) + "\n}}\n"


@pytest.mark.parametrize(("name", "make"), SCHEMAS.items(), ids=list(SCHEMAS))
def test_the_schemas_that_examples_name_are_those_of_the_command(name: str, make: Any) -> None:
    """So an editor completes an example in a fresh checkout."""
    path = ROOT / "docs" / "schema" / name
    with using(BUILT_IN):
        due = make()
    if os.environ.get("VECFERRY_WRITE_DOCS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(written(due))
    assert json.loads(path.read_text()) == due
    assert path.read_text() == written(due)


@pytest.mark.parametrize("make", SCHEMAS.values(), ids=list(SCHEMAS))
def test_schemas_for_editors_carry_what_fields_say(make: Any) -> None:
    """Title, description, group, order and examples of every field of every class."""
    with using(BUILT_IN):
        schema = make()
    Draft202012Validator.check_schema(schema)
    lacking = [
        f"{model}.{name}: {key}"
        for model, body in schema["$defs"].items()
        for name, field in body.get("properties", {}).items()
        for key in ("title", "description", "group", "order", "examples")
        if key not in field
    ]
    assert lacking == []


def test_the_schema_of_data_sources_takes_what_vecferry_takes() -> None:
    """The examples, a source by its URL alone; and no unknown type."""
    with using(BUILT_IN):
        validator = Draft202012Validator(data_sources_schema())
    given = yaml.safe_load((ROOT / "examples" / "datasources.yaml").read_text())
    given["Url"] = {"type": "mysql", "jdbcUrl": "jdbc:mysql://db/shop?user=a"}
    assert [error.message for error in validator.iter_errors(given)] == []
    assert not validator.is_valid({"X": {"type": "milvos", "endpoint": "http://x"}})
    assert not validator.is_valid({"X": {"type": "milvus"}})
    assert not validator.is_valid({"X": {"type": "milvus", "endpoint": 7}})


def test_forms_are_strict() -> None:
    """Every field has one type, says all of itself, and a choice is one of that type."""
    with using(BUILT_IN):
        form = form_schema()
    parts = [form["setting"], *form["dataSources"].values()]
    parts += [part for roles in form["steps"].values() for part in roles.values()]
    wrong = []
    for part in parts:
        Draft202012Validator.check_schema(part)
        for name, field in properties_in(part):
            told = all(field.get(key) for key in ("title", "description", "group", "examples"))
            strict = isinstance(field["type"], str) and not {"anyOf", "$ref"} & field.keys()
            ordered = isinstance(field["order"], int) and isinstance(field["advanced"], bool)
            if not (told and strict and ordered):
                wrong.append(name)
    assert wrong == []
    column = form["steps"]["milvus"]["writer"]["properties"]["column"]
    dimension = column["items"]["properties"]["dimension"]
    assert column["type"] == "array"
    assert "FloatVector" in dimension["visible"]["values"]
    assert form["steps"]["milvus"]["writer"]["properties"]["datasource"]["dataSourceTypes"] == [
        "milvus"
    ]
    assert form["dataSources"]["milvus"]["properties"]["token"]["writeOnly"] is True


def test_what_forms_write_is_taken() -> None:
    """A job of a form is checked as strictly as the form says: a wrong type, an unknown key."""
    with using(BUILT_IN):
        form = form_schema()["steps"]["json-extracting"]["transformer"]
    validator = Draft202012Validator(form)
    column = {"name": "a", "fromColumn": "b", "jsonPath": "$.c"}
    assert validator.is_valid({"column": [column]})
    for bad in ({"column": column}, {"column": [column], "colum": 1}, {}):
        assert not validator.is_valid(bad), json.dumps(bad)


def rows_of(model: type[BaseModel], groups: list[str], flat: bool, page: str) -> list[str]:
    """The lines of a table of a page, one a field."""
    lines = []
    for field in described(model):
        is_type = field.name == "type" and issubclass(model, Connection)
        parts = [part for kind in field.types for part in models_in(kind)]
        if flat and parts and get_origin(field.types[0]) is None:
            for inner in described(parts[0]):
                lines.append(row(inner, f"{field.name}.", page))
        elif (not groups or field.group in groups) and not is_type:
            lines.append(row(field, "", page))
    return lines


def row(field: Described, before: str, page: str) -> str:
    """A field as a line of a table."""
    names = " or ".join(f"`{before}{name}`" for name in (field.name, *field.others))
    text = _condition(field) + field.description
    if field.choices and not isinstance(field.choices[0], bool):
        unsaid = any(f"`{choice}`" not in text for choice in field.choices)
        unsaid = unsaid and not (field.see and len(field.choices) > 6)  # the page has them
        text += f" ({_one_of(field.choices)})" if unsaid else ""
    is_dict = any(get_origin(kind) is dict for kind in field.types)
    if is_dict and not field.see and isinstance(field.examples[0], dict):
        text += f", such as `{json.dumps(field.examples[0])}`"
    if field.see:
        target, _, heading = field.see.partition("#")
        link = f"#{heading}" if target == page else field.see
        if link != page:
            words = (heading or target.removesuffix(".md")).replace("-", " ")
            text += f"; see [{words}]({link})"
    return f"| {names} | {_default(field)} | {text} |".replace("|  |", "| |")


def _condition(field: Described) -> str:
    """What makes the field count, unless its description says so."""
    if field.visible is None or f"`{field.visible['field']}`" in field.description:
        return ""
    name, values = field.visible["field"], field.visible.get("values", [])
    if not values:
        return f"with `{name}`: "
    first, *rest = [json.dumps(v) if isinstance(v, bool) else v for v in values]
    return f"with {_one_of((f'{name}: {first}', *rest))}: "


def _one_of(choices: tuple[Any, ...]) -> str:
    *first, last = [f"`{choice}`" for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last


def _default(field: Described) -> str:
    value = field.default
    if field.otherwise:
        return field.otherwise
    if field.required:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str) and value:
        return f"`{value}`" if value.isprintable() else f"`{json.dumps(value)}`"
    return f"`{json.dumps(value)}`" if isinstance(value, tuple) and value else ""


def tables(page: Path) -> Iterator[tuple[int, int, str]]:
    """Where the lines of each table of fields begin and end in a page, and the lines due there."""
    text = page.read_text()
    for mark in MARK.finditer(text):
        begin = text.index("\n", text.index("\n", mark.end()) + 1) + 1
        end = re.compile(r"^(?!\|)", re.M).search(text, begin)
        model = BASES[mark[1]]
        lines = rows_of(model, (mark[2] or "").split(), bool(mark[3]), page.name)
        yield begin, end.start() if end else len(text), "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if MARK.search(p.read_text())], ids=lambda p: p.stem
)
def test_tables_of_pages_are_made_of_the_fields(page: Path) -> None:
    """No line is missing, and none says anything else."""
    text = page.read_text()
    for begin, end, due in reversed(list(tables(page))):
        if os.environ.get("VECFERRY_WRITE_DOCS"):
            page.write_text(page.read_text()[:begin] + due + page.read_text()[end:])
        else:
            assert text[begin:end] == due


def test_every_step_and_data_source_has_a_table() -> None:
    """Of its own class or of one that it inherits from."""
    told = {mark[1] for page in PAGES for mark in MARK.finditer(page.read_text())}
    tops = [settings_of(kind) for found in BUILT_IN.kinds().values() for kind in found]
    tops += [connection_of(found) for found in BUILT_IN.connections().values()]
    own = {name for name, base in BASES.items() if base.__module__.startswith("vecferry.io")}
    families = {c.__name__ for name in told for c in BASES[name].__mro__} & own | told
    untold = [t.__name__ for t in tops if not {c.__name__ for c in t.__mro__} & families]
    assert untold == []
