"""Curves over each other are a picture and a page, whatever there is to show."""

import io
import json
import math
import re

import pytest
from PIL import Image

from tracking.comparison_figures import COLOURS, MOST, Training, interactive, panels, still


def training(label, count, best=None, **extra):
    history = [
        {"loss": 2 / (e + 1), "val_loss": 2.2 / (e + 1), "accuracy": 0.1 * e, "val_accuracy": 0.09 * e} | extra
        for e in range(count)
    ]
    return Training(label, history, best)


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image.convert("RGB")


def drawn(image, colour):
    """How many pixels are of exactly this colour."""
    wanted = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return sum(count for count, found in image.getcolors(maxcolors=1 << 24) if found == wanted)


def traces(page):
    """What plotly was given to draw."""
    start = page.rindex("Plotly.newPlot(")
    return json.JSONDecoder().raw_decode(page[page.index("[", start) :])[0]


def test_each_training_has_a_colour_of_its_own():
    image = pixels(still([training("a", 5, 4), training("b", 8, 7)], ["val_accuracy"], "t"))
    assert all(drawn(image, colour) > 100 for colour in COLOURS[:2])
    assert not any(drawn(image, colour) for colour in COLOURS[2:])


def test_the_panels_are_the_loss_and_the_objectives_once_each():
    assert panels(["val_accuracy"]) == ["loss", "accuracy"]
    assert panels(["val_accuracy", "val_loss", "auc"]) == ["loss", "accuracy", "auc"]
    one, two = (pixels(still([training("a", 5)], [metric], "t")).size for metric in ("val_loss", "val_accuracy"))
    assert two[0] == 2 * one[0]


def test_more_than_can_be_told_apart_are_not_drawn_and_the_page_says_so():
    many = [training(f"number {i}", 4) for i in range(MOST + 2)]
    assert pixels(still(many, ["val_accuracy"], "t")).size[0] > 300
    page = interactive(many, ["val_accuracy"], "t").decode()
    assert f"the first {MOST} of {MOST + 2}" in page
    assert f"number {MOST - 1}" in page
    assert f"number {MOST}" not in page


def test_the_page_needs_no_network_and_draws_training_dashed_and_validation_solid():
    page = interactive([training("a <b>", 3, 2), training("c", 5, 4)], ["val_accuracy"], "<title>").decode()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    found = traces(page)
    lines = [t for t in found if "hovertemplate" in t]
    assert len(lines) == 2 * 2 * 2
    for line in lines:
        assert (line["line"]["dash"] == "solid") == ("validation" in line["hovertemplate"])
    assert [t["name"] for t in found if t.get("showlegend", True)] == ["a &lt;b&gt;", "c"]
    rings = [t for t in found if t.get("marker", {}).get("symbol") == "circle-open"]
    assert [ring["x"] for ring in rings] == [[3], [3], [5], [5]]


@pytest.mark.parametrize(
    "trainings",
    [
        [],
        [training("none", 0)],
        [Training("holes", [{}, {"loss": 1.0}])],
        [training("one", 1, 0)],
        [Training("nan", [{"loss": math.nan, "val_loss": math.inf}, {"loss": 1.0}], 1)],
        [training("a", 3, 1, auc=0.5), training("b", 400, 399)],
        [training("steep", 3, 2, loss=1e-6), training("zero", 3, loss=0.0)],
        [training("steep", 400), training("long", 3)],
        [training("_odd $name^ " + "x" * 200, 3), training("<i>&", 3)],
    ],
    ids=["empty", "no epoch", "holes", "one", "not a number", "other lengths", "zero", "steep", "odd names"],
)
def test_any_histories_make_a_picture_and_a_page(trainings):
    assert pixels(still(trainings, ["val_accuracy"], "a $title_with^ symbols")).size[0] > 300
    assert traces(interactive(trainings, ["val_accuracy"], "a $title_with^ symbols").decode()) is not None
