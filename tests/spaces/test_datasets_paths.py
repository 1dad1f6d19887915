"""A user's own images as a dataset: folders of classes and .npz files, whole, odd and damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spaces import errors
from spaces.datasets import canonical, describe, load, memo, open_test, prepare, splits, verify

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SEARCH_SEALED", raising=False)


def image(path: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB", **options: object) -> None:
    """An image of one colour; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value // 2, 0)).save(path, **options)


def classes(root: Path, each: dict[str, int], suffix: str = ".png", **options: object) -> Path:
    """A folder with so many images of each class; the value of an image is its number plus 100 times its class."""
    for label, (name, count) in enumerate(each.items()):
        for i in range(count):
            image(root / name / f"{i:03}{suffix}", min(255, i + 100 * label), **options)
    return root


def ready(root: Path, tmp_path: Path, said: list[str] | None = None) -> Path:
    return prepare(f"path:{root}", cache=tmp_path / "cache", say=(said if said is not None else []).append)


def test_a_folder_of_class_folders_is_a_dataset_with_a_sealed_fifth(tmp_path: Path) -> None:
    root = classes(tmp_path / "pets", {"dog": 20, "cat": 10})
    spec = describe(f"path:{root}")

    assert (spec.name, spec.classes, spec.class_names) == (f"path:{root}", 2, ("cat", "dog"))
    assert (spec.input_shape, spec.train_size, spec.test_size, spec.validation_size) == ((8, 8, 3), 24, 6, 2)
    said: list[str] = []
    folder = ready(root, tmp_path, said)
    assert describe(f"path:{root}") == spec == describe(f"path:{root}", folder)
    x, y = open_test(f"path:{root}", folder, purpose="a test", log=tmp_path / "log")
    assert np.bincount(y).tolist() == [2, 4]
    data = load(f"path:{root}", folder, seed=0)
    assert np.bincount(data.y[data.validation]).tolist() == [1, 1]
    values = np.concatenate([data.x, x])[:, 0, 0, 0].tolist()
    assert sorted(values) == sorted([*range(20), *range(100, 110)])
    assert any("a fifth of each class (6 of 30 images) is the sealed test part" in line for line in said)
    assert any("to 8x8 in colour" in line for line in said)
    verify(f"path:{root}", folder)


