"""What a job says of lines: delimiters, headers, comments, first lines, short records, blanks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.io.files.test_source import read, reader, rejects, rows
from vecferry.errors import JobError
from vecferry.io.files.settings import FilesSettings
from vecferry.rows import Reject

PAIR = [{"name": "id", "index": 0}, {"name": "text", "index": 1}]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("\\t", "\t"), ("\\u0001", "\x01"), ("\\001", "\x01"), ("\\x01", "\x01"), ("\x01", "\x01"),
     ("\\002", "\x02"), ("\\\\", "\\"), ("|", "|")],
)  # fmt: skip
@pytest.mark.parametrize("file_format", ["csv", "text", "tsv"])
def test_delimiters_are_escaped_as_datax_and_hive_do(
    tmp_path: Path, file_format: str, written: str, meant: str
) -> None:
    """The delimiter between the fields is the character that is meant."""
    (tmp_path / "a").write_text(f"1{meant}oats\n2{meant}rye\n")
    job = {"fileFormat": file_format, "fieldDelimiter": written, "column": PAIR}
    assert rows(reader(tmp_path, **job)) == [
        {"id": "1", "text": "oats"}, {"id": "2", "text": "rye"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "config", "text"),
    [
        (b'1\t5" pipe', {}, '5" pipe'),
        (b'1\t"a"', {}, '"a"'),
        (b'1\t"open', {}, '"open'),
        (b'1\t"a\tb"', {"useTextQualifier": True}, "a\tb"),
        (b"1\t'a\tb'", {"textQualifier": "'"}, "a\tb"),
        (b'1\t"a"', {"trimWhitespace": True}, '"a"'),
    ],
)
def test_tsv_has_tabs_and_no_quotes_unless_said(
    tmp_path: Path, line: bytes, config: dict[str, Any], text: str
) -> None:
    """A quote is a plain character in tsv; csvReaderConfig makes it one that quotes."""
    (tmp_path / "a.tsv").write_bytes(line + b"\n2\tx\n")
    job = {"fileFormat": "tsv", "column": PAIR, "csvReaderConfig": config}
    assert [r["text"] for r in rows(reader(tmp_path, **job))] == [text, "x"]


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", "\x01"])
@pytest.mark.parametrize("column", ["*", ["text"], PAIR])
def test_a_header_that_is_one_column_is_told(tmp_path: Path, delimiter: str, column: Any) -> None:
    """Preflight says which delimiter the header has."""
    (tmp_path / "a.csv").write_text(f"id{delimiter}text\n1{delimiter}x\n")
    shown = delimiter.encode("unicode_escape").decode()
    for file_format in ("csv", "text"):
        delimited = {} if file_format == "csv" else {"fieldDelimiter": ","}
        source = reader(
            tmp_path, fileFormat=file_format, skipHeader=True, column=column, **delimited
        )
        with pytest.raises(JobError) as caught:
            source.check()
        assert f'set fieldDelimiter to "{shown}"' in str(caught.value)


@pytest.mark.parametrize("column", [["a;b"], [{"index": 0, "name": "a;b"}]])
def test_a_single_column_that_is_named_so_is_read(tmp_path: Path, column: Any) -> None:
    """Who names the column means it."""
    (tmp_path / "a.csv").write_text("a;b\nx\n")
    job = {"fileFormat": "csv", "skipHeader": True, "column": column}
    assert rows(reader(tmp_path, **job)) == [{"a;b": "x"}]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (b'"a\nb",c', ["a\nb", "c"]),
        (b'c,"a\r\nb"', ["c", "a\r\nb"]),
        (b'"a\n\nb","c\nd"', ["a\n\nb", "c\nd"]),
        (b'"a ""x""\nb",c', ['a "x"\nb', "c"]),
        (b'"a",c', ["a", "c"]),
    ],
)
def test_a_name_in_a_csv_header_may_span_lines(
    tmp_path: Path, header: bytes, names: list[str]
) -> None:
    """The header ends where its quotes are closed; lines are counted."""
    (tmp_path / "a.csv").write_bytes(header + b"\n1,2\n")
    job: dict[str, Any] = {"fileFormat": "csv", "skipHeader": True}
    source = reader(tmp_path, **job)
    source.check()
    assert rows(source) == [dict(zip(names, ["1", "2"], strict=True))]
    job["column"] = [{"name": "x", "index": 1}, {"name": "n", "from": "lineNumber"}]
    assert rows(reader(tmp_path, **job)) == [{"x": "2", "n": header.count(b"\n") + 2}]


def test_a_header_whose_quote_stays_open_is_told(tmp_path: Path) -> None:
    """It does not take the file with it."""
    (tmp_path / "a.csv").write_bytes(b'"id,text\n' + b"1,x\n" * 5000)
    with pytest.raises(JobError, match=r"header line can't be read.*useTextQualifier"):
        reader(tmp_path, fileFormat="csv", skipHeader=True).check()


LINED = {
    "comments": (b"# made by x\nid,text\n#1,no\n1,a\n2,b#\n", {"comment": "#"}),
    "datax": (b"#x\nid,text\n1,a\n#2,no\n2,b#\n", {"csvReaderConfig": {"useComments": True}}),
    "datax's character": (
        b";x\nid,text\n1,a\n;2,no\n2,b#\n",
        {"csvReaderConfig": {"useComments": "true", "comment": 59}},
    ),
    "two characters": (b"--x\nid,text\n1,a\n-- no\n2,b#\n", {"comment": "--"}),
    "first lines": (b"Report of today\n\nid,text\n1,a\n2,b#\n", {"skipRows": 2}),
    "pandas' name": (b'say "x\nid,text\n1,a\n2,b#\n', {"skiprows": "1"}),
    "both": (b"x\ny\n#z\n\nid,text\n1,a\n#\n2,b#\n", {"skipRows": 2, "comment": "#"}),
    "blank lines": (b"\n\nid,text\n\n1,a\n\n2,b#\n\n", {"skipEmptyLines": True}),
}


@pytest.mark.parametrize("splits", [5, 1 << 26])
@pytest.mark.parametrize("file_format", ["csv", "flat", "text"])
@pytest.mark.parametrize("case", LINED)
def test_lines_that_are_no_records_are_passed_over(
    tmp_path: Path, case: str, file_format: str, splits: int
) -> None:
    """Comments, first lines and blank lines, before the header and behind it, in any split."""
    data, options = LINED[case]
    if file_format == "text" and ("csvReaderConfig" in options or case == "both"):
        return  # text has no such names, and blank lines are rows
    job: dict[str, Any] = {"fileFormat": "csv" if file_format == "flat" else file_format, **options}
    if file_format == "flat":
        job["csvReaderConfig"] = {**job.get("csvReaderConfig", {}), "multiline": False}
    (tmp_path / "a").write_bytes(data)
    found = rows(reader(tmp_path, splits, skipHeader=True, **job))
    assert found == [{"id": "1", "text": "a"}, {"id": "2", "text": "b#"}]
    (tmp_path / "a").write_bytes(data.replace(b"id,text\n", b""))
    found = rows(reader(tmp_path, splits, column=PAIR, **job))
    assert found == [{"id": "1", "text": "a"}, {"id": "2", "text": "b#"}]


def test_whole_lines_of_text_pass_comments_and_blanks_over(tmp_path: Path) -> None:
    """Also a text without a delimiter; without the options all lines are rows."""
    (tmp_path / "a").write_bytes(b"# no\na\n\nb # c\n")
    job: dict[str, Any] = {"fileFormat": "text", "column": [{"name": "l", "index": 0}]}
    assert len(rows(reader(tmp_path, **job))) == 4
    found = rows(reader(tmp_path, comment="#", skipEmptyLines=True, **job))
    assert found == [{"l": "a"}, {"l": "b # c"}]


def test_a_comment_mark_within_a_quoted_field_is_text(tmp_path: Path) -> None:
    """A record that spans lines is not a comment, however its lines begin."""
    (tmp_path / "a.csv").write_bytes(b'1,"a\n# b"\n# no\n2,c\n')
    found = rows(reader(tmp_path, fileFormat="csv", column=PAIR, comment="#"))
    assert found == [{"id": "1", "text": "a\n# b"}, {"id": "2", "text": "c"}]


@pytest.mark.parametrize("file_format", ["csv", "flat", "tsv", "text"])
@pytest.mark.parametrize("column", ["*", PAIR, [{"index": 1, "name": "text", "type": "long"}]])
def test_short_records_are_filled_or_rejected(
    tmp_path: Path, file_format: str, column: Any
) -> None:
    """shortRows: null fills in what a record lacks; otherwise the record is rejected."""
    tab = "\t" if file_format == "tsv" else ","
    (tmp_path / "a").write_text(f"id{tab}text\n1{tab}5\n2\n3{tab}\\N\n")
    kind = "csv" if file_format == "flat" else file_format
    job: dict[str, Any] = {"fileFormat": kind, "skipHeader": True, "column": column}
    if file_format == "flat":
        job["csvReaderConfig"] = {"multiline": False}
    if file_format == "text":
        job["fieldDelimiter"] = ","
    for said in ({}, {"shortRows": "reject"}):
        assert [r.reason for r in rejects(reader(tmp_path, **job, **said))] == ["missing-column"]
    for null in ("null", None):
        found = [r["text"] for r in rows(reader(tmp_path, **job, shortRows=null))]
        assert found == [5 if column not in ("*", PAIR) else "5", None, None]


def test_a_record_with_too_many_fields_is_rejected_all_the_same(tmp_path: Path) -> None:
    """Nobody knows what each of its fields means."""
    (tmp_path / "a").write_bytes(b"id,text\n1,2,3\n")
    job = {"fileFormat": "csv", "skipHeader": True, "shortRows": "null"}
    assert [r.reason for r in rejects(reader(tmp_path, **job))] == ["too-many-columns"]


@pytest.mark.parametrize(
    ("file_format", "option"),
    [("jsonl", {"comment": "#"}), ("jsonl", {"shortRows": "null"}), ("json", {"skipRows": 1}),
     ("parquet", {"skipEmptyLines": True}), ("orc", {"comment": "#"}),
     ("csv", {"shortRows": "pad"}), ("csv", {"comment": " "}), ("csv", {"skipRows": -1}),
     ("csv", {"csvReaderConfig": {"useComments": True, "comment": "##"}})],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(file_format: str, option: dict[str, Any]) -> None:
    """The error names the option, in a job's words."""
    name = next(iter(option))
    with pytest.raises(ValueError, match="comment" if "Config" in name else name):
        FilesSettings.model_validate(
            {"path": "a", "fileFormat": file_format, "skipHeader": file_format == "csv", **option}
        )


@pytest.mark.parametrize(
    "data",
    [
        b'1,"open\n2,b\n',
        b'1,"a"b\n2,b\n',
        b'1,"a\n2,b\n3,c",x,y,z\n',
    ],
)
def test_a_quote_that_swallows_lines_is_told_with_the_way_out(tmp_path: Path, data: bytes) -> None:
    """The reject names the option that makes quotes plain characters."""
    (tmp_path / "a.csv").write_bytes(b"id,text\n" + data)
    items = read(reader(tmp_path, fileFormat="csv", skipHeader=True))
    told = [i.message for i in items if isinstance(i, Reject)]
    assert told
    assert "set useTextQualifier of csvReaderConfig to false" in told[0]
