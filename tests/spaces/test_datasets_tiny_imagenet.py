"""Tiny ImageNet in its official layout, from a real sample of it: as a folder, an archive, in part and damaged."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from spaces import errors
from spaces.datasets import canonical, describe, load, memo, prepare, tiny_imagenet, verify

SAMPLE = Path(
    os.environ.get("TINY_IMAGENET_SAMPLE") or Path(__file__).parents[3] / "shared/data/tiny-imagenet-sample.tar"
)
needs_sample = pytest.mark.skipif(not SAMPLE.exists(), reason=f"needs {SAMPLE.name}")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SEARCH_DATA", raising=False)


def small(data: Path, wnids: tuple[str, ...] = ("n02", "n01", "n03"), words: str | None = None) -> Path:
    """The official layout with three classes; the red of an image is 10 times its class, in the order of wnids."""
    root = data / "tiny-imagenet-200"
    lines = []
    for wnid in wnids:
        red = 10 * sorted(wnids).index(wnid)
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "val" / "images").mkdir(parents=True, exist_ok=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("not used")
        for i in range(6):
            Image.new("RGB", (64, 64), (red, i, 0)).save(root / "train" / wnid / "images" / f"{wnid}_{i}.png")
        for i in range(2):
            Image.new("RGB", (64, 64), (red, i, 9)).save(root / "val" / "images" / f"val_{wnid}_{i}.png")
            lines.append(f"val_{wnid}_{i}.png\t{wnid}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    if words is not None:
        (root / "words.txt").write_text(words)
    return root


def packed(root: Path, archive: Path) -> Path:
    """A folder as an archive, under its own name."""
    if archive.suffix == ".tar":
        with tarfile.open(archive, "w") as tar:
            tar.add(root, root.name)
        return archive
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            file.write(path, str(path.relative_to(root.parent)))
    return archive


def test_its_official_facts_are_known_before_it_is_there() -> None:
    spec = describe("tiny_imagenet")
    assert (spec.input_shape, spec.classes, spec.train_size, spec.test_size) == ((64, 64, 3), 200, 100_000, 10_000)
    assert (spec.validation_size, spec.fitting_size) == (10_000, 90_000)
    assert describe("tiny_imagenet@32").input_shape == (32, 32, 3)
    assert describe("tiny_imagenet@32").digest != spec.digest
    assert canonical("tiny_imagenet@64") == "tiny_imagenet"


@pytest.mark.parametrize("size", ["", "0", "65", "x", "-3"])
def test_a_size_that_there_is_not_is_refused(size: str) -> None:
    with pytest.raises(errors.UnknownDataset, match="give tiny_imagenet or tiny_imagenet@SIZE with 1 to 64 pixels"):
        describe(f"tiny_imagenet@{size}")


@needs_sample
def test_a_part_of_the_real_set_is_used_and_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with tarfile.open(SAMPLE) as tar:
        tar.extractall(data, filter="data")
    monkeypatch.setenv("SEARCH_DATA", str(data))
    said: list[str] = []
    folder = prepare("tiny_imagenet@32", cache=tmp_path / "cache", data=data, say=said.append)

    spec = describe("tiny_imagenet@32")
    assert (spec.input_shape, spec.classes, spec.train_size, spec.test_size) == ((32, 32, 3), 200, 3200, 800)
    assert "goldfish" in spec.class_names
    assert any("has no labels: its validation part is the sealed one" in line for line in said)
    assert any("is a part of Tiny ImageNet: 3,200 images to train on of 100,000" in line for line in said)
    found = load("tiny_imagenet@32", folder, seed=0)
    assert np.bincount(found.y[found.validation], minlength=200).min() >= 1
    assert spec.mean == pytest.approx(found.x[:].mean(axis=(0, 1, 2)), abs=1.5)
    verify("tiny_imagenet@32", folder)


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
@pytest.mark.parametrize("subfolder", ["", "tiny_imagenet"])
def test_it_is_the_same_as_a_folder_and_as_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, subfolder: str
) -> None:
    root = small(tmp_path / "made")
    data = tmp_path / "data" / subfolder
    data.mkdir(parents=True)
    if form == "folder":
        shutil.copytree(root, data / root.name)
    else:
        packed(root, data / f"tiny-imagenet-200.{form}")
    monkeypatch.setenv("SEARCH_DATA", str(tmp_path / "data"))
    folder = prepare("tiny_imagenet", cache=tmp_path / "cache", data=tmp_path / "data")
    x, y = np.load(folder / "x_train.npy"), np.load(folder / "y_train.npy")
    assert (x[:, 0, 0, 0] == 10 * y).all()
    assert np.load(folder / "y_test.npy").tolist() == [0, 0, 1, 1, 2, 2]
    assert (np.load(folder / "x_test.npy")[:, 0, 0, 0] == [0, 0, 10, 10, 20, 20]).all()
    assert describe("tiny_imagenet").class_names == ("n01", "n02", "n03")
    verify("tiny_imagenet", folder)


def test_classes_are_called_by_their_first_name_where_that_is_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path, words="n01\tgoldfish, Carassius\nn02\tcrane\nn03\tcrane\nn09\tnobody\n")
    monkeypatch.setenv("SEARCH_DATA", str(tmp_path))
    assert describe("tiny_imagenet").class_names == ("goldfish", "n02", "n03")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("not in the list", "val_annotations.txt does not name"),
        ("unknown class", "is of class n77, which train/ has not"),
        ("no words", "names no image and class"),
        ("few", "class 'n01' has 1 image, but needs 2 or more"),
        ("one class", "has 1 classes"),
    ],
)
def test_another_layout_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    root = small(tmp_path)
    listed = root / "val" / "val_annotations.txt"
    if damage == "not in the list":
        Image.new("RGB", (64, 64)).save(root / "val" / "images" / "more.png")
    elif damage == "unknown class":
        listed.write_text(listed.read_text().replace("n03", "n77", 2).replace("val_n77", "val_n03"))
    elif damage == "no words":
        listed.write_text("alone\n")
    elif damage == "few":
        for path in list((root / "train" / "n01" / "images").iterdir())[1:]:
            path.unlink()
    else:
        shutil.rmtree(root / "train" / "n01")
        shutil.rmtree(root / "train" / "n02")
    monkeypatch.setenv("SEARCH_DATA", str(tmp_path))
    with pytest.raises(errors.DatasetCorrupt, match=message) as raised:
        describe("tiny_imagenet")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_that_is_cut_off_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    archive = packed(small(tmp_path / "made"), tmp_path / f"tiny-imagenet-200.{form}")
    archive.write_bytes(archive.read_bytes()[:700])
    monkeypatch.setenv("SEARCH_DATA", str(tmp_path))
    with pytest.raises(errors.DatasetCorrupt, match="tiny-imagenet-200") as raised:
        describe("tiny_imagenet")
    assert "\n" not in str(raised.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served where Tiny ImageNet is downloaded from."""
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_address[1]}/tiny-imagenet-200.zip"
        monkeypatch.setattr(tiny_imagenet, "URL", url)
        yield tmp_path / "served"
        served.shutdown()


