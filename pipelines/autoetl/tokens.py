"""Words, texts and signs of what AutoETL takes: parts of SQL, with MySQL's ways to quote.

Apart from `vecferry.pipelines.autoetl.mappings` because views are read by the same tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from vecferry.errors import JobError, shorten

_TOKEN = re.compile(
    r"""(?xs)
    (?P<blank> \s+ | --[ \t][^\n]*(?:\n|$) | \#[^\n]*(?:\n|$) | /\*(?!!).*?\*/ )
    | (?P<quoted> `(?:[^`]|``)+` )
    | (?P<text> '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*" )
    | (?P<number> [0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? (?![\w$]) | \.[0-9]+ )
    | (?P<word> [\w$]+ )
    | (?P<sign> <=> | <> | != | <= | >= | := | ->> | -> | \|\| | && | << | >> | [^\s`'"] )
    """
)
_PLAIN = re.compile(r"[^\W\d][\w$]*")

Kind = Literal["quoted", "text", "number", "word", "sign"]


@dataclass(frozen=True)
class Token:
    """A part of a text: its kind, how it is written, and its place there."""

    kind: Kind
    written: str
    begin: int

    @property
    def end(self) -> int:
        """The place behind it."""
        return self.begin + len(self.written)

    @property
    def is_name(self) -> bool:
        """Whether it may name something."""
        return self.kind in ("word", "quoted")

    @property
    def name(self) -> str:
        """The name that it is, without backticks."""
        if self.kind == "quoted":
            return self.written[1:-1].replace("``", "`")
        return self.written

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words of SQL, in any case."""
        return self.kind == "word" and self.written.upper() in words

    def is_sign(self, sign: str) -> bool:
        """Whether it is this sign."""
        return self.kind == "sign" and self.written == sign


def tokens_of(text: str, where: str) -> list[Token]:
    """The tokens of `text` without blanks and comments; JobError for a quote that never ends."""
    return list(_tokens(text, where))


def _tokens(text: str, where: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise JobError(
                f"{where}: the quote at {shorten(text[place:], 30)!r} never ends: close it"
            )
        kind = found.lastgroup
        if kind != "blank":
            yield Token(kind, found[0], place)  # type: ignore[arg-type]
        place = found.end()


class Reader:
    """Takes tokens one after the other; `where` begins its errors."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self._tokens = tokens_of(text, where)
        self._at = 0

    @property
    def next(self) -> Token | None:
        """The token that comes next; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> Token:
        """The next token; JobError at the end."""
        token = self.next
        if token is None:
            raise JobError(f"{self.where}: it ends too early: complete it")
        self._at += 1
        return token

    def takes_word(self, *words: str) -> bool:
        """Takes the next token if it is one of these words."""
        token = self.next
        if token is None or not token.is_word(*words):
            return False
        self._at += 1
        return True

    def takes_sign(self, sign: str) -> bool:
        """Takes the next token if it is this sign."""
        token = self.next
        if token is None or not token.is_sign(sign):
            return False
        self._at += 1
        return True

    def need_word(self, word: str, form: str) -> None:
        """Takes a word; JobError with the right form for anything else."""
        if not self.takes_word(word):
            self.fail(word, form)

    def need_sign(self, sign: str, form: str) -> None:
        """Takes a sign; JobError with the right form for anything else."""
        if not self.takes_sign(sign):
            self.fail(repr(sign), form)

    def name(self, form: str) -> str:
        """Takes a name, which may have hyphens; JobError with the right form for anything else."""
        token = self.next
        if token is None or not token.is_name:
            self.fail("a name", form)
        token = self.take()
        name, end = token.name, token.end
        while token.kind == "word" and (joined := self._joined(end)):
            name, end = name + "".join(one.written for one in joined), joined[-1].end
        return name

    def _joined(self, end: int) -> list[Token]:
        """Takes a hyphen and what follows, where no blank stands between them and `end`."""
        two = self._tokens[self._at : self._at + 2]
        if len(two) < 2 or not two[0].is_sign("-") or two[1].kind not in ("word", "number"):
            return []
        if two[0].begin != end or two[1].begin != two[0].end:
            return []
        self._at += 2
        return two

    def path(self, form: str) -> list[str]:
        """Takes names with dots between them."""
        names = [self.name(form)]
        while self.takes_sign("."):
            names.append(self.name(form))
        return names

    def fail(self, wanted: str, form: str) -> NoReturn:
        """Raises JobError: `wanted` does not come next."""
        found = "the end" if self.next is None else f"{shorten(self.text[self.next.begin :], 30)!r}"
        raise JobError(f"{self.where}: {wanted} must stand before {found}: write {form}")


def quoted(name: str) -> str:
    """A name as SQL, in backticks where it needs them."""
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def split_at(tokens: Iterable[Token], sign: str) -> list[list[Token]]:
    """Tokens between signs that stand in no bracket."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += token.is_sign("(") - token.is_sign(")")
        if depth == 0 and token.is_sign(sign):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
