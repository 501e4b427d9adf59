"""The values of a schedule are those of DataWorks' own tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vecferry.errors import JobError
from vecferry.pipelines.job.placeholders import Values, fill
from vecferry.pipelines.job.schedule import scheduled_time

SHANGHAI = "Asia/Shanghai"
TABLES = "2025-11-01T02:30:45"
"""The time of the vendor's tables; the business date is 2025-10-31."""


def told(text: str, at: str = TABLES, zone: str = SHANGHAI) -> str:
    """A text filled at a time, of which nothing is missing."""
    filled, problems = fill(text, Values({}, scheduled_time(at, zone)))
    assert problems == []
    return str(filled)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # built-in parameters
        ("$bizdate", "20251031"),
        ("$cyctime", "20251101023045"),
        ("$gmtdate", "20251101"),
        ("$bizmonth", "202510"),
        ("${bdp.system.bizdate}", "20251031"),
        ("${bdp.system.cyctime}", "20251101023045"),
        ("${bizdate}", "20251031"),
        # formats
        ("${yyyymmdd}", "20251031"),
        ("${yyyy}", "2025"),
        ("${yy}", "25"),
        ("${mm}", "10"),
        ("${dd}", "31"),
        ("${yyyymm}", "202510"),
        ("${yyyy-mm-dd}", "2025-10-31"),
        ("$[yyyymmddhh24miss]", "20251101023045"),
        ("$[yyyy]", "2025"),
        ("$[mm]", "11"),
        ("$[dd]", "01"),
        ("$[hh24]", "02"),
        ("$[hh]", "02"),
        ("$[hh12]", "02"),
        ("$[mi]", "30"),
        ("$[ss]", "45"),
        ("$[yyyymm]", "202511"),
        ("$[yyyy-mm-dd]", "2025-11-01"),
        ("$[yyyy-mm-dd hh24:mi:ss]", "2025-11-01 02:30:45"),
        ("$[hh24:mi:ss]", "02:30:45"),
        # offsets of the business date
        ("${yyyy-1}", "2024"),
        ("${yy+1}", "26"),
        ("${yyyymm-1}", "202509"),
        ("${yyyymm+3}", "202601"),
        ("${yyyymmdd-7*1}", "20251024"),
        ("${yyyymmdd-7}", "20251024"),
        ("${yyyymmdd-1}", "20251030"),
        ("${yyyymmdd+1}", "20251101"),
        ("${yyyy-mm-dd-1}", "2025-10-30"),
        ("${mm-1}", "09"),
        # offsets of the scheduled time
        ("$[add_months(yyyymmdd,12*1)]", "20261101"),
        ("$[add_months(yyyymmdd,-12*1)]", "20241101"),
        ("$[add_months(yyyymmdd,-12)]", "20241101"),
        ("$[add_months(yyyymmdd,-1)]", "20251001"),
        ("$[add_months(yyyymm,-1)]", "202510"),
        ("$[yyyymmdd-7*1]", "20251025"),
        ("$[yyyymmdd+7*1]", "20251108"),
        ("$[yyyymmdd-1]", "20251031"),
        ("$[hh24miss-1/24]", "013045"),
        ("$[hh24-1/24]", "01"),
        ("$[hh24-3/24]", "23"),
        ("$[mm-1/24]", "11"),
        ("$[mm-3/24]", "10"),
        ("$[yyyy-1/24]", "2025"),
        ("$[yyyymm-1/24]", "202511"),
        ("$[yyyymmdd-1/24]", "20251101"),
        ("$[yyyymmdd-3/24]", "20251031"),
        ("$[yyyymmdd-1-1/24]", "20251031"),
        ("$[yyyymmdd-1-3/24]", "20251030"),
        ("$[hh24miss-15/24/60]", "021545"),
        ("$[yyyymmddhh24miss-15/24/60]", "20251101021545"),
        ("$[mi-15/24/60]", "15"),
        ("$[hh24-31/24/60]", "01"),
        ("$[hh24:mi:ss-1/24/60]", "02:29:45"),
        ("$[add_months(yyyymmdd,12*1)-150/24/60]", "20261101"),
        ("$[add_months(yyyymmdd,12*1)-151/24/60]", "20261031"),
        # texts around them
        ("dt=$bizdate/news_$[hh24].csv", "dt=20251031/news_02.csv"),
        ("${yyyymm}01", "20251001"),
        ("$[yyyy-mm-dd] $[hh24:mi:ss-1/24/60]", "2025-11-01 02:29:45"),
    ],
)
def test_an_expression_tells_what_the_vendor_says(expression: str, value: str) -> None:
    """All of the tables' expressions, at the time of the tables."""
    assert told(expression) == value


