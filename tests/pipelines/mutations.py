"""Documents that went wrong: mutations of what they hold, and of how they are written."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

STRANGE: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e300,
    float("nan"),
    float("inf"),
    "",
    " ",
    "0",
    "-1",
    "1e9",
    "٣",
    "²",
    "1_000",
    "true",
    "no",
    "null",
    "NaN",
    "${",
    "${}",
    "${A",
    "${NO_SUCH_NAME}",
    "${A:-}",
    "${A:-${B}}",
    "$",
    "*",
    "**",
    "[",
    "]",
    "(",
    "\\",
    "a[00-99]",
    "a[0-999999999]",
    "a[9-0]",
    "[[[",
    "(?P<",
    "(a+)+$",
    "../../etc/passwd",
    "/dev/null",
    "\x00",
    "\x1b[2J",
    "\n",
    "\t",
    "‮",
    "灯塔",
    "🙂",
    "é" * 300,
    "x" * 10_000,
    "://",
    "http://",
    "http://[",
    "http://h:99999",
    "http://h:x/",
    "http://u:p@h/?key=k",
    "ftp://h",
    "file:///",
    "//h",
    "jdbc:mysql://",
    "jdbc:mysql://h:p/d",
    "jdbc:postgresql://[::1/d",
    "SELECT 1; DROP",
    "'\"`",
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": None},
    {"name": None},
    {"type": []},
    {"value": {}},
    [1, "a", {}],
    ["*"],
    [""],
    "id,text",
    {"a": {"b": {"c": {}}}},
    [[[[[[]]]]]],
    list(range(50)),
    {"name": "x", "type": "y"},
    {"$each": "x"},
    {"$each": [], "$item": 1},
    "record",
    "reader",
    "writer",
    "map",
    "job",
    "2.0",
    2.0,
    9.99,
    "9.99",
    "utf-16",
    "base64",
    "P1D",
    "2024-02-30",
]
CHUNKS = [
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"'",
    b":",
    b": ",
    b",",
    b"- ",
    b"\n",
    b"\r",
    b"\t",
    b"  ",
    b"#",
    b"//",
    b"/*",
    b"*/",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!int ",
    b"!!python/object:x ",
    b"? ",
    b"| ",
    b"> ",
    b"%",
    b"@",
    b"---\n",
    b"...\n",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"0x",
    b"1e999",
    b"9" * 5000,
    b"[" * 2000,
    b"{a: " * 500,
    b"null",
    b"yes",
    b"~",
    b"${",
    b"}}",
    b"\xe2\x80\xae",
]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with a key or an index in it."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        for key in keys:
            found.append((one, key))
            if isinstance(one[key], dict | list):
                todo.append(one[key])
    return found


def mutate(rng: random.Random, document: Any) -> Any:
    """A copy of a document with one to four things changed in it."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        places = _places(changed)
        if not places:
            return rng.choice(STRANGE)
        box, key = rng.choice(places)
        other_box, other_key = rng.choice(places)
        action = rng.randrange(8)
        if action <= 2:
            box[key] = copy.deepcopy(rng.choice(STRANGE))
        elif action == 3:
            del box[key]
        elif action == 4 and isinstance(box, dict):
            box[str(key) + rng.choice("sX_ ")] = box.pop(key)
        elif action == 4:
            box.insert(key, copy.deepcopy(box[key]))
        elif action == 5:
            box[key] = copy.deepcopy(other_box[other_key])
        elif action == 6:
            box[key] = rng.choice(([box[key]], {"name": box[key]}, str(box[key]), [box[key]] * 3))
        elif isinstance(box, dict):
            strange = rng.choice(STRANGE)
            box[strange if isinstance(strange, str) else "extra"] = rng.choice(STRANGE)
    return changed


def garble(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to four places cut, doubled, flipped or filled."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        until = min(len(data), at + rng.choice((1, 1, 2, 8, 60)))
        action = rng.randrange(5)
        if action <= 1:
            data = data[:at] + rng.choice(CHUNKS) + data[at:]
        elif action == 2:
            data = data[:at] + data[until:]
        elif action == 3:
            data = data[:until] + data[at:]
        else:
            data = (
                data[:at]
                + bytes(b ^ (1 << rng.randrange(8)) for b in data[at:until])
                + data[until:]
            )
    return data


def written(rng: random.Random, document: Any, share: float = 0.8) -> tuple[bytes, str]:
    """A document as JSON or YAML, and its suffix.

    A `share` of the documents is mutated, and a quarter of that share is garbled.
    """
    changed = mutate(rng, document) if rng.random() < share else document
    if rng.random() < 0.5:
        text, suffix = json.dumps(changed, ensure_ascii=rng.random() < 0.5, indent=1), ".json"
    else:
        try:
            text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
        except yaml.YAMLError:
            text = json.dumps(changed)
        suffix = ".yaml"
    data = text.encode("utf-8", "surrogatepass")
    return (garble(rng, data) if rng.random() < share / 4 else data), suffix
