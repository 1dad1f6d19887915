"""Intervals and the paired test agree with published tables and with scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search.statistics import mean_interval, paired, share_interval


def right(both, only_first, only_second, neither):
    """Two models by which images each gets right, from the four counts."""
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first), np.array(second)


# One-sided p of McNemar's exact test: the upper tail of Binomial(b + c, 1/2), from tables of that distribution.
@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(5, 0, 1 / 32), (0, 5, 1.0), (9, 1, 11 / 1024), (8, 2, 56 / 1024), (5, 5, 638 / 1024), (0, 0, 1.0), (1, 0, 0.5)],
)
def test_mcnemars_exact_test_gives_the_tails_of_the_binomial_table(only_first, only_second, p):
    found = paired(*right(40, only_first, only_second, 10))
    assert found.p == pytest.approx(p)
    assert (found.only_first, found.only_second) == (only_first, only_second)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_paired_test_is_scipys_and_the_gain_is_the_difference_of_accuracies(a, b, c, d):
    if a + b + c + d == 0:
        return
    first, second = right(a, b, c, d)
    found = paired(first, second)
    assert found.gain == pytest.approx(first.mean() - second.mean())
    assert found.gain_interval[0] <= found.gain <= found.gain_interval[1]
    if b + c:
        assert found.p == pytest.approx(stats.binom.sf(b - 1, b + c, 0.5))


def test_the_two_sided_test_of_agrestis_table_is_twice_the_one_sided():
    # Agresti, Categorical Data Analysis, table 10.1: approval of the prime minister, 1,600 people asked twice.
    first, second = right(794, 150, 86, 570)
    found = paired(first, second)
    assert found.gain == pytest.approx(0.04)
    assert found.gain_interval == pytest.approx((0.0211, 0.0589), abs=2e-3)  # the book has 0.02 to 0.06
    assert 2 * found.p == pytest.approx(stats.binomtest(150, 236).pvalue)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_models_on_different_images_are_not_compared(shapes):
    with pytest.raises(ValueError):
        paired(np.zeros(shapes[0], bool), np.zeros(shapes[1], bool))


@pytest.mark.parametrize(
    ("hits", "images", "interval"), [(0, 10, (0.0, 0.3085)), (10, 10, (0.6915, 1.0)), (5, 10, (0.1871, 0.8129))]
)
def test_the_interval_of_a_share_is_clopper_and_pearsons(hits, images, interval):
    assert share_interval(hits, images) == pytest.approx(interval, abs=5e-5)


def test_the_interval_of_a_mean_is_students():
    values = [0.91, 0.93, 0.92, 0.95, 0.89]
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((found.low, found.high))
    assert all(math.isnan(end) for end in mean_interval([0.9])), "one measurement says nothing of its spread"