def test_each_image_keeps_its_label_and_its_pixels(tmp_path: Path) -> None:
    root = classes(tmp_path / "two", {"a": 9, "b": 9})
    folder = ready(root, tmp_path)
    data = load(f"path:{root}", folder, seed=0)
    assert all((data.x[i, 0, 0, 0] >= 100) == bool(data.y[i]) for i in range(len(data.y)))
    assert (data.x[..., 1] == data.x[..., 0] // 2).all()
    assert not data.x[..., 2].any()


@pytest.mark.parametrize("sealed", ["test", "val", "validation"])
def test_train_beside_test_or_validation_is_taken_as_it_is(tmp_path: Path, sealed: str) -> None:
    root = tmp_path / "parted"
    classes(root / "train", {"a": 6, "b": 5})
    classes(root / sealed, {"a": 3, "b": 1})
    said: list[str] = []
    ready(root, tmp_path, said)
    spec = describe(f"path:{root}")
    assert (spec.train_size, spec.test_size, spec.class_names) == (11, 4, ("a", "b"))
    assert any(f"{sealed}/ is the sealed test part; what validates is taken from train/" in line for line in said)


def test_where_there_are_test_and_val_the_test_part_is_sealed_and_the_other_not_used(tmp_path: Path) -> None:
    root = tmp_path / "parted"
    for part, count in (("train", 6), ("val", 4), ("test", 2)):
        classes(root / part, {"a": count, "b": count})
    said: list[str] = []
    ready(root, tmp_path, said)
    assert describe(f"path:{root}").test_size == 4
    assert any("val/ is not used" in line for line in said)


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    root = classes(tmp_path / "vehicles", {"plane": 5, "train": 5, "test": 5})
    assert describe(f"path:{root}").class_names == ("plane", "test", "train")


@pytest.mark.parametrize("beside", ["a test part without labels", "nothing"])
def test_train_alone_is_said_to_be_that(tmp_path: Path, beside: str) -> None:
    root = tmp_path / "contest"
    classes(root / "train", {"a": 5, "b": 5})
    if beside != "nothing":
        image(root / "test" / "1.png", 1)
    with pytest.raises(errors.DatasetCorrupt, match=f"neither test/ nor val/ .*give path:{root}/train"):
        describe(f"path:{root}")
    assert describe(f"path:{root}/train").class_names == ("a", "b")
    classes(root / "val", {"a": 2, "b": 2})
    assert describe(f"path:{root}").test_size == 4, "what has labels is sealed"


def test_a_size_is_what_all_images_are_resized_to(tmp_path: Path) -> None:
    root = classes(tmp_path / "wide", {"a": 5, "b": 5}, size=(12, 6))
    assert describe(f"path:{root}").input_shape == (6, 12, 3), "that of all"
    spec = describe(f"path:{root}@16")
    assert spec.input_shape == (16, 16, 3)
    assert spec.digest != describe(f"path:{root}").digest
    folder = prepare(f"path:{root}@16", cache=tmp_path / "cache")
    assert np.load(folder / "x_train.npy").shape == (8, 16, 16, 3)


def test_images_of_several_sizes_become_64_by_64_and_that_is_said(tmp_path: Path) -> None:
    root = classes(tmp_path / "odd", {"a": 5, "b": 5})
    image(root / "a" / "large.jpg", 3, size=(100, 80))
    image(root / "b" / "large.jpg", 3, size=(100, 80))
    said: list[str] = []
    folder = ready(root, tmp_path, said)
    assert np.load(folder / "x_train.npy", mmap_mode="r").shape[1:] == (64, 64, 3)
    assert any("different sizes (8x8 to 100x80): all become 64x64" in line for line in said)


def test_a_set_is_grey_only_if_every_image_of_the_sample_is(tmp_path: Path) -> None:
    root = classes(tmp_path / "grey", {"a": 5, "b": 5}, mode="L")
    assert describe(f"path:{root}").input_shape == (8, 8, 1)
    for i in range(5):
        image(root / "a" / f"coloured-{i}.png", 5)
    assert describe(f"path:{root}").input_shape == (8, 8, 3)


def test_palettes_transparency_and_16_bits_are_read(tmp_path: Path) -> None:
    root = classes(tmp_path / "kinds", {"a": 4, "b": 4})
    image(root / "a" / "0.gif", 7)
    Image.new("RGBA", (8, 8), (9, 8, 7, 0)).save(root / "a" / "1.png")
    Image.fromarray(np.full((8, 8), 0x1234, np.uint16)).save(root / "b" / "2.png")
    image(root / "b" / "3.webp", 1, lossless=True)
    said: list[str] = []
    ready(root, tmp_path, said)
    assert not [line for line in said if "left out" in line]


def test_a_path_is_made_absolute_and_a_folder_called_like_a_size_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "x" / "photos@2", {"a": 5, "b": 5})
    assert canonical("path:x/../x/photos@2") == f"path:{tmp_path}/x/photos@2"
    assert canonical("path:x/photos@2@16") == f"path:{tmp_path}/x/photos@2@16"
    assert describe("path:x/photos@2").name == f"path:{tmp_path}/x/photos@2"
    assert canonical("digits") == "digits"


def test_the_digest_is_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    other = shutil.copytree(root, tmp_path / "elsewhere" / "two")
    first = describe(f"path:{root}").digest
    assert describe(f"path:{other}").digest == first
    image(other / "a" / "000.png", 77)
    assert describe(f"path:{other}").digest != first
    assert describe(f"path:{root}").digest == first


