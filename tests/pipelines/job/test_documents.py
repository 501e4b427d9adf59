"""Files of JSON and YAML as people and consoles write them, and files that no one means."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from vecferry.errors import JobError
from vecferry.pipelines.job.documents import MOST_BYTES, parse_document, parse_value
from vecferry.settings import Settings


class _Kinds(Settings):
    """A field of each kind."""

    text: str = "-"
    number: int = 7
    share: float = 0.5
    flag: bool = False
    inner: Settings = Settings()
    parts: list[str] = ["-"]  # noqa: RUF012 - pydantic copies it
    maybe: str | None = "-"


def parsed(folder: Path, text: str | bytes, suffix: str = ".yaml") -> Any:
    """What a file of this text holds."""
    path = folder / f"job{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_document(path, "job")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"a": 1} // end', {"a": 1}),
        ('// 作业\n{"a": 1}', {"a": 1}),
        ('{"a": /* one */ 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ('{"a": 1, // last\n /* none */ }', {"a": 1}),
        ('{"a": "// no comment, }", "b": "/*",}', {"a": "// no comment, }", "b": "/*"}),
        ('{"a": "quote \\" // inside",}', {"a": 'quote " // inside'}),
        ('{"a": "http://h/x"}', {"a": "http://h/x"}),
        ("[[1,],[],]", [[1], []]),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_comments_and_commas_at_the_end_are_taken(
    tmp_path: Path, text: str, content: object, suffix: str
) -> None:
    """As the pages of the vendor have them, in files that begin with a brace as well."""
    if suffix == ".json" or text.startswith("{"):
        assert parsed(tmp_path, text, suffix) == content


@pytest.mark.parametrize("text", ["[,]", '{,"a": 1}', '{"a": ,}', '{"a": 1,,}', "[1,,2]", "/* a"])
def test_other_mistakes_in_json_are_told_with_their_place(tmp_path: Path, text: str) -> None:
    """Comments before the place do not move it."""
    with pytest.raises(JobError, match=r"is not JSON: line 3, column \d+"):
        parsed(tmp_path, f"// a\n/* b\n*/{text}", ".json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("Off", "Off"),
        ("1.10", "1.10"),
        ("007", "007"),
        ("1e3", "1e3"),
        ("0x1F", "0x1F"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("2024-13-45", "2024-13-45"),
        ("1_000", "1_000"),
        ("=", "="),
        ("'true'", "true"),
    ],
)
def test_what_is_written_in_yaml_is_the_text_where_a_text_is_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Neither a boolean, nor a date, nor a number that lost its zeros."""
    assert _Kinds.model_validate(parsed(tmp_path, f"text: {text}")).text == expected


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("007", "number", 7),
        ("0x1F", "number", 31),
        ("1.10", "share", 1.1),
        ("1e3", "share", 1000.0),
        ("5", "share", 5.0),
        ("no", "flag", False),
        ("on", "flag", True),
        ("true", "flag", True),
    ],
)
def test_the_same_is_a_number_or_a_flag_where_one_is_expected(
    tmp_path: Path, text: str, name: str, value: object
) -> None:
    """Plain values, which any library takes."""
    found = _Kinds.model_validate(parsed(tmp_path, f"{name}: {text}")).model_dump()[name]
    assert found == value
    assert type(found) is type(value)


def test_an_unknown_key_has_plain_numbers(tmp_path: Path) -> None:
    """Such keys may go on to a store, whose client knows no number of ours."""
    extra = _Kinds.model_validate(parsed(tmp_path, "other: [1.10, {deep: 007}]")).model_extra
    assert extra == {"other": [1.1, {"deep": 7}]}
    assert extra is not None
    assert type(extra["other"][0]) is float
    assert type(extra["other"][1]["deep"]) is int


@pytest.mark.parametrize(
    "given",
    [
        {"number": ""},
        {"number": "  "},
        {"share": ""},
        {"flag": ""},
        {"inner": None},
        {"text": None},
        {"number": None},
        {"parts": None},
        {"number": "", "share": None, "flag": ""},
    ],
)
def test_what_is_empty_is_not_given(given: dict[str, object]) -> None:
    """Consoles write all fields of a form."""
    assert _Kinds.model_validate(given) == _Kinds()


