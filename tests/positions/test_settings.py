"""What `setting.positions` may say: places, faults, secrets."""

from __future__ import annotations

import pytest

from vecferry.pipelines.job.model import parse_job
from vecferry.positions.settings import place_fault, redis_parts, shown
from vecferry.redaction import redact
from vecferry.secrets import Secret

PASSWORD = "s3cret-p4ssword"


@pytest.mark.parametrize(
    "where",
    [
        "state",
        "/var/lib/vecferry/state",
        "../state",
        "s3://bucket/a",
        "s3a://bucket/a/b",
        "oss://bucket/a",
        "gs://bucket/a",
        "gcs://bucket/a",
        "hdfs://nn:8020/a",
        "hdfs:///a",
        "redis://host",
        "redis://host:6379/0",
        "redis://host:6379/0/orders",
        f"rediss://user:{PASSWORD}@host:6379/0/orders?ssl_ca_certs=/ca.pem",
    ],
)
def test_places_that_can_be_used(where: str) -> None:
    """As pages write them."""
    assert place_fault(where) is None


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        (" ", "is empty"),
        ("sqlite:///positions.db", "is not one that can be used"),
        ("file:///tmp/x", "is not one that can be used"),
        ("s3://", "names no bucket"),
        ("s3://bucket", "names no folder"),
        ("s3://bucket/", "names no folder"),
        ("oss://bucket/a/../b", "leads out with .."),
        (f"oss://key:{PASSWORD}@bucket/a", "keys belong into a data source"),
        (f"s3://bucket/a?key={PASSWORD}", "keys belong into a data source"),
        ("redis://", "names no host"),
        ("redis://host/orders", "not the number of a database"),
        ("redis://host:x/0", "a port that is not a number"),
        (f"redis://u:{PASSWORD}@host:x/0/orders", "a port that is not a number"),
        (f"redis://u:{PASSWORD}@host/0?x=1", "an option that is not known"),
        (f"redis://u:{PASSWORD}/x@host/0", "in its password"),
    ],
)
def test_places_that_can_t_be_used_are_told_without_a_password(where: str, fault: str) -> None:
    """With all ways to write one."""
    told = place_fault(where)
    assert told is not None
    assert fault in told
    assert "write a folder of this machine" in told
    assert PASSWORD not in told


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("redis://h", ("redis://h", None)),
        ("redis://h:1/3", ("redis://h:1/3", None)),
        ("redis://h:1/3/a", ("redis://h:1/3", "a")),
        ("redis://u:p@h:1/3/a", ("redis://u:p@h:1/3", "a")),
        ("rediss://h/0/a?ssl_ca_certs=/x", ("rediss://h/0?ssl_ca_certs=/x", "a")),
        ("redis://h/a", ("redis://h/a", None)),
        ("redis://h/0/a/b", ("redis://h/0/a/b", None)),
    ],
)
def test_a_redis_uri_may_name_the_positions(uri: str, parts: tuple[str, str | None]) -> None:
    """Behind the number of the database."""
    assert redis_parts(uri) == parts


def _job(where: str) -> object:
    steps = [
        {"stepType": "file", "category": "reader", "parameter": {}},
        {"stepType": "milvus", "category": "writer", "parameter": {}},
    ]
    return {"steps": steps, "setting": {"positions": where}}


def test_a_password_in_a_job_s_positions_is_a_secret() -> None:
    """It hides itself, and every later text is rid of it."""
    uri = f"redis://u:{PASSWORD}@host:6379/0/orders"
    job, _ = parse_job(_job(uri), values={})
    assert isinstance(job.setting.positions, Secret)
    assert job.setting.positions.reveal() == uri
    assert PASSWORD not in f"{job!r} {job.model_dump_json()}"
    assert "redis://***@host:6379/0/orders" in job.model_dump_json()
    assert shown(uri) == "redis://***@host:6379/0/orders"
    assert PASSWORD not in redact(f"failed at {PASSWORD}")


def test_a_job_with_a_wrong_place_is_refused_without_the_password() -> None:
    """At the frame of the job, with the way out."""
    with pytest.raises(Exception, match="port that is not a number") as refused:
        parse_job(_job(f"redis://u:{PASSWORD}@host:x/0"), values={})
    assert PASSWORD not in str(refused.value)
