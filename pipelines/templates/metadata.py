"""What a template says of itself and its parameters, in the form of Dataflow's flex templates.

The names are those of ``TemplateMetadata`` and ``ParameterMetadata`` in Dataflow's API v1b3:
https://docs.cloud.google.com/dataflow/docs/reference/rest/v1b3/ParameterMetadata.
``customMetadata`` holds what this form has no word for: `secret`, `form`, `environment`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import orjson
from pydantic import Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.numbers import real_number, whole_number
from vecferry.pipelines.templates.insert import ITEM_NAME
from vecferry.settings import Settings, require_pattern

OTHERS_TYPES = (
    "GCS_READ_BUCKET", "GCS_WRITE_BUCKET", "GCS_READ_FILE", "GCS_WRITE_FILE", "GCS_READ_FOLDER",
    "GCS_WRITE_FOLDER", "PUBSUB_TOPIC", "PUBSUB_SUBSCRIPTION", "BIGQUERY_TABLE",
    "JAVASCRIPT_UDF_FILE", "SERVICE_ACCOUNT", "MACHINE_TYPE", "KMS_KEY_NAME", "WORKER_REGION",
    "WORKER_ZONE", "KAFKA_TOPIC", "KAFKA_READ_TOPIC", "KAFKA_WRITE_TOPIC",
)  # fmt: skip
"""Types that choose a picker in Google's console; vecferry takes them as texts."""
TYPES = ("DEFAULT", "TEXT", "NUMBER", "BOOLEAN", "ENUM", *OTHERS_TYPES)


class EnumOption(Settings):
    """One value that a parameter of type ENUM may have."""

    value: str
    label: str = ""
    description: str = ""


class CustomMetadata(Settings):
    """What a flex template has no word for; all values are texts."""

    secret: bool = Field(default=False, description="never shown, and better not on a command line")
    form: Literal["text", "list"] = Field(
        default="text", description="list: texts with commas between them, or a JSON list of texts"
    )
    environment: str | None = Field(
        default=None, description="the environment variable that it is taken from, if not given"
    )


class Parameter(Settings):
    """One parameter of a template.

    If the parameter has a `parentName`, it exists only while the value of that parameter is one of
    `parentTriggerValues`.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    label: str = Field(min_length=1)
    help_text: str = Field(min_length=1)
    is_optional: bool = False
    regexes: tuple[str, ...] = ()
    param_type: str = "TEXT"
    default_value: str | None = None
    enum_options: tuple[EnumOption, ...] = ()
    parent_name: str | None = None
    parent_trigger_values: tuple[str, ...] = ()
    group_name: str | None = None
    hidden_ui: bool | None = None
    custom_metadata: CustomMetadata = CustomMetadata()

    @field_validator("name")
    @classmethod
    def _not_taken(cls, value: str) -> str:
        if value == ITEM_NAME:
            raise ValueError("stands for an item of a list, within $each: choose another name")
        return value

    @field_validator("param_type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if value not in TYPES:
            raise ValueError(f"is not a type of a parameter{near(value, TYPES)}")
        return value

    @field_validator("regexes")
    @classmethod
    def _compile(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            require_pattern(value)
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if (self.param_type == "ENUM") != bool(self.enum_options):
            raise ValueError("paramType ENUM and enumOptions belong together: give both or none")
        if (self.parent_name is None) != (not self.parent_trigger_values):
            raise ValueError("parentName and parentTriggerValues belong together")
        if self.is_list and self.param_type not in ("DEFAULT", "TEXT"):
            raise ValueError("a list is of texts: leave paramType out")
        if self.default_value is not None:
            if self.secret:
                raise ValueError("a secret has no default: it would stand in the template")
            try:
                self.parse(self.default_value)
            except ValueError as e:
                raise ValueError(f"defaultValue {self.default_value!r} {e}") from None
        return self

    @property
    def secret(self) -> bool:
        """Whether the value is hidden everywhere."""
        return self.custom_metadata.secret

    @property
    def is_list(self) -> bool:
        """Whether the value is a list of texts."""
        return self.custom_metadata.form == "list"

    @property
    def needed(self) -> bool:
        """Whether a value is required, if the parameter exists at all."""
        return not self.is_optional and self.default_value is None

    @property
    def type_shown(self) -> str:
        """The type, as a person reads it."""
        if self.is_list:
            return "list"
        kind = self.param_type.lower()
        return kind if self.param_type in ("NUMBER", "BOOLEAN", "ENUM") else "text"

    def parse(self, text: str) -> Any:
        """The value that `text` stands for; raises ValueError with the broken rule.

        A number is an int or a finite float, a boolean a bool, a list a list of texts.
        """
        if self.is_list:
            value: Any = _listed(text)
            texts = value
        else:
            value, texts = self._scalar(text), [text]
        for regex in self.regexes:
            for one in texts:
                if not re.fullmatch(regex, one):
                    which = "must match" if not self.is_list else "must have parts that each match"
                    raise ValueError(f"{which} {regex}")
        return value

    def _scalar(self, text: str) -> Any:
        if self.param_type == "NUMBER":
            return _number(text)
        if self.param_type == "BOOLEAN":
            if text.strip().lower() not in ("true", "false"):
                raise ValueError("must be true or false")
            return text.strip().lower() == "true"
        if self.param_type == "ENUM":
            known = [o.value for o in self.enum_options]
            if text not in known:
                hint = "" if self.secret else near(text, known)
                raise ValueError(f"must be one of {', '.join(known)}{hint}")
        return text


class TemplateMetadata(Settings):
    """What a template is for, and its parameters."""

    ignored = frozenset(
        {
            "streaming", "supportsAtLeastOnce", "supportsExactlyOnce", "defaultStreamingMode",
            "yamlDefinition",
        }
    )  # fmt: skip

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    parameters: tuple[Parameter, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> TemplateMetadata:
        by_name = {p.name: p for p in self.parameters}
        if len(by_name) < len(self.parameters):
            names = [p.name for p in self.parameters]
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"parameter {twice!r} is there twice: rename one")
        seen: set[str] = set()
        for parameter in self.parameters:
            parent = parameter.parent_name
            if parent is not None and parent not in seen:
                raise ValueError(
                    f"parameter {parameter.name!r}: parentName {parent!r} is not a parameter "
                    f"before it{near(parent, by_name)}"
                )
            seen.add(parameter.name)
        return self

    def as_flex(self) -> dict[str, Any]:
        """The metadata as Dataflow's file has it, all values of ``customMetadata`` as texts."""
        shown = self.model_dump(by_alias=True, exclude_defaults=True, mode="json")
        for parameter in shown.get("parameters", ()):
            custom = parameter.get("customMetadata", {})
            custom |= {k: str(v).lower() for k, v in custom.items() if isinstance(v, bool)}
        return shown


def _number(text: str) -> int | float:
    try:
        return whole_number(text)
    except ValueError:
        pass
    try:
        return real_number(text)
    except ValueError:
        raise ValueError("must be a number") from None


def _listed(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError("must be texts with commas between them, or a JSON list of texts")
    return value
