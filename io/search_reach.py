"""What it means that a cluster can't be reached."""

from __future__ import annotations

from collections.abc import Sequence

from vecferry.errors import JobError, TransientError, redact, shorten
from vecferry.io.reach import fault_of, way_out, words
from vecferry.io.search_client import SearchClient, StatusError, advice, is_passing


def unreachable(error: BaseException, where: str, hosts: Sequence[str]) -> Exception:
    """What it means that a client could not speak with any of `hosts`, such as ``http://h:9200``.

    A `JobError` where waiting can't help: the server wants TLS and the job does not, or the other
    way round, or its certificate is not trusted. Else a `TransientError`, which names no place.
    """
    fault = fault_of(error)
    text = redact(shorten(words(fault), 300))
    way = way_out(fault, hosts)
    return (
        JobError(f"{where}: {text}: {way}") if way else TransientError(f"can't be reached: {text}")
    )


def undiscovered(client: SearchClient, error: BaseException) -> Exception:
    """What it means that a library found no nodes of a cluster; `client` asks it without that."""
    what = f"{client.where}: its nodes can't be discovered"
    try:
        client.request("GET", "/_nodes/http")
    except TransientError as e:
        return TransientError(f"{what}, as it {e}")
    except StatusError as e:
        message = f"{what}: {advice(e)}"
        return TransientError(message) if is_passing(e.status) else JobError(message)
    except JobError as e:
        return e
    return TransientError(f"{what}: {redact(shorten(error))}")
