"""What all steps share: changes, errors and secrets, retries, process state, settings."""

from __future__ import annotations

import copy
import datetime
import decimal
import json
import logging
import math
import pickle
import re
import string
import threading
import time
import uuid
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vecferry import redaction
from vecferry.errors import (
    FatalError,
    JobError,
    RedactingFilter,
    TerminalError,
    TransientError,
    VecferryError,
    keep_secret,
    near,
    redact,
    shorten,
)
from vecferry.pipelines.run.rejects import to_line
from vecferry.process import run_state
from vecferry.retry import Backoff, call_with_retries, parse_retry_after
from vecferry.rows import (
    DELETE,
    MAX_REJECT_VALUE_BYTES,
    UPDATE,
    Change,
    Reject,
    as_change,
    cut_value,
    decode_value,
    encode_value,
)
from vecferry.settings import Secret, SecretText, Settings, require_pattern
from vecferry.steps import Counts, RunContext, StepContext, TokenBucket, paced


@pytest.fixture(autouse=True)
def _no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps secret is not a secret of the next."""
    monkeypatch.setattr(redaction, "_secrets", set())


# --- rows ---------------------------------------------------------------------------------------


def test_a_change_is_a_dict_that_survives_pickling() -> None:
    """A change crosses a worker boundary with its row kind, version and origin."""
    change = Change({"a": 1}, kind=UPDATE, version=5, origin="f:9")
    other = pickle.loads(pickle.dumps(change))
    assert other == {"a": 1}
    assert type(other) is Change
    assert (other.kind, other.version, other.origin) == (UPDATE, 5, "f:9")


def test_having_copies_and_stays_a_change() -> None:
    """`with_columns` adds and replaces in a copy; the original keeps its columns."""
    change = Change({"a": 1, "b": 2}, kind=DELETE, version=5, origin="f:9")
    other = change.with_columns({"b": 3, "c": 4})
    assert change == {"a": 1, "b": 2}
    assert other == {"a": 1, "b": 3, "c": 4}
    assert (other.kind, other.version, other.origin) == (DELETE, 5, "f:9")


def test_a_plain_dict_is_an_insert_without_a_version() -> None:
    """A dict given to a step counts as an upsert; a change is taken as it is."""
    change = as_change({"a": 1})
    assert (change.kind, change.version, change.origin) == ("+I", None, "")
    assert as_change(change) is change
    assert type({**change}) is dict


TIMES = st.datetimes(timezones=st.none() | st.just(UTC))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | TIMES
    | st.times(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$int", "$cut", "$dict"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(VALUES)
def test_a_value_survives_json(value: Any) -> None:
    """What is written to a rejects file comes back equal, in the same types."""
    text = orjson.dumps(encode_value(value))
    again = decode_value(orjson.loads(text))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.slow
@given(st.lists(st.floats(width=32, allow_nan=True), max_size=20))
def test_a_vector_survives_json(numbers: list[float]) -> None:
    """A vector comes back as a float32 array, bit by bit."""
    vector = np.array(numbers, dtype=np.float32)
    again = decode_value(orjson.loads(orjson.dumps(encode_value({"v": vector}))))["v"]
    assert again.dtype == np.float32
    assert again.tobytes() == vector.tobytes()
    assert again.flags.writeable


def test_odd_values_are_written_as_near_as_can_be() -> None:
    """NaN, numpy scalars, tuples and unknown objects are also written."""
    assert math.isnan(decode_value(encode_value(math.nan)))
    assert encode_value(np.int64(3)) == 3
    assert encode_value((1, 2)) == [1, 2]
    assert encode_value(decimal.Decimal("1.50")) == {"$decimal": "1.50"}
    ident = uuid.UUID(int=1)
    assert decode_value(encode_value(ident)) == str(ident)


def test_a_text_with_half_a_surrogate_can_be_written() -> None:
    """A text that no UTF-8 holds does not stop the rejects file, and comes back."""
    text = "half \ud83d"
    encoded = cut_value(encode_value({"text": text}))
    assert decode_value(orjson.loads(orjson.dumps(encoded))) == {"text": text}


def test_a_large_value_is_cut_with_its_hash() -> None:
    """A value over 1 MiB keeps its length, hash and beginning, and can't be replayed."""
    exact = "x" * MAX_REJECT_VALUE_BYTES
    assert cut_value(exact) == exact
    cut = cut_value(exact + "é")
    assert cut["$cut"]["bytes"] == MAX_REJECT_VALUE_BYTES + 2
    assert cut["$cut"]["head"] == "x" * 1024
    assert len(cut["$cut"]["sha256"]) == 64
    with pytest.raises(ValueError, match="run the job again"):
        decode_value(cut)


