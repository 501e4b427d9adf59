"""The texts of AutoETL's calls: what they mean, and what is refused in words."""

from __future__ import annotations

import pytest

from vecferry.errors import JobError
from vecferry.pipelines.autoetl.mappings import Item, TableMapping, by_map, by_table
from vecferry.pipelines.autoetl.views import by_view

KEY = "i.id=d.t.id"


def items(**columns: str) -> tuple[Item, ...]:
    """Fields with their columns."""
    return tuple(Item(field, column) for field, column in columns.items())


@pytest.mark.parametrize(
    ("fields", "keys", "mapping"),
    [
        (
            "test_index.my_text(db.test_table.t2),test_index.id(db.test_table.id)",
            "test_index.id=db.test_table.id",
            TableMapping("test_index", "db", "test_table", items(my_text="t2", id="id"), ("id",)),
        ),
        ("i.x(d.t.c)", KEY, TableMapping("i", "d", "t", items(x="c"), ("id",))),
        (" i . x ( d . t . c ) ", " i.id = d.t.id ", by_map("i.x(d.t.c)", KEY)),
        ("`i`.`x`(`d`.`t`.`c`)", "`i`.id=`d`.`t`.id", by_map("i.x(d.t.c)", KEY)),
        ("i.o.x(d.t.c)", KEY, TableMapping("i", "d", "t", (Item("o.x", "c"),), ("id",))),
        (
            "my-index-2.x(my-db.t.c)",
            "my-index-2.id=my-db.t.id",
            TableMapping("my-index-2", "my-db", "t", items(x="c"), ("id",)),
        ),
        (
            "`i.1`.x(d.`a.b`.`c``d, e`)",
            "`i.1`.x=d.`a.b`.`c``d, e`",
            TableMapping("i.1", "d", "a.b", items(x="c`d, e"), ("c`d, e",)),
        ),
        (
            "i.a(d.t.c),i.b(d.t.c)",
            "i.k=d.t.k,i.l=d.t.l",
            TableMapping("i", "d", "t", items(a="c", b="c"), ("k", "l")),
        ),
        (
            "i.Select(D.T.From)",
            "i.x=D.T.Y",
            TableMapping("i", "D", "T", items(Select="From"), ("Y",)),
        ),
    ],
)
def test_a_map_names_each_field_with_its_column(
    fields: str, keys: str, mapping: TableMapping
) -> None:
    """Blanks and backticks mean nothing, and case is kept."""
    assert by_map(fields, keys) == mapping


@pytest.mark.parametrize(
    ("fields", "keys", "problem"),
    [
        ("a.x(d.t.c),b.y(d.t.e)", "a.x=d.t.c", "several indexes (a, b): write a call for each"),
        ("i.x(d.t.c)", "j.id=d.t.id", "several indexes (i, j)"),
        ("i.x(d.t.c),i.y(d.u.e)", KEY, "joins several tables (d.t, d.u)"),
        ("i.x(d.t.c)", "i.id=e.t.id", "joins several tables (d.t, e.t)"),
        ("i.x(d.t.c),i.x(d.t.e)", KEY, "field 'x' is filled twice"),
        ("i.id(d.t.c)", KEY, "field 'id' is filled from 'c', and the key says 'id'"),
        ("", KEY, "a name must stand before the end"),
        ("i.x(d.t.c)", "", "the keys: a name must stand before the end"),
        ("i.x(t.c)", KEY, "'t.c' does not name database, table and column"),
        ("x(d.t.c)", KEY, "'x' names no field of an index"),
        ("i.x(d.t.c", KEY, "')' must stand before the end"),
        ("i.x(d.t.c),", KEY, "a name must stand before the end"),
        ("i.x(d.t.c) i.y(d.t.e)", KEY, "',' must stand before 'i.y(d.t.e)'"),
        ("i.x(upper(d.t.c))", KEY, "'upper' does not name database, table and column"),
        ("i.x(d.t.c)", "i.id>d.t.id", "'=' must stand before '>d.t.id'"),
        ("i.x(d.t.`c)", KEY, "never ends"),
        ("i.x('c')", KEY, "a name must stand before"),
    ],
)
def test_a_map_that_means_nothing_here_says_why(fields: str, keys: str, problem: str) -> None:
    """A join, several indexes, and what is misspelt."""
    with pytest.raises(JobError) as failure:
        by_map(fields, keys)
    assert problem in str(failure.value)


