"""The job file: what DataWorks Data Integration writes, as models.

`read_job` gives a `Job` with a checked envelope and filled placeholders.
`vecferry.pipelines.job.resolve` checks the parameters of each step, with the data sources at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vecferry.errors import JobError, near
from vecferry.fields import in_form
from vecferry.instead import MODES, Mode
from vecferry.money import Price
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.mapping import MappingSettings
from vecferry.pipelines.job.placeholders import Values, fill, set_value
from vecferry.pipelines.job.problems import NEAR_MISS, near_misses, unknown_keys, validate
from vecferry.positions.settings import PlaceUri, guard
from vecferry.settings import Settings, pick, require_pattern
from vecferry.transforms.embed.cache.settings import VectorCacheSettings

_NOT_IN_FILES = frozenset('/\\:*?"<>|[]{}#%$~')


class ErrorLimit(Settings):
    """When rejects fail the job; neither value means never."""

    record: int | None = Field(
        default=None,
        ge=0,
        description="the job fails if more rows than this are rejected; with `0`, the first "
        "reject fails the job",
        examples=[0],
        json_schema_extra=in_form("limits"),
    )
    percentage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the job fails if more than this share of its rows, 0 to 1, is rejected; "
        "unused with `record`",
        examples=[0.01],
        json_schema_extra=in_form("limits"),
    )


class Expect(Settings):
    """What the job expects of a run that reads its source once; else the run fails."""

    min_rows: int | None = Field(
        default=None,
        ge=0,
        description="the run fails if it reads fewer rows",
        examples=[1000],
        json_schema_extra=in_form("limits", advanced=True),
    )
    max_rows: int | None = Field(
        default=None,
        ge=0,
        description="the run fails if it reads more rows",
        examples=[1000000],
        json_schema_extra=in_form("limits", advanced=True),
    )
    min_written: int | None = Field(
        default=None,
        ge=0,
        description="the run fails if it writes fewer rows; with `0`, all rows may be rejected",
        examples=[1],
        json_schema_extra=in_form("limits", advanced=True),
    )
    max_reject_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the run fails if more than this share of its rows, 0 to 1, is rejected",
        examples=[0.01],
        json_schema_extra=in_form("limits", advanced=True),
    )
    max_replaced: int | None = Field(
        default=None,
        ge=0,
        description="the run fails if more rows replace others of the run, as their keys are equal",
        examples=[0],
        json_schema_extra=in_form("limits", advanced=True),
    )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is expected."""
        return all(getattr(self, name) is None for name in type(self).model_fields)

    @model_validator(mode="after")
    def _can_be_met(self) -> Expect:
        least, most = self.min_rows, self.max_rows
        if least is not None and most is not None and least > most:
            raise ValueError(
                f"minRows {least} is more than maxRows {most}: no run meets both; change one"
            )
        return self


class Speed(Settings):
    """How much runs at once, and how fast at most."""

    ignored = frozenset({"dmu"})

    concurrent: int | None = Field(
        default=None,
        ge=1,
        description="most requests to the embedding service under way at once, in the whole job",
        examples=[32],
        json_schema_extra=in_form("speed", otherwise="16"),
    )
    throttle: bool = Field(
        default=False,
        description="whether the next two limits hold; if true, the job needs one of them",
        json_schema_extra=in_form("speed"),
    )
    record: float | None = Field(
        default=None,
        gt=0,
        description="most rows a second, in the reader",
        examples=[1000],
        json_schema_extra=in_form("speed", when=("throttle", True)),
    )
    mbps: float | None = Field(
        default=None,
        gt=0,
        title="MiB a second",
        description="most MiB a second, in the reader, as stored in the files",
        examples=[10],
        json_schema_extra=in_form("speed", when=("throttle", True)),
    )

    @model_validator(mode="after")
    def _throttle_says_how(self) -> Speed:
        if self.throttle and self.record is None and self.mbps is None:
            raise ValueError("throttle is on without a rate; add record (rows/s) or mbps (MiB/s)")
        return self


