"""What a job says of a MaxCompute table: columns, partitions, quota, and what is wrong with it."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.io.odps.server import OdpsServer
from tests.io.odps.support import reader
from vecferry.errors import JobError
from vecferry.io.odps import OdpsConnection, OdpsSettings
from vecferry.io.odps.partitions import choose, parse_pattern, spec_of
from vecferry.pipelines.job.schema import job_schema

DAYS = [{"pt": p, "ds": d} for p in ("1", "2", "b") for d in ("20240101", "20240102", "20240201")]


def settings(**parameters: Any) -> OdpsSettings:
    """Settings of a step, with a table and a column."""
    return OdpsSettings.model_validate({"table": "t", "column": ["a"], **parameters})


def problems(**parameters: Any) -> str:
    """What is wrong with settings."""
    with pytest.raises(ValidationError) as caught:
        settings(**parameters)
    return str(caught.value)


def meant(*patterns: str) -> list[str]:
    """The partitions of `DAYS` that patterns mean."""
    return [spec_of(p) for p in choose(patterns, ["pt", "ds"], DAYS)[0]]


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [
        ("'text'", "'text'", "text"),
        ("''", "''", ""),
        (12, "12", 12),
        (1.5, "1.5", 1.5),
        (True, "true", True),
        (None, "null", None),
        ({"name": "lang", "value": "en"}, "lang", "en"),
        ({"name": "n", "value": "12", "type": "LONG"}, "n", 12),
    ],
)
def test_constants_are_written_as_datax_does_or_with_a_name(
    written: Any, name: str, value: Any
) -> None:
    """A constant without a name is called as the job writes it, as column mappings call it."""
    (column,) = settings(column=[written]).column
    assert (column.constant, column.name, column.constant_value) == (True, name, value)
    assert pickle.loads(pickle.dumps(column)).constant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accessKey": ""}, "the key is empty"),
        ({"endpoint": "id:a-secret@h/api?a-secret"}, "'h/api'"),
    ],
)
def test_a_data_source_without_a_key_or_address_is_refused(
    given: dict[str, Any], message: str
) -> None:
    """Before anything is asked; what a wrong address holds of a secret is not shown."""
    sound = {"endpoint": "http://h/api", "project": "p", "accessId": "id", "accessKey": "key"}
    with pytest.raises(ValidationError) as caught:
        OdpsConnection.model_validate({**sound, **given})
    assert message in str(caught.value)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("partition", ["", [""], None])
def test_what_a_form_left_empty_is_as_if_it_were_not_there(partition: Any) -> None:
    """DataWorks writes an empty text for it."""
    blank: dict[str, Any] = {"enableWhere": "", "successOnNoPartition": None, "timezone": ""}
    assert settings(partition=partition, where="", tunnelQuota="", **blank) == settings()


def test_an_editor_takes_what_a_job_may_say_of_a_column() -> None:
    """The schema knows names, constants of each kind and columns with a name of their own."""
    schema = job_schema()
    reader = {"datasource": "d", "table": "t"}
    step = {"stepType": "odps", "category": "reader", "name": "R"}
    columns = ["a", "'c'", 1, 1.5, True, None, {"name": "n", "value": 3, "type": "long"}]
    step["parameter"] = {**reader, "column": columns}  # type: ignore[assignment]
    found = [
        error.message
        for error in Draft202012Validator(schema).iter_errors({"type": "job", "steps": [step]})
        if "column" in error.absolute_path
    ]
    assert found == []


@pytest.mark.slow
def test_settings_import_neither_the_client_nor_beam() -> None:
    """So checking a job takes no time."""
    code = "import sys, vecferry.io.odps.settings; print({'odps', 'apache_beam'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_name_is_a_column_and_a_star_is_all() -> None:
    """The steps behind learn the names, or that they are known to the table only."""
    plain = settings(column=["a", {"name": "b"}, "'c'"])
    assert [c.constant for c in plain.column] == [False, False, True]
    assert plain.outputs() == {"a": None, "b": None, "'c'": None}
    assert settings(column=["*", "pt"]).outputs() is None


def test_wrong_columns_say_what_to_write() -> None:
    """Twice the same name, a constant without one, a type that isn't or is the table's own."""
    assert "stands twice" in problems(column=["a", "A"])
    assert "needs a `name`" in problems(column=[{"value": 1}])
    assert "did you mean 'long'" in problems(column=[{"name": "a", "value": 1, "type": "lon"}])
    assert "leave `type` out" in problems(column=[{"name": "a", "type": "long"}])
    assert "column 'a'" in problems(column=[{"name": "a", "value": "x", "type": "long"}])


def test_other_wrong_parameters_say_what_to_write() -> None:
    """An empty condition, a zone that isn't, a table with its project in front."""
    assert "where is empty" in problems(enableWhere=True, where=" ")
    assert "did you mean 'Asia/Shanghai'" in problems(timezone="Asia/Shangai")
    assert "splitMode" in problems(splitMode="rows")
    assert "its project into `project`" in problems(table="p.t")


def test_a_condition_counts_only_where_it_is_enabled() -> None:
    """DataWorks keeps `where` in a job whose switch is off."""
    assert settings(where="a > 1").condition is None
    assert settings(where="a > 1", enableWhere=True).condition == "a > 1"


def test_the_quota_called_default_is_the_public_one() -> None:
    """DataWorks writes it so."""
    assert [settings(tunnelQuota=q).quota for q in ("default", "", None, "mine")] == [
        None,
        None,
        None,
        "mine",
    ]


