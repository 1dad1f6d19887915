"""Measures models on the sealed test split, for a promotion: counted before it opens, kept once it is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from search import job
from search.settings import Settings
from search.store import write_json
from spaces.datasets import DataSpec
from tracking import openings
from tracking.client import Connection
from tracking.integrity import folder_digest

LOG = "test-openings.jsonl"


@dataclass(frozen=True)
class Model:
    """A model folder to measure, and the backend it was trained on; `name` says in words what it is."""

    name: str
    folder: Path
    backend: str


@dataclass(frozen=True)
class Measured:
    """What a model says of every test image: probabilities (n, classes) and labels (n,), both in the data's order.

    `robustness` is its accuracy on changed images, by the change. `shown` are its most confident mistakes as uint8
    images (height, width, channels), by index.
    """

    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    robustness: dict[str, float]
    shown: dict[int, npt.NDArray[np.uint8]]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which images it names rightly, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)


def measure(
    models: Sequence[Model],
    data: DataSpec,
    data_folder: Path,
    settings: Settings,
    connection: Connection,
    *,
    purpose: str,
    by: str,
) -> list[Measured]:
    """Each model's answers; the test split opens once for all that were not measured on this data before.

    Raises JobError where a model cannot be measured, and what MLflow raises where the opening cannot be noted.
    """
    places = [_place(settings, model, data) for model in models]
    new = [(m, p) for m, p in zip(models, places, strict=True) if _read(p) is None]
    if new:
        openings.note(connection, data.digest, by, purpose)
    for model, place in new:
        place.parent.mkdir(parents=True, exist_ok=True)
        order = {
            "model": str(model.folder),
            "dataset": data.name,
            "data_folder": str(data_folder),
            "purpose": f"{purpose}: {model.name}",
            "log": str(settings.home / LOG),
            "out": str(place),
        }
        said = job.run("search.trial.evaluate", order, backend=model.backend)
        write_json(place.with_suffix(".json"), said, crc=False)
    found = [_read(place) for place in places]
    return [each for each in found if each is not None]


def _place(settings: Settings, model: Model, data: DataSpec) -> Path:
    """Where a model's answers are kept: they follow from its files and the data alone."""
    return settings.home / "measured" / f"{folder_digest(model.folder)[:32]}-{data.digest[:16]}.npz"


def _read(place: Path) -> Measured | None:
    try:
        said: dict[str, Any] = json.loads(place.with_suffix(".json").read_text())
        with np.load(place, allow_pickle=False) as kept:
            shown = dict(zip(kept["shown"].tolist(), kept["images"], strict=True))
            return Measured(kept["probabilities"], kept["labels"], said["robustness"], shown)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # not there, or damaged: it is measured again
        return None