@pytest.mark.parametrize(
    ("at", "expression", "value"),
    [
        ("2025-03-15T00:00:00", "${yyyymmdd} $[yyyymmddhh24miss]", "20250314 20250315000000"),
        ("2025-03-16T00:00:00", "${yyyymmdd} $[yyyymmddhh24miss]", "20250315 20250316000000"),
        ("2023-10-28T01:00:00", "${yyyymm}01", "20231001"),
        ("20250727000500", "$[yyyy-mm] $[yyyymmdd-15/24/60]", "2025-07 20250726"),
        ("2025-03-31", "$[add_months(yyyymmdd,-1)]", "20250228"),
        ("2025-11-02", "$bizmonth", "202510"),
        ("2025-11-01", "$bizmonth", "202510"),
        ("2026-01-01T06:00", "$bizmonth $bizdate", "202512 20251231"),
        ("2025-11-01T14:05:06", "$[hh12] $[hh24]", "02 14"),
        ("2025-11-01T00:05:06", "$[hh12] $[hh24]", "12 00"),
        ("0999-01-02", "${yyyymmdd}", "09990101"),
    ],
)
def test_other_times_tell_other_values(at: str, expression: str, value: str) -> None:
    """The vendor's scenarios, ends of months, and the twelve hours."""
    assert told(expression, at) == value


@pytest.mark.parametrize(
    ("at", "expression", "value"),
    [
        ("2025-03-09T03:00", "$[hh24-1/24] $[hh24:mi-10/24/60]", "01 01:50"),  # the vendor's case
        ("2025-03-10T00:30", "$[yyyymmdd-1] ${yyyymmdd}", "20250309 20250309"),  # of 23 hours
        ("2025-11-02T03:00", "$[hh24-2/24]", "01"),  # 01:00 comes twice
        ("2025-11-03T00:30", "$[yyyymmdd-1]", "20251102"),  # of 25 hours
    ],
)
def test_where_clocks_are_set_hours_pass_and_days_are_of_the_calendar(
    at: str, expression: str, value: str
) -> None:
    """Days of 23 and 25 hours in Los Angeles."""
    assert told(expression, at, "America/Los_Angeles") == value


@pytest.mark.parametrize(
    ("text", "zone", "value"),
    [
        ("2025-10-31T18:30:45Z", SHANGHAI, "20251031 20251101023045"),
        ("2025-10-31T18:30:45+00:00", None, "20251030 20251031183045"),
        ("2025-11-01T02:30:45+08:00", None, "20251031 20251101023045"),
        ("2025-11-01T02:30:45+08:00", "UTC", "20251030 20251031183045"),
        ("2025-11-01 02:30:45.9", "UTC", "20251031 20251101023045"),
        ("20251101023045", "UTC", "20251031 20251101023045"),
    ],
)
def test_the_zone_decides_the_day(text: str, zone: str | None, value: str) -> None:
    """One moment is of two days, in two zones."""
    filled, _ = fill("$bizdate $cyctime", Values({}, scheduled_time(text, zone)))
    assert filled == value