def test_changed_files_are_other_data_and_what_was_made_before_stays(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    before = ready(root, tmp_path)
    image(root / "a" / "new.png", 77)
    after = ready(root, tmp_path)
    assert after != before
    assert len(load(f"path:{root}", before, seed=0).y) == 8
    assert len(load(f"path:{root}", after, seed=0).y) == 9


def test_what_was_prepared_is_opened_after_the_folder_is_gone(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    folder = ready(root, tmp_path)
    spec = describe(f"path:{root}")
    shutil.rmtree(root)
    assert describe(f"path:{root}", folder) == spec
    assert len(load(f"path:{root}", folder, seed=0).y) == 8
    verify(f"path:{root}", folder)
    open_test(f"path:{root}", folder, purpose="a test", log=tmp_path / "log")


def test_what_was_found_out_is_noted_and_not_found_out_again(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    spec = describe(f"path:{root}")
    noted = list((tmp_path / "xdg" / "keras-search" / "scans").iterdir())
    assert len(noted) == 1
    facts = json.loads(noted[0].read_text())
    noted[0].write_text(json.dumps(facts | {"facts": facts["facts"] | {"digest": "as noted"}}))
    memo._known.clear()
    assert describe(f"path:{root}").digest == "as noted"
    noted[0].write_text("{damaged")
    memo._known.clear()
    assert describe(f"path:{root}") == spec


def test_describing_a_folder_imports_nothing_heavy(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    code = (
        f"import sys; from spaces.datasets import describe; describe('path:{root}');"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'sklearn', 'scipy', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_means_and_deviations_are_those_of_the_training_images(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 20, "b": 20})
    spec = describe(f"path:{root}")
    x = np.load(ready(root, tmp_path) / "x_train.npy").astype(np.float64)
    assert spec.mean == pytest.approx(x.mean(axis=(0, 1, 2)), abs=1e-5)
    assert spec.std[:2] == pytest.approx(x.std(axis=(0, 1, 2))[:2], abs=1e-5)
    assert spec.std[2] == 1.0, "nothing to divide by"


# What cannot be used.


def corrupt(path: Path) -> None:
    """A JPEG broken off in the middle."""
    rng = np.random.default_rng(len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-40])


def test_an_image_that_cannot_be_read_is_named_left_out_and_counted(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 20, "b": 20})
    corrupt(root / "a" / "broken.jpg")
    (root / "b" / "text.png").write_text("no image")
    (root / "b" / "empty.png").touch()
    said: list[str] = []
    folder = ready(root, tmp_path, said)
    for name in ("a/broken.jpg", "b/text.png", "b/empty.png"):
        assert sum(line.startswith(f"path:{root}: {name} is left out: ") for line in said) == 1, said
    assert any("left out, since they cannot be read" in line for line in said)
    spec = describe(f"path:{root}")
    assert spec.train_size + spec.test_size == 40
    assert len(np.load(folder / "y_train.npy")) == len(np.load(folder / "x_train.npy")) == spec.train_size
    data = load(f"path:{root}", folder, seed=0)
    assert all((data.x[i, 0, 0, 0] >= 100) == bool(data.y[i]) for i in range(len(data.y)))
    memo._known.clear()
    shutil.rmtree(tmp_path / "xdg")
    assert ready(root, tmp_path) == folder, "found again without the note"
    assert describe(f"path:{root}") == spec


def test_more_than_a_few_that_cannot_be_read_are_refused_naming_the_first_three(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 20, "b": 20})
    for i in range(20):
        corrupt(root / "a" / f"broken-{i:02}.jpg")
    with pytest.raises(errors.DatasetCorrupt) as raised:
        ready(root, tmp_path)
    assert "\n" not in str(raised.value)
    assert "more than 10 of the" in str(raised.value)
    assert str(raised.value).count("broken-") == 3
    assert not list((tmp_path / "cache").glob("path-*")), "nothing half made stays"


def test_a_class_that_loses_its_images_is_refused(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 20})
    for i in range(5):
        corrupt(root / "b" / f"broken-{i}.jpg")
    with pytest.raises(errors.DatasetCorrupt, match=r"class 'b' has 0 images, but needs 2 or more"):
        ready(root, tmp_path)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({}, "has no folder in it"),
        ({"a": 5}, "has one class only, 'a'"),
        ({"a": 5, "b": 0}, "b is an empty class"),
        ({"a": 0, "b": 0}, "has no images in its folders"),
        ({"a": 5, "b": 2}, "class 'b' has 2 images, but needs 3 or more"),
        ({f"{i:03}": 1 for i in range(257)}, "has 257 classes; there may be 256"),
    ],
)
def test_a_folder_that_is_no_dataset_is_one_line(tmp_path: Path, made: dict[str, int], message: str) -> None:
    root = tmp_path / "one"
    root.mkdir()
    for name, count in made.items():
        (root / name).mkdir()
        for i in range(count):
            image(root / name / f"{i}.png", 1)
    with pytest.raises(errors.DatasetError, match=message) as raised:
        describe(f"path:{root}")
    assert "\n" not in str(raised.value)
    assert str(root) in str(raised.value)


