"""Reads what a packaged model says of itself: what goes in, what comes out, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking import quiet
from tracking.errors import TrackingError
from tracking.faults import one_line


@dataclass(frozen=True)
class Described:
    """A model that takes images: `shape` (height, width, channels), how many classes, and its MLmodel's metadata."""

    shape: tuple[int, int, int]
    classes: int
    metadata: dict[str, Any]


def describe(folder: Path) -> Described:
    """What the MLmodel of a model folder says. Raises TrackingError where it is not a classifier of raw images."""
    quiet.prepare()
    from mlflow.models import Model

    try:
        model = Model.load(str(folder / "MLmodel"))
        (given,), (made,) = model.signature.inputs.inputs, model.signature.outputs.inputs
        _, height, width, channels = given.shape
        if str(given.type) != "uint8" or min(height, width, channels) < 1 or len(made.shape) != 2 or made.shape[1] < 1:
            raise ValueError("its signature is not that of uint8 images in and probabilities out")
        return Described((height, width, channels), made.shape[1], dict(model.metadata or {}))
    except Exception as error:  # MLflow's and the YAML reader's have no common parent
        raise TrackingError(f"the model in {folder} was not packaged by this program: {one_line(error)}") from error
