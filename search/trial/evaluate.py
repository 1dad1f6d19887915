"""Measures a packaged model on the sealed test split: `python -m search.trial.evaluate ORDER ANSWER`, two JSON files.

The only place of a search that opens the test split, and a process of its own, which a promotion alone starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from search.trial import robustness, served
from spaces.datasets import open_test
from spaces.errors import DatasetError, SpaceError

SHOWN = 24


def main(asked: str, answer: str) -> None:
    """Open the test split, write probabilities and labels to the order's `out`, answer with what else was measured.

    The order: model (folder), dataset, data_folder, purpose and log of the opening, out (an .npz), robust (whether
    to measure changed images too).
    """
    order = json.loads(Path(asked).read_text())
    model = served.load(Path(order["model"]))
    images, labels = open_test(
        order["dataset"], Path(order["data_folder"]), purpose=order["purpose"], log=Path(order["log"])
    )
    pixels, truth = np.asarray(images), np.asarray(labels)
    began = time.perf_counter()
    found = served.probabilities(model, pixels)
    said: dict[str, object] = {"images": len(truth), "seconds": time.perf_counter() - began}
    if order["robust"]:
        said["robustness"] = {
            name: float((served.probabilities(model, change(pixels)).argmax(axis=1) == truth).mean())
            for name, change in robustness.CHANGES.items()
        }
    out = Path(order["out"])
    aside = out.with_name(f".{out.name}.{os.getpid()}.npz")
    shown = _most_confident_mistakes(found, truth)
    np.savez(aside, probabilities=found, labels=truth, shown=shown, images=pixels[shown])
    aside.replace(out)
    Path(answer).write_text(json.dumps(said))


def _most_confident_mistakes(found: Any, truth: Any) -> Any:
    """Indices of the images to show in a report."""
    wrong = np.flatnonzero(found.argmax(axis=1) != truth)
    return wrong[np.argsort(-found.max(axis=1)[wrong], kind="stable")][:SHOWN]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (DatasetError, SpaceError, OSError, ValueError) as error:
        sys.exit(" ".join(f"{error}".split())[:1000])
