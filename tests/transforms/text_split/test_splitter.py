"""Documents into chunks: what each row says, and that the text of a document is all there."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from vecferry.instead import Mode, OnReject
from vecferry.rows import DELETE, UPDATE, Change, Reject, Substitute
from vecferry.steps import StepContext
from vecferry.transforms.text_split import TextSplitSettings
from vecferry.transforms.text_split.splitter import Splitter

PAGES = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))
PROSE = "One walks along. Two walk home.\n\nThe tide is out. It comes back at noon.\n" * 9


def splitter(**given: Any) -> Splitter:
    """An operator with these parameters, by default for the column `text`."""
    settings = TextSplitSettings.model_validate({"sourceColumnName": "text", **given})
    return Splitter(settings, None, StepContext(step="Split", step_type="text-splitting"))


def rows_of(operator: Splitter, row: dict[str, Any], origin: str = "a.md:0") -> list[Change]:
    """The chunks of one document, none of which is a reject."""
    out = [item for item, _ in operator.process(Change(row, origin=origin))]
    assert not any(isinstance(item, Reject) for item in out), out
    return out  # type: ignore[return-value]


def covered(text: str, rows: Iterable[Change]) -> str:
    """What of a text no chunk holds."""
    left = list(text)
    for row in rows:
        left[row["chunk_start"] : row["chunk_end"]] = [""] * len(row["chunk"])
    return "".join(left)


WAYS = {
    "by characters": {"chunkSize": 60},
    "with an overlap": {"chunkSize": 60, "overlap": 30},
    "between sentences": {"chunkSize": 60, "by": "sentence"},
    "of Markdown": {"chunkSize": 60, "by": "markdown"},
    "of code": {"chunkSize": 60, "by": "code", "language": "python"},
    "by tokens": {"chunkSize": 20, "unit": "tokens"},
    "of Markdown by tokens": {"chunkSize": 20, "unit": "tokens", "by": "markdown", "overlap": 5},
    "one character each": {"chunkSize": 1},
}


@pytest.mark.parametrize("given", WAYS.values(), ids=WAYS)
def test_chunks_are_parts_of_the_text_and_leave_out_only_space(given: dict[str, Any]) -> None:
    """Each chunk stands where it says, is numbered, and is not longer than asked."""
    if given.get("by") == "code":
        pytest.importorskip("tree_sitter_python", reason="dev has the grammar")
    text = f"# Über 海 🏖️\n\n{PROSE}\r\n## Again\r\n\r\n{PROSE}"
    rows = rows_of(splitter(**given), {"text": text, "path": "a.md"})
    for row in rows:
        assert text[row["chunk_start"] : row["chunk_end"]] == row["chunk"] != ""
    assert [row["chunk_index"] for row in rows] == list(range(len(rows)))
    assert {row["chunk_count"] for row in rows} == {len(rows)}
    assert covered(text, rows).strip() == ""
    if given.get("unit") != "tokens":
        assert max(len(row["chunk"]) for row in rows) <= given["chunkSize"]
    again = rows_of(splitter(**given), {"text": text, "path": "a.md"})
    assert list(map(dict, rows)) == list(map(dict, again))


def test_a_row_says_which_part_of_which_document_it_is() -> None:
    """The other columns stay, and the text of the whole document does not."""
    row = {"text": "Ebb.\n\nFlood.", "path": "docs/a.md", "lang": "en"}
    first, second = rows_of(splitter(chunkSize=6), row)
    assert dict(first) == {
        "path": "docs/a.md", "lang": "en", "chunk": "Ebb.", "chunk_id": "docs/a.md#0",
        "chunk_index": 0, "chunk_count": 2, "chunk_start": 0, "chunk_end": 4,
    }  # fmt: skip
    assert (second["chunk"], second["chunk_id"]) == ("Flood.", "docs/a.md#1")
    assert [first.origin, second.origin] == ["a.md:0#0", "a.md:0#1"]


def test_the_chunk_may_stand_in_the_place_of_the_text() -> None:
    """Then nothing is taken away."""
    (row,) = rows_of(splitter(chunkColumnName="text"), {"text": " Ebb. ", "path": "a"})
    assert (row["text"], row["chunk_start"], row["chunk_end"]) == ("Ebb.", 1, 5)


NAMES = {
    "one value": (["path"], {"path": "a#1.md"}, "a#1.md"),
    "a number": (["id"], {"id": 7}, "7"),
    "two values": (["shop", "id"], {"shop": "b", "id": 7}, "b#7"),
    "two values that look like three": (["shop", "id"], {"shop": "b#7", "id": 1}, "b%237#1"),
    "a sign of the escape itself": (["shop", "id"], {"shop": "b%237", "id": 1}, "b%25237#1"),
    "a day": (["day"], {"day": datetime.date(2026, 1, 2)}, "2026-01-02"),
}


@pytest.mark.parametrize(("columns", "row", "name"), NAMES.values(), ids=NAMES)
def test_an_id_is_made_of_the_documents_own(
    columns: list[str], row: dict[str, Any], name: str
) -> None:
    """No two documents share one."""
    (made,) = rows_of(splitter(parentColumns=columns), {**row, "text": "Ebb."})
    assert made["chunk_id"] == f"{name}#0"


REJECTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no text column": ({"path": "a"}, "missing-column", "'text'"),
    "no name": ({"text": "Ebb."}, "missing-column", "'path'"),
    "a null": ({"path": "a", "text": None}, "null-value", "'text' is null"),
    "bytes": ({"path": "a", "text": b"Ebb."}, "wrong-type", "bytes"),
    "a list for a name": ({"path": ["a"], "text": "Ebb."}, "wrong-type", "list"),
    "a flag for a name": ({"path": True, "text": "Ebb."}, "wrong-type", "bool"),
    "an empty text": ({"path": "a", "text": ""}, "empty-text", "nothing to split"),
    "space alone": ({"path": "a", "text": " \n\t"}, "empty-text", "nothing to split"),
    "half a pair": ({"path": "a", "text": "Ebb \ud800."}, "bad-text", "Unicode"),
}


@pytest.mark.parametrize("unit", ["characters", "tokens"])
@pytest.mark.parametrize(("row", "reason", "words"), REJECTS.values(), ids=REJECTS)
def test_a_row_that_is_not_a_document_costs_itself(
    unit: str, row: dict[str, Any], reason: str, words: str
) -> None:
    """Its reject has the row as it came, for a replay."""
    operator = splitter(unit=unit)
    ((reject, stamp),) = operator.process(Change(row, origin="a:0"), 5)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.origin, reject.row, stamp) == (reason, "a:0", row, 5)
    assert words in reject.message
    assert operator.counts.values == {}
    assert rows_of(operator, {"text": "Ebb.", "path": "b"})


@pytest.mark.parametrize("kind", [UPDATE, DELETE])
def test_a_change_of_a_document_is_rejected(kind: str) -> None:
    """For its old chunks would stay; what goes on in place of a reject is dropped and counted."""
    operator = splitter()
    row = {"text": "Ebb.", "path": "a"}
    ((reject, _),) = operator.process(Change(row, kind=kind))
    assert isinstance(reject, Reject)
    assert reject.reason == "change-of-document"
    assert operator.process(Substitute(row, kind=kind)) == []
    assert operator.counts.values == {"rows-dropped": 1}


def whole(mode: Mode = "keep", **given: Any) -> Splitter:
    """An operator before a writer that keeps documents whole."""
    settings = TextSplitSettings.model_validate({"sourceColumnName": "text", **given})
    on_reject = OnReject(mode=mode, plain=True, key=("chunk_id",))
    context = StepContext(
        step="Split", step_type="text-splitting", on_reject=on_reject, whole_documents=True
    )
    return Splitter(settings, None, context)


def test_before_a_writer_of_documents_changes_are_split_and_deletes_go_on() -> None:
    """Chunks keep kind and version; a delete, and a document without text, has no chunk."""
    operator = whole(chunkSize=6)
    change = Change({"text": "Ebb.\n\nFlood.", "path": "a"}, kind=UPDATE, version=3, origin="o")
    split = [item for item, _ in operator.process(change)]
    assert [(c.kind, c.version, c.origin) for c in split if isinstance(c, Change)] == [
        (UPDATE, 3, "o#0"), (UPDATE, 3, "o#1"),
    ]  # fmt: skip
    for change in (
        Change({"path": "a"}, kind=DELETE, version=4),
        Change({"path": "a", "text": " "}, version=4),
    ):
        ((gone, _),) = operator.process(change)
        assert isinstance(gone, Change)
        assert (gone.kind, gone.version) == (DELETE, 4)
        assert dict(gone) == {"path": "a", "chunk_id": "a#0", "chunk_index": 0, "chunk_count": 0}
    ((reject, _),) = operator.process(Change({"text": "Ebb."}, kind=DELETE))
    assert isinstance(reject, Reject)
    assert reject.reason == "missing-column"


@pytest.mark.parametrize("mode", ["keep", "delete", "withoutVector"])
def test_in_place_of_a_document_that_can_not_be_split_goes_its_delete(mode: Mode) -> None:
    """Unless the old document is to stay."""
    ((reject, _),) = whole(mode).process(Change({"path": "a", "text": 7}, version=2))
    assert isinstance(reject, Reject)
    assert reject.reason == "wrong-type"
    if mode == "keep":
        assert reject.instead is None
        return
    assert reject.instead is not None
    assert (reject.instead.kind, reject.instead["chunk_count"]) == (DELETE, 0)


def test_what_is_read_and_added_is_what_goes_on() -> None:
    """Over documents of one and of many chunks."""
    operator = splitter(chunkSize=40)
    made = [
        row for n in range(4) for row in rows_of(operator, {"text": PROSE * n + "!", "path": n})
    ]
    counts = operator.counts.values
    assert counts["rows-split"] == 4
    assert 4 + counts["rows-added"] == len(made) > 4


def test_tokens_are_those_of_the_model() -> None:
    """No chunk has more of them when it is encoded alone, give or take one at each end."""
    from vecferry.transforms.text_split.cuts import _tokenizer

    tokenizer = _tokenizer("local")
    text = "\n".join(page.read_text() for page in PAGES[:3])
    rows = rows_of(splitter(unit="tokens", chunkSize=64), {"text": text, "path": "a"})
    sizes = [len(tokenizer.encode(row["chunk"], add_special_tokens=False)) for row in rows]
    assert max(sizes) <= 66
    assert sum(sizes) / len(sizes) > 32


def test_chunks_by_tokens_are_those_that_the_library_makes_by_itself() -> None:
    """The library encodes each candidate anew, which takes four times as long."""
    from semantic_text_splitter import TextSplitter

    from vecferry.transforms.text_split.cuts import _tokenizer

    alone = TextSplitter.from_huggingface_tokenizer(_tokenizer("local"), 40)
    for page in PAGES[:4]:
        text = page.read_text()[:4000]
        ours = rows_of(splitter(unit="tokens", chunkSize=40), {"text": text, "path": "a"})
        theirs = alone.chunk_indices(text)
        same = {start for start, _ in theirs} & {row["chunk_start"] for row in ours}
        assert len(same) >= 0.9 * len(theirs)