def test_now_is_the_present_in_the_zone() -> None:
    """A schedule without a scheduler's time."""
    before = datetime.now(UTC).replace(microsecond=0)
    at = scheduled_time("now", "Pacific/Auckland").at
    assert before <= at <= datetime.now(UTC)
    assert at.utcoffset() in {datetime.now(at.tzinfo).utcoffset()}


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("yesterday", "UTC", "--at 'yesterday' is not a time: write now"),
        ("2025-13-01", "UTC", "--at '2025-13-01' is not a time"),
        ("2025-11-01T02:30", None, "names no time zone, and a date depends on it; add --time-zone"),
        ("now", None, "names no time zone"),
        ("now", "Asia/Shangai", "did you mean 'Asia/Shanghai'?"),
        ("now", "../etc/passwd", "is not the name of a time zone"),
        ("0001-01-01T00:00Z", "America/New_York", "is not a year from 1 to 9999"),
    ],
)
def test_a_time_that_is_none_is_refused(text: str, zone: str | None, said: str) -> None:
    """With the way out."""
    with pytest.raises(JobError) as e:
        scheduled_time(text, zone)
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("${yyyy-mm-dd-1/24}", "write $[…] for hours and minutes"),
        ("${yyyymmddhh24}", "write $[…] for hours and minutes"),
        ("$[yyyy-1]", "moved by add_months"),
        ("$[mm-1]", "moved by add_months"),
        ("$[yyyymm-1-1/24]", "moved by add_months"),
        ("$[yyyyMMdd]", "in small letters"),
        ("$[yyyymmdd-x]", "moved as in"),
        ("$[add_months(yyyymmdd)]", "or $[add_months(yyyymmdd,-1)]"),
        ("$[hh24-1/0]", "divides by 0"),
        ("${yyyy-2025}", "is not a year from 1 to 9999"),
        ("$[yyyymmdd+999999*999999]", "is not a year from 1 to 9999"),
    ],
)
def test_an_expression_that_tells_no_time_is_a_problem(expression: str, said: str) -> None:
    """What the vendor does not take either, or what is misspelt."""
    _, problems = fill({"a": [expression]}, Values({}, scheduled_time(TABLES, SHANGHAI)))
    assert len(problems) == 1
    assert problems[0].startswith(f"a[0]: {expression} ")
    assert said in problems[0]


@pytest.mark.parametrize("expression", ["$bizdate", "$[yyyymmdd]", "${yyyymmdd+1}", "${yyyymmdd}"])
def test_without_a_time_an_expression_has_no_value(expression: str) -> None:
    """A partition called ``$bizdate`` would be read for ever, and be empty."""
    _, problems = fill(expression, Values({}))
    assert len(problems) == 1
    assert "--at now --time-zone Asia/Shanghai" in problems[0]
    with pytest.raises(JobError, match=r"-p day: .* has no value: give the time of the schedule"):
        Values({"day": expression})


@pytest.mark.parametrize(
    "text",
    ["$[0].a", "$['a b']", "$.bizdate", "$bizdates", "$jobid", "$[*]", "US$[a]", "$$", "$[]"],
)
def test_other_dollars_stay(text: str) -> None:
    """Paths of JSON, and words that only begin alike."""
    assert told(text) == text
    assert fill(text, Values({})) == (text, [])


def test_parameters_may_hold_expressions() -> None:
    """``bizdate=$[yyyymmdd-1]`` is how DataWorks assigns what ``${bizdate}`` reads."""
    given = {"bizdate": "$[yyyymmdd-3]", "from": "${yyyymmdd-7}", "plain": "x"}
    values = Values(given, scheduled_time(TABLES, SHANGHAI))
    filled, problems = fill("dt=${bizdate} since ${from} ${plain} $bizdate", values)
    assert (filled, problems) == ("dt=20251029 since 20251024 x 20251031", [])


def test_the_command_line_wins_over_the_schedule_and_the_schedule_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A default is used last."""
    monkeypatch.setenv("yyyymm", "env")
    monkeypatch.setenv("dd", "env")
    values = Values({"dd": "given"}, scheduled_time(TABLES, SHANGHAI))
    assert fill("${yyyymm:-x} ${dd:-x} ${yy:-x} ${neither:-x}", values)[0] == "202510 given 25 x"
    assert fill("${yyyymm:-x} ${yy:-x}", Values({}))[0] == "env x"


def test_names_that_begin_like_a_date_are_names() -> None:
    """Only a whole date is told."""
    values = Values({"dd_token": "t", "mmap": "m"}, scheduled_time(TABLES, SHANGHAI))
    assert fill("${dd_token} ${mmap}", values) == ("t m", [])


def test_workers_get_a_text_with_its_time_told() -> None:
    """A worker has the variable, and not the time."""
    written: dict[str, str] = {}
    values = Values({"token": "secret-1"}, scheduled_time(TABLES, SHANGHAI))
    fill({"a": "${token}/$bizdate/${yyyymm}"}, values, written=written)
    assert written == {"secret-1/20251031/202510": "${token}/20251031/202510"}
