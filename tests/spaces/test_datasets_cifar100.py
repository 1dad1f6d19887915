"""CIFAR-100 in every form it can be given in, made here by hand in the real sizes; the real one is not at hand."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces import errors
from spaces.datasets import cifar100, describe, load, prepare, verify

RNG = np.random.default_rng(100)
LABELS = {
    "train": RNG.permutation(np.repeat(np.arange(100), 500)),
    "test": RNG.permutation(np.repeat(np.arange(100), 100)),
}


def images(part: str) -> np.ndarray:
    """Images whose red is their label and whose blue is their row's number, by channel as the pickles have them."""
    labels = LABELS[part].astype(np.uint8)
    x = np.zeros((len(labels), 3, 32, 32), np.uint8)
    x[:, 0] = labels[:, None, None]
    x[:, 2] = np.arange(32, dtype=np.uint8)[None, :, None]
    return x


def folder(at: Path, names: tuple[str, ...] = cifar100.NAMES, **changed: Any) -> Path:
    """The unpacked archive, with bytes as keys as Python 2 wrote them."""
    at.mkdir(parents=True)
    for part, labels in LABELS.items():
        content = {
            b"data": images(part).reshape(len(labels), 3072),
            b"fine_labels": changed.get(part, labels.tolist()),
            b"coarse_labels": [0] * len(labels),
        }
        (at / part).write_bytes(pickle.dumps(content, protocol=2))
    meta = {b"fine_label_names": [name.encode() for name in names], b"coarse_label_names": [b"x"]}
    (at / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return at


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("cifar100") / "data" / "cifar-100-python")


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar100, "ARCHIVE_URL", (tmp_path / "nothing.tar.gz").as_uri())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def test_its_classes_are_the_hundred_fine_ones_in_alphabetical_order() -> None:
    spec = describe("cifar100")
    assert spec.class_names == tuple(sorted(spec.class_names))
    assert (len(set(spec.class_names)), spec.class_names[0], spec.class_names[99]) == (100, "apple", "worm")
    assert (spec.fitting_size, spec.validation_size, spec.test_size) == (45_000, 5_000, 10_000)


def test_the_unpacked_folder_is_read_and_split_evenly(unpacked: Path, tmp_path: Path) -> None:
    found = prepare("cifar100", cache=tmp_path, data=unpacked.parent)
    x, y = np.load(found / "x_train.npy", mmap_mode="r"), np.load(found / "y_train.npy")
    assert np.array_equal(y, LABELS["train"])
    assert np.array_equal(x[:, 5, 7, 0], y)
    assert (x[:9, :, 0, 2] == np.arange(32)).all()
    data = load("cifar100", found, seed=0)
    assert np.bincount(data.y[data.train]).tolist() == [450] * 100
    verify("cifar100", found)


def test_the_archive_gives_the_same(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    with tarfile.open(tmp_path / "data" / "cifar100" / "cifar-100-python.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(unpacked, "cifar-100-python")
    found = prepare("cifar100", cache=tmp_path / "cache", data=tmp_path / "data")
    assert np.array_equal(np.load(found / "y_test.npy"), LABELS["test"])
    verify("cifar100", found)


def test_keras_cache_and_an_npz_are_read_too(unpacked: Path, tmp_path: Path) -> None:
    kept = tmp_path / "keras" / "datasets" / "cifar-100-python-target"
    kept.mkdir(parents=True)
    (kept / "cifar-100-python").symlink_to(unpacked)
    found = prepare("cifar100", cache=tmp_path / "cache")
    arrays = {name: np.load(found / f"{name}.npy") for name in ("x_train", "y_train", "x_test", "y_test")}

    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "cifar100.npz", **arrays)
    again = prepare("cifar100", cache=tmp_path / "other", data=tmp_path / "data")
    assert np.array_equal(np.load(again / "x_test.npy"), arrays["x_test"])


def test_another_number_of_images_of_a_class_is_refused(tmp_path: Path) -> None:
    labels = LABELS["test"].copy()
    labels[np.flatnonzero(labels == 3)[0]] = 4
    made = folder(tmp_path / "data" / "cifar-100-python", test=labels.tolist())
    with pytest.raises(
        errors.DatasetCorrupt, match="y_test has 99 images of bear, but CIFAR-100 has 100 of each class"
    ):
        prepare("cifar100", cache=tmp_path / "cache", data=made.parent)


def test_other_class_names_are_refused(tmp_path: Path) -> None:
    made = folder(tmp_path / "data" / "cifar-100-python", names=cifar100.NAMES[::-1])
    with pytest.raises(errors.DatasetCorrupt, match="meta names other classes than CIFAR-100's hundred"):
        prepare("cifar100", cache=tmp_path / "cache", data=made.parent)


@pytest.mark.parametrize("damage", ["lacks meta", "no pickle", "cifar10"])
def test_a_damaged_folder_is_one_line(tmp_path: Path, damage: str) -> None:
    made = folder(tmp_path / "data" / "cifar-100-python")
    if damage == "lacks meta":
        (made / "meta").unlink()
    elif damage == "no pickle":
        (made / "test").write_bytes(b"nothing")
    else:
        (made / "test").write_bytes(
            pickle.dumps({b"data": np.zeros((10_000, 3072), np.uint8), b"labels": [0] * 10_000})
        )
    with pytest.raises(
        errors.DatasetCorrupt, match=r"lacks meta|no pickle of arrays|not a batch of CIFAR-100"
    ) as raised:
        prepare("cifar100", cache=tmp_path / "cache", data=made.parent)
    assert "\n" not in str(raised.value)


def test_an_archive_that_is_not_the_known_one_is_not_taken_from_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "nothing.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cifar-100-python/train"), io.BytesIO())
    with pytest.raises(
        errors.DatasetCorrupt, match=r"expected 85cd44d02ba6.*put cifar-100-python.tar.gz into"
    ) as raised:
        prepare("cifar100", cache=tmp_path / "cache")
    assert "\n" not in str(raised.value)
