"""How long a trained network takes for one image, on the device that trained it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP = 5  # passes that are not counted: the first one compiles
LEAST, MOST = 20, 200  # passes that are
SECONDS = 2.0  # after which no more than the least are counted


def latency_ms(
    network: Any, image: np.ndarray, beat: Callable[[str, int], None], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median milliseconds of `predict_on_batch` for one raw image, from the host's memory to the host's memory.

    That is what somebody waits who asks for one answer; the device may be busy with other trials meanwhile. `beat` is
    called before each pass and may raise to break it off.
    """
    batch = np.asarray(image)[None]
    begun, took = clock(), []
    for number in range(WARM_UP + MOST):
        beat("measuring", number)
        started = clock()
        network.predict_on_batch(batch)  # gives an array of numpy's, so it has waited for the device
        ended = clock()
        if number < WARM_UP:
            begun = ended
            continue
        took.append(1000 * (ended - started))
        if len(took) >= LEAST and ended - begun >= SECONDS:
            break
    return float(f"{statistics.median(took):.4g}")
