"""The steps of vecferry in Beam YAML pipelines; ``beam_yaml_providers.yaml`` names them there.

``python -m vecferry.pipelines.beam_yaml`` prints the path of that file. The config of a transform
holds the parameters of the step in a job. Placeholders ``${NAME}`` are filled from the environment.
The config can also have:

- `datasource`: a data source, or the name of one in the file `data_sources`;
- `error_handling`: the name of the output for rejects;
- `schema`, for readers only: a JSON Schema of the rows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam

from vecferry.beam import REJECTED
from vecferry.errors import JobError, TerminalError
from vecferry.pipelines.beam_yaml_rows import (
    REJECT_FIELDS,
    TYPES,
    Fields,
    ToRow,
    fields_of,
    fields_of_schema,
    plain,
    reject_row,
    row_type,
)
from vecferry.pipelines.job.datasources import DataSources, read_data_sources
from vecferry.pipelines.job.placeholders import fill
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import Kind, default, kinds, load, settings_of
from vecferry.rows import Change, Reject
from vecferry.settings import Settings, StepSettings
from vecferry.steps import StepContext

PROVIDERS = Path(__file__).with_name("beam_yaml_providers.yaml")

GOOD = "good"
"""The output of rows beside an output of rejects; Beam YAML's own word."""

_HEAD = (
    "# The steps of vecferry, for `providers: - include: THIS FILE` in a Beam YAML pipeline; "
    "see docs/beam-yaml.md.\n"
)
_INLINE = "the config"
_log = logging.getLogger(__name__)


