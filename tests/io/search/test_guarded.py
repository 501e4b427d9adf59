"""Writing to a search server that turns much away: by its limits, and by TLS and a login."""

from __future__ import annotations

import pytest

from tests.io.search.support import TIGHT_SERVERS, Store, one_after_the_other, rows, write
from vecferry.errors import JobError

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture(params=one_after_the_other(TIGHT_SERVERS), scope="module")
def tight(request):
    """A server with little room."""
    store = Store(request.param, tight=True)
    yield store
    store.close()


def test_documents_that_a_busy_server_turns_away_are_sent_again(tight):
    """Its queue holds one request, and the index has sixteen shards: most items get a 429."""
    target = tight.target(batchSize=64, settings={"number_of_shards": 16})
    written, rejects, counts = write(target, rows(600))
    assert (len(written), rejects) == (600, [])
    assert counts["write-retries"] > 0
    assert target.row_count() == 600


@pytest.mark.parametrize("discovery", [False, True])
def test_a_guarded_cluster_is_written_to_by_tls_and_login(tight, discovery):
    """Also by nodes that were discovered, whose addresses say nothing of TLS."""
    target = tight.target(discovery=discovery)
    assert target.check() == []
    written, rejects, _ = write(target, rows(20))
    assert (len(written), rejects, target.row_count()) == (20, [], 20)


@pytest.mark.parametrize("discovery", [False, True])
def test_what_is_wrong_with_tls_or_login_is_told_and_not_waited_for(tight, discovery):
    """Neither by the check nor by a worker; the password is not shown."""
    plain = tight.server.url.replace("https", "http")
    other = str(tight.server.certificates / "other-ca.pem")
    wrong = {
        "the login is refused": tight.connected(password="not-the-password"),
        "speaks TLS: write https://": tight.connected(endpoint=plain, caCert=None),
        "not trusted: .*as caCert": tight.connected(caCert=other),
    }
    for told, connection in wrong.items():
        for act in ("check", "operator"):
            target = tight.target(prepared=False, discovery=discovery, connection=connection)
            with pytest.raises(JobError, match=told) as e:
                getattr(target, act)()
            assert "not-the-password" not in str(e.value)


def test_a_user_of_few_rights_writes_into_an_index_that_is_there(tight):
    """Reading its mapping and its documents, and writing, are all that it takes."""
    if tight.kind != "opensearch":
        pytest.skip("not for this store: its package lacks what users are kept in")
    owner = tight.target()
    there = {"index": owner.settings.index, "schemaCreateMode": "ignore"}
    clerk = tight.connected(username=tight.server.clerk)
    target = tight.target(connection=clerk, **there)
    (note,) = target.check()
    assert "does not tell its version to this user" in note
    written, rejects, _ = write(target, rows(20))
    assert (len(written), rejects, owner.row_count()) == (20, [], 20)
    with pytest.raises(JobError, match=r"may not do that: give it the rights.*admin/create"):
        tight.target(connection=clerk)


@pytest.mark.in_turn("tight", "text_bytes")
@pytest.mark.parametrize("text_bytes", [1000, 4000])
def test_a_request_that_is_too_large_is_cut(tight, text_bytes):
    """By 429 above what the server's memory allows, by 413 above what it reads at all."""
    target = tight.target(batchSize=500)
    batch = [{**row, "text": "x" * text_bytes} for row in rows(500)]
    written, rejects, counts = write(target, batch)
    assert (len(written), rejects) == (500, [])
    assert counts["write-requests"] > 1
    assert target.row_count() == 500


def test_a_document_that_is_too_large_alone_is_a_reject(tight):
    """Its neighbours are written."""
    target = tight.target()
    batch = rows(20)
    batch[5]["text"] = "x" * (2 << 20)
    written, (reject,), _ = write(target, batch)
    assert len(written) == 19
    assert reject.reason == "too-large"
