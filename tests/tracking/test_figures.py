"""The learning curves are a picture, whatever there is to show, and from any thread."""

import io
import math
import threading

import pytest
from PIL import Image

from tracking.figures import learning_curves


def size(png):
    image = Image.open(io.BytesIO(png))
    image.verify()
    assert image.format == "PNG"
    return image.size


def epochs(count, **extra):
    return [{"loss": 2 / (e + 1), "val_loss": 2.2 / (e + 1), "accuracy": 0.1 * e, "val_accuracy": 0.09 * e} | extra
            for e in range(count)]  # fmt: skip


def test_a_learning_rate_adds_a_thin_panel():
    without, with_rate = size(learning_curves(epochs(5), "t")), size(learning_curves(epochs(5, learning_rate=0.1), "t"))
    assert without[0] == with_rate[0]
    assert 1.1 < with_rate[1] / without[1] < 1.5


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{}],
        epochs(1),
        [{"loss": math.nan, "learning_rate": 0.1}],
        [*epochs(2), {"loss": math.nan, "val_loss": math.inf}],
        [{"loss": 1.0, "seconds": 3.0}],
        epochs(100, learning_rate=0.0),
        [{"top_5": 0.5, "val_top_5": 0.4, "loss": 1.0, "val_loss": 1.1, "auc": 1.0, "val_auc": 0.9}],
    ],
    ids=["empty", "nothing", "one", "nan", "breaks", "training only", "long", "other metrics"],
)
def test_any_history_makes_a_picture(history):
    assert size(learning_curves(history, "a $title_with^ symbols"))[0] > 300


def test_pictures_are_drawn_in_several_threads_at_once():
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.append(learning_curves(epochs(9), "t"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({size(png) for png in drawn}) == 1
    assert len(drawn) == 3
