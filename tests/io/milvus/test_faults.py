"""What can be wrong with a Milvus target is told before a row is embedded, in words."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.io.milvus.support import KEY, TEXT, VECTOR, Lite, rows, vector, write
from vecferry.errors import FatalError, JobError, TerminalError, TransientError
from vecferry.io.milvus import MilvusConnection
from vecferry.io.milvus.client import StatusError, classify, handle_of
from vecferry.io.milvus.target import MilvusTarget
from vecferry.io.sink import TooLargeError
from vecferry.steps import StepContext


@pytest.fixture
def lite(tmp_path):
    lite = Lite(tmp_path)
    yield lite
    lite.close()


def problems(target):
    with pytest.raises(JobError) as caught:
        target.check()
    return str(caught.value)


def test_a_missing_collection_is_told_with_those_that_exist(lite):
    """Under `ignore` the collection must be there; a near name is offered."""
    lite.made_beforehand("articles")
    lite.made_beforehand("other")
    text = problems(lite.target(prepared=False, schemaCreateMode="ignore", collection="article"))
    assert "collection 'article' does not exist; did you mean 'articles'?" in text
    assert "(there are: articles, other)" in text


def test_a_missing_file_is_not_created_by_a_check(lite, tmp_path):
    """A check changes nothing; under `ignore` the missing collection is the error."""
    assert lite.target(prepared=False).check() == []
    text = problems(lite.target(prepared=False, schemaCreateMode="ignore"))
    assert "collection 'docs' does not exist; create it" in text
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_told(lite, tmp_path):
    """A folder that is missing, one that is a file, and one where nobody may write."""
    lite.path = str(tmp_path / "nowhere" / "x.db")
    assert "nowhere is not a folder; create it first" in problems(lite.target(prepared=False))
    (tmp_path / "file").write_text("")
    lite.path = str(tmp_path / "file" / "x.db")
    assert "file is not a folder" in problems(lite.target(prepared=False))
    lite.path = "/proc/x.db"
    with pytest.raises(JobError, match=r"/proc/x\.db can't be"):
        lite.target()


def test_a_path_that_is_a_plain_file_is_told(lite, tmp_path):
    """Milvus Lite 3 keeps a folder; an older file or anything else can't be opened."""
    (tmp_path / "vectors.db").write_text("something else")
    assert "is a file that Milvus Lite 3 can't open" in problems(lite.target(prepared=False))


@pytest.mark.slow
def test_another_dimension_is_told_before_anything_runs(lite):
    """The dimension of the collection and the job's must be one."""
    lite.target()
    text = problems(lite.target(prepared=False, column=[KEY, TEXT, {**VECTOR, "dimension": 8}]))
    assert "field 'vector' has dimension 4 there and 8 in the job" in text


@pytest.mark.slow
def test_everything_that_does_not_fit_is_told_at_once(lite):
    """Types, fields that are not there, fields that the job leaves empty: one line each."""
    lite.target()
    wrong = [{**KEY, "type": "VarChar"}, {"name": "txet", "type": "VarChar"}, VECTOR]
    lines = problems(lite.target(prepared=False, column=wrong)).splitlines()
    assert len(lines) == 3
    assert "field 'id' is a Int64 there and a VarChar in the job" in lines[0]
    assert "has no field 'txet'; did you mean 'text'?" in lines[1]
    assert "needs the field 'text' (VarChar), which this job does not fill" in lines[2]


def test_a_collection_that_cannot_be_created_is_told(lite):
    """No primary key, no vector, or kinds that Milvus Lite lacks."""
    text = problems(lite.target(prepared=False, column=[TEXT]))
    assert "no column has primaryKey: true; add one, such as" in text
    assert "no column is a vector" in text
    binary = {"name": "bits", "type": "BinaryVector", "dimension": 8}
    text = problems(lite.target(prepared=False, column=[KEY, binary]))
    assert "Milvus Lite has no BinaryVector (column 'bits'); use a Milvus server" in text
    text = problems(lite.target(prepared=False, column=[KEY, VECTOR, {**VECTOR, "name": "v2"}]))
    assert "Milvus Lite takes one FloatVector, not vector, v2" in text


