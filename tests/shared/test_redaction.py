"""Secrets in every spelling, and what would steer a terminal, stay out of texts."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Callable

import orjson
import pytest

from vecferry.errors import hide_secrets, keep_secret, printable, redact, shorten, written
from vecferry.pipelines.run.rejects import to_line
from vecferry.rows import Change, Reject

KEY = 'sk-9fQ2/x+7Lm"3é<>&Zt%5wPq\\8vN0y'
PLAIN = "sk9fQ2x7Lm3ZtwPq8vN0yR4cD5eF6gH1"


def _leaks(text: str, key: str = PLAIN) -> list[str]:
    """The runs of 8 characters of a key that `text` shows."""
    return [key[i : i + 8] for i in range(len(key) - 7) if key[i : i + 8] in text]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON with letters": lambda s: json.dumps(s, ensure_ascii=False),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "JSON in JSON in JSON": lambda s: json.dumps(json.dumps(json.dumps(s))),
    "JSON with slashes escaped": lambda s: json.dumps(s).replace("/", "\\/"),
    "all characters escaped": lambda s: "".join(f"\\u{ord(c):04X}" for c in s),
    "Python": repr,
    "Python bytes": lambda s: repr(s.encode()),
    "percent signs": lambda s: urllib.parse.quote(s, safe=""),
    "a form": urllib.parse.quote_plus,
    "percent signs twice": lambda s: urllib.parse.quote(urllib.parse.quote(s)),
    "percent signs in small letters": lambda s: "".join(f"%{b:02x}" for b in s.encode()),
    "HTML": lambda s: html.escape(s),
    "XML": lambda s: "".join(f"&#x{ord(c):x};" for c in s),
    "spaces": " ".join,
    "lines": lambda s: s[:9] + "\r\n    " + s[9:20] + "\n" + s[20:],
    "lines in JSON": lambda s: json.dumps(s[:9] + "\n" + s[9:]),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 of a user": lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
    "base64 of another user": lambda s: base64.b64encode(f"me:{s}".encode()).decode(),
    "base64 with a tail": lambda s: base64.b64encode(f"ab:{s}:more".encode()).decode(),
    "base64 of an URL": lambda s: base64.urlsafe_b64encode(f"u:{s}".encode()).decode(),
    "base64 in percent signs": lambda s: urllib.parse.quote(
        base64.b64encode(s.encode()).decode(), safe=""
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [KEY, PLAIN])
@pytest.mark.parametrize("hide", [redact, hide_secrets])
def test_a_secret_is_hidden_however_it_is_spelled(
    spelling: str, key: str, hide: Callable[[str], str]
) -> None:
    """What stands beside it is left as it was."""
    keep_secret(key)
    spelled = SPELLINGS[spelling](key)
    assert hide(spelled).strip("'\"\\b") == "***"
    told = hide(f"The key ({spelled}) is wrong; see 100 % of a\\b")
    assert told.startswith("The key (")
    assert told.endswith(") is wrong; see 100 % of a\\b")
    assert spelled.strip("'\"\\") not in told


@pytest.mark.slow
@pytest.mark.parametrize("most", [30, 60, 120, 200, 400])
def test_no_part_of_a_key_is_left_by_a_cut_at_any_offset(most: int) -> None:
    """A text is redacted before it is cut, and what others have cut is known by its parts."""
    keep_secret(PLAIN)
    for offset in range(most + 40):
        echoed = "x " * (offset // 2) + PLAIN + " y" * 300
        assert not _leaks(shorten(echoed, most))
        assert not _leaks(redact(echoed[:most]))
        assert not _leaks(redact(echoed[offset + 5 : offset + 60]))


def test_a_text_without_secrets_is_the_same_object() -> None:
    """Rows that hold none cost no copy."""
    keep_secret(PLAIN)
    text = "a row of words: 100 % of them, \\n included " * 9
    assert hide_secrets(text) is text


@pytest.mark.parametrize(
    "secret",
    ["https://host.example:8443/path", "correct horse battery", "none-at-all-of-it"],
)
def test_words_that_a_secret_shares_with_other_texts_stay(secret: str) -> None:
    """Addresses and passphrases are hidden as a whole only."""
    keep_secret(secret)
    assert redact(f"<{secret}>") == "<***>"
    words = "https://host.example:8444 answers; correct horses; none-at-all"
    assert redact(words) == words


def test_a_word_of_a_long_password_stays_where_it_is_a_word() -> None:
    """An error that asks for the right password says so, whatever the wrong one is."""
    keep_secret("wrong-password-1")
    assert redact("correct username or password (using password: YES)") == (
        "correct username or password (using password: YES)"
    )
    assert redact("wrong-password-1; ong-password- (cut)") == "***; *** (cut)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "raw", "origin"),
    [
        ({"a": {"b": [{"c": f"see {PLAIN}"}]}}, None, "o:1"),
        ({"a": PLAIN.encode()}, None, "o:1"),
        ({"a": [b"\x00" + PLAIN.encode()]}, None, "o:1"),
        ({PLAIN: 1, f"x{PLAIN}": 2}, None, "o:1"),
        ({"a": 1}, None, f"s3://u:{PLAIN}@h/f:1"),
        ({"a": 1}, None, f"table:key={PLAIN}"),
        (None, f'{{"a": "{PLAIN}', "o:1"),
        (None, b"\xff" + PLAIN.encode(), "o:1"),
        ({"a": "y" * 1000 + PLAIN + "x" * (1 << 20)}, None, "o:1"),
        ({"a": "".join(f"\\u{ord(c):04x}" for c in PLAIN)}, None, "o:1"),
    ],
)
def test_a_reject_shows_no_secret_wherever_it_stands(
    row: dict[str, object] | None, raw: str | bytes | None, origin: str
) -> None:
    """Nested, in bytes, in names, in origins, in values that are cut, in base64."""
    keep_secret(PLAIN)
    change = None if row is None else Change(row)
    reject = Reject("s", "t", "r", f"because of {PLAIN}", change, raw, origin, key=PLAIN)
    line = to_line(reject, "run")
    text = line.decode()
    assert not _leaks(text)
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + PLAIN.encode()).decode()[4:-6]
        assert coded not in text
    assert len(orjson.loads(line)["row"] or ()) == len(row or ())


def test_origins_with_secrets_stay_apart() -> None:
    """Rejects are told apart by their origins, so that none of two is left out of a replay."""
    keep_secret(PLAIN)
    origins = {
        orjson.loads(to_line(Reject("s", "t", "r", "m", None, "x", o), "run"))["origin"]
        for o in (f"{PLAIN}:1", f"{PLAIN}:2", f"a{PLAIN}:1", "plain:1")
    }
    assert len(origins) == 4
    assert "plain:1" in origins


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb", "a\\rb"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("half \ud83d", "half \\ud83d"),
        ("line\u2028break", "line\\u2028break"),
        ("del\x7f", "del\\x7f"),
        ("two\nlines\tand 灯塔 🙂", "two\nlines\tand 灯塔 🙂"),
    ],
)
def test_nothing_that_steers_a_terminal_is_printed(text: str, shown: str) -> None:
    """An escape stands in its place."""
    assert printable(text) == shown


def test_one_line_stays_one_line() -> None:
    """A value can not look like another message."""
    assert printable("a\nerror: b\tc", one_line=True) == "a\\nerror: b\\tc"


def test_a_long_value_hides_neither_what_it_is_nor_the_reason() -> None:
    """The middle is cut."""
    text = f"failed to parse field [at] of value '{'rain ' * 100}': wrong format"
    short = shorten(text, 100)
    assert len(short) <= 100
    assert short.startswith("failed to parse field [at] of value")
    assert short.endswith("wrong format")
    assert shorten("x" * 300_000, 21) == "x" * 12 + "…" + "x" * 8


def _nested(depth: int, *, objects: bool) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


UNSHOWN: dict[str, tuple[object, str]] = {
    "lists": (_nested(1000, objects=False), "list nested too deep to show"),
    "objects": (_nested(1000, objects=True), "dict nested too deep to show"),
    "lists beyond every stack": (_nested(50_000, objects=False), "list nested too deep to show"),
    "an error of lists": (ValueError(_nested(1000, objects=False)), "ValueError nested too deep"),
    "a long number": (10**5000, "int that can't be shown"),
    "what can't tell of itself": (_Broken(), "_Broken that can't be shown"),
}
"""By its kind, a value that Python can't write, and what is said of it."""


@pytest.mark.parametrize("kind", UNSHOWN)
@pytest.mark.parametrize("form", [str, repr])
def test_a_value_that_can_not_be_written_is_named_by_its_type(
    kind: str, form: Callable[[object], str]
) -> None:
    """A message about a bad value never fails by the value."""
    value, said = UNSHOWN[kind]
    assert said in shorten(value, form=form)
    assert said in written(value, form)


def test_a_value_that_can_be_written_is_shown_in_the_form_that_is_asked_for() -> None:
    """Also where it is nested deep, but not too deep."""
    assert shorten("a") == "a"
    assert shorten("a", form=repr) == "'a'"
    assert shorten(_nested(150, objects=False), 400) == "[" * 150 + "1" + "]" * 150
