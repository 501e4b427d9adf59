"""A document of JSON has one text, from a SELECT and from the log; else it is embedded twice."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.io.mysql_cdc.support import Source, source
from tests.io.search.support import settings
from tests.services.mysql8 import Mysql8, Mysql57
from vecferry.io.search.dialect import Field
from vecferry.io.search.values import RowEncoder
from vecferry.rows import Change
from vecferry.transforms.embed.text import text_of

pytestmark = pytest.mark.service

DOCUMENTS = (
    r'{"quote": "a \"b\" c", "slash": "a\/b", "back": "a\\b", "single": "it' + "''" + r's"}',
    r'{"lines": "a\nb\r\tc\b\f", "control": "\u0001\u001f\u007f", "zero": "a\u0000b"}',
    r'{"letters": "äé漢\u00e4😀\ud83d\ude00", "lines": "\u2028\u2029", "html": "<a>&amp;"}',
    '{"b": 1, "a": 2, "ccc": 3, "aa": 4, "": 5, "B": 6, "ä": 7, "z10": 8, "z9": 9}',
    '{"twice": 1, "other": 2, "twice": 3}',
    '[1, 1.0, -1.0, 1e0, 100, 1e2, 1E+2, 100.00, 0, -0, 0.0, -0.0]',
    '[0.1, 0.30000000000000004, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308]',
    '[1e14, 999999999999999.0, -999999999999999.0, 1e15, 1e16, 1e17, 123456789012345680.0]',
    '[9007199254740993.0, 1e22, 1e23, 1.5e300, 1e-7]',
    '[9007199254740993, 9223372036854775807, -9223372036854775808, 18446744073709551615]',
    '[18446744073709551616, -9223372036854775809, 123456789012345678901234567890]',
    '[32767, 32768, -32769, 65536, 2147483648, -2147483649, 4294967296]',
    '[[], {}, [[]], [{}], null, true, false, "", "null", "1"]',
    r'"{\"nested\": [1, \"2\"]}"',
    '{"deep": {"deeper": {"b": [1, {"y": 1, "x": [2.50]}], "a": null}}}',
    '{"  blanks  " :  [ 1 ,2,   3 ] }',
)  # fmt: skip
MADE = (
    "JSON_OBJECT('d', CAST('1.10' AS DECIMAL(10, 2)), 'e', CAST(7 AS DECIMAL(5, 0)))",
    "JSON_ARRAY(CAST('-0.00000000010' AS DECIMAL(30, 11)), CAST(99999999999999999999.5 AS JSON))",
    "JSON_ARRAY(CAST('2024-02-03 04:05:06.7' AS DATETIME(1)), CAST('-01:00:00' AS TIME))",
    "JSON_OBJECT('b', X'00FF', 'y', CAST(1999 AS UNSIGNED), 't', 1 = 1)",
    "JSON_SET('{\"a\": 1, \"b\": [1, 2]}', '$.c', 'new', '$.b[1]', 2.0)",
    'JSON_MERGE_PATCH(\'{"z": 1, "a": 1}\', \'{"m": {"y": 1, "x": 2}}\')',
)


@pytest.fixture(params=[Mysql8, pytest.param(Mysql57, marks=pytest.mark.long)])
def mysql(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


def texts(value: Any) -> tuple[Any, str]:
    """What an index is given, and what an endpoint."""
    names = [{"sourceColName": name, "dstColName": name} for name in ("id", "j")]
    primary = {"primaryKeyInfo": {"type": "specific", "column": ["id"]}}
    given = settings(column=[], columnMapping=names, jsonAsText=True, **primary)
    encoder = RowEncoder(given, {"id": Field("id", "keyword"), "j": Field("j", "text")})
    document = orjson.loads(encoder.encode(Change({"id": "1", "j": value})).body.splitlines()[1])
    return document["j"], text_of(value, "j")


def test_the_text_of_a_document_is_the_same_from_both(mysql: Source) -> None:
    """Quotes, escapes, the order of keys and the digits of numbers; images before and after."""
    table = mysql.table("id INT PRIMARY KEY, j JSON, u INT DEFAULT 0")
    quoted = ["'" + text.replace("\\", "\\\\") + "'" for text in DOCUMENTS]
    values = ", ".join(f"({n}, {text}, 0)" for n, text in enumerate([*quoted, *MADE]))
    since = mysql.place()
    mysql.run(f"INSERT INTO {table} VALUES {values}", f"UPDATE {table} SET u = 1 ORDER BY id")
    selected = [texts(row[1]) for row in mysql.selected(table)]
    logged = mysql.rows(since, table, mysql.described(table))
    inserted = [texts(after[1]) for kind, _, after in logged if kind == "+I" and after]
    updated = [(texts(b[1]), texts(a[1])) for kind, b, a in logged if kind == "+U" and a and b]
    assert len(selected) == len(DOCUMENTS) + len(MADE)
    assert inserted == selected
    assert updated == list(zip(selected, selected, strict=True))
