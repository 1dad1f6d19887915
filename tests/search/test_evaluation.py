"""The figures of an evaluation equal scikit-learn's and plain loops, for any probabilities and labels."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from search.errors import SearchError
from search.evaluation import LEAST_PROBABILITY, Mistake, measure, mistakes
from search.promote import _figures
from search.sealed import Measured


def names(classes):
    return [f"class {c}" for c in range(classes)]


@st.composite
def answers(draw, least_classes=2):
    """Probabilities with many ties, and labels."""
    classes, images = draw(st.integers(least_classes, 9)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = random.integers(0, draw(st.sampled_from([2, 4, 1000])), (images, classes)).astype(np.float64)
    weights[weights.sum(axis=1) == 0] = 1
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities, random.integers(0, classes, images).astype(np.uint8)


def ranked(row):
    """Classes, the likeliest first, ties by index."""
    return sorted(range(len(row)), key=lambda c: (-row[c], c))


@given(answers())
@settings(deadline=None, max_examples=40)
def test_scores_and_confusions_are_those_of_scikit_learn(answer):
    probabilities, labels = answer
    classes = probabilities.shape[1]
    predicted = np.array([ranked(row)[0] for row in probabilities])
    found = measure(probabilities, labels, names(classes))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    order = range(classes)
    for mine, theirs in (
        (found.precision, metrics.precision_score),
        (found.recall, metrics.recall_score),
        (found.f1, metrics.f1_score),
    ):
        assert mine == pytest.approx(theirs(labels, predicted, labels=order, average=None, zero_division=0))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(labels, predicted, labels=order))
    assert found.support == tuple(int((labels == c).sum()) for c in order)
    assert found.majority == max(found.support) / len(labels)
    assert sum(map(sum, found.confusion)) == found.images == len(labels)


@given(answers(least_classes=6))
@settings(deadline=None, max_examples=40)
def test_top_five_counts_images_whose_class_is_among_the_five_likeliest(answer):
    probabilities, labels = answer
    hits = [label in ranked(row)[:5] for row, label in zip(probabilities, labels, strict=True)]
    found = measure(probabilities, labels, names(probabilities.shape[1]))
    assert found.top5 == pytest.approx(sum(hits) / len(hits))
    assert found.top5 >= found.accuracy


@given(answers())
@settings(deadline=None, max_examples=40)
def test_the_loss_is_the_mean_of_clipped_cross_entropies_within_its_standard_errors(answer):
    probabilities, labels = answer
    losses = [
        -math.log(max(float(row[label]), LEAST_PROBABILITY)) for row, label in zip(probabilities, labels, strict=True)
    ]
    mean = sum(losses) / len(losses)
    found = measure(probabilities, labels, names(probabilities.shape[1]))
    assert found.loss == pytest.approx(mean, abs=1e-9)
    if len(losses) == 1:
        assert found.loss_interval is None
    else:
        error = math.sqrt(sum((x - mean) ** 2 for x in losses) / (len(losses) - 1) / len(losses))
        assert found.loss_interval == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=1e-9)


@given(answers())
@settings(deadline=None, max_examples=40)
def test_bins_hold_every_image_once_and_their_gaps_make_the_calibration_error(answer):
    probabilities, labels = answer
    images = len(labels)
    inside = {}
    for row, label in zip(probabilities, labels, strict=True):
        top = float(row.max())
        place = next(b for b in range(15) if top <= (b + 1) / 15 or b == 14)
        inside.setdefault(place, []).append((top, ranked(row)[0] == label))
    expected = sum(abs(sum(t for t, _ in each) - sum(r for _, r in each)) for each in inside.values()) / images
    found = measure(probabilities, labels, names(probabilities.shape[1]))
    assert found.ece == pytest.approx(expected, abs=1e-9)
    assert [b.count for b in found.bins] == [len(inside[place]) for place in sorted(inside)]
    for each, place in zip(found.bins, sorted(inside), strict=True):
        assert (each.lower, each.upper) == pytest.approx((place / 15, (place + 1) / 15))
        assert each.lower - 1e-9 <= each.confidence <= each.upper + 1e-6
        assert each.accuracy == pytest.approx(np.mean([r for _, r in inside[place]]))


@given(answers(), st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_mistakes_are_the_wrong_ones_most_confident_first(answer, most):
    probabilities, labels = answer
    wrong = []
    for index, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        first = ranked(row)[0]
        if first != label:
            wrong.append(Mistake(index, int(label), first, float(row[first])))
    expected = sorted(wrong, key=lambda m: (-m.confidence, m.index))
    assert mistakes(probabilities, labels, most) == expected[:most]


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    # Clopper-Pearson, as tabulated: the rule 1 - (0.025)^(1/n) at the ends.
    [(0, 10, 0.0, 1 - 0.025**0.1), (10, 10, 0.025**0.1, 1.0), (5, 10, 0.1871, 0.8129), (9041, 10000, 0.8982, 0.9098)],
)
def test_the_interval_of_the_accuracy_is_the_exact_one(hits, images, low, high):
    probabilities = np.tile(np.float32([0.9, 0.1]), (images, 1))
    labels = (np.arange(images) >= hits).astype(np.uint8)
    assert measure(probabilities, labels, ["a", "b"]).accuracy_interval == pytest.approx((low, high), abs=1e-4)


def test_five_classes_have_no_top_five():
    probabilities = np.full((3, 5), 0.2, np.float32)
    assert measure(probabilities, np.zeros(3, np.uint8), names(5)).top5 is None


def test_a_probability_of_zero_for_the_true_class_costs_what_keras_says():
    keras_clips_at = -math.log(1e-7)
    assert measure(np.float32([[1, 0]]), np.uint8([1]), ["a", "b"]).loss == pytest.approx(keras_clips_at)


def test_figures_are_plain_json():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(7), 50).astype(np.float32)
    found = measure(probabilities, random.integers(0, 7, 50).astype(np.uint8), names(7))
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert again["accuracy"] == found.accuracy
    assert again["confusion"] == [list(row) for row in found.confusion]
    assert again["bins"][0] == vars(found.bins[0])


GOOD = np.float32([[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("probabilities", "labels", "class_names", "says"),
    [
        (GOOD[0], [0, 1], "ab", "float32 of shape (2,)"),
        (GOOD.astype(int), [0, 1], "ab", "int64 of shape (2, 2)"),
        (GOOD[:0], [], "ab", "0 images and 2 classes"),
        (GOOD[:, :1], [0, 0], "a", "2 images and 1 classes"),
        (GOOD, [0], "ab", "labels are uint8 of shape (1,)"),
        (GOOD, [[0], [1]], "ab", "labels are uint8 of shape (2, 1)"),
        (GOOD, [0, 2], "ab", "labels go from 0 to 2"),
        (GOOD, [0, 1], "abc", "3 class names"),
        (GOOD + np.float32([[0, 0], [np.nan, 0]]), [0, 1], "ab", "1 of 2 rows of probabilities are not finite"),
        (GOOD + np.float32([[0, 0], [np.inf, 0]]), [0, 1], "ab", "not finite, the first at 1"),
        (GOOD * np.float32([[1], [1.002]]), [0, 1], "ab", "1 of 2 rows are not probabilities that add up to 1"),
        (np.float32([[1.5, -0.5], [0, 1]]), [0, 1], "ab", "the first at 0: from -0.5 to 1.5"),
    ],
)
def test_what_is_no_evaluation_is_refused_in_one_line(probabilities, labels, class_names, says):
    with pytest.raises(ValueError) as refused:
        measure(probabilities, np.array(labels, np.uint8), class_names)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_of_half_precision_add_up_well_enough():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(100), 500).astype(np.float16).astype(np.float32)
    assert measure(probabilities, np.zeros(500, np.uint8), names(100)).images == 500


def test_mistakes_refuses_what_measure_refuses():
    with pytest.raises(ValueError, match="not finite"):
        mistakes(GOOD * np.float32(np.nan), np.uint8([0, 1]))


def test_a_model_that_gives_no_probabilities_is_one_line_for_people():
    labels = np.array([0, 1, 1], np.uint8)
    for wrong in (np.full((3, 2), 3.0, np.float32), np.full((3, 5), 0.2, np.float32)):
        with pytest.raises(SearchError, match="trial 3 of s: .*; such a model cannot be promoted") as raised:
            _figures("trial 3 of s", Measured(wrong, labels, {}, {}), ("a", "b"))
        assert "\n" not in str(raised.value)
