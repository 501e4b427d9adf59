"""An index of a search store before the run, and the way to it: checks, addresses, logins."""

from __future__ import annotations

import base64
import http.server
import pickle
import threading

import pytest

from tests.io.search.support import FIELDS, KEY, TEXT, settings
from vecferry.errors import JobError, TransientError
from vecferry.io.elasticsearch import (
    ElasticsearchConnection,
    WriteToElasticsearch,
)
from vecferry.io.elasticsearch.client import ElasticsearchClient
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.client import OpenSearchClient
from vecferry.io.opensearch.target import OpenSearchDialect, OpenSearchTarget
from vecferry.io.search.catalog import IndexInfo, SearchIndex
from vecferry.io.search.checks import mismatches, notes
from vecferry.io.search.client import StatusError
from vecferry.io.search.dialect import Field
from vecferry.io.search.settings import SearchConnection
from vecferry.io.sink.target import passing
from vecferry.rows import Change
from vecferry.steps import StepContext


def info(name: str = "docs", *, routed: bool = False, **fields: Field) -> IndexInfo:
    return IndexInfo(name, FIELDS | fields, strict=False, meta={}, routed=routed)


VECTOR = {"name": "v", "type": "dense_vector", "similarity": "l2_norm"}


@pytest.mark.parametrize(
    ("more", "found", "shown"),
    [
        ({}, info(".ds-docs-2026.01.01-000001"), "is a data stream"),
        ({}, info(routed=True), "name its column as esPartitionColumn"),
        ({}, info(text=Field("text", "alias")), "is an alias of another field"),
        ({"column": [KEY, VECTOR]}, info(), "compares by cosine, and the job says l2_norm"),
        ({"column": []}, IndexInfo("docs", {}, False, {}), "every document would be empty"),
    ],
)
def test_an_index_that_would_refuse_or_lose_every_row_is_told(
    more: dict, found: IndexInfo, shown: str
) -> None:
    """Before the run."""
    assert shown in "; ".join(mismatches(settings(**more), found))


def test_columns_that_are_left_out_are_noted() -> None:
    """Both what columnMapping doesn't fill and what an index has no field for."""
    mapping = [{"sourceColName": "id", "dstColName": "id"}]
    assert notes(settings(columnMapping=mapping), info()) == [
        "columnMapping fills nothing into text"
    ]
    assert "only columns of these names" in notes(settings(column=[]), info())[1]


