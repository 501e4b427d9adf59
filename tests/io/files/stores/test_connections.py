"""Data sources that hold files: what they take, refuse, and keep secret."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from vecferry.io.files.connections import (
    FileConnection,
    GcsConnection,
    HdfsConnection,
    LocalConnection,
    OssConnection,
    S3Connection,
)
from vecferry.pipelines.registry import connections, kind_of, load

OSS = {"endpoint": "oss-cn-hangzhou.aliyuncs.com", "bucket": "b"}
KEYS = {"accessKeyId": "an-access-key", "accessKeySecret": "a-secret-key"}
SOURCES: list[tuple[type[FileConnection], dict[str, Any]]] = [
    (LocalConnection, {"path": "data"}),
    (OssConnection, {**OSS, **KEYS, "securityToken": "a-secret-token"}),
    (S3Connection, {"bucket": "b", **KEYS, "sessionToken": "a-secret-token", "pathStyle": "true"}),
    (HdfsConnection, {"endpoint": "http://nn:9870", "user": "etl", "path": "/data/"}),
    (GcsConnection, {"bucket": "b", "credentials": {"type": "service_account", "key": "a-secret"}}),
]


@pytest.mark.parametrize(("kind", "given"), SOURCES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_data_source_is_pickled_whole_and_shows_no_secret(
    kind: type[FileConnection], given: dict[str, Any]
) -> None:
    """It opens its store without connecting to anything."""
    made = kind.model_validate(given)
    copy = pickle.loads(pickle.dumps(made))
    assert copy == made
    assert hash(copy) == hash(made)
    assert "a-secret" not in f"{made!r} {made} {made.model_dump_json()}"
    name = kind.__name__.replace("Connection", "Store").replace("Oss", "S3")
    assert type(made.open_files()).__name__ == name


@pytest.mark.parametrize(
    ("endpoint", "service", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "https://s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("http://oss-us-west-1.aliyuncs.com/", "http://s3.oss-us-west-1.aliyuncs.com", "us-west-1"),
        (
            "oss-cn-beijing-internal.aliyuncs.com",
            "https://s3.oss-cn-beijing-internal.aliyuncs.com",
            "cn-beijing",
        ),
        ("s3.oss-cn-x.aliyuncs.com", "https://s3.oss-cn-x.aliyuncs.com", "cn-x"),
        ("http://localhost:9000", "http://localhost:9000", "us-east-1"),
    ],
)
def test_an_oss_endpoint_leads_to_its_s3_address_and_region(
    endpoint: str, service: str, region: str
) -> None:
    """As the vendor writes them; another service is taken as it is."""
    made = OssConnection.model_validate({**OSS, **KEYS, "endpoint": endpoint})
    assert (made.service, made.region) == (service, region)
    own = OssConnection.model_validate({**OSS, **KEYS, "endpoint": endpoint, "region": "mine"})
    assert own.region == "mine"


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (OssConnection, {**OSS, **KEYS, "endpoint": "b.oss-cn-x.aliyuncs.com"}, "leave 'b.' out"),
        (OssConnection, {**OSS, **KEYS, "endpoint": "https://h/b"}, "more than scheme, host and"),
        (OssConnection, {**OSS, **KEYS, "endpoint": "https://u:p@h"}, "more than scheme, host and"),
        (OssConnection, {**OSS, **KEYS, "path": "a/../.."}, "leads out of the store"),
        (OssConnection, OSS, "accessKeyId"),
        (OssConnection, {**OSS, **KEYS, "bucket": "oss://b"}, "bucket"),
        (S3Connection, {"bucket": "b", "accessKeyId": "an-access-key"}, "give both, or neither"),
        (S3Connection, {"bucket": "b", "endpoint": "http://h:port"}, "wrong port"),
        (OssConnection, {**OSS, **KEYS, "accessKeySecret": ""}, "the key is empty: write it"),
        (S3Connection, {"bucket": "b", **KEYS, "accessKeyId": " "}, "the key is empty: write it"),
        (S3Connection, {"bucket": "b", "endpoint": "ftp://a-secret@h/p?a-secret"}, "'h/p' is no"),
        (S3Connection, {"bucket": "b", "endpoint": "http://:a-secret@h"}, "more than scheme"),
        (S3Connection, {"bucket": "b", "endpoint": "http://h#a-secret"}, "more than scheme"),
        (HdfsConnection, {"endpoint": "hdfs://nn:8020"}, "write its HTTP address"),
        (HdfsConnection, {"endpoint": "ftp://nn"}, "is not an address"),
        (HdfsConnection, {"endpoint": "http://nn", "haveKerberos": "true"}, "Kerberos is not"),
        (HdfsConnection, {"endpoint": "http://nn", "kerberosPrincipal": "x"}, "Kerberos is not"),
        (HdfsConnection, {"endpoint": "http://nn", "defaultFS": "nn:8020"}, "defaultFS"),
        (GcsConnection, {"bucket": "b", "credentials": "{"}, "JSON is not complete"),
        (GcsConnection, {"bucket": "b", "credentials": {"a": 1}}, "no `type`"),
    ],
)
def test_what_can_t_be_right_is_refused_with_the_way_out(
    kind: type[FileConnection], given: dict[str, Any], message: str
) -> None:
    """Before anything is connected to; no key is in the text."""
    with pytest.raises(ValidationError) as raised:
        kind.model_validate(given)
    assert message in str(raised.value)
    assert "a-secret" not in str(raised.value)


def test_a_folder_serves_each_step_and_each_store_its_own() -> None:
    """A job can be tried on a laptop unchanged; the step `file` reads from all of them."""
    types = {"local", "oss", "s3", "hdfs", "gcs"}
    for name in types - {"local"}:
        assert "local" in kind_of(name, "reader").sources
        assert name in kind_of(name, "reader").sources
    assert set(kind_of("file", "reader").sources) == types
    for name in types:
        kind = load(connections()[name].settings)
        assert kind.model_fields["type"].default == name
