"""What a job and a data source may say of Paimon; needs no client."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from vecferry.errors import JobError, redact
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.pipelines.job.problems import validate
from vecferry.secrets import Written, referenced, secrets_in

DLF = {
    "metastore": "rest",
    "uri": "https://cn-hangzhou-vpc.dlf.aliyuncs.com",
    "warehouse": "my_catalog",
    "token.provider": "dlf",
    "dlf.region": "cn-hangzhou",
    "dlf.access-key-id": "LTAI-of-a-test",
    "dlf.access-key-secret": "secret-of-a-test",
    "dlf.security-token": "sts-token-of-a-test",
    "dlf.token-path": "/var/run/token",
    "dlf.token-loader": "ecs",
    "fs.oss.accessKeyId": "LTAI-of-oss",
    "fs.oss.accessKeySecret": "secret-of-oss",
    "fs.s3.secret-key": "secret-of-s3",
    "token": "bearer-of-a-test",
    "header.Authorization": "Basic-of-a-test",
    "jdbc.password": "password-of-a-test",
    "data-token.enabled": True,
}
OPEN = ("dlf", "ecs", "/var/run/token", "true", "my_catalog", "cn-hangzhou", "rest", DLF["uri"])


def connection(**options: Any) -> PaimonConnection:
    """A data source."""
    return PaimonConnection.model_validate({"type": "paimon", "options": options})


def test_options_that_are_named_so_are_secrets() -> None:
    """In whatever case; where a token is to be found is not a secret."""
    found = secrets_in(connection(**DLF))
    assert sorted(found) == sorted(str(v).lower() if v is True else str(v) for v in DLF.values()
                                   if str(v).lower() not in OPEN)  # fmt: skip


def test_no_secret_is_shown_or_pickled() -> None:
    """In texts, in what is dumped, in errors; and not in a graph whose workers fill their own."""
    place = connection(**DLF)
    shown = f"{place} {place!r} {place.model_dump()} {redact(str(DLF))}"
    assert not [secret for secret in secrets_in(place) if secret in shown]
    written = Written({value: f"${{V{n}}}" for n, value in enumerate(secrets_in(place))})
    graph = pickle.dumps(referenced(place, written, "run"))
    assert not [secret for secret in secrets_in(place) if secret.encode() in graph]


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({"warehouse": "/data/lake"}, "/data/lake"),
        ({"warehouse": "file:///data/lake"}, "/data/lake"),
        ({"warehouse": "file:/data/lake"}, "/data/lake"),
        ({"warehouse": "data/lake"}, "data/lake"),
        ({"warehouse": "s3://bucket/lake"}, None),
        ({"warehouse": "oss://bucket/lake", "metastore": "filesystem"}, None),
        ({"warehouse": "name", "metastore": "rest", "uri": "http://h"}, None),
    ],
)
def test_a_warehouse_on_this_machine_is_told(options: dict[str, str], folder: str | None) -> None:
    """So that a job on a cluster asks for --shared-files."""
    assert connection(**options).local_path() == folder


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "'warehouse' is missing"),
        ({"warehose": "w"}, "did you mean 'warehose'?"),
        ({"metastore": "hive", "warehouse": "w"}, "'hive' is not a value of metastore"),
        ({"metastore": "rest", "warehouse": "w"}, "'uri' is missing"),
        ({"warehouse": " "}, "'warehouse' is empty"),
    ],
)
def test_a_wrong_data_source_says_the_way_out(options: dict[str, str], problem: str) -> None:
    """Before anything is opened."""
    given = {"type": "paimon", "options": options}
    _, problems = validate(PaimonConnection, given, "data source 'Lake'")
    assert problem in "\n".join(problems)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"table": "shop.books"}, "is not a bare name"),
        ({"scanMode": "ful"}, "did you mean 'full'?"),
        ({"column": ["id", "id"]}, "stands twice"),
        ({"column": ["*", "id"]}, "takes all columns"),
        ({"column": []}, "column is empty"),
        ({"snapshotId": 3}, "add scanMode: full"),
        ({"scanMode": "full", "snapshotId": 3, "tag": "t"}, "choose one"),
        ({"scanMode": "full", "timestamp": "yesterday"}, "is not a time"),
        ({"snapshotId": 0}, "must be 1 or more"),
    ],
)
def test_a_wrong_parameter_says_the_way_out(given: dict[str, Any], problem: str) -> None:
    """Before anything is opened."""
    whole = {"database": "shop", "table": "books", **given}
    _, problems = validate(PaimonSettings, whole, "Reader")
    assert problem in "\n".join(problems)


def test_a_time_is_in_utc_unless_it_says_otherwise() -> None:
    """ISO 8601, or milliseconds since 1970."""

    def of(text: Any) -> int | None:
        given = {"database": "d", "table": "t", "scanMode": "full", "timestamp": text}
        return PaimonSettings.model_validate(given).milliseconds

    assert of("2026-11-29T12:00:00") == of("2026-11-29T13:00:00+01:00") == of(1795953600000)


def test_a_step_that_follows_says_so() -> None:
    """Only the mode full reads once."""
    of = {"database": "d", "table": "t"}
    assert PaimonSettings.model_validate(of).follows
    assert not PaimonSettings.model_validate({**of, "scanMode": "full"}).follows
    assert PaimonSettings.model_validate(of).outputs() is None
    assert PaimonSettings.model_validate({**of, "column": "id"}).outputs() == {"id": None}


def test_a_missing_client_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install stands in the error."""
    import sys

    from vecferry.io.paimon.client import import_pypaimon

    import_pypaimon.cache_clear()
    monkeypatch.setitem(sys.modules, "pypaimon", None)
    with pytest.raises(JobError, match=r"pip install 'vecferry\[paimon\]'"):
        import_pypaimon()
