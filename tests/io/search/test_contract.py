"""Writing to real Elasticsearch and OpenSearch: every claim holds on both."""

from __future__ import annotations

import datetime
import decimal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from tests.contracts.mark_search import MarkedIndices, SearchMarks
from tests.io.search.support import rows, write
from tests.pipelines.support import Bench, counts_add_up, rejects_of
from tests.pipelines.support import rows as job_rows
from tests.services.mysql8 import Mysql8
from tests.services.server import eventually, running
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.io.elasticsearch import ElasticsearchConnection, WriteToElasticsearch
from vecferry.io.opensearch import WriteToOpenSearch
from vecferry.rows import Change
from vecferry.steps import StepContext
from vecferry.testing.sinks import SinkContract, SinkPlace, vector

pytestmark = [pytest.mark.service, pytest.mark.slow]


class SearchPlace(SinkPlace):
    """One index of a server."""

    keeps_versions = True
    dies = True

    def __init__(self, store):
        self.store, self.step_type = store, store.kind
        self.index = f"t{uuid.uuid4().hex}"

    def target(self, *, indexed=True, **settings):
        *columns, vector_column = self.store.columns
        if not indexed:
            vector_column = {**vector_column, "index": False}
        elif self.store.kind != "opensearch":  # its default rounds vectors, and scores with them
            vector_column = {**vector_column, "index_options": {"type": "hnsw"}}
        columns += [vector_column, {"name": "number", "type": "long"}]
        return self.store.target(index=self.index, column=columns, **settings)

    def count(self, target):
        return target.row_count()

    def read(self, target):
        target.row_count()  # makes all visible
        body = {"size": 10_000, "_source": {"excludes": ["vector"]}}
        found = self.store.server.request("POST", f"/{self.index}/_search", body)
        return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}

    def bad_rows(self):
        return [
            ({"number": "many"}, "refused-value"),
            ({"id": "é" * 257}, "key-too-long"),
            *super().bad_rows()[2:],
        ]

    def locked_out(self):
        if self.store.kind == "opensearch":
            return None
        target, password = self.target(), "not-the-password"
        target.connection = self.store.connection.model_validate(
            {"endpoint": self.store.server.url, "username": "elastic", "password": password}
        )
        return target, password

    def without_index(self):
        return {} if self.store.kind == "opensearch" else {"indexed": False}

    def kill(self):
        self.store.server.kill()

    def start(self):
        self.store.server.start()


class TestContract(SinkContract):
    """What every store must show."""

    @pytest.fixture
    def place(self, store):
        return SearchPlace(store)

    @pytest.mark.in_turn("kind")
    def test_a_server_killed_in_the_middle_costs_no_row(self, place):
        """One server is killed in each run, since it takes a minute."""
        super().test_a_server_killed_in_the_middle_costs_no_row(place)
        assert place.store.server.request("GET", "/_cluster/health")["number_of_nodes"] == 1


@pytest.mark.in_turn("kind")
class TestMarks(SearchMarks):
    """What every store must show of what made its vectors."""

    @pytest.fixture
    def place(self, kind):
        place = MarkedIndices(kind)
        yield place
        place.close()


def test_an_index_is_created_written_and_answers_a_search(store):
    """The nearest document to a row's own vector is that row."""
    target = store.target()
    assert target.check() == []
    written, rejects, _ = write(target, rows(500))
    assert (len(written), rejects, target.row_count()) == (500, [], 500)
    (hit,) = target.search(vector(123), 1)
    assert (hit["_id"], hit["text"], hit["n"]) == ("k123", "text 123", 123)
    assert "vector" not in hit


def test_a_stale_change_never_replaces_a_newer_one(store):
    """Upsert, delete, then a stale upsert: nothing is there, and the stale one is counted."""
    target = store.target()
    row = rows(1)[0]
    write(target, [Change(row, version=10)])
    write(target, [Change({"id": "k0"}, kind="-D", version=12)])
    written, rejects, counts = write(target, [Change(row, version=11)])
    assert (written, rejects, counts["rows-stale"]) == ([], [], 1)
    assert target.row_count() == 0
    again, _, _ = write(target, [Change({**row, "text": "same"}, version=12)])
    assert len(again) == 1, "an equal version is written: a bundle that is repeated"