@pytest.mark.slow
def test_a_second_process_on_one_file_gets_a_clear_error(lite):
    """Milvus Lite allows one process: the other is told so, without a traceback."""
    write(lite.target(), rows(3))
    program = f"""
        from tests.io.milvus.support import Lite
        from pathlib import Path
        from vecferry.errors import JobError
        try:
            Lite(Path({str(lite.path)!r}).parent).target(prepared=False).check()
        except JobError as e:
            print(e)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "is open in another process; Milvus Lite allows one" in done.stdout
    assert "milvus-lite server" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_a_server_that_is_away_is_told_by_a_check(tmp_path):
    """The launcher does not wait for it; nothing of the password is in the text."""
    connection = MilvusConnection.model_validate(
        {"endpoint": "http://127.0.0.1:1", "username": "u", "password": "hushhush",
         "connectTimeoutMs": "300"}
    )  # fmt: skip
    context = StepContext(step="Writer", step_type="milvus", retry_deadline=0.2)
    target = MilvusTarget(Lite(tmp_path).settings(), connection, context)
    text = problems(target)
    assert "Milvus at http://127.0.0.1:1 can't be reached" in text
    assert "hushhush" not in text
    with pytest.raises(TransientError, match="gave up after"):
        target.operator()


@pytest.mark.slow
def test_a_database_that_does_not_exist_is_told(lite):
    """The name of the database is in the error."""
    lite.target()
    connection = MilvusConnection(endpoint=lite.path, database="nowhere")
    context = StepContext(step="Writer", step_type="milvus")
    lite._runs.append(context.run)
    assert "nowhere" in problems(MilvusTarget(lite.settings(), connection, context))
    assert handle_of(connection, context.run).is_file


@pytest.mark.slow
def test_a_partition_can_not_be_named_where_a_key_chooses_it(lite):
    """Named before the run, as Milvus would refuse every row."""
    tenant = {"name": "tenant", "type": "Int64", "partitionKey": True}
    columns = [KEY, tenant, VECTOR]
    lite.target(column=columns)
    plain = [KEY, {"name": "tenant", "type": "Int64"}, VECTOR]
    text = problems(lite.target(prepared=False, column=plain, partition="p"))
    assert "chooses partitions by a key; leave partition out" in text


@pytest.mark.slow
def test_a_vector_to_search_with_must_fit(lite):
    """Wrong dimension or unknown column: an error in words."""
    target = lite.target()
    with pytest.raises(JobError, match="a vector of 3 dimensions, not 4"):
        target.search(vector(1, 3), 1)
    with pytest.raises(JobError, match="has no vector field 'vectro'; did you mean 'vector'"):
        target.search(vector(1), 1, "vectro")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StatusError(8, 49, "rate limit exceeded"), TransientError),
        (StatusError(9, 48, "quota exceeded, disk"), TransientError),
        (StatusError(2, 0, "service unavailable"), TransientError),
        (StatusError(65535, 1, "no available shard leaders"), TransientError),
        (StatusError(1, 0, "whatever", retriable=True), TransientError),
        (StatusError(100, 4, "collection not found"), FatalError),
        (StatusError(1400, 0, "not authenticated"), FatalError),
        (StatusError(1, 0, "[Errno 28] No space left on device"), FatalError),
        (StatusError(1100, 5, "the length of varchar exceeds max length"), TerminalError),
        (StatusError(6, 6, "field is not nullable"), TerminalError),
        (ZeroDivisionError("ours"), ZeroDivisionError),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else str(v)[:40],
)
def test_what_an_answer_of_milvus_means(error, kind):
    """What passes is retried, what every row would meet is fatal, the rest is a row's fault."""
    assert type(classify(error)) is kind


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "connection refused", TransientError),
        ("DEADLINE_EXCEEDED", "", TransientError),
        ("UNAUTHENTICATED", "auth check failure", FatalError),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", TooLargeError),
        ("RESOURCE_EXHAUSTED", "rate limit", TransientError),
        ("INVALID_ARGUMENT", "bad", TerminalError),
    ],
)
def test_what_an_error_of_the_connection_means(code, details, kind):
    """gRPC's own codes, before Milvus has answered at all."""
    import grpc

    class Failed(grpc.RpcError):
        def code(self):
            return grpc.StatusCode[code]

        def details(self):
            return details

    assert type(classify(Failed())) is kind
