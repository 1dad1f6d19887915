"""Datasets once they are there: their facts, the training data, the sealed test split, the cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support import fetched

from spaces import errors
from spaces.datasets import _catalogue, describe, load, names, open_test, prepare, verify
from spaces.datasets.cache import locked

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cifar10() -> Path:
    return fetched("cifar10")


@pytest.fixture(scope="module")
def mnist() -> Path:
    return fetched("mnist")


@pytest.fixture(scope="module")
def fashion_mnist() -> Path:
    return fetched("fashion_mnist")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return prepare("digits", cache=tmp_path / "cache")


@pytest.fixture(autouse=True)
def outside_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEARCH_SEALED", raising=False)


def flip_a_byte(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# The facts.


def test_an_unknown_dataset_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(errors.UnknownDataset, match=r"^unknown dataset 'cifar1'\. Did you mean 'cifar10'\?"):
        describe("cifar1")


def test_the_facts_of_a_dataset_need_no_data_and_no_heavy_import() -> None:
    code = (
        "import sys; from spaces.datasets import describe, names; [describe(n) for n in names()];"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'sklearn', 'scipy', 'PIL', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_cifar10_is_what_the_notebooks_used(cifar10: Path) -> None:
    spec = describe("cifar10")
    x = np.load(cifar10 / "x_train.npy", mmap_mode="r")
    y = np.load(cifar10 / "y_train.npy")
    y_test = np.load(cifar10 / "y_test.npy")

    assert (x.shape, x.dtype) == ((50000, 32, 32, 3), np.uint8) == ((spec.train_size, *spec.input_shape), np.uint8)
    assert y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert [spec.class_names[label] for label in y[:3]] == ["frog", "truck", "truck"]
    assert np.allclose(spec.mean, (125.307, 122.950, 113.865), atol=1e-3)
    assert np.allclose(spec.std, (62.993, 62.089, 66.705), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "each", "first"),
    [
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], "504192131435"),
        ("fashion_mnist", [6000] * 10, "900302725509"),
    ],
)
def test_mnist_and_its_kin_are_what_they_are_known_as(
    name: str, each: list[int], first: str, request: pytest.FixtureRequest
) -> None:
    y = np.load(request.getfixturevalue(name) / "y_train.npy")
    assert np.bincount(y).tolist() == each
    assert "".join(map(str, y[:12])) == first


@pytest.mark.parametrize("name", [name for name in names() if _catalogue.find(name).sha256])
def test_the_stated_means_and_deviations_are_those_of_the_training_part(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    spec = describe(name)
    x = np.load(folder / "x_train.npy", mmap_mode="r")
    for channel in range(spec.input_shape[2]):
        counts = np.bincount(x[..., channel].reshape(-1), minlength=256)
        mean = np.average(np.arange(256), weights=counts)
        assert spec.mean[channel] == pytest.approx(mean, abs=1e-6)
        assert spec.std[channel] == pytest.approx(
            np.average((np.arange(256) - mean) ** 2, weights=counts) ** 0.5, abs=1e-6
        )


# Training data.


def test_cifar10_is_split_into_4500_and_500_images_of_each_class(cifar10: Path) -> None:
    data = load("cifar10", cifar10, seed=0)

    assert np.bincount(data.y[data.train]).tolist() == [4500] * 10
    assert np.bincount(data.y[data.validation]).tolist() == [500] * 10
    assert np.array_equal(np.sort(np.concatenate([data.train, data.validation])), np.arange(50000))


def test_digits_holds_out_a_fifth_of_each_class(digits: Path) -> None:
    data = load("digits", digits, seed=0)
    held_out = np.bincount(data.y[data.validation]) / np.bincount(data.y)

    assert len(data.validation) == describe("digits").validation_size == 288
    assert np.allclose(held_out, 0.2, atol=0.005)


@pytest.mark.parametrize(
    ("name", "seed", "expected"),
    [
        ("cifar10", 0, "adf2c1a6382ea7f59a9546a509252bf8cadd5cdf8e59470d3253309d057d4af3"),
        ("digits", 0, "623d79ee0345319eef5676fc002af0113bf8612f9bf130c47e8131962c2aea5a"),
    ],
)
def test_a_seed_means_the_same_split_on_every_machine_and_for_ever(
    name: str, seed: int, expected: str, request: pytest.FixtureRequest
) -> None:
    assert load(name, request.getfixturevalue(name), seed=seed).digest == expected


def test_the_digest_tells_splits_apart(digits: Path) -> None:
    whole = load("digits", digits, seed=0)
    others = [
        load("digits", digits, seed=1),
        load("digits", digits, seed=0, train_limit=1000),
        load("digits", digits, seed=0, validation_limit=100),
    ]
    assert len({whole.digest, *(other.digest for other in others)}) == 4
    assert load("digits", digits, seed=0).digest == whole.digest


def test_a_small_search_on_cifar10_sees_balanced_subsets(cifar10: Path) -> None:
    data = load("cifar10", cifar10, seed=3, train_limit=2000, validation_limit=505)
    x, y = data.train_arrays()
    x_held_out, y_held_out = data.validation_arrays()

    assert (x.shape, y.shape) == ((2000, 32, 32, 3), (2000,))
    assert x.dtype == y.dtype == np.uint8
    assert np.bincount(y).tolist() == [200] * 10
    assert sorted(np.bincount(y_held_out).tolist()) == [50] * 5 + [51] * 5
    assert np.array_equal(x[7], data.x[data.train[7]])
    assert len(x_held_out) == 505


def test_what_is_loaded_is_mapped_and_cannot_be_written_but_gathered_copies_can(digits: Path) -> None:
    data = load("digits", digits, seed=0)
    with pytest.raises(ValueError, match="read-only"):
        data.x[0] = 0

    x, y = data.train_arrays()
    x[0], y[0] = 0, 0
    assert type(x) is type(y) is np.ndarray
    verify("digits", digits)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"train_limit": 1151}, "cannot take 1151 training images: the training part has 1150"),
        ({"validation_limit": 289}, "cannot take 289 validation images: the validation part has 288"),
        ({"train_limit": 9}, "cannot take 9 training images: there are 10 classes, each needs one"),
        ({"validation_limit": 0}, "cannot take 0 validation images: there are 10 classes, each needs one"),
    ],
)
def test_a_limit_that_cannot_be_met_is_refused(digits: Path, limits: dict[str, int], message: str) -> None:
    with pytest.raises(errors.DatasetError) as raised:
        load("digits", digits, seed=0, **limits)
    assert str(raised.value) == message


def test_loading_works_where_the_test_files_do_not_even_exist(digits: Path, tmp_path: Path) -> None:
    (digits / "x_test.npy").unlink()
    (digits / "y_test.npy").unlink()
    assert len(load("digits", digits, seed=0).train) == 1150


@pytest.mark.parametrize("damage", ["truncated", "headless", "other"])
def test_a_worker_meets_a_damaged_array_with_one_line_that_names_it(digits: Path, damage: str) -> None:
    path = digits / "x_train.npy"
    content = path.read_bytes()
    if damage == "other":
        np.save(path, np.zeros((3, 3), np.uint8))
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else b"\x93NUMPY\x01\x00v\x00{'descr'" + content[40:])
    with pytest.raises(errors.DatasetCorrupt) as raised:
        load("digits", digits, seed=0)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_loading_what_was_not_prepared_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.DatasetUnavailable, match="prepare digits first"):
        load("digits", tmp_path, seed=0)


# The test split.


def test_the_test_split_does_not_open_during_a_search(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_SEALED", "1")
    with pytest.raises(errors.TestSplitSealed, match="sealed during a search"):
        open_test("digits", digits, purpose="peeking", log=tmp_path / "test.jsonl")
    assert not (tmp_path / "test.jsonl").exists()


def test_every_opening_of_the_test_split_is_written_down(digits: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "test.jsonl"
    x, y = open_test("digits", digits, purpose="promote study 1", log=log)
    open_test("digits", digits, purpose="promote study 2", log=log)

    assert (x.shape, y.shape) == ((359, 8, 8, 1), (359,))
    assert not x.flags.writeable
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["purpose"] for entry in entries] == ["promote study 1", "promote study 2"]
    assert {entry["pid"] for entry in entries} == {os.getpid()}
    assert {entry["digest"] for entry in entries} == {describe("digits").digest}
    assert all(entry["time"].endswith("+00:00") for entry in entries)


def test_the_test_split_stays_closed_if_that_cannot_be_written_down(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.DatasetError, match="stays closed"):
        open_test("digits", digits, purpose="promote", log=tmp_path / "file" / "test.jsonl")


def test_a_damaged_test_split_does_not_open(digits: Path, tmp_path: Path) -> None:
    flip_a_byte(digits / "y_test.npy")
    with pytest.raises(errors.DatasetCorrupt, match="y_test is not that of digits"):
        open_test("digits", digits, purpose="promote", log=tmp_path / "test.jsonl")


# The cache.


def test_the_cache_holds_four_arrays_and_a_note_of_where_they_come_from(digits: Path) -> None:
    found = sorted(path.name for path in digits.iterdir())
    assert found == ["meta.json", "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy"]
    meta = json.loads((digits / "meta.json").read_text())
    assert (meta["source"], meta["digest"]) == ("scikit-learn", describe("digits").digest)
    assert sorted(path.name for path in digits.parent.iterdir()) == [".digits.lock", "digits"]


def test_the_digest_of_a_dataset_follows_from_its_arrays(digits: Path) -> None:
    lines = ""
    for array in ("x_train", "y_train", "x_test", "y_test"):
        content = np.load(digits / f"{array}.npy")
        lines += f"{array} {hashlib.sha256(content.tobytes()).hexdigest()}\n"
    assert describe("digits").digest == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("array", ["x_train", "y_train", "x_test", "y_test"])
def test_verify_names_the_array_that_is_damaged(digits: Path, array: str) -> None:
    verify("digits", digits)
    flip_a_byte(digits / f"{array}.npy")
    with pytest.raises(errors.DatasetCorrupt, match=f"{array} is not that of digits"):
        verify("digits", digits)


def test_verify_reads_even_what_looks_unchanged(digits: Path) -> None:
    path = digits / "x_train.npy"
    stat = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert prepare("digits", cache=digits.parent) == digits  # by size and time alone
    with pytest.raises(errors.DatasetCorrupt, match="x_train"):
        verify("digits", digits)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "header"])
def test_a_cache_that_was_damaged_is_noticed_and_fetched_again(digits: Path, damage: str) -> None:
    path = digits / "x_train.npy"
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        flip_a_byte(path, at=-1 if damage == "flip" else 15)
    said: list[str] = []
    assert prepare("digits", cache=digits.parent, say=said.append) == digits
    verify("digits", digits)
    assert any("stored in" in line for line in said)
    assert damage == "remove" or any("x_train" in line and "fetching it again" in line for line in said)
    assert sorted(path.name for path in digits.parent.iterdir()) == [".digits.lock", "digits"]


def test_an_array_whose_time_changed_is_read_once_more_and_kept(digits: Path) -> None:
    before = (digits / "meta.json").read_text()
    os.utime(digits / "x_train.npy", ns=(0, 0))
    said: list[str] = []
    assert prepare("digits", cache=digits.parent, say=said.append) == digits
    assert said == []
    assert (digits / "meta.json").read_text() != before
    assert json.loads((digits / "meta.json").read_text())["source"] == "scikit-learn"


def test_data_mapped_before_the_cache_is_replaced_stays_readable(digits: Path) -> None:
    data = load("digits", digits, seed=0)
    first = data.x[0].copy()
    (digits / "y_test.npy").unlink()
    prepare("digits", cache=digits.parent)
    assert np.array_equal(data.x[0], first)


def test_leavings_of_a_killed_process_are_swept_up(tmp_path: Path) -> None:
    left_over = tmp_path / ".digits.abc.tmp"
    left_over.mkdir()
    (left_over / "x_train.npy").touch()
    prepare("digits", cache=tmp_path)
    assert not left_over.exists()


def test_whoever_waits_for_the_lock_is_told(tmp_path: Path) -> None:
    told = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        told.set()

    with locked(tmp_path, "digits", lambda: None):
        waiting = threading.Thread(target=prepare, args=("digits",), kwargs={"cache": tmp_path, "say": say})
        waiting.start()
        assert told.wait(10)
        assert said == ["digits: waiting for another process that prepares it"]
    waiting.join(10)
    verify("digits", tmp_path / "digits")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.DatasetUnavailable) as raised:
        prepare("digits", cache=tmp_path / "file")
    assert str(raised.value) == f"cannot write to the dataset cache {tmp_path / 'file'}: File exists"


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; import sklearn.datasets\n"
        "from spaces import errors; from spaces.datasets import prepare\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"  # of 92,160 bytes
        "try: prepare('digits', cache=Path(sys.argv[1]))\n"
        "except errors.DatasetUnavailable as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"cannot write to the dataset cache {tmp_path}: ")
    assert ran.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [".digits.lock"]


def test_too_little_room_is_noticed_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spaces.datasets import _prepare

    monkeypatch.setattr(_prepare, "_free", lambda folder: 1_000_000)
    with pytest.raises(errors.DatasetUnavailable, match=r"needs 355 MB .* which has 1 MB free"):
        prepare("cifar10", cache=tmp_path)
