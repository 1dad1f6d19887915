"""Pictures of an evaluation can be drawn for any number of classes, any names and any image."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tracking import evaluation_figures as pictures

NAMES = ["a $\\broken{ name", "健康", "one\nwith\x00 lines", "a name that is much longer than there is room for"]

BIN = ("lower", "upper", "confidence", "accuracy", "count")


def size(png):
    image = Image.open(io.BytesIO(png))
    image.verify()
    assert image.format == "PNG"
    return image.size


def confusions(classes):
    counts = np.random.default_rng(classes).integers(0, 4, (classes, classes))
    counts[0] = 0  # a class without images
    return (counts + np.diag(np.full(classes, 90))).tolist()


def names(classes):
    return [NAMES[c] if c < len(NAMES) else f"class {c}" for c in range(classes)]


@pytest.mark.parametrize("classes", [2, 3, 20, 21, 100])
def test_any_number_of_classes_has_its_confusions_and_scores_drawn(classes):
    assert min(size(pictures.confusion_matrix(confusions(classes), names(classes)))) > 300
    assert min(size(pictures.class_scores(np.linspace(0, 1, classes), names(classes)))) > 150


def test_the_largest_confusions_come_first_and_right_ones_and_zeros_never():
    counts = [[50, 2, 0], [7, 50, 2], [0, 0, 50]]
    assert pictures.largest_confusions(counts) == [(1, 0, 7), (0, 1, 2), (1, 2, 2)]
    assert pictures.largest_confusions(counts, most=1) == [(1, 0, 7)]
    assert pictures.largest_confusions(np.eye(3).tolist()) == []
    assert pictures.confusion_matrix(np.eye(30).tolist(), names(30))


@pytest.mark.parametrize(
    "bins",
    [
        [],
        [(14 / 15, 1.0, 0.99, 1.0, 12_345)],
        [(i / 15, (i + 1) / 15, (i + 0.5) / 15, i / 15, i + 1) for i in range(15)],
    ],
    ids=["none", "one", "all"],
)
def test_any_bins_make_a_reliability_diagram(bins):
    assert size(pictures.reliability([SimpleNamespace(**dict(zip(BIN, b, strict=True))) for b in bins], 0.1))[0] > 300


def test_robustness_is_drawn_for_few_and_many_changes():
    few, many = ({f"change_{i}": i / 20 for i in range(n)} for n in (1, 12))
    assert size(pictures.robustness(few, 0.9))[1] < size(pictures.robustness(many, 0.9))[1]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (32, 20, 3), (5, 5, 4), (6, 6, 2), (300, 500, 7)])
def test_grey_and_colour_mistakes_are_drawn_and_any_channels_made_grey(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert size(pictures.mistakes([(image, NAMES[0], NAMES[3], 0.97)] * 7))[0] > 300
    small = size(pictures.thumbnail(image))
    assert small == (192, 115) if max(shape) > 192 else small == (shape[1], shape[0])


def test_no_mistakes_make_a_picture_that_says_so():
    assert size(pictures.mistakes([]))[0] > 300


def test_grey_keeps_its_levels():
    dark = np.full((4, 4, 1), 7, np.uint8)
    assert np.array_equal(Image.open(io.BytesIO(pictures.thumbnail(dark))), np.full((4, 4), 7))


def test_a_name_becomes_one_short_line_that_the_font_can_write():
    assert pictures.plain("one\nwith\x00 lines") == "one with? lines"
    assert pictures.plain("健康 leaf") == "?? leaf"
    assert pictures.plain("x" * 30, 10) == "x" * 9 + "…"
    assert pictures.plain("\ud800") == "?"


def test_pictures_are_drawn_in_several_threads_at_once():
    drawn = []
    threads = [
        threading.Thread(target=lambda: drawn.append(pictures.confusion_matrix(confusions(10), names(10))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 3
    assert len(set(drawn)) == 1