def test_a_column_of_the_row_can_be_its_version(store):
    """What is older than the document that is there is stale, in one batch and in another run."""
    columns = [*store.columns, {"name": "at", "type": "version"}]
    target = store.target(column=columns)
    (row,) = rows(1)
    batch = [{**row, "text": "newest", "at": 9}, {**row, "text": "old", "at": "4"}]
    written, rejects, counts = write(target, batch)
    assert ([r["text"] for r in written], rejects, counts["rows-stale"]) == (["newest"], [], 1)
    later = store.target(index=target.settings.index, column=columns)
    written, rejects, counts = write(later, [{**row, "text": "older", "at": 8}])
    assert (written, rejects, counts["rows-stale"]) == ([], [], 1)
    assert later.check() == []
    assert later.row_count() == 1
    found = store.document(later, "k0")
    assert (found["text"], "at" in found) == ("newest", False)


def test_a_missing_index_is_told_with_what_would_create_it(store):
    """And with the names of those that exist, the first of the alphabet if there are many."""
    there = store.target(index=f"0-{uuid.uuid4().hex}")
    missing = store.target(prepared=False, index="no-such", schemaCreateMode="ignore")
    with pytest.raises(JobError) as e:
        missing.check()
    text = str(e.value)
    assert "'no-such' does not exist" in text
    assert there.settings.index in text
    assert "PUT /no-such" in text


def test_a_mapping_that_does_not_fit_is_refused_before_the_run(store):
    """Wrong types, wrong dimensions and fields that are not there, all at once."""
    index = store.target().settings.index
    columns = [dict(c) for c in store.columns]
    columns[1]["type"] = "keyword"
    columns[3]["dimension"] = 16
    columns.append({"name": "extra", "type": "keyword"})
    with pytest.raises(JobError) as e:
        store.target(prepared=False, index=index, column=columns).check()
    text = str(e.value)
    assert "'text' of index" in text
    assert "has 8 dimensions, and the job says 16" in text
    assert "no field 'extra'" in text


def test_recreate_needs_permission_and_drops_what_was_there(store):
    """Without ownsTarget it is refused, with it the index is empty again."""
    with pytest.raises(ValueError, match="ownsTarget"):
        store.settings(schemaCreateMode="recreate")
    target = store.target()
    write(target, rows(10))
    again = store.target(index=target.settings.index, schemaCreateMode="recreate", ownsTarget=True)
    assert again.row_count() == 0


def test_values_are_sent_in_the_form_of_the_mapping(store):
    """The server takes a date in each of its formats, and whole numbers of every type."""
    formats = [
        "yyyy-MM-dd HH:mm:ss", "yyyyMMdd", "epoch_second", "epoch_millis", "basic_date_time",
        "dd/MMM/yyyy:HH:mm:ss Z", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "strict_date_hour_minute",
        "yyyy-MM-dd||yyyy-MM-dd HH:mm:ss.SSS", "EEE, d MMM yyyy hh:mm:ss a", "basic_ordinal_date",
    ]  # fmt: skip
    dates = {f"d{i}": form for i, form in enumerate(formats)}
    whole = {"b": "-128", "s": 32767.0, "i": decimal.Decimal("7.00"), "l": "0070"}
    kinds = {"b": "byte", "s": "short", "i": "integer", "l": "long"}
    target = store.target(
        column=[
            {"name": "id", "type": "keyword", "primaryKey": True},
            *({"name": n, "type": "date", "format": f} for n, f in dates.items()),
            *({"name": n, "type": t} for n, t in kinds.items()),
        ]
    )
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, 120_000, tzinfo=datetime.UTC)
    row = {"id": "a", **dict.fromkeys(dates, moment), **whole}
    written, rejects, _ = write(
        target, [row, {**row, "id": "b", "l": 2**63}, {**row, "id": "c", "s": "٧"}]
    )
    assert [r["id"] for r in written] == ["a"]
    assert [r.reason for r in rejects] == ["out-of-range", "wrong-type"]
    assert target.row_count() == 1


def test_create_leaves_what_is_there_and_update_merges(store):
    """`create` counts what exists as stale; `update` keeps the fields it doesn't name."""
    target = store.target()
    index = target.settings.index
    write(target, rows(2))
    written, rejects, counts = write(
        store.target(index=index, actionType="create"),
        [{**row, "text": "new"} for row in rows(3)],
    )
    assert (len(written), rejects, counts["rows-stale"]) == (1, [], 2)
    columns = [c for c in store.columns if c["name"] in ("id", "n")]
    write(store.target(index=index, actionType="update", column=columns), [{"id": "k0", "n": 7}])
    assert store.document(target, "k0")["text"] == "text 0"
    assert store.document(target, "k0")["n"] == 7
    with pytest.raises(FatalError, match="can't carry versions"):
        write(store.target(index=index, actionType="create"), [Change(rows(1)[0], version=1)])


