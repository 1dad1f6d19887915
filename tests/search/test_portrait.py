"""Pictures of the data: the counts are true, what is drawn is seen, and neither a trial nor its numbers suffer."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import fetched, trial_spec

from search import store
from search.trial import portrait
from spaces import Recipe
from spaces.datasets import DataSpec, TrainingData, describe, load
from tracking import gallery

RUN = """
import hashlib, json, sys
from pathlib import Path
from search.trial import portrait
from search.trial.spec import TrialSpec
from search.trial.train import Training
from spaces import find
from spaces.datasets import describe, load
space, home, folder = find("cnn_digits"), Path(sys.argv[1]), Path(sys.argv[2])
config = dict(space.baselines[0].config) | {"dropout": 0.3, "augmentation": "full"}
found, said = [], []
for pictures in ("", str(home / "data")):
    spec = TrialSpec(study="s", number=0, attempt=1, space="cnn_digits", config=config, config_hash="h",
                     data_folder=str(folder), data_seed=0, train_limit=200, validation_limit=100, epochs=2,
                     milestones=(), patience=0, seed=7, metric="val_accuracy", direction="maximize",
                     precision="float32", folder=str(home), pictures=pictures)
    arrays = load("digits", folder, seed=0, train_limit=200, validation_limit=100)
    said += portrait.drawn(spec, space.recipe(config), describe("digits"), lambda: arrays)
    training = Training(space, spec, describe("digits"), arrays)
    training.epoch()
    found.append(hashlib.sha256(b"".join(w.tobytes() for w in training.network.get_weights())).hexdigest())
print(json.dumps([found, said, sorted(p.name for p in (home / "data").iterdir())]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.long)])
def test_a_trial_trains_to_the_same_weights_whether_or_not_it_drew_the_pictures(tmp_path: Path, backend: str) -> None:
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", RUN, str(tmp_path), str(fetched("digits"))]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (without, with_them), said, names = json.loads(done.stdout)
    assert without == with_them
    assert said == []
    assert names == ["augmented_full.png", "images_per_class.csv", "images_per_class.png", "samples.png"]


def digits() -> tuple[DataSpec, TrainingData]:
    return describe("digits"), load("digits", fetched("digits"), seed=0, train_limit=300)


def recipe(augmentation: str = "none") -> Recipe:
    return Recipe(batch_size=32, optimizer="adam", learning_rate=1e-3, augmentation=augmentation)


def test_the_counts_are_those_of_the_images_that_are_trained_and_validated_on(tmp_path: Path) -> None:
    data, arrays = digits()
    spec = trial_spec(tmp_path, pictures=str(tmp_path / "data"))
    assert portrait.drawn(spec, recipe(), data, lambda: arrays) == []
    rows = list(csv.DictReader(io.StringIO((tmp_path / "data" / portrait.COUNTS).read_text())))
    assert [row["class"] for row in rows] == list(data.class_names)
    labels = np.asarray(arrays.y)
    for label, row in enumerate(rows):
        assert int(row["training"]) == np.count_nonzero(labels[arrays.train] == label)
        assert int(row["validation"]) == np.count_nonzero(labels[arrays.validation] == label)
    assert sum(int(row["training"]) for row in rows) == 300


def test_what_is_there_is_not_drawn_again_and_a_new_augmentation_is(tmp_path: Path) -> None:
    data, arrays = digits()
    spec = trial_spec(tmp_path, pictures=str(tmp_path / "data"))
    portrait.drawn(spec, recipe(), data, lambda: arrays)
    before = (tmp_path / "data" / portrait.SAMPLES).stat().st_mtime_ns

    def opened() -> TrainingData:
        raise AssertionError("nothing is to be drawn")

    assert portrait.drawn(spec, recipe(), data, opened) == []
    assert portrait.drawn(spec, recipe("flip"), data, lambda: arrays) == []
    assert (tmp_path / "data" / portrait.SAMPLES).stat().st_mtime_ns == before
    assert [p.name for p in store.pictures_of_data(tmp_path)] == [
        "augmented_flip.png",
        "images_per_class.csv",
        "images_per_class.png",
        "samples.png",
    ]