class Budget(Settings):
    """What all embedding steps of a run may spend together."""

    requests: int | None = Field(
        default=None,
        ge=1,
        description="the most requests of all embedding steps, tries included",
        examples=[100000],
        json_schema_extra=in_form("limits", see="embedding.md#budget"),
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="the most tokens of all embedding steps, as the service bills them",
        examples=[5000000],
        json_schema_extra=in_form("limits", see="embedding.md#budget"),
    )
    money: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="the most money, by the prices that the job names",
        examples=[20],
        json_schema_extra=in_form("limits", see="embedding.md#budget"),
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Budget:
        if self.requests is None and self.tokens is None and self.money is None:
            known = ("requests", "tokens", "money")
            hints = "".join(near(key, known) for key in self.model_extra or {})
            raise ValueError(
                f"budget bounds nothing: add requests, tokens or money, or leave it out{hints}"
            )
        return self


class Setting(Settings):
    """What holds for the whole job."""

    ignored = frozenset({"executeMode", "column", "locale", "processConfig"})

    error_limit: ErrorLimit = Field(
        default=ErrorLimit(),
        description="how many rejects fail the job",
        examples=[{"record": 0}],
        json_schema_extra=in_form("limits"),
    )
    expect: Expect = Field(
        default=Expect(),
        description="what a good run does, or it fails",
        examples=[{"minRows": 1000}],
        json_schema_extra=in_form("limits", advanced=True, see="rejects.md#expect"),
    )
    speed: Speed = Field(
        default=Speed(),
        description="how much runs at once, and how fast at most",
        examples=[{"concurrent": 32}],
        json_schema_extra=in_form("speed"),
    )
    vector_cache: VectorCacheSettings | None = Field(
        default=None,
        description="a store that keeps vectors across runs",
        examples=[{"uri": "sqlite:///vectors-cache.db"}],
        json_schema_extra=in_form("cache", see="vector-cache.md"),
    )
    trusted_endpoints: list[str] | None = Field(
        default=None,
        description="regular expressions of allowed endpoints, as PolarSearch has them",
        examples=[["^https://api\\.openai\\.com/"]],
        json_schema_extra=in_form("limits", advanced=True),
    )
    budget: Budget | None = Field(
        default=None,
        description="what all embedding steps of a run may spend together",
        examples=[{"tokens": 5000000}],
        json_schema_extra=in_form("limits", advanced=True),
    )
    prices: dict[str, Price] = Field(
        default_factory=dict,
        description="by the name of a model what its vectors cost",
        examples=[{"text-embedding-v4": {"perMillionTokens": 0.07}}],
        json_schema_extra=in_form("limits", advanced=True, see="embedding.md#prices"),
    )
    positions: PlaceUri | None = Field(
        default=None,
        description="where a sync keeps its place: a folder, or a URI of a bucket, HDFS or Redis",
        examples=["positions"],
        json_schema_extra=in_form("follow", advanced=True, see="positions.md"),
    )
    poll_seconds: float | None = Field(
        default=None,
        gt=0,
        description="how often a sync asks a source without news again, in seconds",
        examples=[5],
        json_schema_extra=in_form("follow", advanced=True, otherwise="of the reader"),
    )
    pause_seconds: float = Field(
        default=0.1,
        ge=0,
        description="the least time between two rounds of a sync, in seconds",
        examples=[1],
        json_schema_extra=in_form("follow", advanced=True),
    )
    on_reject: Mode | None = Field(
        default=None,
        description="what the target gets in place of a rejected change",
        json_schema_extra=in_form(
            "write", advanced=True, otherwise="`withoutVector`", see="rejects.md#rejects-of-changes"
        ),
    )

    @field_validator("on_reject", mode="before")
    @classmethod
    def _on_reject(cls, value: Any) -> Any:
        return None if value is None else pick(value, MODES, "onReject")

    @model_validator(mode="before")
    @classmethod
    def _positions_are_usable(cls, value: Any) -> Any:
        # Seen to here, not at the field: an error shows the value of a field, password and all.
        guard(value.get("positions") if isinstance(value, dict) else None)
        return value

    @field_validator("trusted_endpoints")
    @classmethod
    def _are_patterns(cls, patterns: list[str] | None) -> list[str] | None:
        for pattern in patterns or []:
            require_pattern(pattern)
        return patterns