def test_rows_without_a_key_get_ids_of_the_store(store):
    """A note says that a second writing doubles them."""
    columns = [dict(c) for c in store.columns]
    del columns[0]["primaryKey"]
    target = store.target(column=columns)
    write(target, rows(5))
    write(target, rows(5))
    assert target.row_count() == 10
    assert "twice" in target.check()[0]
    _, (reject,), _ = write(target, [Change({"id": "k0"}, kind="-D")])
    assert reject.reason == "no-key"


def test_an_alias_moves_once_the_job_is_done(store):
    """Exclusive: no other index has it any more."""
    alias = f"a{uuid.uuid4().hex}"
    first = store.target(alias=alias)
    first.conclude()
    second = store.target(alias=alias, aliasMode="exclusive")
    write(second, rows(3))
    second.conclude()
    assert list(store.server.request("GET", f"/_alias/{alias}")) == [second.settings.index]
    assert store.target(prepared=False, index=alias).row_count() == 3


def test_an_index_that_may_not_be_written_fails_the_job(store):
    """No row is rejected for it, and none is embedded where the check can tell before."""
    target = store.target()
    name = target.settings.index
    store.server.request("PUT", f"/{name}/_settings", {"index.blocks.write": True})
    with pytest.raises(FatalError, match="cluster_block_exception"):
        write(target, rows(3))
    with pytest.raises(JobError, match=rf'PUT /{name}/_settings {{"index.blocks.write": null}}'):
        store.target(index=name, prepared=False).check()


def test_a_closed_index_is_told_before_the_run_with_what_opens_it(store):
    """Its mapping can be read, and looks as if all were well."""
    target = store.target()
    name = target.settings.index
    store.server.request("POST", f"/{name}/_close")
    with pytest.raises(JobError, match=f"is closed: POST /{name}/_open"):
        target.check()
    with pytest.raises(FatalError, match="index_closed_exception"):
        write(target, rows(3))
    store.server.request("POST", f"/{name}/_open")
    assert target.check() == []


@pytest.mark.parametrize("mode", ["ignore", "createIfNotExist"])
def test_a_cluster_that_is_shut_is_told_before_the_run_with_what_opens_it(store, mode):
    """Whether the index is there or would be created; this user's rights do not matter."""
    path, shut = "/_cluster/settings", "cluster.blocks.read_only"
    there = store.target()
    index = {"index": there.settings.index} if mode == "ignore" else {}
    store.server.request("PUT", path, {"persistent": {shut: True}})
    try:
        with pytest.raises(JobError, match=f'PUT {path} {{"persistent": {{"{shut}": null}}}}'):
            store.target(prepared=False, schemaCreateMode=mode, **index).check()
        with pytest.raises(FatalError, match="cluster_block_exception"):
            write(there, rows(3))
    finally:
        store.server.request("PUT", path, {"persistent": {shut: None}})
    assert there.check() == []


@pytest.fixture
def full_disk(store):
    """The server's own watermark of a full disk, which it is above; an index from before."""
    target = store.target(deadline=2)
    path = f"/{target.settings.index}/_settings"
    store.server.needs_room("100000gb")
    eventually(lambda: "read_only_allow_delete" in str(store.server.request("GET", path)))
    yield target
    store.server.needs_room("1kb")
    eventually(lambda: "read_only_allow_delete" not in str(store.server.request("GET", path)))
    state = "/_cluster/state/blocks"  # OpenSearch lets no index be created for a while longer
    eventually(lambda: "create-index" not in str(store.server.request("GET", state)))
    store.server.needs_room(None)


@pytest.mark.in_turn("kind")
def test_a_full_disk_is_waited_for_and_ends_the_job_in_its_own_words(store, full_disk):
    """A node that runs out of room shuts its indices, and opens them once there is some again."""
    with pytest.raises((FatalError, TransientError), match=r"read-only.*allow.delete|flood-stage"):
        write(full_disk, rows(3))
    patient = store.target(index=full_disk.settings.index)
    room = threading.Timer(1, store.server.needs_room, ("1kb",))
    room.start()
    written, rejects, counts = write(patient, rows(3))
    room.join()
    assert (len(written), rejects, patient.row_count()) == (3, [], 3)
    assert counts["write-retries"] > 0


def test_a_pipeline_of_the_index_is_bypassed_where_we_bring_the_vectors(store):
    """It might embed over ours; a job without vectors meets it."""
    if store.kind != "opensearch":
        pytest.skip("not for this store: it takes no `pipeline`")
    target = store.target(settings={"default_pipeline": "embeds-on-the-server"})
    written, rejects, _ = write(target, rows(3))
    assert (len(written), rejects, target.row_count()) == (3, [], 3)
    plain = [c for c in store.columns if c["name"] != "vector"]
    with pytest.raises(FatalError, match=r"embeds-on-the-server.*does not exist"):
        write(store.target(index=target.settings.index, column=plain), rows(3))


