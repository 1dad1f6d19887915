"""Feeds a set that is large from its file, batch by batch and read ahead, so that it is never in memory as a whole.

A Python generator and not a PyDataset: Keras puts no further buffer behind it, so that the time the queue here makes
training wait is the time that training waits.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from spaces.datasets import TrainingData

#: Bytes of images of one part above which they are read batch by batch.
LARGE = 512 * 2**20
AHEAD = 8  # batches that are read before they are asked for
TICK = 0.2  # seconds after which a reader looks whether it is still wanted

Batch = tuple[Any, ...]


@dataclass
class Stream:
    """The batches of one pass, how long they were waited for (seconds), and what went wrong in reading."""

    batches: Iterator[Batch]
    steps: int
    waited: float = 0.0
    error: BaseException | None = None


def is_large(arrays: TrainingData, count: int) -> bool:
    """Whether so many images are to be read batch by batch."""
    return isinstance(arrays.x, np.memmap) and count * int(np.prod(arrays.x.shape[1:])) > LARGE


def gathered(arrays: TrainingData, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in memory; of a large set they are read, since looking at its map makes that resident too."""
    if not len(index) or not is_large(arrays, len(arrays.y)):
        return arrays.x[index], arrays.y[index]
    images, labels = next(_read(arrays, index, len(index), None))
    return images, labels


@contextmanager
def streamed(
    arrays: TrainingData, order: np.ndarray, size: int, class_weight: Mapping[int, float] | None = None
) -> Iterator[Stream]:
    """Images and labels in this order in batches of `size`, with a weight for each image where classes have weights.

    Whatever Keras makes of an error in reading, here it is raised as it was.
    """
    ready: queue.Queue[Batch | None] = queue.Queue(maxsize=AHEAD)
    unwanted = threading.Event()
    stream = Stream(batches=iter(()), steps=-(-len(order) // size))

    def hand_over(batch: Batch | None) -> None:
        while not unwanted.is_set():
            try:
                return ready.put(batch, timeout=TICK)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for batch in _read(arrays, order, size, class_weight):
                hand_over(batch)
                if unwanted.is_set():
                    return
        except BaseException as error:
            stream.error = error
        hand_over(None)

    def given() -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = ready.get()
            stream.waited += time.perf_counter() - began
            if batch is None:
                if stream.error is not None:
                    raise stream.error
                return
            yield batch

    stream.batches = given()
    reader = threading.Thread(target=read, name="read ahead", daemon=True)
    reader.start()
    try:
        yield stream
    except BaseException as error:
        if stream.error is not None and stream.error is not error:
            raise stream.error from error
        raise
    finally:
        unwanted.set()
        reader.join()


def _read(
    arrays: TrainingData, order: np.ndarray, size: int, class_weight: Mapping[int, float] | None
) -> Iterator[Batch]:
    x: Any = arrays.x
    each = int(np.prod(x.shape[1:]))
    file = os.open(x.filename, os.O_RDONLY)
    try:
        # Read, not taken from the map: pages of a map that were looked at count as this process' memory.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            images = np.empty((len(chosen), *x.shape[1:]), np.uint8)
            rows = images.reshape(len(chosen), each)
            for place in np.argsort(chosen, kind="stable"):
                if os.preadv(file, [rows[place]], x.offset + int(chosen[place]) * each) < each:
                    raise OSError(f"{x.filename} is truncated")
            labels = np.take(np.asarray(arrays.y), chosen)
            if class_weight is None:
                yield images, labels
            else:
                yield images, labels, np.array([class_weight[int(label)] for label in labels], np.float32)
    finally:
        os.close(file)