@pytest.mark.parametrize(
    ("given", "expected"), [({"maybe": None}, None), ({"maybe": ""}, ""), ({"maybe": " "}, " ")]
)
def test_what_may_be_empty_is_given(given: dict[str, object], expected: object) -> None:
    """A text without characters is a text, and null where null has a meaning is null."""
    assert _Kinds.model_validate(given).maybe == expected


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

NOBODY_MEANS = {
    "aliases that grow": (".yaml", BOMB, "200,000 values"),
    "a list that holds itself": (".yaml", "a: &a [*a]", "hold itself"),
    "an object that holds itself": (".yaml", "&a {b: {c: *a}}", "hold itself"),
    "deep lists in YAML": (".yaml", "[" * 500 + "]" * 500, "100 deep"),
    "very deep lists in YAML": (".yaml", "[" * 90_000, "nest"),
    "deep blocks in YAML": (".yaml", "- " * 5_000 + "x", "100 deep"),
    "deep lists in JSON": (".json", "[" * 90_000, "100 deep"),
    "deep objects in JSON": (".json", '{"a":' * 5_000, "100 deep"),
    "a long number in YAML": (".yaml", "a: " + "9" * 5_000, "5,000 digits"),
    "a long number in JSON": (".json", '{"a": ' + "9" * 5_000 + "}", "5,000 digits"),
    "a great number in YAML": (".yaml", "a: 1e999", "too great"),
    "a great number in JSON": (".json", '{"a": 1e999}', "too great"),
    "a tag of Python": (".yaml", "a: !!python/object/apply:os.abort []", "leave the tag out"),
    "a tag of its own": (".yaml", "a: !mine x", "leave the tag out"),
    "a date that is none": (".yaml", "a: !!timestamp x", "leave the tag out"),
    "a number that is none": (".yaml", "a: !!int x", "is not of type int"),
    "a flag that is none": (".yaml", "a: !!bool x", "is not of type bool"),
    "a mapping that is a list": (".yaml", "!!map [a]", "is not YAML"),
    "a list as a key": (".yaml", "? [a]\n: b", "is not YAML"),
    "an alias of nothing": (".yaml", "a: *b", "is not YAML"),
    "a merge of a text": (".yaml", "<<: x", "is not YAML"),
    "two documents": (".yaml", "--- a\n--- b", "is not YAML"),
    "a zero byte": (".yaml", "a: \x00", "is not YAML"),
    "half a character": (".json", '{"a": "\\ud800"}', "half of a character"),
    "half a character in a name": (".json", '{"\\udfff": 1}', "half of a character"),
    "bytes that are not UTF-8": (".json", b'{"a": "\xff"}', "cannot be read"),
    "UTF-16": (".yaml", "a: b".encode("utf-16"), "cannot be read"),
    "a huge file": (".yaml", b"#" * (MOST_BYTES + 1), "16 MiB"),
}


@pytest.mark.parametrize("case", NOBODY_MEANS)
def test_a_document_that_nobody_means_is_told_in_words(tmp_path: Path, case: str) -> None:
    """At once, whatever the document would become."""
    suffix, text, words = NOBODY_MEANS[case]
    before = time.process_time()
    with pytest.raises(JobError) as raised:
        parsed(tmp_path, text, suffix)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 400
    assert time.process_time() - before < 5


def test_a_name_with_a_zero_byte_is_told_in_words() -> None:
    """No file can have it."""
    with pytest.raises(JobError, match="cannot be read"):
        parse_document(Path("a\x00b"), "job")


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("[1]", [1]), ("true", True), ("no", "no"), ("NaN", "NaN"), ("{", "{"), ("", "")],
)
def test_a_value_of_the_command_line_is_json_or_a_text(text: str, value: object) -> None:
    """As `--set` takes it."""
    assert parse_value(text) == value