def test_a_class_that_one_part_lacks_is_named(tmp_path: Path) -> None:
    classes(tmp_path / "one" / "train", {"a": 5, "b": 5, "c": 5})
    classes(tmp_path / "one" / "test", {"a": 5, "b": 5})
    with pytest.raises(errors.DatasetCorrupt, match=r"train/c is a class that .*/test has no folder for"):
        describe(f"path:{tmp_path}/one")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("path:", "names no path"),
        ("path:/no/such/folder", "/no/such/folder is not there"),
        ("path:/no/such/folder@32", "/no/such/folder is not there"),
        ("path:/no/such@0", "0 pixels a side; give 1 to 2048"),
        ("path:/no/such.npz", "/no/such.npz is not there"),
        ("path:/etc/hostname", "neither a folder nor an .npz"),
    ],
)
def test_a_name_that_means_nothing_is_one_line(name: str, message: str) -> None:
    with pytest.raises(errors.DatasetError, match=message) as raised:
        describe(name)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    (root / "b").chmod(0)
    try:
        with pytest.raises(errors.DatasetUnavailable, match="Permission denied"):
            describe(f"path:{root}")
    finally:
        (root / "b").chmod(0o755)


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    (root / "a" / "again").symlink_to(root)
    assert describe(f"path:{root}").classes == 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_cache_that_was_damaged_is_noticed_and_made_again(tmp_path: Path, damage: str) -> None:
    root = classes(tmp_path / "one", {"a": 5, "b": 5})
    folder = ready(root, tmp_path)
    whole = (folder / "x_train.npy").read_bytes()
    if damage == "remove":
        (folder / "x_train.npy").unlink()
    else:
        (folder / "x_train.npy").write_bytes(whole[:-1] + (b"" if damage == "truncate" else b"\x99"))
    said: list[str] = []
    assert ready(root, tmp_path, said) == folder
    assert (folder / "x_train.npy").read_bytes() == whole
    assert any("stored in" in line for line in said)
    verify(f"path:{root}", folder)


