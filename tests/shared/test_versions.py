"""Versions order the changes of a key: first by epoch, then by place; what does not fit is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecferry.errors import FatalError
from vecferry.versions import (
    MAX_EPOCH,
    MAX_ORDINAL,
    MAX_VERSION,
    first_of,
    pack,
    unpack,
)

epochs = st.integers(0, MAX_EPOCH)
ordinals = st.integers(0, MAX_ORDINAL)


@given(epochs, ordinals)
def test_a_version_gives_back_what_it_was_made_of(epoch: int, ordinal: int) -> None:
    """And fits into a signed whole number of 64 bits, as stores keep it."""
    version = pack(epoch, ordinal)
    assert unpack(version) == (epoch, ordinal)
    assert 0 <= version <= MAX_VERSION == 2**63 - 1


@given(epochs, ordinals, epochs, ordinals)
def test_versions_are_ordered_by_epoch_and_then_by_place(
    epoch: int, ordinal: int, other: int, place: int
) -> None:
    """So every change of an epoch is newer than all of the epochs before."""
    assert (pack(epoch, ordinal) < pack(other, place)) == ((epoch, ordinal) < (other, place))
    assert (pack(epoch, ordinal) < first_of(other)) == (epoch < other)


@pytest.mark.parametrize(
    ("epoch", "ordinal", "cure"),
    [
        (MAX_EPOCH + 1, 0, "epoch 2048 does not fit into 11 bits .* fill a new target"),
        (-1, 0, "epoch -1 does not fit"),
        (0, MAX_ORDINAL + 1, "does not fit into 52 bits .* resync"),
        (0, -1, "the place -1"),
    ],
)
def test_what_does_not_fit_fails_with_its_cure(epoch: int, ordinal: int, cure: str) -> None:
    """A version that wrapped around would make every later change stale."""
    with pytest.raises(FatalError, match=cure):
        pack(epoch, ordinal)


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1])
def test_what_is_not_a_version_is_not_taken_apart(version: int) -> None:
    """Another program's number would give an epoch that nobody began."""
    with pytest.raises(ValueError, match="is not a version"):
        unpack(version)