def test_what_is_downloaded_must_be_the_whole_set(server: Path, tmp_path: Path) -> None:
    packed(small(tmp_path), server / "tiny-imagenet-200.zip")
    with pytest.raises(errors.DatasetCorrupt, match="3 classes, 18 and 6 images came, not 200, 100,000 and 10,000"):
        prepare("tiny_imagenet", cache=tmp_path / "cache")


def test_a_server_without_it_is_one_line_that_says_what_to_do(server: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.DatasetUnavailable, match=r"HTTP 404 .*put tiny-imagenet-200.zip.*SEARCH_DATA") as raised:
        prepare("tiny_imagenet", cache=tmp_path / "cache")
    assert "\n" not in str(raised.value)


def test_what_was_downloaded_gives_its_class_names_their_names(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(small(tmp_path, words="n01\tgoldfish, Carassius\nn02\tcrane\nn03\tdog\n"), server / "tiny-imagenet-200.zip")
    for name, count in (("CLASSES", 3), ("TRAIN", 18), ("TEST", 6)):
        monkeypatch.setattr(tiny_imagenet, name, count)
    before = describe("tiny_imagenet@16")
    assert before.class_names == ("class 0", "class 1", "class 2")
    folder = prepare("tiny_imagenet@16", cache=tmp_path / "cache")
    after = describe("tiny_imagenet@16")
    assert after.class_names == ("goldfish", "crane", "dog")
    assert (after.digest, after.mean) == (before.digest, before.mean)
    assert prepare("tiny_imagenet@16", cache=tmp_path / "cache") == folder == tmp_path / "cache" / "tiny_imagenet@16"
    memo._known.clear()
    assert describe("tiny_imagenet@16") == after == describe("tiny_imagenet@16", folder)