# --- errors and secrets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        JobError(["one", "two"]),
        TransientError("busy", 2.5),
        TerminalError("no", "too-long"),
        FatalError("wrong key", "unauthorised"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_cross_a_worker_boundary(error: VecferryError) -> None:
    """Pickled errors keep their class, text and what else they know."""
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_a_near_word_is_offered() -> None:
    """A misspelled word is answered with the known one, in any case; a strange one with nothing."""
    assert near("Milvsu", ["milvus", "oss"]) == "; did you mean 'milvus'?"
    assert near("xyz", ["milvus", "oss"]) == ""


def test_a_text_is_shortened_to_one_line() -> None:
    """Long and many-lined texts fit into a message."""
    assert shorten("a\n b") == "a b"
    assert shorten("x" * 300) == "x" * 120 + "…" + "x" * 79


def test_known_secrets_are_redacted_longest_first() -> None:
    """A secret that contains another one leaves no tail."""
    keep_secret("abcd")
    keep_secret("abcd-efgh")
    keep_secret("abc")
    assert redact("key abcd-efgh or abcd, abc") == "key *** or ***, abc"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mysql://user:pw@db:3306/shop", "mysql://***@db:3306/shop"),
        ("Authorization: Bearer abcdefgh.123", "Authorization: Bearer ***"),
        ("see http://host:80/a@b", "see http://host:80/a@b"),
        ("x://h/d?a=1&Password=hid;api_key=hid end", "x://h/d?a=1&Password=***;api_key=*** end"),
    ],
)
def test_passwords_in_urls_and_bearer_tokens_are_redacted(text: str, clean: str) -> None:
    """Secrets that nobody declared are known by where they stand."""
    assert redact(text) == clean


def test_the_filter_cleans_messages_and_tracebacks() -> None:
    """A log record shows a secret neither in its arguments nor in its exception."""
    keep_secret("hunter22")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    handler.addFilter(RedactingFilter())
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise ValueError("no entry with hunter22")
    except ValueError:
        log.exception("login as %s", "hunter22")
    assert "hunter22" not in lines[0]
    assert lines[0].count("***") >= 2


class Login(Settings):
    user: str
    password: SecretText


def test_a_secret_is_never_shown() -> None:
    """No way of printing, dumping or showing settings gives a secret away."""
    login = Login(user="u", password="hunter22")
    shown = [
        str(login.password),
        repr(login.password),
        f"{login.password}",
        "%s" % login.password,  # noqa: UP031
        f"{login.password:>20}",
        repr(login),
        str(login),
        login.model_dump_json(),
        json.dumps(login.model_dump()),
        repr(pickle.loads(pickle.dumps(login))),
        repr(copy.deepcopy(login)),
        repr(vars(login)),
    ]
    assert [text for text in shown if "hunter22" in text] == []


def test_a_secret_is_revealed_where_it_is_used() -> None:
    """`reveal` gives the plain text, also after pickling, and logs are kept clean of it."""
    login = pickle.loads(pickle.dumps(Login(user="u", password="hunter22")))
    assert login.password.reveal() == "hunter22"
    assert type(login.password.reveal()) is str
    assert isinstance(login.password, Secret)
    assert redact("as hunter22") == "as ***"


def test_settings_take_what_vendors_write() -> None:
    """Numbers may be texts, names of either style; unknown keys are kept, and nothing changes."""

    class Size(Settings):
        batch_size: int

    assert Size.model_validate({"batchSize": "128"}).batch_size == 128
    assert Size(batch_size=3).batch_size == 3
    assert Size.model_validate({"batchSize": 1, "btchSize": 2}).model_extra == {"btchSize": 2}
    with pytest.raises(ValueError, match="frozen"):
        Size(batch_size=3).batch_size = 4  # type: ignore[misc]