@pytest.mark.parametrize(("fourth", "fifth"), [("a=b", ""), ("", "x > 1")])
def test_the_last_two_arguments_of_a_map_are_empty(fourth: str, fifth: str) -> None:
    """Their form is not public; blanks are empty."""
    with pytest.raises(JobError, match="form is not public: leave it empty"):
        by_map("i.x(d.t.c)", KEY, fourth, fifth)
    assert by_map("i.x(d.t.c)", KEY, " ", "\n") == by_map("i.x(d.t.c)", KEY)


@pytest.mark.parametrize(
    ("table", "columns", "key", "mapping"),
    [
        ("d.t", "a,b", "", TableMapping("i", "d", "t", items(a="a", b="b"))),
        ("d.t", "", "", TableMapping("i", "d", "t", ())),
        (
            "t",
            " a , `b c` ",
            "a",
            TableMapping("i", None, "t", (Item("a", "a"), Item("b c", "b c")), ("a",)),
        ),
        ("`d.e`.`t`", "a", "a,b", TableMapping("i", "d.e", "t", items(a="a"), ("a", "b"))),
    ],
)
def test_a_table_goes_in_under_its_own_names(
    table: str, columns: str, key: str, mapping: TableMapping
) -> None:
    """All columns without a list; the key is the table's own unless it is named."""
    assert by_table(table, "i", columns, key) == mapping


@pytest.mark.parametrize(
    ("table", "index", "columns", "problem"),
    [
        ("d.t,d.u", "i", "a", "several tables (a join)"),
        ("a.b.c", "i", "a", "does not name one table: write db.t"),
        ("d.t", "i,j", "a", "the name of one index"),
        ("d.t", "i", "a,a", "field 'a' is filled twice"),
        ("d.t", "i", "a b", "',' must stand before 'b'"),
        ("d.t", "i", "upper(a)", "',' must stand before '(a)'"),
    ],
)
def test_a_table_call_that_means_nothing_here_says_why(
    table: str, index: str, columns: str, problem: str
) -> None:
    """One table, one index, names of columns."""
    with pytest.raises(JobError) as failure:
        by_table(table, index, columns)
    assert problem in str(failure.value)


def view(rest: str) -> TableMapping:
    """The mapping of a view called v."""
    return by_view(f"CREATE SEARCH VIEW v {rest}")


