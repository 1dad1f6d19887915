"""Measures a packaged model on the sealed test split: `python -m search.trial.evaluate ORDER ANSWER`, two JSON files.

The only place of a search that opens the test split, and a process of its own, which a promotion alone starts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from search.trial import robustness, served
from search.trial.answer import answer
from search.trial.mistakes import most_confident
from spaces.datasets import open_test


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Open the test split, write probabilities and labels to the order's `out`, answer with what else was measured.

    The order: model (folder), dataset, data_folder, purpose and log of the opening, out (an .npz).
    """
    model = served.load(Path(order["model"]))
    images, labels = open_test(
        order["dataset"], Path(order["data_folder"]), purpose=order["purpose"], log=Path(order["log"])
    )
    pixels, truth = np.asarray(images), np.asarray(labels)
    began = time.perf_counter()
    found = served.probabilities(model, pixels)
    said: dict[str, Any] = {"images": len(truth), "seconds": time.perf_counter() - began}
    said["robustness"] = {
        name: float((served.probabilities(model, change(pixels)).argmax(axis=1) == truth).mean())
        for name, change in robustness.CHANGES.items()
    }
    out = Path(order["out"])
    aside = out.with_name(f".{out.name}.{os.getpid()}.npz")
    shown = most_confident(found, truth)
    np.savez(aside, probabilities=found, labels=truth, shown=shown, images=pixels[shown])
    aside.replace(out)
    return said


if __name__ == "__main__":
    answer(main)