class Hop(Settings):
    """An arrow from one step to another; only the order of `steps` counts."""

    from_: str = Field(
        alias="from",
        description="the name of a step",
        examples=["Reader"],
        json_schema_extra=in_form("job"),
    )
    to: str = Field(
        description="the name of the step behind it",
        examples=["Writer"],
        json_schema_extra=in_form("job"),
    )


class Order(Settings):
    """The arrows between steps, which may be absent or skip steps."""

    hops: tuple[Hop, ...] = Field(
        default=(),
        description="a list of `{from, to}`",
        examples=[[{"from": "Reader", "to": "Writer"}]],
        json_schema_extra=in_form("job", advanced=True),
    )


class Step(Settings):
    """A reader, a transformer or a writer."""

    ignored = frozenset({"description", "copies", "id", "gui", "position"})

    step_type: str = Field(
        description="what the step does", examples=["milvus"], json_schema_extra=in_form("job")
    )
    category: Literal["reader", "map", "flatmap", "map/flatmap", "writer"] = Field(
        description="`reader`, `writer`, or for a transformer `map`, `flatmap` or `map/flatmap`, "
        "which mean the same",
        json_schema_extra=in_form("job"),
    )
    parameter: dict[str, Any] = Field(
        default_factory=dict,
        description="what the step is to do; the page of its `stepType` lists the keys",
        examples=[{"datasource": "Vectors"}],
        json_schema_extra=in_form("job"),
    )
    name: str | None = Field(
        default=None,
        description="what messages, reports and rejects call the step",
        examples=["Writer"],
        json_schema_extra=in_form("job"),
    )
    display_name: str | None = Field(
        default=None,
        description="the same, where `name` says nothing",
        examples=["Writer"],
        json_schema_extra=in_form("job", advanced=True),
    )

    @model_validator(mode="after")
    def _parameter_is_spelt_so(self) -> Step:
        # Without it, each parameter that the step needs would be told as missing.
        if "parameter" not in self.model_fields_set:
            for wrong in near_misses(self.model_extra or (), ["parameter"]).values():
                raise PydanticCustomError(
                    NEAR_MISS, "{wrong}", {"wrong": wrong, "wanted": "parameter"}
                )
        return self

    @property
    def role(self) -> str:
        """reader, transformer or writer."""
        return self.category if self.category in ("reader", "writer") else "transformer"


class Job(Settings):
    """A job: one reader, any number of transformers in order, one writer."""

    ignored = frozenset({"$schema", "extend", "description"})

    type: Literal["job"] = Field(
        default="job",
        description="`job`; optional",
        json_schema_extra=in_form("job", advanced=True),
    )
    version: str = Field(
        default="2.0",
        description="the version of the format",
        examples=["2.0"],
        json_schema_extra=in_form("job", advanced=True),
    )
    name: str = Field(
        default="",
        description="the job's name in reports and rejects",
        examples=["books"],
        json_schema_extra=in_form("job", otherwise="the file's name without its ending"),
    )
    steps: list[Step] = Field(
        min_length=2,
        description="the reader, the transformers in their order, the writer",
        examples=[
            [
                {"stepType": "file", "category": "reader", "parameter": {}},
                {"stepType": "milvus", "category": "writer", "parameter": {}},
            ]
        ],
        json_schema_extra=in_form("job", see="job-file.md#steps"),
    )
    mapping: MappingSettings | None = Field(
        default=None,
        description="a table into an index, in place of `steps` or beside them",
        examples=[{"source": "Shop", "table": "shop.items", "index": "items"}],
        json_schema_extra=in_form("job", advanced=True, see="autoetl.md#in-a-job-file"),
    )
    setting: Setting = Field(
        default=Setting(),
        description="settings of the whole job",
        examples=[{"errorLimit": {"record": 0}}],
        json_schema_extra=in_form("job", see="job-file.md#settings"),
    )
    order: Order = Field(
        default=Order(),
        description="the arrows between steps; only the order of `steps` counts",
        examples=[{"hops": [{"from": "Reader", "to": "Writer"}]}],
        json_schema_extra=in_form("job", advanced=True),
    )

    @field_validator("steps")
    @classmethod
    def _one_of_each_end(cls, steps: list[Step]) -> list[Step]:
        roles = [s.role for s in steps]
        for end in ("reader", "writer"):
            names = [step_name(s, i) for i, s in enumerate(steps) if s.role == end]
            if len(names) != 1:
                found = f"it has {len(names)}: {', '.join(names)}" if names else "it has none"
                raise ValueError(f"a job has one {end}, and {found}")
        if roles[0] != "reader" or roles[-1] != "writer":
            raise ValueError(
                "steps stand in the order of the flow: the reader comes first, the writer last"
            )
        return steps

    @model_validator(mode="after")
    def _names_are_known(self) -> Job:
        names = [step_name(s, i) for i, s in enumerate(self.steps)]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two steps are called {twice[0]!r}; rename one")
        given = set(names) | {n for s in self.steps for n in (s.name, s.display_name) if n}
        for i, hop in enumerate(self.order.hops):
            for name in (hop.from_, hop.to):
                if name not in given:
                    raise ValueError(
                        f"order.hops[{i}] names {name!r}, which is not a step{near(name, given)}"
                    )
        return self


