"""Each test that asks for a store runs on each server."""

from __future__ import annotations

import pytest

from tests.io.search.support import SERVERS, Store, one_after_the_other


@pytest.fixture(params=one_after_the_other(SERVERS), scope="module")
def kind(request):
    """The name of a server."""
    return request.param


@pytest.fixture
def store(kind):
    store = Store(kind)
    yield store
    store.close()
