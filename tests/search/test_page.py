"""A report is one sound HTML file that needs nothing else and says everything in words as well as pictures."""

import base64
import functools
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from search.evaluation import measure, mistakes
from search.page import Compared, Report, Verdict, render

VOID = {"meta", "img"}
NOTHING = {"facts": {}, "configuration": {}, "history": [], "robustness": {}, "comparison": [], "mistakes": []}


class Page(HTMLParser):
    """Checks nesting while reading; keeps tags with their attributes, and the words."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def report(classes=3, images=60, names=None, **changed):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images).astype(np.uint8)
    weights = random.random((images, classes))
    weights[np.arange(images), labels] += 0.5
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    pictures = random.integers(0, 256, (images, 8, 8, 1), dtype=np.uint8)
    return Report(
        **{
            "title": "cnn_digits version 4",
            "verdict": Verdict("accepted", "It is better than version 3."),
            "figures": measure(probabilities, labels, names or [f"class {c}" for c in range(classes)]),
            "facts": {"Study": "s", "Test split opened": 2},
            "configuration": {"learning_rate": 0.001, "bottleneck": True},
            "history": [{"loss": 2.0 - e, "val_loss": 2.1 - e, "accuracy": 0.5, "system/cpu": 80.0} for e in range(2)],
            "robustness": {"rotated_90": 0.25, "noisy": 0.5},
            "comparison": [Compared("Accuracy", 0.91, 0.9), Compared("Parameters", 37006, None)],
            "mistakes": [(m, pictures[m.index]) for m in mistakes(probabilities, labels, 5)],
        }
        | changed
    )


@functools.cache
def usual():
    return render(report())


def test_a_page_says_accuracy_decision_comparison_classes_facts_and_configuration_in_words():
    given = report()
    text = Page(usual()).text
    low, high = given.figures.accuracy_interval
    assert f"Accuracy {given.figures.accuracy:.4f} 95 % interval {low:.4f} to {high:.4f}, on 60 images" in text
    assert "Accepted It is better than version 3." in text
    assert "Accuracy 0.9100 0.9000" in text
    assert "Parameters 37,006 —" in text
    for c in range(3):
        assert f"class {c} {given.figures.precision[c]:.4f} {given.figures.recall[c]:.4f}" in text
    assert "Test split opened 2" in text
    assert "learning_rate 0.001 bottleneck true" in text
    assert "rotated 90 0.2500" in text
    assert "over 2 epochs; the last one: loss 1, val loss 1.1, accuracy 0.5." in text


def test_a_page_asks_nothing_of_the_network_and_runs_no_script():
    text = usual()
    page = Page(text)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    used = {tag for tag, _ in page.tags}
    assert not used & {"script", "link", "iframe", "object", "form", "a", "base"}
    assert not re.search(r"https?:|url\(|@import|//", re.sub(r"base64,[^\"]*", "", text))
    assert {"http-equiv": "Content-Security-Policy"}.items() <= page.all("meta")[2].items()
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_every_picture_is_whole_and_has_words_in_its_place():
    page = Page(usual())
    assert len(page.all("img")) == 5 + 5
    for image in page.all("img"):
        Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))).verify()
        assert len(image["alt"]) > 20
    assert any(re.match(r"Image \d+, a class \d, taken for class \d with probability 0\.", i["alt"])
               for i in page.all("img"))  # fmt: skip


def test_a_page_can_be_read_aloud_and_on_a_phone():
    page = Page(usual())
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    assert {attrs.get("scope") for attrs in page.all("th")} == {"row", "col"}
    assert "prefers-color-scheme: dark" in "".join(page.words)


def test_no_text_becomes_html():
    evil = "<script>alert('1')</script>\"&{body}{style}"
    given = report(
        names=[evil, "健康", "\ud800 and \x00"],
        title=evil,
        verdict=Verdict("refused", evil),
        facts={evil: evil},
        configuration={evil: evil},
        comparison=[Compared(evil, evil, evil)],
        robustness={evil: 0.5},
        history=[{evil: 1.0, "loss": 1.0}],
        measured_on=evil,
    )
    text = render(given)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 9
    assert text.encode()  # no half surrogate is left
    assert "\x00" not in text
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


@pytest.mark.parametrize("kind", ["accepted", "refused", "first"])
def test_the_verdict_is_a_word_not_a_colour_alone(kind):
    text = Page(render(report(**NOTHING, verdict=Verdict(kind, "Because.")))).text
    assert {"accepted": "Accepted", "refused": "Refused", "first": "First champion"}[kind] + " Because." in text


def test_what_there_is_nothing_of_is_left_out():
    page = Page(render(report(**NOTHING)))
    assert len(page.all("h2")) == 2
    assert len(page.all("img")) == 3


def test_a_hundred_classes_are_all_in_the_table_that_scrolls():
    page = Page(render(report(classes=100, images=300)))
    assert all(f"class {c} " in page.text for c in range(100))
    assert {"class": "long", "tabindex": "0", "role": "region", "aria-label": "Every class"} in page.all("div")
    assert "Top-5 accuracy" in page.text


def test_a_perfect_model_and_a_single_image_have_a_page():
    figures = measure(np.float32([[1, 0]]), np.uint8([0]), ["a", "b"])
    text = Page(render(report(**NOTHING | {"figures": figures}))).text
    assert "No image was confused." in text
    assert "nan" not in text.lower()


def test_the_same_report_gives_the_same_page():
    assert render(report()) == usual()
