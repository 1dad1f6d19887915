"""Splits and subsets of any dataset: what holds for every seed, every limit and every balance of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.datasets.splits import split
from spaces.errors import DatasetError

SEEDS = st.integers(0, 2**64)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Labels in any order, with at least two of each class, and the arguments of a split."""
    counts = draw(st.lists(st.integers(2, 60), min_size=2, max_size=12))
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(labels)
    # Each class keeps one at least on either side, so that any limit from the number of classes on can be met.
    validation_size = draw(st.integers(0, len(labels)))
    return {"labels": labels, "classes": len(counts), "validation_size": validation_size, "seed": draw(SEEDS)}


def per_class(case: dict[str, Any], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.bincount(case["labels"][index], minlength=case["classes"])


@given(cases())
def test_the_parts_are_ascending_disjoint_and_together_everything(case: dict[str, Any]) -> None:
    train, validation = split(**case)
    assert train.dtype == validation.dtype == np.int64
    assert len(validation) == case["validation_size"]
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(case["labels"])))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


@given(cases())
def test_each_class_is_held_out_in_proportion(case: dict[str, Any]) -> None:
    _, validation = split(**case)
    fair = np.bincount(case["labels"]) * case["validation_size"] / len(case["labels"])
    assert (np.abs(per_class(case, validation) - fair) < 1).all()


@given(cases(), st.data())
def test_a_limit_keeps_that_many_and_as_evenly_as_the_classes_allow(case: dict[str, Any], data: st.DataObject) -> None:
    whole, _ = split(**case)
    if len(whole) < case["classes"]:
        return
    limit = data.draw(st.integers(case["classes"], len(whole)))
    kept, _ = split(**case, train_limit=limit)
    counts, available = per_class(case, kept), per_class(case, whole)

    assert len(kept) == limit
    assert np.isin(kept, whole).all()
    assert (np.diff(kept) > 0).all()
    # A class that got fewer than another by more than one gave all that it has.
    assert (counts[counts < counts.max() - 1] == available[counts < counts.max() - 1]).all()


@given(cases(), st.data())
def test_a_larger_limit_keeps_what_a_smaller_one_did(case: dict[str, Any], data: st.DataObject) -> None:
    whole, _ = split(**case)
    if len(whole) < case["classes"]:
        return
    smaller = data.draw(st.integers(case["classes"], len(whole)))
    larger = data.draw(st.integers(smaller, len(whole)))
    assert np.isin(split(**case, train_limit=smaller)[0], split(**case, train_limit=larger)[0]).all()


@given(cases(), st.data())
def test_one_part_does_not_feel_the_limit_of_the_other(case: dict[str, Any], data: st.DataObject) -> None:
    train, validation = split(**case)
    if min(len(train), len(validation)) < case["classes"]:
        return
    limit = data.draw(st.integers(case["classes"], len(validation)))
    assert np.array_equal(split(**case, validation_limit=limit)[0], train)
    assert np.array_equal(split(**case, train_limit=case["classes"])[1], validation)


@settings(max_examples=30)
@given(SEEDS, SEEDS)
def test_seeds_tell_splits_apart_and_nothing_else_does(seed: int, other: int) -> None:
    labels = np.arange(1000, dtype=np.uint8) % 10
    first, again = (split(labels, classes=10, validation_size=100, seed=seed) for _ in range(2))
    assert np.array_equal(first[1], again[1])
    assert np.array_equal(first[1], split(labels, classes=10, validation_size=100, seed=other)[1]) == (seed == other)


def test_balanced_classes_get_equal_shares_give_or_take_one() -> None:
    labels = np.arange(1000, dtype=np.uint8) % 10
    train, _ = split(labels, classes=10, validation_size=100, seed=0, train_limit=123)
    assert sorted(np.bincount(labels[train]).tolist()) == [12] * 7 + [13] * 3


@pytest.mark.parametrize("limit", [-1, 0, 9, 901])
def test_a_limit_outside_what_there_is_names_the_number_there_is(limit: int) -> None:
    labels = np.arange(1000, dtype=np.uint8) % 10
    with pytest.raises(DatasetError, match=r"has 900|there are 10 classes"):
        split(labels, classes=10, validation_size=100, seed=0, train_limit=limit)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DatasetError, match="must be 0 or more, not -1"):
        split(np.zeros(10, np.uint8), classes=1, validation_size=1, seed=-1)
