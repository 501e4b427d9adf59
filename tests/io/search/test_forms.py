"""Values in the form that a mapping asks for: dates in its format, whole numbers in its range."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import orjson
import pytest

from vecferry.errors import TerminalError
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.search.dialect import Field
from vecferry.io.search.forms import date_form
from vecferry.io.search.values import RowEncoder
from vecferry.rows import Change

UTC = datetime.UTC
AT = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
MILLI = AT.replace(microsecond=120_000)
EAST = AT.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
DAY = datetime.date(2024, 5, 6)

WRITTEN = [
    ("yyyy/MM/dd", AT, "2024/05/06"),
    ("dd.MM.yy HH:mm", AT, "06.05.24 07:08"),
    ("yyyy-MM-dd HH:mm:ss.SSS", MILLI, "2024-05-06 07:08:09.120"),
    ("uuuu-MM-dd'T'HH:mm:ss.SSSSSS", MILLI, "2024-05-06T07:08:09.120000"),
    ("EEE, d MMM yyyy hh:mm a", AT, "Mon, 6 May 2024 07:08 AM"),
    ("epoch_millis", MILLI, 1_714_979_289_120),
    ("epoch_second", AT, 1_714_979_289),
    ("epoch_second||epoch_millis", MILLI, 1_714_979_289_120),
    ("basic_date", DAY, "20240506"),
    ("strict_date", AT, "2024-05-06"),
    ("strict_date_time_no_millis", AT, "2024-05-06T07:08:09Z"),
    ("date_time", MILLI, "2024-05-06T07:08:09.120Z"),
    ("yyyy-MM-dd HH:mm:ssXXX", EAST, "2024-05-06 12:38:09+05:30"),
    ("yyyy-MM-dd HH:mm:ss Z", EAST, "2024-05-06 12:38:09 +0530"),
    ("yyyy-MM-dd HH:mm:ss", EAST, "2024-05-06 07:08:09"),
    ("yyyy-MM-dd HH:mm:ss", AT.replace(tzinfo=None), "2024-05-06 07:08:09"),
    ("yyyy-MM-dd||yyyy-MM-dd HH:mm:ss", AT, "2024-05-06 07:08:09"),
    ("yyyy-MM-dd||yyyy-MM-dd HH:mm:ss", DAY, "2024-05-06"),
    ("weekyear||yyyyMMdd", DAY, "20240506"),
    ("yyyy-MM-dd['T'HH:mm:ss]", AT, "2024-05-06T07:08:09"),
    ("yyyy'年'MM'月'dd'日'", AT, "2024年05月06日"),
    ("yyyyDDD", AT, "2024127"),
]


@pytest.mark.parametrize(("formats", "value", "expected"), WRITTEN)
def test_a_date_is_written_in_the_format_of_its_field(
    formats: str, value: Any, expected: Any
) -> None:
    """The first format that keeps all of it, else the first; in UTC where it has no zone."""
    form = date_form(formats)
    assert form is not None
    assert form(value) == expected
    assert form([value, "as it is"]) == [expected, "as it is"]


@pytest.mark.parametrize(
    "formats",
    [None, "", "strict_date_optional_time||epoch_millis", "yyyyMMdd||iso8601", "week_date",
     "date_optional_time", "rfc3339_lenient"],
)  # fmt: skip
def test_a_format_that_takes_iso_or_is_unknown_changes_nothing(formats: str | None) -> None:
    """The server's own default takes ISO 8601, to the microsecond."""
    assert date_form(formats) is None


FIELDS = {
    "id": Field("id", "keyword"),
    "at": Field("at", "date", format="yyyyMMdd"),
    "b": Field("b", "byte"),
    "s": Field("s", "short"),
    "i": Field("i", "integer"),
    "l": Field("l", "long"),
    "u": Field("u", "unsigned_long"),
    "soft": Field("soft", "long", lenient=True),
    "o": Field("o", "object"),
    "o.at": Field("o.at", "date", format="epoch_second"),
    "o.in": Field("o.in", "object"),
    "o.in.n": Field("o.in.n", "short"),
}


def document(**row: Any) -> Any:
    """The document of a row, of which only the given fields are columns."""
    column = [{"name": "id", "type": "keyword", "primaryKey": True}]
    column += [{"name": n, "type": FIELDS[n].type} for n in row]
    settings = ElasticsearchSettings.model_validate({"index": "i", "column": column})
    record = RowEncoder(settings, FIELDS).encode(Change({"id": "1", **row}))
    found = orjson.loads(record.body.splitlines()[1])
    del found["id"]
    return found


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("b", "-128", -128),
        ("s", 32767.0, 32767),
        ("i", decimal.Decimal("7.00"), 7),
        ("i", np.int64(7), 7),
        ("l", " 0070 ", 70),
        ("l", "7.0", 7),
        ("l", 2**63 - 1, 2**63 - 1),
        ("l", [1, "2", None, 3.0], [1, 2, None, 3]),
        ("l", 7.5, 7.5),
        ("l", "", ""),
        ("u", 2**64 - 1, 2**64 - 1),
        ("u", str(2**64 - 1), 2**64 - 1),
        ("soft", "sieben", "sieben"),
        ("soft", "７", "７"),
        ("l", "7_0", "7_0"),
        ("at", AT, "20240506"),
        ("at", "20240507", "20240507"),
        ("o", {"at": AT, "in": {"n": "5", "m": "5"}}, {"at": 1714979289, "in": {"n": 5, "m": "5"}}),
        ("o", '{"at": 1}', {"at": 1}),
    ],
)
def test_a_value_gets_the_form_of_its_field(name: str, value: Any, kept: Any) -> None:
    """Also within lists and objects; what only the mapping can judge goes as it is."""
    assert document(**{name: value}) == {name: kept}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("b", 128, "out-of-range"),
        ("b", "-129", "out-of-range"),
        ("s", 40_000.0, "out-of-range"),
        ("i", 2**31, "out-of-range"),
        ("l", decimal.Decimal(2**63), "out-of-range"),
        ("u", -1, "out-of-range"),
        ("u", 2**64, "out-of-range"),
        ("l", "٧٠", "wrong-type"),
        ("l", [1, "７"], "wrong-type"),
        ("o", {"in": {"n": 40_000}}, "out-of-range"),
    ],
)
def test_a_whole_number_that_its_field_does_not_hold(name: str, value: Any, reason: str) -> None:
    """It is a reject with the reason, before the server is asked."""
    with pytest.raises(TerminalError) as caught:
        document(**{name: value})
    assert caught.value.reason == reason