def step_name(step: Step, index: int) -> str:
    """What messages call a step: its name, else its displayName, else ``steps[i]``."""
    return step.name or step.display_name or f"steps[{index}]"


def as_file_name(name: str) -> str:
    """A job's name as the name of one file or folder, the same for the same name.

    Slashes, control characters and signs that search patterns have become ``_``. At most 100 bytes
    are left, so that what is added to the name has room.
    """
    safe = "".join(c if c.isprintable() and c not in _NOT_IN_FILES else "_" for c in name)
    if safe.strip(".") == "":
        safe = "_" * len(safe)
    return safe.encode()[:100].decode("utf-8", "ignore")


def parse_job(
    raw: object, *, values: Mapping[str, str], stem: str = "job"
) -> tuple[Job, list[str]]:
    """A job from parsed JSON, with warnings; raises JobError with every problem of its frame."""
    filled, problems = fill(raw, values)
    return validated(filled, problems, stem)


def validated(filled: object, problems: list[str], stem: str) -> tuple[Job, list[str]]:
    """A job from a filled document, with the warnings; raises JobError with all problems."""
    if not isinstance(filled, dict):
        given = "an empty file" if filled is None else f"a {type(filled).__name__}"
        raise JobError(f"job: must be a JSON object with steps, not {given}")
    _refuse_others(filled)
    job, more = validate(Job, filled, "job")
    if job is None or problems:
        raise JobError(problems + more)
    if not job.name:
        job = job.model_copy(update={"name": stem})
    return job, unknown_keys(job, "job")


def _refuse_others(filled: dict[str, Any]) -> None:
    """Raises JobError for a job file of another program, with what to do."""
    inner = filled.get("job")
    if "steps" in filled or not isinstance(inner, dict) or "content" not in inner:
        return
    content = inner["content"]
    first = content[0] if isinstance(content, list) and content else content
    names = []
    for end in ("reader", "writer"):
        part = first.get(end) if isinstance(first, dict) else None
        names.append(str(part.get("name")) if isinstance(part, dict) else end)
    raise JobError(
        [
            f"job: this is a job file of DataX (job.content, {' to '.join(names)}); vecferry takes "
            "the jobs of DataWorks",
            "job.content: make an entry of steps of each reader and writer: "
            '{"stepType": …, "category": "reader", "parameter": …}',
            "job.content: put each connection into a data source, and name it as datasource",
            "job.setting: write it as setting, beside steps; docs/job-file.md has an example",
        ]
    )


def read_raw(
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
    written: dict[str, str] | None = None,
) -> tuple[Any, list[str]]:
    """The document of a job file, with ``--set`` applied and placeholders filled; and problems.

    What each filled text was written as is put into `written`.
    """
    raw = parse_document(Path(path), "job")
    for where, text in (assignments or {}).items():
        set_value(raw, where, text)
    return fill(raw, Values.of(parameters), written=written)


def read_job(
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
) -> tuple[Job, list[str]]:
    """The job in a file, with ``--set`` applied and placeholders filled; and warnings.

    Placeholders come from `parameters`, then from the environment.
    """
    filled, problems = read_raw(path, parameters=parameters, assignments=assignments)
    return validated(filled, problems, Path(path).stem)