def test_what_datax_needs_and_we_do_not_is_passed_over() -> None:
    """A job keeps its keys without a warning for each."""
    step = settings(odpsServer="x", tunnelServer="y", maxRetryTime=3, accountType="aliyun")
    assert set(step.model_extra or ()) <= OdpsSettings.ignored


def test_a_data_source_shows_no_secret() -> None:
    """Neither the key nor its id nor a token, however it is printed."""
    connection = OdpsConnection(
        endpoint="http://h/api", project="p", accessId="id-1234", accessKey="key-1234",
        securityToken="token-1234",
    )  # fmt: skip
    shown = repr(connection) + str(connection) + connection.model_dump_json()
    assert not any(secret in shown for secret in ("id-1234", "key-1234", "token-1234"))
    with pytest.raises(ValidationError, match="'h/api' is not an address"):
        OdpsConnection(endpoint="h/api", project="p", accessId="id-1234", accessKey="k")


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("pt=1,ds=20240101", 1),
        (" PT = '1' / ds = \"20240101\" ", 1),
        ("pt=1,ds=*", 3),
        ("ds=202401??", 6),
        ("pt=[12],ds=*", 0),
        ("pt=1", 3),
        ("/*query*/ds>'20240101'", 6),
        ("/*query*/ds>'20240101' and pt in ('1','b')", 4),
        ("/*query*/ds>=20240102 AND NOT pt=1", 4),
        ("/*query*/(pt='1' or pt='2') and ds like '202402%'", 2),
        ("/*query*/ds between '20240101' and '20240131' and pt <> 'b'", 4),
        ("/*query*/`pt` not in (1, 2)", 3),
        ("/*query*/pt < 2", 3),
    ],
)
def test_partitions_are_meant_by_spec_by_pattern_and_by_condition(pattern: str, count: int) -> None:
    """Square brackets mean themselves; a number without quotes is compared as one."""
    assert len(meant(pattern)) == count


def test_a_number_in_quotes_is_a_text_and_one_without_is_a_number() -> None:
    """So '10' comes before '9', and 10 after 9."""
    keys = [{"n": "9"}, {"n": "10"}]
    assert choose(("/*query*/n > 9",), ["n"], keys)[0] == [{"n": "10"}]
    assert choose(("/*query*/n > '9'",), ["n"], keys)[0] == []
    odd = [{"n": "1_0"}, {"n": "inf"}, {"n": "10.0"}]
    assert choose(("/*query*/n = 10",), ["n"], odd)[0] == [{"n": "10.0"}]


def test_a_partition_that_two_patterns_mean_is_read_once() -> None:
    """In the order of the table."""
    assert meant("pt=2,ds=20240101", "ds=20240101") == [
        f"pt={p},ds=20240101" for p in ("1", "2", "b")
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "pt", "pt=", "pt=1,pt=2", "/*query*/", "/*query*/ds>", "/*query*/ds > 'a", "/*query*/(ds=1",
        "/*query*/ds in 1", "/*query*/ds = ds", "/*query*/ds=1 or", "/*query*/1=1",
        "/*query*/ds=1; drop",
    ],
)  # fmt: skip
def test_a_pattern_that_can_not_be_read_is_told_before_anything_runs(pattern: str) -> None:
    """With its own text."""
    assert pattern.removeprefix("/*query*/").strip() in problems(partition=[pattern])


def test_a_key_that_the_table_lacks_is_told_with_the_nearest() -> None:
    """A typo must not mean 'no partition'."""
    with pytest.raises(ValueError, match="no partition key 'dss'; did you mean 'ds'"):
        choose(("dss=1",), ["pt", "ds"], DAYS)
    with pytest.raises(ValueError, match="no partition key 'dt'"):
        choose(("/*query*/dt='1'",), ["pt", "ds"], DAYS)


def test_a_pattern_without_a_partition_is_told_with_the_nearest() -> None:
    """The others are still found."""
    found, missing = choose(("pt=1,ds=20240103", "pt=b,ds=20240201"), ["pt", "ds"], DAYS)
    assert found == [{"pt": "b", "ds": "20240201"}]
    assert len(missing) == 1
    assert "did you mean 'pt=1,ds=2024010" in missing[0]


@given(st.lists(st.sampled_from(DAYS), unique_by=spec_of), st.sampled_from("<>="))
def test_a_condition_and_its_negation_share_out_the_partitions(
    partitions: list[dict[str, str]], sign: str
) -> None:
    """Each partition is in one of them and in one only."""
    condition = f"/*query*/ds {sign} '20240102'"
    negation = f"/*query*/not ds {sign} '20240102'"
    yes, no = (choose((c,), ["pt", "ds"], partitions)[0] for c in (condition, negation))
    assert sorted(map(spec_of, yes + no)) == sorted(map(spec_of, partitions))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    """Nothing else escapes from the little parser."""
    for pattern in (text, f"/*query*/{text}"):
        keys = ["none"]
        with contextlib.suppress(ValueError):
            keys = parse_pattern(pattern).keys
        assert keys


def test_a_data_source_of_another_type_is_refused_when_the_reader_is_made() -> None:
    """Before anything is asked of a server."""
    with OdpsServer() as server:
        of = reader(server)
    with pytest.raises(JobError, match="type odps"):
        type(of)(of.settings, of.settings, of.context)