class Index:
    """One index; `answers` are by method and path, a `StatusError` is raised."""

    where = "a cluster"

    def __init__(self, answers: dict[tuple[str, str], object]) -> None:
        self.answers, self.calls = answers, list[tuple[str, str]]()

    def request(self, method: str, path: str, body: object = None, params: object = None) -> object:
        self.calls.append((method, path))
        answer = self.answers.get((method, path), StatusError(404, "", "nothing here"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Target(OpenSearchTarget):
    cluster: Index

    def client(self) -> Index:  # type: ignore[override]
        return self.cluster


def target(answers: dict, **more: object) -> Target:
    job = {"index": "docs", "column": [KEY, TEXT], "ownsTarget": True} | more
    made = Target(
        OpenSearchSettings.model_validate(job),
        OpenSearchConnection(endpoint="http://h"),
        StepContext(step="Writer", step_type="opensearch", retry_deadline=1),
    )
    made.cluster = Index(answers)
    return made


MAPPING = {
    "docs": {"mappings": {"properties": {"id": {"type": "keyword"}, "text": {"type": "text"}}}}
}


def test_an_index_that_can_not_be_made_anew_is_not_dropped() -> None:
    """A column without a type is told before anything goes."""
    answers = {("GET", "/docs/_mapping"): MAPPING, ("GET", "/docs/_alias"): {"docs": {}}}
    recreating = target(answers, column=[KEY, {"name": "text"}], schemaCreateMode="recreate")
    with pytest.raises(JobError, match="column 'text' has no type"):
        recreating.prepare()
    assert all(method == "GET" for method, _ in recreating.cluster.calls)


def test_an_index_is_not_dropped_by_one_of_its_other_names() -> None:
    """Its alias would become an index, and its other aliases would be gone."""
    answers = {("GET", "/docs/_mapping"): {"docs-1": MAPPING["docs"]},
               ("GET", "/docs/_alias"): {"docs-1": {"aliases": {"docs": {}}}}}  # fmt: skip
    recreating = target(answers, schemaCreateMode="recreate")
    with pytest.raises(JobError, match="another name of index 'docs-1'"):
        recreating.prepare()
    assert all(method == "GET" for method, _ in recreating.cluster.calls)


def test_two_workers_may_create_an_index_at_once() -> None:
    """The one that comes second takes what is there."""
    exists = StatusError(400, "resource_already_exists_exception", "index [docs] already exists")
    made = target({("PUT", "/docs"): exists, ("GET", "/_cat/indices?h=index&format=json"): []},
                  schemaCreateMode="createIfNotExist")  # fmt: skip
    with pytest.raises(JobError, match="does not exist"):  # what it then reads is not there
        made.prepare()
    assert ("PUT", "/docs") in made.cluster.calls


def test_an_alias_with_the_name_of_an_index_is_told_before_the_run() -> None:
    """It could not be set once all rows are written."""
    answers = {
        ("GET", "/"): {"version": {"number": "2.19.1"}},
        ("GET", "/docs/_mapping"): MAPPING,
        ("GET", "/other/_alias"): {"other": {"aliases": {}}},
    }
    with pytest.raises(JobError, match="alias 'other' is the name of an index already"):
        target(answers, alias="other").check()


@pytest.mark.parametrize("status", [403, 404, 405, 400])
def test_a_version_that_may_not_be_read_is_a_note(status: int) -> None:
    """Whatever a gateway answers; only a refused login is an error."""
    refused = StatusError(status, "", "no")
    answers = {("GET", "/"): refused, ("GET", "/_nodes?filter_path=nodes.*.version"): refused,
               ("GET", "/docs/_mapping"): MAPPING}  # fmt: skip
    assert "does not tell its version" in target(answers).check()[0]
    answers[("GET", "/")] = StatusError(401, "", "no")
    with pytest.raises(JobError, match="the login is refused"):
        target(answers).check()


def test_an_old_server_is_refused() -> None:
    """With the version that is needed."""
    with pytest.raises(JobError, match=r"OpenSearch 1\.3; 2\.0 or newer is needed"):
        target({("GET", "/"): {"version": {"number": "1.3.0"}}}).check()


def test_a_cluster_that_starts_is_waited_for() -> None:
    """503 is told to a person as an error of the job, and to a worker as one that passes."""
    starting = target({("GET", "/docs/_mapping"): StatusError(503, "", "no master")})
    with pytest.raises(JobError, match="no master"):
        starting.check()
    with pytest.raises(TransientError, match="no master"):
        passing(starting._store)


def test_an_indexs_own_pipeline_is_bypassed_only_where_we_write_vectors() -> None:
    """It may embed; where it doesn't concern vectors it stays."""
    plain, vectors = info(), info(v=Field("v", "knn_vector", 3, "l2"))
    assert target({}).pipeline(plain) is None
    assert target({}).pipeline(vectors) is None, "the job writes id and text only"
    assert target({}, column=[]).pipeline(vectors) == "_none"
    assert target({}, column=[], pipeline="mine").pipeline(vectors) == "mine"


def test_a_preview_of_a_delete_shows_the_delete() -> None:
    """It needs no more than the id."""
    answers = {("GET", "/docs/_mapping"): MAPPING}
    assert target(answers).preview(Change({"id": "a"}, kind="-D")) == {"delete": {"_id": "a"}}
    assert target(answers).preview(Change({"id": "a", "text": "t"})) == {"id": "a", "text": "t"}


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("u:hunter22@h:9200", "is not an address"),
        ("http://h:99999", "is not an address"),
        ("http://h/?x=1", "ends with a query"),
        ([], "is empty"),
    ],
)
def test_a_wrong_endpoint_is_told_without_a_login_in_it(endpoint: object, shown: str) -> None:
    """Even where it can't be read as an address."""
    with pytest.raises(ValueError, match=shown) as e:
        SearchConnection.model_validate({"endpoint": endpoint})
    assert "hunter22" not in str(e.value)


def test_endpoints_may_have_a_path_or_an_address_of_ipv6() -> None:
    """A port is added where there is none."""
    connection = SearchConnection(endpoint="https://[::1]/search/, http://[fe80::1]:9")
    assert connection.hosts == ["https://[::1]:443/search", "http://[fe80::1]:9"]


