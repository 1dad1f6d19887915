"""Times a convolution on the processor and on the GPU: `python -m search.trial.convolve ORDER ANSWER`, two JSON files.

The comparison with which a notebook on a lent GPU begins (docs/experiments.md, K).
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import keras

from search.trial.answer import answer

SIDE, FILTERS, KERNEL = 100, 32, 7  # of the images, pixels; of the layer
REPEATS, WARM = 10, 2


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Median seconds of one pass for each of the order's `batches`, by device; `gpu` is None where Keras sees none."""
    devices = ["cpu", "gpu"] if _gpus() else ["cpu"]
    found = {device: [_seconds(device, batch) for batch in order["batches"]] for device in devices}
    return {"gpu": None} | found


def _gpus() -> int:
    if keras.backend.backend() == "jax":
        import jax

        return sum(device.platform == "gpu" for device in jax.devices())
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def _seconds(device: str, batch: int) -> float:
    """Of `batch` random images of 100 by 100 pixels in three colours, through 32 kernels of 7 by 7, summed."""
    with keras.device(f"{device}:0"):
        layer = keras.layers.Conv2D(FILTERS, KERNEL)
        images = keras.random.uniform((batch, SIDE, SIDE, 3), seed=0)
        taken = []
        for _ in range(WARM + REPEATS):
            began = time.perf_counter()
            float(keras.ops.sum(layer(images)))  # reading the sum waits for the device
            taken.append(time.perf_counter() - began)
    return statistics.median(taken[WARM:])


if __name__ == "__main__":
    answer(main)