def test_a_connection_that_is_wrong_is_told(store):
    """With what to correct."""
    there = store.connection
    store.connection = there.model_copy(update={"endpoint": ["http://127.0.0.1:9"]})
    with pytest.raises(JobError, match=r"127\.0\.0\.1:9.*can't be reached"):
        store.target(prepared=False).check()
    if store.kind == "opensearch":
        store.connection = ElasticsearchConnection(endpoint=store.server.url)
        store.kind = "elasticsearch"
        with pytest.raises(JobError, match="stepType 'opensearch'"):
            store.target(prepared=False).check()


def test_a_whole_job_fills_an_index_and_answers_a_query(store, tmp_path, capsys):
    """The alias names it once the job is done, and the bad row is a reject."""
    bench = Bench(tmp_path, capsys)
    lines = job_rows(300)
    lines[7]["id"] = "x" * 600
    bench.write_lines(lines)
    name, alias = f"t{uuid.uuid4().hex}", f"a{uuid.uuid4().hex}"
    vector_type = store.columns[3]["type"]
    bench.sources["Vectors"] = bench_source(store)
    bench.job["steps"][-1] |= {"stepType": bench.sources["Vectors"]["type"]}
    bench.job["steps"][-1]["parameter"] = {
        "datasource": "Vectors",
        "index": name,
        "alias": alias,
        "schemaCreateMode": "createIfNotExist",
        "column": [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            {"name": "vector", "type": vector_type, "dimension": "64"},
        ],
    }
    bench.job["setting"]["errorLimit"] = {"record": "1"}
    assert bench.call("check", "--connect").status == 0
    shown = bench.call("preview", "--rows", "2")
    assert (shown.status, "r000001" in shown.out) == (0, True), shown.err
    report = bench.run()
    assert (report["state"], report["rows_written"], report["rows_rejected"]) == ("DONE", 299, 1)
    assert counts_add_up(report)
    assert rejects_of(report)[0]["reason"] == "key-too-long"
    assert list(store.server.request("GET", f"/_alias/{alias}")) == [name]
    mapping = str(store.server.request("GET", f"/{name}/_mapping"))
    assert ("'engine': 'faiss'" in mapping) == (store.kind == "opensearch")
    found = bench.call("query", lines[42]["text"], "-k", "1", "--json")
    assert found.status == 0, found.err
    assert "r000042" in found.out
    if store.kind != "opensearch":
        bench.sources["Vectors"]["password"] = "not-the-password"
        refused = bench.call("run")
        assert (refused.status, "the login is refused" in refused.err) == (2, True)
        assert "not-the-password" not in refused.out + refused.err


