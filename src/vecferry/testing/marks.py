"""What every writer must show of the mark that names what made its vectors: `MarkContract`.

A module of tests makes a subclass of `MarkContract` whose fixture `place` gives a `MarkPlace`.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytest

from vecferry.errors import JobError
from vecferry.process import end_run
from vecferry.settings import Maker
from vecferry.steps import StepContext, Target, WriteOptions
from vecferry.testing.sinks import DIMENSION, vector, write

ONE = Maker(provider="bailian", model="text-embedding-v4", dimension=DIMENSION)
OTHER = Maker(provider="bailian", model="text-embedding-v3", dimension=DIMENSION)
NOTE = "ours: the team's own words, 42 %"


def rows(n: int) -> list[dict[str, Any]]:
    """Rows with `id`, `text` and a vector."""
    return [{"id": f"k{i}", "text": f"text {i}", "vector": vector(i)} for i in range(n)]


class MarkPlace(ABC):
    """A store, as the contract sees it: its targets have a key `id`, a `text` and a `vector`."""

    step_type = ""
    aliases = True
    """Whether a name can stand for another target."""
    creates = "createIfNotExist"
    columns: list[dict[str, Any]]
    """Those of the job: `id`, the key, `text` and `vector`."""

    def __init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self._runs: list[str] = []

    def target(
        self,
        maker: Maker | None = ONE,
        name: str | None = None,
        *,
        force: bool = False,
        into: bool = False,
        made: Mapping[str, int] | None = None,
        **settings: object,
    ) -> Target:
        """A target of a new run, whose job makes the column `vector` with `maker`; not prepared.

        `made` are the vectors of all steps, if they are others.
        """
        makers = {} if maker is None else {"vector": maker}
        sizes = {name: one.dimension for name, one in makers.items()} if made is None else made
        context = StepContext(
            step="Writer", step_type=self.step_type, retry_deadline=300,
            write=WriteOptions(
                makers=makers, made=sizes, force=force, instead_of="another" if into else None
            ),
        )  # fmt: skip
        self._runs.append(context.run)
        given = {"schemaCreateMode": self.creates, "column": self.columns, **settings}
        return self.make(name or self.name, context, **given)

    @abstractmethod
    def make(self, name: str, context: StepContext, **settings: object) -> Target:
        """The target of that name."""

    @abstractmethod
    def by_hand(self, name: str, note: str | None = None) -> None:
        """Makes such a target by the store's own client, with a note where it keeps such things."""

    @abstractmethod
    def note(self, name: str) -> str:
        """What stands there of the target's own notes."""

    def meant(self, alias: str) -> str | None:
        """The target that an alias names."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what the targets have opened."""
        for run in self._runs:
            end_run(run)


def refusal(target: Target, step: str = "check") -> str:
    """What `check` or `prepare` refuses."""
    with pytest.raises(JobError) as caught:
        getattr(target, step)()
    return "; ".join(caught.value.problems)


def said(target: Target) -> list[str]:
    """What its check tells of what made the vectors."""
    return [note for note in target.check() if "made" in note]


def filled(place: MarkPlace, maker: Maker | None = ONE, **more: Any) -> Target:
    """A target with three rows in it."""
    target = place.target(maker, **more)
    target.prepare()
    written, rejects = write(target, rows(3))
    assert (len(written), rejects) == (3, [])
    return target