def test_a_picture_that_cannot_be_drawn_is_said_in_one_line_and_fails_nothing(tmp_path: Path) -> None:
    data, arrays = digits()
    (tmp_path / "data").write_text("a file where the folder should be")
    said = portrait.drawn(trial_spec(tmp_path, pictures=str(tmp_path / "data")), recipe(), data, lambda: arrays)
    assert len(said) == 1
    assert said[0].startswith("no pictures of the data: ")
    assert "\n" not in said[0]


def test_without_a_study_nothing_is_drawn(tmp_path: Path) -> None:
    data, arrays = digits()
    assert portrait.drawn(trial_spec(tmp_path), recipe("full"), data, lambda: arrays) == []
    assert list(tmp_path.iterdir()) == []


def test_every_class_is_among_the_samples_before_any_is_shown_twice(tmp_path: Path) -> None:
    _, arrays = digits()
    chosen = portrait._chosen(trial_spec(tmp_path), arrays, 20)
    assert sorted(np.asarray(arrays.y)[chosen[:10]]) == list(range(10))
    assert len(set(chosen.tolist())) == 20
    assert set(chosen.tolist()) <= set(arrays.train.tolist()), "no validation image"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 300), (500, 20)])
def test_images_of_any_size_and_any_number_of_channels_are_shown(channels: int, size: tuple[int, int]) -> None:
    image = np.full((*size, channels), 200, dtype=np.uint8)
    picture = Image.open(io.BytesIO(gallery.grid([[(image, "a class\nwith a long name " * 5)]], "title")))
    assert picture.size[1] > gallery.TILE
    middle = (gallery.MARGIN + gallery.TILE // 2, gallery.HEAD + gallery.TILE // 2)
    assert picture.getpixel(middle)[0] == pytest.approx(200, abs=60)


def test_bars_are_as_long_as_their_counts() -> None:
    picture = Image.open(io.BytesIO(gallery.bars([("a", 100, 0), ("b", 50, 50), ("c", 0, 0), ("猫", 1, 1)], "title")))
    rows = [gallery.HEAD + gallery.CAPTION + gallery.BAR * i + gallery.BAR // 2 for i in range(3)]
    left = gallery.MARGIN + gallery.NAME_WIDTH

    def colours(y: int) -> list[tuple[int, ...]]:
        return [picture.getpixel((left + round(gallery.BAR_WIDTH * share), y)) for share in (0.25, 0.75)]

    full, half, none = (colours(y) for y in rows)
    assert full[0] == full[1] == half[0]
    assert half[1] != half[0]
    assert none[0] == none[1] not in (full[0], half[1])


def test_every_named_augmentation_can_be_shown(tmp_path: Path) -> None:
    from spaces._recipe import AUGMENTATIONS

    data, arrays = digits()
    spec = trial_spec(tmp_path, pictures=str(tmp_path / "data"))
    for name in AUGMENTATIONS:
        assert portrait.drawn(spec, recipe(name), data, lambda: arrays) == []
    drawn = {p.name for p in store.pictures_of_data(tmp_path) if p.name.startswith("augmented")}
    assert drawn == {f"augmented_{name}.png" for name in AUGMENTATIONS if name != "none"}


def test_a_picture_cut_off_by_a_kill_is_known_as_ours(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("samples.png.123.part", "augmented_flip_shift.png.9.part", "mine.png.part"):
        (tmp_path / "data" / name).write_bytes(b"")
    assert [p.name for p in store.half_written(tmp_path)] == ["augmented_flip_shift.png.9.part", "samples.png.123.part"]
    assert store.pictures_of_data(tmp_path) == []


def test_classes_of_any_name_are_counted_and_drawn(tmp_path: Path) -> None:
    data, arrays = digits()
    names = ("café", "日本", "a" * 300, "\udcff", "two\nlines", "", *data.class_names[6:])
    odd = replace(data, class_names=names)
    spec = trial_spec(tmp_path, pictures=str(tmp_path / "data"))
    assert portrait.drawn(spec, recipe("flip"), odd, lambda: arrays) == []
    assert len(store.pictures_of_data(tmp_path)) == 4


def test_names_that_differ_only_at_their_ends_are_told_apart() -> None:
    one, other = (gallery._cut(f"a class with a very long name {i}", gallery.TILE) for i in (1, 2))
    assert one != other
    assert "…" in one
