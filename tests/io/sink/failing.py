"""A store in memory that fails on demand, for tests of the write loop."""

from __future__ import annotations

import threading

from vecferry.errors import TerminalError, TransientError
from vecferry.io.sink.store import WRITTEN, Block, Record, TooLargeError
from vecferry.rows import DELETE


class MemoryStore:
    """A store in memory that fails on demand, by counts."""

    def __init__(
        self, *, fail_first=0, error=None, bad=(), too_many=None, items=None, gate=None
    ) -> None:
        self.rows = {}
        self.log = []
        self.requests = []
        self.blocks = []
        self.fail_first, self.error = fail_first, error or TransientError("the server is away")
        self.bad, self.too_many, self.gate = set(bad), too_many, gate
        self.items = items or {}
        self.lock = threading.Lock()
        self.flying, self.clashes, self.most_flying = [], [], 0

    def encode(self, change):
        if change.get("v") == "unfit":
            raise TerminalError("v is unfit", "unfit")
        key = change.get("k")
        op = "delete" if change.kind == DELETE else "upsert"
        return Record(op, key, dict(change), change.get("size", 10))

    def encode_block(self, changes):
        keys = {c.get("k") for c in changes}
        wrong = any(c.kind == DELETE or c.get("v") == "unfit" for c in changes)
        if wrong or None in keys or len(keys) < len(changes):
            return None
        return Block(changes, keys, None, sum(c.get("size", 10) for c in changes))

    def send_block(self, block):
        self.blocks.append(len(block.changes))
        return self.send([self.encode(c) for c in block.changes])

    def send(self, records):
        keys = {r.key for r in records if r.key is not None}
        with self.lock:
            self.requests.append(len(records))
            self.clashes += [k for k in keys if any(k in other for other in self.flying)]
            self.flying.append(keys)
            self.most_flying = max(self.most_flying, len(self.flying))
        try:
            if self.gate is not None:
                assert self.gate.wait(60)
            return self._take(records)
        finally:
            with self.lock:
                self.flying.remove(keys)

    def _take(self, records):
        with self.lock:
            if self.fail_first > 0:
                self.fail_first -= 1
                raise self.error
            if self.too_many is not None and len(records) > self.too_many:
                raise TooLargeError("too much at once")
            if any(r.body.get("v") in self.bad for r in records):
                raise TerminalError("a row is bad, I won't say which", "refused")
            outcomes = []
            for record in records:
                queue = self.items.get(record.body.get("v"))
                outcome = queue.pop(0) if queue else WRITTEN
                outcomes.append(outcome)
                if outcome.state == "written":
                    self._put(record)
            return outcomes if self.items else None

    def _put(self, record):
        self.log.append((record.key, record.body.get("v")))
        if record.op == "delete":
            self.rows.pop(record.key, None)
        else:
            self.rows[record.key if record.key is not None else len(self.rows)] = record.body

    def classify(self, error):
        return error