# --- retries -------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2026 12:00:30 -0000", 30.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("1e999", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    """Both forms of the header are understood, anything else is ignored."""
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (None, 29.6),
        ("Fri, 20 Nov 2026 12:00:00 GMT", 29.6),
        ("Fri, 20 Nov 2026 11:59:59 GMT", 29.6),
        ("Fri, 20 Nov 2026 12:00:01 GMT", 29.6),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 3630.0),
        ("Fri, 20 Nov 2026 12:00:20 GMT", 10.0),
        ("today", 29.6),
    ],
)
def test_a_date_to_wait_for_is_read_by_the_clock_of_who_wrote_it(
    date: str | None, seconds: float
) -> None:
    """A clock of ours that agrees knows parts of a second, which the header does not tell."""
    ours = NOW + datetime.timedelta(seconds=0.4)
    wait = parse_retry_after("Fri, 20 Nov 2026 12:00:30 GMT", date, ours)
    assert wait == pytest.approx(seconds)


@given(st.text(st.sampled_from(string.printable + "é"), max_size=40))
def test_no_header_breaks_the_parser(value: str) -> None:
    """Whatever a server sends gives a wait of finite length or none."""
    wait = parse_retry_after(value, now=NOW)
    assert wait is None or 0 <= wait < math.inf


def test_waits_grow_up_to_a_cap() -> None:
    """Full jitter: each wait is below the doubled base, and below the cap."""
    backoff = Backoff(deadline=None, base=1, cap=8)
    for limit in (2, 4, 8, 8, 8):
        wait = backoff.next_wait()
        assert wait is not None
        assert 0 <= wait <= limit


def test_a_deadline_ends_the_waiting() -> None:
    """A wait that would end past the deadline is not begun, the server's own wish included."""
    clock = [100.0]
    backoff = Backoff(deadline=10, base=0.1, clock=lambda: clock[0])
    assert backoff.next_wait(9) is not None
    assert backoff.next_wait(11) is None
    clock[0] = 110.5
    assert backoff.next_wait() is None


def test_the_servers_wish_is_the_least_wait() -> None:
    """A Retry-After is waited out, with a little jitter on top."""
    wait = Backoff(deadline=None, base=0.2).next_wait(5)
    assert wait is not None
    assert 5 <= wait <= 5.2


def test_a_call_is_retried_until_it_passes() -> None:
    """Transient errors are retried and told; the result is that of the call that passed."""
    answers: list[Any] = [TransientError("busy"), TransientError("busy"), "done"]
    waits: list[float] = []
    retries: list[int] = []

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    result = call_with_retries(
        call, deadline=60, what="x", sleep=waits.append, on_retry=lambda: retries.append(1)
    )
    assert result == "done"
    assert len(waits) == len(retries) == 2


def test_a_call_that_never_passes_says_how_often_it_was_tried() -> None:
    """Past the deadline the last error is raised, transient still, with what was tried."""
    waits: list[float] = []

    def call() -> None:
        raise TransientError("away", 4)

    with pytest.raises(TransientError, match="upsert: gave up after 1 tries: away") as caught:
        call_with_retries(call, deadline=3, what="upsert", sleep=waits.append)
    assert caught.value.retry_after == 4
    assert waits == []


def test_other_errors_are_not_retried() -> None:
    """A terminal error is raised at once."""
    calls = []

    def call() -> None:
        calls.append(1)
        raise TerminalError("no")

    with pytest.raises(TerminalError):
        call_with_retries(call, deadline=60, what="x")
    assert calls == [1]


# --- steps ---------------------------------------------------------------------------------------


def test_requests_in_flight_are_shared_among_streams() -> None:
    """The job's concurrency is divided by the parallelism, and never below one."""
    context = StepContext(step="s", step_type="t", shared=RunContext(concurrent=16, parallelism=3))
    assert context.in_flight() == 5
    shared = RunContext(concurrent=1, parallelism=8)
    assert StepContext(step="s", step_type="t", shared=shared).in_flight() == 1
    assert StepContext(step="s", step_type="t").in_flight(default=4) == 4


def test_a_reject_names_its_step_and_origin() -> None:
    """A reject knows where it comes from; a reader gives the raw record and its origin."""
    context = StepContext(step="extract", step_type="json-extracting")
    reject = context.reject("why", "because", row=Change({"a": 1}, origin="f:3"))
    assert (reject.step, reject.step_type, reject.origin) == ("extract", "json-extracting", "f:3")
    raw = context.reject("why", "because", raw=b"\xff", origin="f:7")
    assert (raw.raw, raw.origin, raw.row) == (b"\xff", "f:7", None)


def test_counts_are_taken_once() -> None:
    """What was taken is not given again."""
    counts = Counts()
    counts.add("rows-read")
    counts.add("rows-read", 2)
    counts.observe("embed-msec", 1.6)
    assert counts.take() == ({"rows-read": 3}, {"embed-msec": [2]})
    assert counts.take() == ({}, {})