@pytest.mark.slow
def test_a_certificate_that_is_not_there_is_told_at_once(tmp_path) -> None:
    """Not as a cluster that can't be reached."""
    (tmp_path / "text.pem").write_text("no certificate")
    for name in ("none.pem", "text.pem"):
        for kind, client, job in (
            (ElasticsearchConnection, ElasticsearchClient, settings()),
            (OpenSearchConnection, OpenSearchClient, OpenSearchSettings(index="docs")),
        ):
            connection = kind(endpoint="https://h", ca_cert=str(tmp_path / name))
            with pytest.raises(JobError, match="caCert"):
                client(connection, job)


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("authorization")))
        status, kind, body = self.server.answers.get(self.path, (200, "application/json", b"{}"))
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo():
    """A server that answers what a gateway might."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.seen, server.answers = [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["elasticsearch", "opensearch"])
def connect(request):
    """Opens a client of either store."""

    def open_client(endpoint: str, **login: str):
        if request.param == "elasticsearch":
            return ElasticsearchClient(
                ElasticsearchConnection(endpoint=endpoint, **login), settings()
            )
        job = OpenSearchSettings(index="docs")
        return OpenSearchClient(OpenSearchConnection(endpoint=endpoint, **login), job)

    return open_client


@pytest.mark.slow
def test_a_login_in_any_script_and_a_path_reach_the_server(echo, connect) -> None:
    """As UTF-8, whatever the client would do."""
    connect(f"{echo.url}/pre/fix/", username="ü", password="pä:ss").request("GET", "/x")
    pair = base64.b64encode("ü:pä:ss".encode()).decode()
    assert echo.seen == [("/pre/fix/x", f"Basic {pair}")]


@pytest.mark.slow
def test_what_a_gateway_answers_is_a_fault_of_ours_to_tell(echo, connect) -> None:
    """Pages of HTML, empty answers and half of JSON."""
    echo.answers = {
        "/502": (502, "text/html", b"<h1>bad gateway"),
        "/401": (401, "text/plain", b""),
        "/half": (200, "application/json", b"{"),
    }
    client = connect(echo.url)
    for path, status in (("/502", 502), ("/401", 401)):
        with pytest.raises(StatusError) as e:
            client.request("GET", path)
        assert e.value.status == status
    with pytest.raises(TransientError):
        client.request("GET", "/half")


@pytest.mark.slow
def test_an_api_key_is_taken_encoded_or_as_its_two_parts(echo) -> None:
    """The header holds it encoded."""
    for key in ("some-id:some-key", base64.b64encode(b"some-id:some-key").decode()):
        connection = ElasticsearchConnection(endpoint=echo.url, api_key=key)
        ElasticsearchClient(connection, settings()).request("GET", "/x")
    assert len({login for _, login in echo.seen}) == 1
    assert base64.b64decode(echo.seen[0][1].removeprefix("ApiKey ")) == b"some-id:some-key"


@pytest.mark.slow
def test_a_cluster_that_can_not_be_discovered_may_come_back() -> None:
    """Its own errors are none of ours."""
    connection = ElasticsearchConnection(endpoint="http://127.0.0.1:9")
    with pytest.raises(TransientError, match="discovered"):
        ElasticsearchClient(connection, settings(discovery=True))
    there = OpenSearchConnection(endpoint="http://127.0.0.1:9")
    with pytest.raises(TransientError, match="discovered"):
        OpenSearchClient(there, OpenSearchSettings(index="docs", discovery=True))


def test_a_transform_is_picklable_and_shows_no_secret() -> None:
    """Workers get it with its login; no text of it has one."""
    connection = ElasticsearchConnection(endpoint="http://h", username="u", password="hunter2222")
    write = WriteToElasticsearch(settings=settings(), connection=connection)
    again = pickle.loads(pickle.dumps(write))
    assert again.connection.password.reveal() == "hunter2222"
    for shown in (repr(write), str(write.connection), repr(again), str(write.display_data())):
        assert "hunter2222" not in shown


def test_a_worker_tells_what_the_check_would_and_refuses_an_old_server(caplog) -> None:
    """A pipeline of one's own has no launcher."""
    answers: dict = {("GET", "/docs/_mapping"): MAPPING}
    told = target(answers, column=[TEXT])
    with caplog.at_level("WARNING"):
        told.operator().close()
    assert "written twice is there twice" in caplog.text
    assert "does not tell its version" in caplog.text
    answers[("GET", "/")] = {"version": {"number": "1.3.0"}}
    with pytest.raises(JobError, match="or newer is needed"):
        target(answers).operator()


def test_scores_that_are_no_numbers_are_shown_as_such() -> None:
    """As OpenSearch writes them."""
    hits = [{"_id": "a", "_score": "NaN"}, {"_id": "b", "_score": 0.5}, {"_id": "c"}]
    mapping = {"docs": {"mappings": {"properties": {"v": {"type": "knn_vector", "dimension": 3}}}}}
    found = target(
        {
            ("GET", "/docs/_mapping"): mapping,
            ("POST", "/docs/_refresh"): StatusError(403, "security_exception", "no"),
            ("POST", "/docs/_search"): {"hits": {"hits": hits}},
        }
    ).search([1, 2, 3], 3)
    assert [f"{hit['score']:.1f}" for hit in found] == ["nan", "0.5", "nan"]


@pytest.mark.parametrize(
    ("version", "own", "waits"),
    [
        ("2.0.1", {}, None),
        ("2.2.0", {}, "false"),
        ("3.1.0", {}, "false"),
        (None, {}, "false"),
        ("2.19.1", {"merge_on_flush": {"enabled": True}}, True),
        ("2.0.1", {"index.merge_on_flush.enabled": "true"}, "true"),
    ],
)
def test_refreshes_of_an_index_that_is_made_do_not_wait_for_merges(
    version: str | None, own: dict, waits: object
) -> None:
    """On servers that know of it, unless the job says otherwise."""
    answers = {} if version is None else {("GET", "/"): {"version": {"number": version}}}
    given = OpenSearchSettings.model_validate({"index": "docs", "column": [KEY], "settings": own})
    body = SearchIndex(Index(answers), OpenSearchDialect(), given).body()
    assert body["settings"].get("index.merge_on_flush.enabled") == waits
