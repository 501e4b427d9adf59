"""A row of the log equals the row of a SELECT: all types, both images, with and without names."""

from __future__ import annotations

import datetime
import re
from contextlib import nullcontext
from typing import Any

import pytest

from tests.io.mysql_cdc.support import Source, same, source
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8, Mysql57
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql_cdc.columns import Column, Columns, ColumnsDiffer
from vecferry.io.mysql_cdc.log import Rows
from vecferry.io.mysql_cdc.rows import ABSENT, PARTIAL

pytestmark = pytest.mark.in_turn("metadata")

LETTERS = "aZ9 é漢字かな한글ЖЯאبΩ😀กşřþ"
DATES = ("'2024-02-29'", "'0000-00-00'", "'2024-00-10'", "'2024-02-31'", "'9999-12-31'")
CLOCKS = ("'00:00:00'", "'23:59:59'", "'-838:59:59'", "'838:59:59'", "'-00:00:01'", "'24:00:00'")
NUMBERS: list[tuple[str, tuple[str, ...]]] = [
    ("TINYINT", ("-128", "127", "0")),
    ("TINYINT(1)", ("1", "-1", "2")),
    ("TINYINT UNSIGNED", ("255", "0")),
    ("SMALLINT", ("-32768", "32767")),
    ("SMALLINT UNSIGNED", ("65535",)),
    ("MEDIUMINT", ("-8388608", "8388607", "-1")),
    ("MEDIUMINT UNSIGNED", ("16777215",)),
    ("INT", ("-2147483648", "2147483647")),
    ("INT UNSIGNED", ("4294967295",)),
    ("INT(9) ZEROFILL", ("42",)),
    ("BIGINT", ("-9223372036854775808", "9223372036854775807")),
    ("BIGINT UNSIGNED", ("18446744073709551615",)),
    (
        "DECIMAL(65,30)",
        ("1.5", f"-{'9' * 35}.{'9' * 30}", "0", "-0.000000000000000000000000000001"),
    ),
    ("DECIMAL(10,2)", ("12345678.90", "-0.01", "0", "-99999999.99")),
    ("DECIMAL(9,0)", ("999999999", "-1")),
    ("DECIMAL(18,9)", ("123456789.987654321", "-123456789.987654321")),
    ("DECIMAL(5,5)", ("0.00001", "-0.99999")),
    ("DECIMAL(65,0)", ("9" * 65, "-" + "9" * 65)),
    ("DECIMAL(1,0) UNSIGNED", ("7",)),
    ("FLOAT", ("1.1", "-3.4e38", "16777216", "0.000001", "123456.789", "9999999", "1e-40", "0")),
    ("FLOAT(7,3)", ("1234.567", "-0.001", "9999.999")),
    ("FLOAT UNSIGNED", ("2.5",)),
    ("DOUBLE", ("1.1", "1.7976931348623157e308", "-2.2e-308", "0.1e0+0.2e0", "123456789012345678")),
    ("DOUBLE(10,3)", ("1234567.891", "-0.001")),
    ("BIT(1)", ("b'1'", "b'0'")),
    ("BIT(7)", ("b'1010101'",)),
    ("BIT(9)", ("b'101010101'",)),
    ("BIT(64)", ("X'FFFFFFFFFFFFFFFF'", "b'1'")),
    ("YEAR", ("0", "1901", "2155", "1970")),
]
TIMES: list[tuple[str, tuple[str, ...]]] = [
    ("DATE", (*DATES, "'1000-01-01'", "'0001-01-01'")),
    *((f"TIME({n})", (*CLOCKS, "'-00:00:00.123456'", "'12:34:56.987654'")) for n in range(7)),
    *(
        (f"DATETIME({n})", (*(d[:-1] + " 23:59:58.123456'" for d in DATES), "'0000-00-00'"))
        for n in range(7)
    ),
    *(
        (
            f"TIMESTAMP({n}) NULL",
            (
                "'1971-01-01 00:00:01'",
                "'2038-01-18 03:14:07.5'",
                "'0000-00-00'",
                "'2024-07-01 1:2:3.6'",
            ),
        )
        for n in range(7)
    ),
]
MANY = ",".join(f"'m{i}'" for i in range(300))
BITS = ",".join(f"'b{i}'" for i in range(64))
TEXTS: list[tuple[str, tuple[str, ...]]] = [
    ("CHAR(5)", ("'ab'", "'ab  '", "''", "'äöü😀€'")),
    ("CHAR(255)", ("'ab'", "REPEAT('€', 255)")),
    ("CHAR(100) CHARACTER SET latin1", ("'é'",)),
    ("BINARY(4)", ("'ab'", "X'00000000'", "X'FF00FF00'", "'    '")),
    ("BINARY(16)", ("X'000102030405060708090A0B0C0D0E00'",)),
    ("BINARY(255)", ("X'01'",)),
    ("VARCHAR(10)", ("'ab'", "''", "'ab  '", "'😀'")),
    ("VARCHAR(63)", ("REPEAT('😀', 63)",)),
    ("VARCHAR(64)", ("REPEAT('😀', 64)",)),
    ("VARCHAR(1000)", ("REPEAT('x', 1000)", "''")),
    ("VARBINARY(10)", ("X'00FF00'", "''")),
    ("VARBINARY(300)", ("REPEAT(X'00', 300)",)),
    ("TINYTEXT", ("'ä'", "''")),
    ("TEXT", ("REPEAT('ü', 300)",)),
    ("MEDIUMTEXT", ("REPEAT('y', 70000)",)),
    ("LONGTEXT", ("'long'",)),
    ("TINYBLOB", ("X'00'", "''")),
    ("BLOB", ("REPEAT(X'FE', 300)",)),
    ("MEDIUMBLOB", ("X'80'",)),
    ("LONGBLOB", ("X'81'",)),
    ("ENUM('a', 'it''s', 'ä,b')", ("'a'", "'it''s'", "'ä,b'", "'wrong'")),
    ("ENUM('é', 'x') CHARACTER SET latin1", ("'é'",)),
    (f"ENUM({MANY})", ("'m0'", "'m299'")),
    ("SET('a', 'b', 'c''d')", ("''", "'a,c''d'", "'b'")),
    ("SET('é', 'x') CHARACTER SET latin1", ("'x,é'",)),
    ("SET('1','2','3','4','5','6','7','8','9')", ("'9,1'",)),
    (f"SET({BITS})", ("'b0,b63'", f"'{','.join(f'b{i}' for i in range(64))}'")),
]
INNER = (
    '\'{"a": [1, -1, 65535, -70000, 4294967296, 18446744073709551615, 1.5, -0.0, 1e100, "ä"]}\'',
    '\'[null, true, false, {}, [], "", {"": 1}]\'',
    "'\"text\"'",
    "'7'",
    "'2.0'",
    "'null'",
    "CAST(1.50 AS JSON)",
    "CAST(CAST(123 AS DECIMAL(5,0)) AS JSON)",
    "CAST(-12345678901234567890123456789.5 AS JSON)",
    "CAST(CAST('2024-02-03' AS DATE) AS JSON)",
    "CAST(CAST('2024-02-03 04:05:06.789' AS DATETIME(3)) AS JSON)",
    "CAST(CAST('-01:02:03.5' AS TIME(1)) AS JSON)",
    "CAST(CAST('838:59:59' AS TIME) AS JSON)",
    "CAST(TIMESTAMP'2024-02-03 04:05:06' AS JSON)",
    "CAST(X'00FF' AS JSON)",
    "JSON_OBJECT('b', REPEAT(X'01', 200), 'bit', b'101', 'y', CAST(1999 AS UNSIGNED))",
    "CAST(ST_GeomFromText('POINT(1 2)') AS JSON)",
    "JSON_OBJECT('large', REPEAT('x', 70000), 'n', 1, 'm', -5, 'o', 70000, 'p', TRUE, 'q', 65536)",
    "JSON_ARRAY(REPEAT('ü', 200), JSON_ARRAY(JSON_ARRAY(1)), JSON_OBJECT('k', JSON_ARRAY(2)))",
    f"'{'[' * 100}{']' * 100}'",
)
SPECIAL = [
    ("INET6", ("'::1'", "'2001:db8::ff00:42:8329'", "'::'", "'::ffff:1.2.3.4'", "'1::'")),
    ("INET4", ("'1.2.3.0'", "'0.0.0.0'")),
    (
        "UUID",
        ("'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000001'",
         "'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "'01890a5d-ac96-774b-bcce-b302099a8057'"),
    ),
    ("VARCHAR(200) COMPRESSED", ("REPEAT('ä', 100)", "'x'", "''")),
    ("VARCHAR(2000) COMPRESSED", ("REPEAT('ä', 1000)",)),
    ("TEXT COMPRESSED", ("REPEAT('b', 5000)", "'short'", "''")),
    ("BLOB COMPRESSED", ("REPEAT(X'0001', 5000)",)),
]  # fmt: skip


@pytest.fixture(params=[Mysql8, Mariadb], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


@pytest.fixture
def mysql() -> Source:
    return source(Mysql8)


@pytest.fixture
def maria() -> Source:
    return source(Mariadb)


@pytest.fixture(params=["full", "minimal"])
def metadata(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expect_equal(db: Source, types: list[tuple[str, tuple[str, ...]]], metadata: str) -> None:
    """Inserts, updates and deletes rows of all values; each image equals the SELECT."""
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(types))
    table = db.table(f"id INT PRIMARY KEY, {columns}, u INT DEFAULT 0")
    count = max(len(values) for _, values in types)
    level = "NO_LOG" if metadata == "minimal" and db.maria else metadata.upper()
    named = db.set_global("binlog_row_metadata", f"'{level}'") if metadata else nullcontext()
    with named:
        since = db.place()
        rows = [", ".join(values[nth % len(values)] for _, values in types) for nth in range(count)]
        rows.append(", ".join(["NULL"] * len(types)))
        literals = ", ".join(f"({nth}, {row}, 0)" for nth, row in enumerate(rows))
        db.run(f"INSERT INTO {table} VALUES {literals}")
        first = db.selected(table)
        db.run(f"UPDATE {table} SET u = 1 ORDER BY id")
        second = db.selected(table)
        db.run(f"DELETE FROM {table} ORDER BY id")
    given = db.described(table)
    found = db.rows(since, table, given)
    inserted = [after for kind, _, after in found if kind == "+I"]
    updated = [(before, after) for kind, before, after in found if kind == "+U"]
    deleted = [before for kind, before, _ in found if kind == "-D"]
    names = ["id", *(kind for kind, _ in types), "u"]
    assert len(inserted) == len(updated) == len(deleted) == count + 1
    assert differences(names, inserted, first) == []
    assert differences(names, [before for before, _ in updated], first) == []
    assert differences(names, [after for _, after in updated], second) == []
    assert differences(names, deleted, second) == []


def differences(names: list[str], logged: list[Any], selected: list[Any]) -> list[Any]:
    return [
        (name, one, other)
        for row, wanted in zip(logged, selected, strict=True)
        for name, one, other in zip(names, row, wanted, strict=True)
        if not same(one, other)
    ]


@pytest.mark.service
def test_numbers_equal_those_of_a_select(db: Source, metadata: str) -> None:
    """Signs, digits behind the point, the six digits of a FLOAT, bits, years."""
    expect_equal(db, NUMBERS, metadata)


@pytest.mark.service
@pytest.mark.parametrize("zone", ["+00:00", "-09:30"])
def test_times_equal_those_of_a_select(db: Source, metadata: str, zone: str) -> None:
    """Also dates that are none, with the same words, and under another time zone of the server."""
    with db.set_global("time_zone", f"'{zone}'"):
        expect_equal(db, TIMES, metadata)


@pytest.mark.service
def test_texts_equal_those_of_a_select(db: Source, metadata: str) -> None:
    """All lengths, the zeros at the end of BINARY, enums and sets of all sizes."""
    expect_equal(db, TEXTS, metadata)


@pytest.mark.service
def test_json_equals_that_of_a_select(mysql: Source, metadata: str) -> None:
    """With all types of SQL that a document can hold."""
    expect_equal(mysql, [("JSON", INNER)], metadata)


@pytest.mark.service
@pytest.mark.long
@pytest.mark.parametrize(
    "types", [NUMBERS, TIMES, TEXTS, [("JSON", INNER)]], ids=["numbers", "times", "texts", "json"]
)
def test_values_of_mysql_5_equal_those_of_a_select(types: list[tuple[str, Any]]) -> None:
    """Its log never names columns."""
    expect_equal(source(Mysql57), types, "")


@pytest.mark.service
def test_types_of_mariadb_equal_those_of_a_select(maria: Source, metadata: str) -> None:
    """Addresses, UUIDs and compressed columns."""
    expect_equal(maria, SPECIAL, metadata)


@pytest.mark.service
def test_each_character_set_equals_a_select(db: Source, metadata: str) -> None:
    """Letters of many scripts, in each character set that the server has."""
    sets = [
        name
        for (name,) in db.ask("SELECT character_set_name FROM information_schema.character_sets")
    ]
    for kind in ("VARCHAR(60)", "CHAR(60)", "TEXT", "ENUM('ab', 'é', '漢')"):
        literals = (f"'{LETTERS}'", "'plain \\\\ ~'") if "ENUM" not in kind else ("'ab'",)
        expect_equal(
            db,
            [(f"{kind} CHARACTER SET {name}", literals) for name in sets if name != "binary"],
            metadata,
        )


@pytest.mark.service
def test_each_byte_of_a_character_set_equals_a_select(db: Source) -> None:
    """Letters of one byte, also those that stand for nothing."""
    sets = [
        name
        for name, size in db.ask(
            "SELECT character_set_name, maxlen FROM information_schema.character_sets"
        )
        if size == 1 and name != "binary"
    ]
    every = bytes(range(1, 256)).hex()
    expect_equal(
        db, [(f"VARCHAR(300) CHARACTER SET {n}", (f"_{n} X'{every}'",)) for n in sets], "full"
    )


@pytest.mark.service
def test_generated_and_hidden_columns_are_in_the_log(db: Source, metadata: str) -> None:
    """Virtual and stored ones; their values are those of a SELECT."""
    table = db.table(
        "id INT PRIMARY KEY, a INT, v INT AS (a + 1), s VARCHAR(20) AS (CONCAT('x', a)) STORED"
    )
    since = db.place()
    db.run(f"INSERT INTO {table} (id, a) VALUES (1, 2), (2, NULL)")
    found = [after for _, _, after in db.rows(since, table, db.described(table))]
    assert (
        [list(row) for row in found]
        == db.selected(table)
        == [[1, 2, 3, "x2"], [2, None, None, None]]
    )
    assert [c.generated for c in db.described(table).columns] == [False, False, True, True]


@pytest.mark.service
def test_geometries_are_the_bytes_of_a_select(db: Source, metadata: str) -> None:
    """The number of the reference system, then the shape."""
    table = db.table("id INT PRIMARY KEY, g GEOMETRY, p POINT")
    since = db.place()
    db.run(
        f"INSERT INTO {table} VALUES "
        "(1, ST_GeomFromText('LINESTRING(0 0, 1 2)'), ST_GeomFromText('POINT(3 4)'))"
    )
    (found,) = db.rows(since, table, db.described(table))
    assert list(found[2][1:]) == list(db.ask(f"SELECT g, p FROM {table}")[0])


@pytest.mark.service
def test_times_of_old_servers_equal_those_of_a_select(maria: Source) -> None:
    """MariaDB still makes columns in the form of before MySQL 5.6, if it is told to."""
    stamps = ("'1971-01-01 00:00:01'", "'2037-01-18 03:14:07.512345'", "'0000-00-00'")
    days = tuple(d[:-1] + " 23:59:58.123456'" for d in DATES)
    types: list[tuple[str, tuple[str, ...]]] = [("DATE", DATES)]
    for n in range(7):
        types += [(f"TIME({n})", (*CLOCKS, "'-00:00:00.123456'")), (f"DATETIME({n})", days)]
        types.append((f"TIMESTAMP({n}) NULL", stamps))
    with maria.set_global("mysql56_temporal_format", "OFF"):
        expect_equal(maria, types, "full")
        table = maria.table("id INT PRIMARY KEY, t TIME(3)")
        since = maria.place()
        maria.run(f"INSERT INTO {table} VALUES (1, '01:02:03')")
    with pytest.raises(ColumnsDiffer, match="nothing tells the digits"):
        maria.rows(since, table)


@pytest.mark.service
@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_what_an_image_leaves_out_is_absent(db: Source, image: str) -> None:
    """Absent differs from null; the columns that are there are right."""
    table = db.table("id INT PRIMARY KEY, a INT, b TEXT, c INT")
    db.run(f"INSERT INTO {table} VALUES (1, 2, 'text', 3)")
    since = db.place()
    db.run(
        f"UPDATE {table} SET a = NULL WHERE id = 1", f"INSERT INTO {table} (id) VALUES (2)",
        f"DELETE FROM {table} WHERE id = 1", session=[f"SET binlog_row_image = {image}"],
    )  # fmt: skip
    update, insert, delete = db.rows(since, table)
    if image == "MINIMAL":
        assert update[1:] == ((1, ABSENT, ABSENT, ABSENT), (ABSENT, None, ABSENT, ABSENT))
        assert delete[1] == (1, ABSENT, ABSENT, ABSENT)
        assert insert[2][0] == 2
    else:
        assert update[1:] == ((1, 2, ABSENT, 3), (1, None, ABSENT, 3))
        assert delete[1] == (1, None, ABSENT, 3)


@pytest.mark.service
@pytest.mark.parametrize("image", ["FULL", "MINIMAL"])
def test_a_change_within_json_is_partial(mysql: Source, image: str) -> None:
    """A document of which the log tells the difference only is marked; others come whole."""
    table = mysql.table("id INT PRIMARY KEY, x JSON, a INT, j JSON, k JSON, t VARCHAR(9)")
    document = '{"a": "xxxxxxxxxxxxxxxxxxxxxxxx", "b": [1, 2, 3]}'
    mysql.run(f"INSERT INTO {table} VALUES (1, '[0]', 2, '{document}', '{document}', 'end')")
    since = mysql.place()
    mysql.run(
        f"UPDATE {table} SET a = 3, j = JSON_SET(j, '$.a', 'y'), k = '[1]'",
        f"UPDATE {table} SET t = 'new'",
        f"UPDATE {table} SET j = JSON_REMOVE(j, '$.b[0]')",
        session=["SET binlog_row_value_options = PARTIAL_JSON", f"SET binlog_row_image = {image}"],
    )
    first, second, third = (after for _, _, after in mysql.rows(since, table))
    assert first[2:5] == (3, PARTIAL, [1])
    assert second[5] == "new"
    assert third[3] is PARTIAL
    if image == "FULL":
        assert first[0] == second[0] == 1
        assert second[1] == [0]


@pytest.mark.service
def test_keys_that_are_swapped_come_in_order(db: Source) -> None:
    """One statement moves each key to the next one; the rows come in the server's order."""
    table = db.table("id INT PRIMARY KEY, v INT")
    db.run(f"INSERT INTO {table} VALUES (1, 10), (2, 20), (3, 30)")
    since = db.place()
    db.run(f"UPDATE {table} SET id = id + 1 ORDER BY id DESC")
    found = [(before, after) for _, before, after in db.rows(since, table)]
    assert found == [((3, 30), (4, 30)), ((2, 20), (3, 20)), ((1, 10), (2, 10))]


@pytest.mark.service
def test_text_that_is_not_valid_is_refused_as_a_select_refuses_it(maria: Source) -> None:
    """The rows around it come as they are, and the words are the same."""
    table = maria.table("id INT PRIMARY KEY, b VARBINARY(20), n INT")
    maria.run(f"INSERT INTO {table} VALUES (1, 'good', 1), (2, X'61FF62', 2), (3, 'ä', 3)")
    wanted = Columns(
        (Column("id", "int"), Column("b", "varchar", charset="utf8mb4"), Column("n", "int"))
    )
    since = maria.place()
    with maria.set_global("binlog_row_metadata", "'NO_LOG'"):
        maria.run(f"UPDATE {table} SET n = n + 1 ORDER BY id")
    rows = [after for _, _, after in maria.rows(since, table, wanted)]
    assert [rows[0], rows[2]] == [(1, "good", 2), (3, "ä", 4)]
    assert isinstance(rows[1][1], UnfitValue)
    assert rows[1][1].reason == "invalid-encoding"


@pytest.mark.service
def test_a_description_that_does_not_fit_is_told(db: Source) -> None:
    """By count and by type; the log goes on behind these rows."""
    table = db.table("id INT PRIMARY KEY, v VARCHAR(20)")
    since = db.place()
    with db.set_global("binlog_row_metadata", "'NO_LOG'" if db.maria else "'MINIMAL'"):
        db.run(f"INSERT INTO {table} VALUES (1, 'a')")
    good = db.described(table).columns
    for wrong in (
        good[:1],
        (good[0], Column("v", "int")),
        (good[0], Column("v", "varchar", octets=7)),
    ):
        items = list(db.items(since, Columns(tuple(wrong))))
        (rows,) = (i for i in items if isinstance(i, Rows))
        with pytest.raises(ColumnsDiffer, match=re.escape(f"shop.{table}")) as caught:
            list(rows.rows())
        assert caught.value.table == ("shop", table)
        assert items[-1] is not rows


@pytest.mark.service
def test_names_in_the_log_win_over_a_description(db: Source) -> None:
    """A table that was changed since is read by what the log says of that time."""
    table = db.table("id INT PRIMARY KEY, a INT UNSIGNED, v VARCHAR(20)")
    since = db.place()
    db.run(f"INSERT INTO {table} VALUES (1, 4294967295, 'ä')")
    db.run(
        f"ALTER TABLE {table} DROP a, MODIFY v BIGINT, ADD z DATE FIRST",
        session=["SET sql_mode = ''"],
    )
    items = [i for i in db.items(since, db.described(table)) if isinstance(i, Rows)]
    assert items[0].columns.names == ("id", "a", "v")
    assert items[0].columns.key == (0,)
    assert [after for _, _, after in items[0].rows()] == [(1, 4294967295, "ä")]


def test_a_timestamp_knows_its_zone() -> None:
    """And a DATETIME has none."""
    from vecferry.io.mysql_cdc.fields import datetime_of, timestamp_of

    assert timestamp_of(0)(b"\0\0\0\1") == datetime.datetime(
        1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC
    )
    assert datetime_of(0)(bytes.fromhex("99b2421000")) == datetime.datetime(2024, 1, 1, 1, 0)
