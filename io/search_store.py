"""An index as the write loop sees it: bulk requests, and what became of each document in them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from vecferry.errors import FatalError, TransientError, shorten
from vecferry.io.search_client import SearchClient, classify, is_passing, told
from vecferry.io.search_rows import RowEncoder
from vecferry.io.sink_store import STALE, WRITTEN, Outcome, Record, rejected, retry

FILTER = "errors,items.*.status,items.*.error"
VERSIONED = b'"version_type":'
_OF_THE_INDEX = re.compile(
    "^(no write index is defined for alias|pipeline with id .* does not exist"
    "|only write ops with an op_type of create are allowed|routing is required for"
    "|[Nn]umber of documents in (the )?(shard|index))"
)
"""Faults that every document would have alike, though the server tells them of each."""
_REASONS = {
    "document_parsing_exception": "refused-value",
    "mapper_parsing_exception": "refused-value",
    "strict_dynamic_mapping_exception": "unknown-field",
}
"""What the server says of a document, as the short word of its reject."""


class SearchStore:
    """One index, or an alias of one."""

    def __init__(
        self, client: SearchClient, index: str, encoder: RowEncoder, pipeline: str | None = None
    ) -> None:
        self.encode = encoder.encode
        self.classify = classify
        self._client, self._path = client, f"/{quote(index, safe='')}/_bulk"
        self._params = {"filter_path": FILTER} | ({"pipeline": pipeline} if pipeline else {})

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different ids in one request; None where all were written."""
        body = b"".join(r.body for r in records)
        answer = self._client.request("POST", self._path, body, self._params)
        if not isinstance(answer, dict):
            raise TransientError(f"{self._client.where} answers {shorten(answer)!r} to a request")
        if answer.get("errors") is False:
            return None
        items = answer.get("items") or []
        if len(items) != len(records):
            raise FatalError(
                f"{self._client.where} answers for {len(items)} of {len(records)} documents"
            )
        return [self._outcome(r, item) for r, item in zip(records, items, strict=True)]

    def _outcome(self, record: Record, item: dict[str, Any]) -> Outcome:
        ((_, result),) = item.items()
        status = int(result["status"])
        if status < 300 or (record.op == "delete" and status == 404 and "error" not in result):
            return WRITTEN
        kind, reason = told(result.get("error") or {})
        message = f"{kind}: {shorten(reason, 400)} (status {status})"
        if status == 409:
            # A newer version is there, or the document that was to be created. What another
            # writer came between is sent again.
            versioned = VERSIONED in record.body.partition(b"\n")[0]
            return STALE if versioned or record.op == "create" else retry(message)
        if status in (401, 403) or kind == "index_closed_exception":
            raise FatalError(f"{self._client.where} refuses to write: {message}", "not-allowed")
        if _OF_THE_INDEX.search(reason):
            raise FatalError(f"{self._client.where} takes no document: {message}", "refused-all")
        if kind == "index_not_found_exception":
            raise FatalError(f"{self._client.where}: {message}", "no-index")
        if is_passing(status):
            return retry(message)
        return rejected(_REASONS.get(kind, "refused"), message)