def test_the_template_for_mysql_makes_an_index_of_a_table(store, tmp_path, capsys, monkeypatch):
    """The password from the environment; rows of a condition, with a column of one's own."""
    if store.kind != "opensearch":
        pytest.skip("not for this store: the template is for OpenSearch")
    database = running(Mysql8)
    table, index = f"t{uuid.uuid4().hex}", f"t{uuid.uuid4().hex}"
    values = ", ".join(f"({i}, 'walk {i}', 'along shore {i * 7}', {i})" for i in range(40))
    database.execute(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, title TEXT, about TEXT, km INT)",
        f"INSERT INTO {table} VALUES {values}",
    )
    source = database.source
    monkeypatch.setenv("MYSQL_PASSWORD", source["password"])
    given = {
        "mysqlHost": source["host"], "mysqlPort": source["port"], "where": "id < 30",
        "mysqlDatabase": source["database"], "mysqlUser": source["username"], "table": table,
        "keyColumn": "id", "textColumns": "title,about", "otherColumns": "km",
        "opensearchUrl": store.server.url, "index": index, "engine": "lucene", "errorLimit": "0",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    bench, template = Bench(tmp_path, capsys), "template:mysql-to-opensearch"
    for _ in range(2):
        ran = bench.line("run", template, "--json", "--rejects", str(tmp_path), *options)
        assert (ran.status, ran.json["rows_written"]) == (0, 30), ran.err
    found = store.server.request("GET", f"/{index}/_doc/7")["_source"]
    assert (found["title"], found["km"]) == ("walk 7", 7)
    hits = bench.line("query", template, "walk 3\nalong shore 21", "--json", *options).json["hits"]
    assert hits[0]["_id"] == "3"
    assert store.server.request("GET", f"/{index}/_count")["count"] == 30


class _WithWindow(beam.DoFn):
    def process(self, row, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
        yield row["n"], float(timestamp), float(window.start)


def writer(store, **more):
    """The public transform of a store, outside a job, and its context."""
    kind = WriteToOpenSearch if store.kind == "opensearch" else WriteToElasticsearch
    context = StepContext(step="Write", step_type=store.kind, retry_deadline=300)
    store._runs.append(context.run)
    return kind(settings=store.settings(**more), connection=store.connection, context=context)


def test_rows_of_a_pipeline_keep_their_timestamp_and_window(store):
    """Without a launcher the first bundle creates the index; bad rows leave apart."""
    write = writer(store, batchSize=7)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([*rows(53), {**rows(1, 53)[0], "id": None}])
            | beam.Map(lambda row: TimestampedValue(row, row["n"]))
            | beam.WindowInto(FixedWindows(10))
            | write
        )
        seen = result.written | beam.ParDo(_WithWindow())
        assert_that(seen, equal_to([(i, i, i // 10 * 10) for i in range(53)]), "written")
        reasons = result.rejected | beam.Map(lambda r: (r.reason, r.row["n"]))
        assert_that(reasons, equal_to([("null-key", 53)]), "rejected")
    target = store.target(prepared=False, index=write.settings.index)
    assert target.row_count() == 53


def test_recreate_is_refused_outside_a_job(store):
    """Bundles are repeated; an index must not be dropped by one."""
    with pytest.raises(ValueError, match="drop the index again with each bundle"):
        writer(store, schemaCreateMode="recreate", ownsTarget=True)


def test_several_bundles_at_once_share_one_client(store):
    """Each has its own writer; closing one leaves the others alone."""
    target = store.target(batchSize=50)
    operators = [target.operator() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:

        def bundle(i):
            emitted = [e for r in rows(500, i * 500) for e in operators[i].process(Change(r))]
            emitted += operators[i].finish()
            operators[i].close()
            return len(emitted)

        assert list(pool.map(bundle, range(4))) == [500] * 4
    assert target.row_count() == 2000


def test_other_nodes_are_discovered_and_requests_compressed(store):
    """With the login that the cluster wants for either."""
    target = store.target(discovery=True, compress=True)
    written, rejects, _ = write(target, rows(300))
    assert (len(written), rejects, target.row_count()) == (300, [], 300)


def test_an_index_routed_by_a_column_is_written_and_deleted_by_it(store):
    """A document is found under its routing only."""
    target = store.target(esPartitionColumn=["n"], settings={"number_of_shards": 4})
    write(target, rows(40))
    write(target, [Change({"id": f"k{i}", "n": i}, kind="-D") for i in range(0, 40, 2)])
    assert target.row_count() == 20
    _, (reject,), _ = write(target, [Change({"id": "k1"}, kind="-D")])
    assert reject.reason == "missing-column"


def test_what_every_document_would_meet_fails_the_job(store):
    """An alias that may not be written is not the fault of a row."""
    index, alias = store.target().settings.index, f"a{uuid.uuid4().hex}"
    add = {"index": index, "alias": alias, "is_write_index": False}
    store.server.request("POST", "/_aliases", {"actions": [{"add": add}]})
    with pytest.raises(FatalError, match="no write index"):
        write(store.target(prepared=False, index=alias), rows(3))


def test_a_data_stream_takes_creates_only(store):
    """Everything else is refused before the run."""
    name = f"t{uuid.uuid4().hex}"
    template = {
        "index_patterns": [name],
        "data_stream": {},
        "priority": 600,
        "template": {"mappings": {"properties": {"id": {"type": "keyword"}}}},
    }
    store.server.request("PUT", f"/_index_template/{name}", template)
    store.server.request("PUT", f"/{name}/_create/first", {"@timestamp": "2026-01-01T00:00:00Z"})
    columns = [{"name": "id", "type": "keyword", "primaryKey": True}, {"name": "@timestamp"}]
    with pytest.raises(JobError, match="is a data stream"):
        store.target(prepared=False, index=name, column=columns).check()
    creating = store.target(prepared=False, index=name, column=columns, actionType="create")
    written, rejects, _ = write(creating, [{"id": "a", "@timestamp": "2026-01-02T03:04:05Z"}])
    assert (len(written), rejects) == (1, [])


def bench_source(store):
    """The data source of a store, as a file holds it."""
    source = {"type": "opensearch", "endpoint": store.server.url}
    if store.kind != "opensearch":
        login = {"username": store.server.user, "password": store.server.password}
        source |= {"type": "elasticsearch", **login}
    return source