class MarkContract:
    """The tests. A subclass gives the fixture `place`."""

    def test_the_same_job_goes_on_and_says_nothing(self, place: MarkPlace) -> None:
        """The mark of the first run is its own."""
        filled(place)
        again = place.target()
        assert said(again) == []
        again.prepare()
        assert again.row_count() == 3

    @pytest.mark.parametrize("what", ["provider", "model", "dimension"])
    def test_a_job_with_another_maker_is_refused_before_it_writes(
        self, place: MarkPlace, what: str
    ) -> None:
        """By the check and, where that is left out, by the preparation; with the way out."""
        filled(place)
        value: Any = 1024 if what == "dimension" else "another"
        maker = dataclasses.replace(ONE, **{what: value})
        for step in ("check", "prepare"):
            text = refusal(place.target(maker), step)
            assert str(ONE) in text
            assert str(maker) in text
            assert "--into NEW" in text
            assert ("--switch-alias" in text) == place.aliases
            assert ("--force" in text) == (what != "dimension"), "of no use for other lengths"
        assert place.target().row_count() == 3

    def test_force_lets_it_write_and_marks_the_target_anew(self, place: MarkPlace) -> None:
        """From then on it is the old model that is refused."""
        filled(place)
        forced = place.target(OTHER, force=True)
        assert str(ONE) in "; ".join(forced.check())
        forced.prepare()
        assert len(write(forced, rows(5))[0]) == 5
        assert said(place.target(OTHER)) == []
        assert str(OTHER) in refusal(place.target(ONE))

    def test_a_search_with_the_vectors_of_another_model_says_so(
        self, place: MarkPlace, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its hits would look like any other."""
        filled(place)
        with caplog.at_level(logging.WARNING, "vecferry"):
            assert len(place.target().search(vector(0), 2)) == 2
            assert "the hits mean nothing" not in caplog.text
            assert len(place.target(OTHER).search(vector(0), 2)) == 2
        assert "the hits mean nothing" in caplog.text

    def test_checking_marks_nothing(self, place: MarkPlace) -> None:
        """Not even with force: what is there stays as it is."""
        filled(place)
        place.target(OTHER, force=True).check()
        assert said(place.target(ONE)) == []

    def test_an_empty_target_made_by_hand_is_marked_before_its_first_row(
        self, place: MarkPlace
    ) -> None:
        """A run that breaks off after its first row has told what made it."""
        place.by_hand(place.name)
        for mode in ("ignore", place.creates):
            first = place.target(schemaCreateMode=mode)
            assert said(first) == []
            first.prepare()
        assert str(ONE) in refusal(place.target(OTHER))

    def test_rows_that_were_there_are_told_of_until_force_marks_them(
        self, place: MarkPlace, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody but the user knows what made them; each run tells it once."""
        place.by_hand(place.name)
        filled(place, None)
        for _ in range(2):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "vecferry"):
                known = place.target()
                known.check()
                known.prepare()
                write(known, rows(4))
            told = [r.getMessage() for r in caplog.records if "has no mark" in r.getMessage()]
            assert len(told) == 1
            assert str(ONE) in told[0]
            assert "--force" in told[0]
        place.target(force=True).prepare()
        assert said(place.target()) == []
        assert str(ONE) in refusal(place.target(OTHER))

    def test_what_a_user_wrote_there_is_kept(self, place: MarkPlace) -> None:
        """Also when the mark is written a second time."""
        place.by_hand(place.name, NOTE)
        for maker in (ONE, OTHER):
            place.target(maker, force=True).prepare()
            assert NOTE in place.note(place.name)
            assert place.note(place.name).count(maker.model) == 1
            assert said(place.target(maker)) == []

    def test_making_it_anew_replaces_the_mark(self, place: MarkPlace) -> None:
        """Its rows are gone, and so is what made them."""
        filled(place)
        anew = place.target(OTHER, schemaCreateMode="recreate", ownsTarget=True)
        anew.check()
        anew.prepare()
        assert said(place.target(OTHER)) == []
        assert str(OTHER) in refusal(place.target(ONE))

    def test_a_job_that_makes_no_vectors_is_told_that_nobody_knows(self, place: MarkPlace) -> None:
        """It is let through: its vectors come from its source."""
        filled(place)
        copying = place.target(None)
        assert "this job does not say" in "; ".join(copying.check())
        copying.prepare()
        assert str(ONE) in refusal(place.target(OTHER)), "the mark stays"

    def test_a_new_target_may_be_one_that_an_earlier_run_left(self, place: MarkPlace) -> None:
        """Known by its mark. A target made by hand that holds rows is not new."""
        filled(place, into=True)
        place.target(into=True).check()
        place.target(into=True).prepare()
        assert str(ONE) in refusal(place.target(OTHER, into=True))
        other = f"{place.name}h"
        place.by_hand(other)
        place.target(name=other, into=True, maker=None).prepare()
        filled(place, None, name=other)
        for step in ("check", "prepare"):
            assert "holds rows already" in refusal(place.target(name=other, into=True), step)
        place.target(name=other, into=True, force=True).prepare()

    def test_an_alias_moves_when_the_job_is_done_and_not_before(self, place: MarkPlace) -> None:
        """Readers find the old rows until then, and the new ones from then on."""
        if not place.aliases:
            pytest.skip("not for this store: it has no aliases")
        alias, old, new = (f"{place.name}{end}" for end in ("a", "x", "y"))
        first = filled(place, name=old, alias=alias, aliasMode="exclusive", into=True)
        assert place.meant(alias) is None
        assert first.concludes
        assert not place.target(name=old).concludes
        assert first.unfinished() == f"alias {alias!r} was not moved to {old!r}"
        assert any(old in note and alias in note for note in first.conclude())
        assert place.meant(alias) == old
        second = place.target(OTHER, new, alias=alias, aliasMode="exclusive", into=True)
        second.check()
        second.prepare()
        with pytest.raises(JobError, match="was not moved"):
            second.conclude()  # it is empty
        write(second, rows(5))
        assert place.meant(alias) == old
        second.conclude()
        assert place.meant(alias) == new
        reader = place.target(OTHER, alias)
        assert said(reader) == []
        assert len(reader.search(vector(1), 10)) == 5
        assert str(OTHER) in refusal(place.target(ONE, alias)), "known by its alias, too"

    def test_a_name_can_not_be_a_target_and_an_alias(self, place: MarkPlace) -> None:
        """Told before the run, with what would put the one in the place of the other."""
        if not place.aliases:
            pytest.skip("not for this store: it has no aliases")
        filled(place)
        new, alias = f"{place.name}y", f"{place.name}a"
        for step in ("check", "prepare"):
            switching = place.target(name=new, alias=place.name, into=True)
            text = refusal(switching, step)
            assert f"alias {place.name!r} is the name of" in text
            assert new in text
        filled(place, name=new, alias=alias).conclude()
        for step in ("check", "prepare"):
            assert "alias of" in refusal(place.target(name=alias, into=True), step)
            anew = place.target(name=alias, schemaCreateMode="recreate", ownsTarget=True)
            assert "would be dropped" in refusal(anew, step)
        assert place.target(name=new).row_count() == 3

    def test_a_missing_target_is_told_with_those_that_exist(self, place: MarkPlace) -> None:
        """And with what would create and mark it."""
        filled(place)
        text = refusal(place.target(name=f"{place.name}z", schemaCreateMode="ignore"))
        assert f"{place.name}z' does not exist; did you mean '{place.name}'?" in text
        assert place.creates in text
        assert ONE.model in text, "it would be marked as well"

    def test_columns_that_nothing_fills_are_told_once(
        self, place: MarkPlace, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Over the check, the preparation and the writing of a run."""
        names = [c["name"] for c in place.columns]
        mapping = [{"sourceColName": n, "dstColName": n} for n in names]
        filled(place)
        more = [*place.columns, {**place.columns[1], "name": "more"}]
        with caplog.at_level(logging.WARNING, "vecferry"):
            some = place.target(column=more, columnMapping=mapping)
            some.check()
            some.prepare()
            write(some, rows(3))
        told = [r for r in caplog.records if "fills nothing into more" in r.getMessage()]
        assert len(told) == 1

    def test_a_mapping_to_a_field_that_is_missing_is_an_error_before_the_run(
        self, place: MarkPlace
    ) -> None:
        """With the fields that there are."""
        filled(place)
        missing = {**place.columns[1], "name": "txt"}
        text = refusal(place.target(column=[*place.columns, missing]))
        assert "'txt'" in text
        assert "did you mean 'text'?" in text

    def test_a_vector_that_no_field_takes_is_an_error_before_the_run(
        self, place: MarkPlace
    ) -> None:
        """Without `column` fields are found by name: it would be paid for and dropped silently."""
        filled(place)
        by_name: dict[str, Any] = {"schemaCreateMode": "ignore", "column": []}
        place.target(**by_name).check()
        lost = place.target(made={"vektor": DIMENSION}, **by_name)
        for step in ("check", "prepare"):
            assert "takes the vectors of column 'vektor'; did you mean 'vector'?" in refusal(
                lost, step
            )
        assert place.target(**by_name).row_count() == 3
        other = refusal(place.target(made={"vector": DIMENSION + 1}, **by_name))
        assert f"{DIMENSION} dimensions" in other
        assert f"gives {DIMENSION + 1}" in other
