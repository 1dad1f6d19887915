"""Datasets whose arrays' SHA-256 nobody knows beforehand: it is noted when they are stored, and held to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from spaces import errors
from spaces.datasets import _catalogue, load, open_test, prepare, verify
from spaces.datasets._spec import Arrays, Dataset, DataSpec, Given, Source, identify

SPEC = DataSpec(
    name="toy",
    input_shape=(4, 4, 1),
    classes=2,
    class_names=("no", "yes"),
    mean=(0.0,),
    std=(1.0,),
    digest="of the source",
    train_size=8,
    test_size=4,
    validation_size=2,
)


def arrays(fill: int) -> dict[str, np.ndarray]:
    return {
        "x_train": np.full((8, 4, 4, 1), fill, np.uint8),
        "y_train": np.array([0, 1] * 4, np.uint8),
        "x_test": np.full((4, 4, 4, 1), fill, np.uint8),
        "y_test": np.array([0, 1] * 2, np.uint8),
    }


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What the one source of the dataset `toy` gives; a test may change it."""
    content = arrays(1)

    def given(data: Path) -> Given | None:
        file = data / "toy.txt"
        return Given(path=file, files=(file,), read=lambda: arrays(int(file.read_text()))) if file.exists() else None

    def sources() -> Sequence[Source]:
        return (Source(title="a source", read=lambda folder, progress: content),)

    def wrong(found: Arrays) -> str:
        return "blank" if not found["x_train"].any() else ""

    toy = Dataset(spec=SPEC, sha256=None, sources=sources, subfolders=(), given=given, hint="none", wrong=wrong)
    monkeypatch.setitem(_catalogue._DATASETS, "toy", toy)
    monkeypatch.delenv("SEARCH_SEALED", raising=False)
    return content


def seal(folder: Path) -> dict:
    return json.loads((folder / "meta.json").read_text())


def test_what_was_stored_is_noted_in_the_seal(served: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = prepare("toy", cache=tmp_path)

    assert seal(folder)["digest"] == "of the source"
    assert sorted(seal(folder)["sha256"]) == sorted(served)
    assert "spec" not in seal(folder)
    verify("toy", folder)
    assert len(load("toy", folder, seed=0).train) == 6


def test_the_seal_of_a_dataset_whose_sha256_is_known_is_as_it_always_was(tmp_path: Path) -> None:
    noted = seal(prepare("digits", cache=tmp_path))
    assert sorted(noted) == ["arrays", "dataset", "digest", "given", "source", "time"]
    assert noted["digest"] == identify(_catalogue.find("digits").sha256 or {})


@pytest.mark.parametrize("array", ["x_train", "y_test"])
def test_an_array_that_changed_is_noticed_and_had_again(
    served: dict[str, np.ndarray], array: str, tmp_path: Path
) -> None:
    folder = prepare("toy", cache=tmp_path)
    content = bytearray((folder / f"{array}.npy").read_bytes())
    content[-1] ^= 1
    (folder / f"{array}.npy").write_bytes(content)

    with pytest.raises(errors.DatasetCorrupt, match=f"{array} is not that of toy"):
        verify("toy", folder)
    said: list[str] = []
    assert prepare("toy", cache=tmp_path, say=said.append) == folder
    assert any("fetching it again" in line for line in said)
    verify("toy", folder)


def test_a_changed_test_part_does_not_open(served: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = prepare("toy", cache=tmp_path)
    np.save(folder / "x_test.npy", np.full((4, 4, 4, 1), 9, np.uint8))
    with pytest.raises(errors.DatasetCorrupt, match="x_test is not that of toy"):
        open_test("toy", folder, purpose="promotion", log=tmp_path / "log")


def test_a_touched_array_is_read_once_more_and_its_note_kept(served: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = prepare("toy", cache=tmp_path)
    before = seal(folder)
    os.utime(folder / "x_train.npy", ns=(0, 0))
    said: list[str] = []
    prepare("toy", cache=tmp_path, say=said.append)
    assert said == []
    assert seal(folder)["sha256"] == before["sha256"]
    assert seal(folder)["arrays"] != before["arrays"]


@pytest.mark.parametrize("damage", ["gone", "another's", "without digests"])
def test_arrays_whose_seal_says_nothing_of_them_are_not_trusted(
    served: dict[str, np.ndarray], damage: str, tmp_path: Path
) -> None:
    folder = prepare("toy", cache=tmp_path)
    noted = seal(folder)
    if damage == "gone":
        (folder / "meta.json").unlink()
    elif damage == "another's":
        (folder / "meta.json").write_text(json.dumps(noted | {"digest": "other"}))
    else:
        (folder / "meta.json").write_text(json.dumps({k: v for k, v in noted.items() if k != "sha256"}))
    with pytest.raises(errors.DatasetCorrupt, match="nothing says whether it is intact"):
        verify("toy", folder)
    served["x_train"] = arrays(7)["x_train"]
    prepare("toy", cache=tmp_path)
    assert load("toy", folder, seed=0).x[0, 0, 0, 0] == 7


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("x_train", np.zeros((8, 4, 4, 1), np.uint8), "blank"),
        ("x_train", np.ones((7, 4, 4, 1), np.uint8), r"x_train is uint8 of shape \(7, 4, 4, 1\)"),
        ("y_train", np.zeros(8, np.uint8), "y_train has no image of class yes"),
        ("y_test", np.array([0, 1, 2, 0], np.uint8), "y_test has the label 2, but toy has 2 classes"),
    ],
)
def test_what_has_another_structure_is_refused(
    served: dict[str, np.ndarray], array: str, value: np.ndarray, message: str, tmp_path: Path
) -> None:
    served[array] = value
    with pytest.raises(errors.DatasetCorrupt, match=message):
        prepare("toy", cache=tmp_path)


def test_other_arrays_in_search_data_replace_those_in_the_cache(served: dict[str, np.ndarray], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    folder = prepare("toy", cache=tmp_path / "cache")
    (data / "toy.txt").write_text("1")
    inode = (folder / "x_train.npy").stat().st_ino
    prepare("toy", cache=tmp_path / "cache", data=data)
    assert (folder / "x_train.npy").stat().st_ino == inode, "the same arrays stay"
    assert seal(folder)["sha256"]

    (data / "toy.txt").write_text("23")
    prepare("toy", cache=tmp_path / "cache", data=data)
    assert load("toy", folder, seed=0).x[0, 0, 0, 0] == 23
    verify("toy", folder)