# .npz


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 3)])
def test_an_npz_of_images_and_labels_is_a_dataset(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x, y = RNG.integers(0, 256, (40, *shape), np.uint8), np.arange(40) % 4
    name = f"path:{npz(tmp_path / 'mine.npz', x=x, y=y)}"
    spec = describe(name)
    assert (spec.input_shape, spec.classes) == ((8, 6, shape[2] if len(shape) > 2 else 1), 4)
    assert (spec.train_size, spec.test_size, spec.class_names) == (32, 8, ("0", "1", "2", "3"))
    folder = prepare(name, cache=tmp_path / "cache")
    data = load(name, folder, seed=0)
    kept = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    assert all(kept[np.asarray(data.x[i]).tobytes()] == data.y[i] for i in range(len(data.y)))


def test_an_npz_with_both_parts_keeps_them(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (30, 4, 4), np.uint8)
    y = (np.arange(30) % 3).astype(np.int32)[:, None]
    file = npz(tmp_path / "mine.npz", x_train=x[:21], y_train=y[:21], x_test=x[21:], y_test=y[21:])
    folder = prepare(f"path:{file}", cache=tmp_path / "cache")
    assert np.array_equal(np.load(folder / "x_test.npy")[..., 0], x[21:])
    verify(f"path:{file}", folder)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "has neither x_train, y_train, x_test, y_test nor x, y; it has a"),
        ({"x": np.zeros((9, 4, 4)), "y": np.arange(9) % 2}, "images must be uint8"),
        ({"x": np.zeros((9, 4, 4, 2), np.uint8), "y": np.arange(9) % 2}, "images must be uint8"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.arange(8) % 2}, "9 images in x, but 8 labels"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.zeros(9, np.int64)}, "classes by its labels: 1;"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.int64(3)}, "labels must be whole, from 0 on"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.arange(9) - 1}, "labels must be whole, from 0 on"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.arange(9) / 9}, "labels must be whole, from 0 on"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.arange(9) * 100}, "has the label 800"),
        ({"x": np.zeros((9, 4, 4), np.uint8), "y": np.arange(9) % 2 * 2}, "class '1' has 0 images"),
    ],
)
def test_an_npz_that_is_no_dataset_is_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(errors.DatasetCorrupt, match=message) as raised:
        describe(f"path:{npz(tmp_path / 'mine.npz', **arrays)}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_damaged_npz_is_one_line(tmp_path: Path, keep: int) -> None:
    file = npz(tmp_path / "mine.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.arange(9) % 2)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(errors.DatasetCorrupt, match="is damaged or no .npz") as raised:
        describe(f"path:{file}")
    assert "\n" not in str(raised.value)


# The split.


@settings(max_examples=60)
@given(st.lists(st.integers(3, 40), min_size=2, max_size=12), st.integers(0, 2**32))
def test_a_fifth_of_each_class_and_at_least_one_image_is_held_out(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    rest, held = splits.hold_out_a_fifth(labels, classes=len(counts), seed=seed)
    assert np.array_equal(np.sort(np.concatenate([rest, held])), np.arange(len(labels)))
    each = np.bincount(labels[held], minlength=len(counts))
    assert (each >= 1).all()
    assert (np.abs(each - np.array(counts) / 5) <= 0.8).all()
    assert (np.bincount(labels[rest], minlength=len(counts)) >= 2).all()


@settings(max_examples=60)
@given(st.lists(st.integers(2, 200), min_size=2, max_size=30), st.integers(0, 2**32))
def test_every_class_is_trained_on_and_validated_on_however_few_it_has(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    size = max(len(counts), len(labels) // 10)
    parts = splits.split(labels, classes=len(counts), validation_size=size, seed=seed, least=1)
    assert len(parts[1]) == size
    for part in parts:
        assert (np.bincount(labels[part], minlength=len(counts)) >= 1).all()


def test_one_array_called_npz_is_one_line(tmp_path: Path) -> None:
    with (tmp_path / "mine.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(errors.DatasetCorrupt, match="holds one array"):
        describe(f"path:{tmp_path / 'mine.npz'}")


@pytest.mark.parametrize(("train", "sealed"), [("train", "valid"), ("Train", "Test"), ("TRAIN", "validation")])
def test_parts_are_known_by_their_names_in_any_letters(tmp_path: Path, train: str, sealed: str) -> None:
    for part, count in ((train, 10), (sealed, 3)):
        classes(tmp_path / part, {"cat": count, "dog": count})
    spec = describe(f"path:{tmp_path}")
    assert spec.class_names == ("cat", "dog")
    assert (spec.train_size, spec.test_size) == (20, 6)


def test_folders_that_look_like_parts_under_other_names_are_refused(tmp_path: Path) -> None:
    for part in ("fold_1", "fold_2"):
        classes(tmp_path / part, {"cat": 5, "dog": 5})
    with pytest.raises(errors.DatasetCorrupt, match="look like parts, not like classes"):
        describe(f"path:{tmp_path}")


def test_a_pipe_called_png_is_not_waited_for(tmp_path: Path) -> None:
    classes(tmp_path, {"cat": 5, "dog": 5})
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert describe(f"path:{tmp_path}").train_size == 8


def test_two_classes_that_are_links_to_one_folder_are_two_classes(tmp_path: Path) -> None:
    classes(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "puma").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "round").symlink_to(tmp_path)
    assert describe(f"path:{tmp_path}").class_names == ("cat", "dog", "puma")


def test_a_photo_that_lies_on_its_side_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            upright = Image.new("RGB", (4, 6), "black")
            upright.putpixel((0, 0), (255, 255, 255))  # its upper left
            upright.transpose(Image.Transpose.ROTATE_90).save(root / name / f"{number}.png", exif=exif)
    assert describe(f"path:{root}").input_shape == (6, 4, 3)
    for shown in np.asarray(load(f"path:{root}", ready(root, tmp_path), seed=0).x):
        assert shown[0, 0].tolist() == [255, 255, 255]
        assert shown.sum() == 3 * 255


def test_images_too_large_for_most_networks_come_with_advice(tmp_path: Path) -> None:
    said: list[str] = []
    ready(classes(tmp_path / "photos", {"cat": 5, "dog": 5}, size=(700, 600)), tmp_path, said)
    assert any("its images are 700x600 pixels" in line and "@SIZE" in line for line in said)