class YamlStep(beam.PTransform):
    """One of our transforms between rows that have a schema.

    With `errors`, the name of an output, gives ``{good: rows, errors: rejects}``; without it gives
    rows, and a reject fails the pipeline, as everywhere in Beam YAML.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        settings: StepSettings,
        connection: Settings | None,
        errors: str | None,
    ) -> None:
        super().__init__(name)
        self.kind, self.settings, self.connection, self.errors = kind, settings, connection, errors
        self.schema: Fields | None = None

    def expand(self, given: Any) -> Any:
        """Rows in, rows out; a reader takes the beginning of the pipeline."""
        context = StepContext(step=self.label, step_type=self.kind.step_type)
        own: dict[str, Any] = {"settings": self.settings, "context": context}
        if self.connection is not None:
            own["connection"] = self.connection
        transform = load(self.kind.transform or "")(**own)
        if self.kind.role == "reader":
            fields = self.schema or read_fields(self.settings, self.label)
            outputs = given | transform
        else:
            try:
                added = () if self.kind.role == "writer" else self.settings.outputs() or ()
                gone = self.settings.takes_away()
                kept = [field for field in fields_of(given.element_type) if field[0] not in gone]
                fields = _with(kept, _typed(added, self.settings))
            except JobError as e:
                raise JobError(f"{self.label} {e}") from None
            outputs = given | "To dicts" >> beam.Map(plain).with_output_types(dict) | transform
        to_rows = _ToRowsFn(ToRow(fields), self.label, self.kind.step_type)
        made = outputs[transform.main] | "To rows" >> beam.ParDo(to_rows).with_output_types(
            row_type(fields)
        ).with_outputs(REJECTED, main=GOOD)
        refused = (outputs[REJECTED], made[REJECTED]) | "All rejects" >> beam.Flatten()
        if self.errors is None:
            _ = refused | "Fail" >> beam.Map(_fail)
            return made[GOOD]
        rejects = refused | "Rejects to rows" >> beam.Map(reject_row).with_output_types(
            row_type(REJECT_FIELDS)
        )
        return {GOOD: made[GOOD], self.errors: rejects}


class _ToRowsFn(beam.DoFn):
    def __init__(self, to_row: ToRow, step: str, step_type: str) -> None:
        self.to_row, self.step, self.step_type = to_row, step, step_type

    def process(self, row: Any) -> Any:
        try:
            yield self.to_row(row)
        except ValueError as e:
            origin = row.origin if isinstance(row, Change) else ""
            reject = Reject(self.step, self.step_type, "schema", str(e), row=row, origin=origin)
            yield beam.pvalue.TaggedOutput(REJECTED, reject)


def _fail(reject: Reject) -> None:
    place = f" ({reject.origin})" if reject.origin else ""
    raise TerminalError(
        f"step {reject.step!r}{place}: {reject.message}; write error_handling: {{output: NAME}} "
        "into its config to go on without such rows",
        reject.reason,
    )


def read_fields(settings: StepSettings, name: str) -> Fields:
    """The fields of the rows that a reader gives, as far as its settings tell.

    A column whose type only the source knows is `Any`. Raises JobError if the settings do not even
    tell the columns.
    """
    columns = settings.outputs()
    if columns is None:
        raise JobError(
            f"{name}: only the source knows its columns: name them in `column`, or give `schema`"
        )
    return _typed(columns, settings)


def _typed(columns: Iterable[str], settings: StepSettings) -> Fields:
    types = settings.column_types()
    return [(column, TYPES.get(types.get(column, ""), Any)) for column in columns]


def _with(fields: Fields, added: Fields) -> Fields:
    return list({**dict(fields), **dict(added)}.items())


def _step(name: str, kind: Kind) -> Callable[..., YamlStep]:
    """The constructor that Beam YAML calls with the config of a transform."""

    def make(**config: Any) -> YamlStep:
        errors = _error_output(name, config.pop("error_handling", None))
        schema = config.pop("schema", None) if kind.role == "reader" else None
        filled, problems = fill(config, os.environ, name)
        file = filled.pop("data_sources", None)
        sources = read_data_sources(file, os.environ) if _names_one(filled, kind) else None
        connection, more = _connection(name, kind, filled, sources)
        settings, wrong = validate(settings_of(kind), filled, name)
        if settings is None or problems or more or wrong:
            raise JobError(problems + more + wrong)
        for warning in unknown_keys(settings, name):
            _log.warning(warning)
        step = YamlStep(name, kind, settings, connection, errors)
        step.schema = None if schema is None else fields_of_schema(schema)
        return step

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"The step {kind.step_type} ({kind.role}) of vecferry; its config is its parameters."
    )
    make._yaml_requires_inputs = kind.role != "reader"  # type: ignore[attr-defined]
    return make


def _error_output(name: str, given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or given.keys() != {"output"}:
        raise JobError(f"{name}.error_handling: must be {{output: NAME}}, and nothing else")
    return str(given["output"])


def _names_one(config: Mapping[str, Any], kind: Kind) -> bool:
    """Whether the config names a data source that stands in a file."""
    return isinstance(config.get(_snake_or_camel(config, kind)), str)


def _snake_or_camel(config: Mapping[str, Any], kind: Kind) -> str:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.source_key)
    return snake if snake in config else kind.source_key


def _connection(
    name: str, kind: Kind, config: dict[str, Any], sources: DataSources | None
) -> tuple[Settings | None, list[str]]:
    """The data source of a transform, and what is wrong; a mapping of its own leaves `config`."""
    key = _snake_or_camel(config, kind)
    source = config.get(key)
    if source is None or not kind.sources:
        missing = kind.sources and kind.source_needed and "connection" not in config
        way = f"{name}.{key} is missing: write a data source, or the name of one"
        return None, [way] if missing else []
    if not isinstance(source, str):
        config[key] = _INLINE
        sources, source = DataSources({}, {}, name, {_INLINE: source}), _INLINE
    assert sources is not None
    try:
        connection, warnings = sources.get(source, kind.sources, name)
    except JobError as e:
        return None, e.problems
    for warning in warnings:
        _log.warning(warning)
    return connection, []


def __getattr__(name: str) -> Callable[..., YamlStep]:
    """The constructor of the step that Beam YAML knows as `name`."""
    found = named_kinds().get(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _step(name, found)


def named_kinds() -> dict[str, Kind]:
    """The kinds of steps by their names in Beam YAML."""
    every = (kind for found in kinds().values() for kind in found)
    return {kind.beam_yaml: kind for kind in every if kind.beam_yaml is not None}


def providers() -> str:
    """What stands in `PROVIDERS`: the steps of vecferry itself."""
    registry = default()
    names = sorted(n for n, kind in named_kinds().items() if registry.package_of(kind) is None)
    lines = (f"    {name}: {__spec__.name}.{name}\n" for name in names)
    return f"{_HEAD}- type: python\n  transforms:\n{''.join(lines)}"


if __name__ == "__main__":
    print(PROVIDERS)
