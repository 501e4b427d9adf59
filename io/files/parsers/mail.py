"""E-mails (eml): who wrote to whom, when, and the text; forwarded messages stand behind it.

Other attachments are named and not read.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage, Message, MIMEPart

from vecferry.io.files.parsers.base import Document, Parsed, Refused
from vecferry.io.files.parsers.web import to_markdown

_DEEPEST = 10
_MESSAGE = "message/rfc822"
_HEADERS = ("From", "To", "Cc", "Date")


def parse(document: Document) -> Parsed:
    """One page; its title is the subject."""
    message = email.message_from_bytes(document.data, policy=email.policy.default)
    subject = " ".join(str(message.get("Subject", "")).split())
    return Parsed(pages=["\n\n".join(_parts(message, 0))], title=subject or None)


def _parts(message: Message, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise Refused("too-deep", f"has messages within messages over {_DEEPEST} deep")
    assert isinstance(message, EmailMessage)
    said = [f"{name}: {message[name]}" for name in _HEADERS if message[name]]
    if depth:
        said.insert(0, f"Subject: {message.get('Subject', '')}")
    yield "\n".join(said)
    if message.get_content_type() == _MESSAGE:
        yield from _inner(message, depth)
        return
    body = message.get_body(("plain", "html"))
    if body is not None:
        yield _text(body)
    for part in message.iter_attachments():
        if part.get_content_type() == _MESSAGE:
            yield from _inner(part, depth)
        elif name := part.get_filename():
            yield f"Attachment: {name}"


def _inner(part: Message, depth: int) -> Iterator[str]:
    """The message that a part holds."""
    payload = part.get_payload()
    for inner in payload if isinstance(payload, list) else ():
        if isinstance(inner, Message):
            yield from _parts(inner, depth + 1)


def _text(body: MIMEPart) -> str:
    try:
        text = str(body.get_content())
    except LookupError:  # a charset that nobody knows
        data = body.get_payload(decode=True)
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
    return to_markdown(text) if body.get_content_type() == "text/html" else text.strip()