@pytest.mark.parametrize(
    ("rest", "mapping"),
    [
        ("AS SELECT id, t2 FROM db.t", TableMapping("v", "db", "t", items(id="id", t2="t2"))),
        ("AS SELECT * FROM t;", TableMapping("v", None, "t", ())),
        ("AS SELECT a.* FROM db.t AS a", TableMapping("v", "db", "t", ())),
        (
            "as select id as `k`, t2 my_text from t",
            TableMapping("v", None, "t", items(k="id", my_text="t2")),
        ),
        (
            "(k, my_text, PRIMARY KEY (k)) AS SELECT id, t2 FROM db.t",
            TableMapping("v", "db", "t", items(k="id", my_text="t2"), ("id",)),
        ),
        (
            "(a, b, primary key (b, a) NOT ENFORCED) AS SELECT x, y FROM t",
            TableMapping("v", None, "t", items(a="x", b="y"), ("y", "x")),
        ),
        (
            "AS SELECT t.id, db.t.t2 FROM db.t",
            TableMapping("v", "db", "t", items(id="id", t2="t2")),
        ),
        (
            "AS SELECT id, UPPER(a.t2) AS up FROM db.t a WHERE a.t1 > 5 AND a.`t2` <> 'a.b'",
            TableMapping(
                "v",
                "db",
                "t",
                (Item("id", "id"), Item("up", "up", "UPPER(t2)")),
                (),
                "t1 > 5 AND `t2` <> 'a.b'",
            ),
        ),
        (
            "AS SELECT id, CONCAT(a, ',', b) s, CASE WHEN a IS NULL THEN b ELSE a END AS c FROM t",
            TableMapping(
                "v",
                None,
                "t",
                (
                    Item("id", "id"),
                    Item("s", "s", "CONCAT(a, ',', b)"),
                    Item("c", "c", "CASE WHEN a IS NULL THEN b ELSE a END"),
                ),
            ),
        ),
        (
            "AS SELECT id, -- the key\n /* its text */ t2 FROM t # all",
            TableMapping("v", None, "t", items(id="id", t2="t2")),
        ),
        (
            "AS SELECT id, UPPER(x) AS x, x AS y FROM t",
            TableMapping(
                "v", None, "t", (Item("id", "id"), Item("x", "x_", "UPPER(x)"), Item("y", "x"))
            ),
        ),
        (
            "AS SELECT id, j->>'$.a.b' AS b, `from` FROM t WHERE `where` IN ('x', \"it's\")",
            TableMapping(
                "v",
                None,
                "t",
                (Item("id", "id"), Item("b", "b", "j->>'$.a.b'"), Item("from", "from")),
                (),
                "`where` IN ('x', \"it's\")",
            ),
        ),
        (
            "AS SELECT id, 'GROUP BY, LIMIT' AS x FROM t",
            TableMapping("v", None, "t", (Item("id", "id"), Item("x", "x", "'GROUP BY, LIMIT'"))),
        ),
        (
            "AS SELECT id, NULL AS x FROM t",
            TableMapping("v", None, "t", (Item("id", "id"), Item("x", "x", "NULL"))),
        ),
    ],
)
def test_a_view_selects_columns_and_expressions_of_one_table(
    rest: str, mapping: TableMapping
) -> None:
    """Names of the table before a column fall away, also in WHERE; texts are left alone."""
    assert view(rest) == mapping


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("AS SELECT a.id FROM t a JOIN u ON a.id = u.id", "joins several tables"),
        ("AS SELECT id FROM t, u", "joins several tables"),
        ("AS SELECT id FROM (SELECT 1) x", "selects from a query"),
        ("AS SELECT id, (SELECT max(x) FROM u) AS m FROM t", "holds a query within"),
        ("AS SELECT id FROM t WHERE id IN (SELECT 1)", "holds a query within"),
        ("AS SELECT id, COUNT(*) AS n FROM t", "COUNT puts several rows together"),
        ("AS SELECT id, rank() OVER (ORDER BY x) AS r FROM t", "OVER compares rows"),
        ("AS SELECT DISTINCT id FROM t", "DISTINCT compares rows"),
        ("AS SELECT id FROM t GROUP BY id", "GROUP BY puts rows together: leave it out"),
        ("AS SELECT id FROM t ORDER BY id", "ORDER BY means nothing to an index"),
        ("AS SELECT id FROM t WHERE x > 1 LIMIT 3", "LIMIT means nothing"),
        ("AS SELECT id FROM t UNION SELECT id FROM u", "UNION reads several tables"),
        ("AS SELECT id FROM t WITH ('a' = 'b')", "which are set by --set here"),
        ("WITH ('a' = 'b') AS SELECT id FROM t", "which are set by --set here"),
        ("AS SELECT id, UPPER(x) FROM t", "'UPPER(x)' has no name: write UPPER(x) AS name"),
        ("AS SELECT id, x AS id FROM t", "field 'id' is filled twice"),
        ("AS SELECT id, * FROM t", "selects * beside others"),
        ("(a) AS SELECT * FROM t", "select each column, in the same order"),
        ("(a, b) AS SELECT id FROM t", "it names 2 columns and selects 1"),
        ("(id INT, PRIMARY KEY (id)) AS SELECT id FROM t", "'id' has a type (INT)"),
        (
            "(a, PRIMARY KEY (b)) AS SELECT id FROM t",
            "PRIMARY KEY names 'b', which is not selected",
        ),
        (
            "(a, PRIMARY KEY (a)) AS SELECT UPPER(x) FROM t",
            "PRIMARY KEY names 'a', which is an expression",
        ),
        ("AS SELECT id, FROM t", "nothing stands between two commas"),
        ("AS SELECT id FROM t WHERE", "nothing stands behind WHERE"),
        ("AS SELECT (id FROM t", "brackets are not closed"),
        ("AS SELECT id", "FROM must stand before the end"),
        ("AS DELETE FROM t", "SELECT must stand before 'DELETE FROM t'"),
        ("AS SELECT 'id FROM t", "never ends"),
        ("AS SELECT id FROM a.b.c", "'a.b.c' is not the name of a table"),
    ],
)
def test_a_view_that_can_not_be_followed_says_why(rest: str, problem: str) -> None:
    """What looks at other rows or tables than the changed row itself."""
    with pytest.raises(JobError) as failure:
        view(rest)
    assert problem in str(failure.value)


def test_a_view_names_its_index_without_the_database() -> None:
    """Also behind IF NOT EXISTS; another statement is told what is wanted."""
    assert by_view("create search view if not exists db.v as select id from t").index == "v"
    with pytest.raises(JobError, match="SEARCH must stand before 'VIEW v"):
        by_view("CREATE VIEW v AS SELECT 1")


def test_a_table_is_written_with_the_backticks_that_it_needs() -> None:
    """As the reader of tables takes it."""
    assert by_table("`d.e`.t", "i", "a").table_name == "`d.e`.t"
    assert by_table("t", "i", "a").table_name == "t"