def test_a_token_bucket_keeps_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for each row gets as many rows a second as the rate says."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr("vecferry.steps.time", clock)
    bucket = TokenBucket(1000)
    for _ in range(400):
        bucket.wait(1)
    assert clock.now - 1000 == pytest.approx(0.4, abs=0.02)


def test_a_stop_ends_the_wait_of_a_bucket() -> None:
    """A run that is asked to stop does not wait for its throttle."""
    stop = threading.Event()
    stop.set()
    begun = time.monotonic()
    TokenBucket(1).wait(1000, stop)
    assert time.monotonic() - begun < 500


class Lines:
    """A reader of ten records of 1,000 bytes each."""

    def __init__(self) -> None:
        self.counts = Counts()

    def read(self, split: Any) -> Any:
        for n in range(10):
            self.counts.add("rows-read")
            self.counts.add("bytes-read", 1000)
            yield Change({"n": n})


def test_bytes_are_paced_once_each() -> None:
    """A throttle in bytes counts the bytes of each record once, taken counters or not."""
    reader: Any = Lines()
    waits: list[float] = []

    class Bucket(TokenBucket):
        def wait(self, amount: float, stop: Any = None) -> None:
            waits.append(amount)

    context = StepContext(step="r", step_type="file")
    for n, _ in enumerate(paced(reader, None, context, (None, Bucket(1)))):
        if n == 4:
            reader.counts.take()
    assert waits == [1000] * 10


def test_a_stopped_run_hands_out_no_more_rows() -> None:
    """After the stop the row in hand is finished, and the reader ends."""
    context = StepContext(step="r", step_type="file")
    reader: Any = Lines()
    got = []
    for item in paced(reader, None, context, (None, None)):
        got.append(item)
        if len(got) == 3:
            run_state(context.run).end("interrupted")
    assert len(got) == 3
    assert reader.counts.values["rows-read"] == 3


def test_a_day_is_a_day() -> None:
    """Dates before 1970 and with offsets also survive."""
    moment = datetime.datetime(1900, 1, 1, tzinfo=datetime.timezone(timedelta(hours=-5)))
    assert decode_value(encode_value(moment)) == moment


def test_a_settings_error_shows_no_neighbouring_secret() -> None:
    """Pydantic would print the whole input where a field is missing."""
    with pytest.raises(ValidationError) as error:
        Login.model_validate({"password": "pw-very-secret"})
    assert "pw-very-secret" not in str(error.value)


def test_a_token_before_the_host_of_a_url_is_taken_out() -> None:
    """With or without a user name in front of it."""
    assert redact("see https://tk-123@host/x and http://u:p@host") == (
        "see https://***@host/x and http://***@host"
    )


def test_a_reject_hides_the_jobs_secrets_and_changes_no_other_value() -> None:
    """A value that is hidden is marked, so that no replay takes it; a short one may be a word."""
    keep_secret("none")
    keep_secret(key := "a-long-api-key")
    row = Change({"id": "none", "at": "http://u:p@h", "deep": ["see a-long-api-key"], "n": 1})
    reject = Reject("s", "t", "r", f"key {key}, none", row=row, raw=key, key=key)
    line = orjson.loads(to_line(reject, "run"))
    assert line["row"] == {
        "id": "none", "at": "http://u:p@h", "deep": {"$secret": '["see ***"]'}, "n": 1,
    }  # fmt: skip
    assert line["raw"] == line["key"] == {"$secret": "***"}
    assert line["message"] == "key ***, ***"
    with pytest.raises(ValueError, match="run the job again over its source"):
        decode_value(line["row"]["deep"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "unterminated character set"),
        ("(?P<a>x)(?P<a>y)", "redefinition of group name"),
        ("a{99999999999999}", "the repetition number is too large"),
        ("(" * 3000 + ")" * 3000, "maximum recursion depth"),
        ("[[a]", "possible nested set at position 1; put a backslash before a bracket"),
        ("[a--b]", "possible set difference"),
        ("[a||b]", "possible set union"),
    ],
)
def test_a_pattern_that_python_refuses_or_doubts_is_told(text: str, words: str) -> None:
    """Python would only warn of some, and read them otherwise in a later version."""
    with pytest.raises(ValueError, match=re.escape(words)):
        require_pattern(text)
    require_pattern("https://[a-z.]+/.*")
