"""Says what a registered model, or a pretrained network of Keras, sees in image files."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search import images, job, pretrained, registered, report
from search.errors import FAILED, OK, InputError, SearchError
from search.settings import Settings


@dataclass(frozen=True)
class Source:
    """Who predicts: for people, for --json, the images it takes, its class names if known, and for the process."""

    title: str
    about: Mapping[str, Any]
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    note: str
    backend: str
    order: Mapping[str, str]


@dataclass(frozen=True)
class Guess:
    """A class by number and name, and its probability."""

    number: int
    name: str
    probability: float


def predict(
    model: str,
    names: Sequence[str],
    settings: Settings,
    *,
    top: int,
    weights: str | None,
    as_json: bool,
    as_csv: bool,
) -> int:
    """Print the `top` classes of every image among the files and folders `names`; returns the exit code.

    What is no image is named on standard error and skipped, and the exit code is then FAILED. Raises InputError for
    addresses and flags that do not go together, before anything is loaded, and SearchError where nothing is an image.
    """
    _check(model, names, weights, as_json, as_csv)
    source = _pretrained(model, weights) if model.startswith(pretrained.PREFIX) else _registered(model, settings)
    with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        try:
            paths, skipped = _read(names, source.shape, Path(folder, "images.npy"))
        except OSError as error:
            raise SearchError(f"{folder}: {error.strerror}; set TMPDIR to a folder with room for the images") from None
        found = _probabilities(source, Path(folder))
    guesses = [_best(row, source.class_names, top) for row in found]
    if as_json:
        _print_json(source, paths, guesses, skipped)
    elif as_csv:
        _print_csv(paths, guesses)
    else:
        _print_table(source, paths, guesses)
    return FAILED if skipped else OK


def _check(model: str, names: Sequence[str], weights: str | None, as_json: bool, as_csv: bool) -> None:
    problems = [f"{images.shown(url)}: an address; only files and folders are read" for url in images.urls(names)]
    if "" in names:
        problems.append("FILES: one of them is an empty text; give files and folders")
    if as_json and as_csv:
        problems.append("--json and --csv: give one of them")
    if weights is not None and not model.startswith(pretrained.PREFIX):
        problems.append(f"--weights: only with a network of Keras, like {pretrained.PREFIX}ResNet50")
    if problems:
        raise InputError(problems)


def _registered(reference: str, settings: Settings) -> Source:
    found = registered.bring(reference, settings)
    if found.shape[2] not in (1, 3):
        raise SearchError(f"{found.title} takes images of {found.shape[2]} channels; files are read as 1 or 3")
    return Source(
        title=found.title,
        about={
            "model": found.version.name,
            "version": found.version.version,
            "aliases": list(found.version.aliases),
            "sha256": found.digest,
            "backend": found.backend,
        },
        shape=found.shape,
        class_names=found.class_names,
        note="" if found.class_names else "classes are numbers: nobody noted their names with the model",
        backend=found.backend,
        order={"model": str(found.folder)},
    )


def _pretrained(reference: str, weights: str | None) -> Source:
    found, backend = pretrained.find(reference, weights), registered.own_backend()
    return Source(
        title=f"{found.name} of Keras, {found.weights.name}",
        about={"model": reference, "weights": str(found.weights), "backend": backend},
        shape=found.shape,
        class_names=found.class_names,
        note=found.note,
        backend=backend,
        order={"network": found.name, "weights": str(found.weights)},
    )


def _read(names: Sequence[str], shape: tuple[int, int, int], target: Path) -> tuple[list[Path], list[images.Skipped]]:
    """Read the images into the file `target`, one after the other; those that were read, and those that were not."""
    paths: list[Path] = []
    skipped: list[images.Skipped] = []
    header = {"descr": "|u1", "fortran_order": False}
    # Written, not mapped: where the disk is full, writing says so, and a map ends the process.
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0, *shape)})
        for each in images.files(names):
            try:
                if isinstance(each, images.Skipped):
                    raise images.Unreadable(each.reason)
                pixels = images.read(each, shape)
            except images.Unreadable as error:
                path = each.path if isinstance(each, images.Skipped) else each
                skipped.append(images.Skipped(path, str(error)))
                print(f"skipped: {images.shown(path)}: {images.shown(str(error))}", file=sys.stderr)
                continue
            file.write(pixels.tobytes())
            paths.append(each)
        file.seek(0)  # NumPy leaves room in a header for the first number to grow
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(paths), *shape)})
    if not paths:
        raise SearchError("no image among what was given; nothing to predict")
    return paths, skipped


def _probabilities(source: Source, folder: Path) -> npt.NDArray[np.float32]:
    order = {"images": str(folder / "images.npy"), "out": str(folder / "out.npy")}
    job.run("search.trial.predict", {**order, **source.order}, backend=source.backend)
    found: npt.NDArray[np.float32] = np.load(folder / "out.npy")
    return found


def _best(row: npt.NDArray[np.float32], names: tuple[str, ...], top: int) -> list[Guess]:
    order = np.argsort(-row, kind="stable")[:top]
    return [Guess(int(n), names[n] if len(names) == len(row) else str(n), float(row[n])) for n in order]


def _print_json(
    source: Source, paths: Sequence[Path], guesses: Sequence[Sequence[Guess]], skipped: Sequence[images.Skipped]
) -> None:
    report.emit(
        {
            **source.about,
            "images": [
                {
                    "file": str(path),
                    "top": [{"class": g.number, "name": g.name, "probability": g.probability} for g in best],
                }
                for path, best in zip(paths, guesses, strict=True)
            ],
            "skipped": [{"file": str(each.path), "reason": each.reason} for each in skipped],
        }
    )


def _print_csv(paths: Sequence[Path], guesses: Sequence[Sequence[Guess]]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("file", "rank", "class", "name", "probability"))
    for path, best in zip(paths, guesses, strict=True):
        for rank, guess in enumerate(best, start=1):
            out.writerow((images.shown(path), rank, guess.number, guess.name, repr(guess.probability)))


def _print_table(source: Source, paths: Sequence[Path], guesses: Sequence[Sequence[Guess]]) -> None:
    from rich.markup import escape

    headings = ("file", *(str(rank) for rank in range(1, len(guesses[0]) + 1)))
    rows = [
        (escape(images.shown(path)), *(escape(f"{g.name} {g.probability:.4f}") for g in best))
        for path, best in zip(paths, guesses, strict=True)
    ]
    report.print_table(headings, rows, title=escape(source.title))
    if source.note:
        print(source.note)
