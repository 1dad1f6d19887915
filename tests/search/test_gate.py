"""The gate lets through what is better and, of equal models, one in twenty at most."""

import numpy as np
import pytest
from scipy import stats

from search import gate
from search.gate import Rules

DRAWS = 2000


def test_of_equal_models_no_more_than_one_in_twenty_passes():
    """2,000 seeded pairs of equally good models; the bound is that of a binomial draw with a chance of 5 %."""
    random = np.random.default_rng(20261121)
    passed = 0
    for _ in range(DRAWS):
        easy = random.random(500) < random.uniform(0.2, 0.9)  # images that both get right
        first, second = (easy | (random.random(500) < 0.4) for _ in range(2))
        passed += gate.challenge(first, second, "the champion", Rules(least_gain=0.0)).passed
    assert passed <= stats.binom.ppf(0.999, DRAWS, 0.05), f"{passed} of {DRAWS}"


def test_a_better_model_passes_and_the_reason_has_the_figures():
    random = np.random.default_rng(0)
    champion = random.random(2000) < 0.80
    candidate = champion | (random.random(2000) < 0.2)
    found = gate.challenge(candidate, champion, "version 3", Rules())
    assert found.passed
    assert found.kind == gate.CHALLENGE
    assert "better than version 3" in found.reason
    assert f"{champion.mean():.4f}" in found.reason


def test_a_gain_below_the_least_is_refused_however_sure_it_is():
    champion = np.zeros(100_000, bool)
    candidate = champion.copy()
    candidate[:50] = True
    found = gate.challenge(candidate, champion, "version 1", Rules(least_gain=0.001))
    assert found.comparisons[0].paired.p < 1e-9
    assert not found.passed
    assert "gain of 0.001" in found.reason


@pytest.mark.parametrize(
    ("candidate", "baseline", "passes"), [(0.9, 0.5, True), (0.9, None, True), (0.5, 0.9, False), (0.11, None, False)]
)
def test_a_first_champion_beats_the_majority_class_and_the_baseline(candidate, baseline, passes):
    random = np.random.default_rng(1)
    labels = (np.arange(1000) % 10).astype(np.uint8)
    right = random.random(1000) < candidate
    other = None if baseline is None else ("baseline plain", random.random(1000) < baseline)
    found = gate.first(right, labels, other, Rules())
    assert found.passed is passes
    assert len(found.comparisons) == (1 if baseline is None else 2)
