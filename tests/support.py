"""What test modules import from one another's side: a clean environment for a process, a network's true sizes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

# Everything a user's shell might set and a test must not inherit.
OURS = ("SEARCH_HOME", "SEARCH_DATA", "SEARCH_STORAGE", "SEARCH_SEALED", "MLFLOW_TRACKING_URI", "KERAS_BACKEND")


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A clean environment whose home is `home`."""
    clean = {k: v for k, v in os.environ.items() if k not in OURS}
    return clean | {"SEARCH_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"} | extra


def layer_outputs(model: Any) -> int:
    """The sizes of the outputs of all layers of a Keras model for one image, added up."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
