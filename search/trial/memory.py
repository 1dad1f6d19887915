"""How much memory a trial took at its peak, and whether an error means that there was not enough."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

# As TensorFlow, XLA, CUDA and its libraries, and the C++ runtime put it.
SHORT = re.compile(
    r"RESOURCE_EXHAUSTED|OOM when allocating|CUDA_ERROR_OUT_OF_MEMORY|CU(DNN|BLAS)_STATUS_ALLOC_FAILED"
    r"|CUSOLVER_STATUS_ALLOC_FAILED|std::bad_alloc|(?i:failed to allocate (memory|\d+ bytes|request for))"
)
# TensorFlow says RESOURCE_EXHAUSTED of these as well.
NOT_MEMORY = re.compile(r"No space left on device|[Qq]uota exceeded|Too many open files|Too many (levels of|links)")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or one that led to it, says that the host's or the device's memory did not suffice."""
    return any(_says_so(each) for each in chain(error))


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError):  # numpy's is one
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    if NOT_MEMORY.search(text):
        return False
    return type(error).__name__ == "ResourceExhaustedError" or SHORT.search(text) is not None


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, None if each.__suppress_context__ else each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


class Peak:
    """The most memory this process held since the object was made: the GPU's where the trial uses one.

    JAX cannot start a GPU's count anew: there a trial that stays below an earlier one of the same process is said to
    take what it held when it was asked.
    """

    def __init__(self, *, gpu: bool = False) -> None:
        self.gpu = gpu
        self._most = 0.0
        self._before = 0.0
        self._reset = False
        if gpu:
            self._before = _reset_gpu()
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from now
                self._reset = True
            except OSError:
                pass

    @property
    def megabytes(self) -> float:
        """In MB of a million bytes."""
        if self.gpu:
            peak, now = _gpu_bytes()
            self._most = max(self._most, peak if peak > self._before else now)
        else:
            self._most = max(
                self._most, _high_water() if self._reset else 0.0, float(psutil.Process().memory_info().rss)
            )
        return round(self._most / 1e6, 1)

    def facts(self) -> dict[str, Any]:
        """As messages carry it."""
        return {"peak_memory": self.megabytes, "memory_of": "gpu" if self.gpu else "cpu"}


def resident_megabytes() -> float:
    """This process' resident memory in MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


def _high_water() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    return 0.0


def _reset_gpu() -> float:
    """The peak that stands before the trial, in bytes; 0 where the count starts anew."""
    if not _on_tensorflow():
        return _gpu_bytes()[0]
    import tensorflow as tf

    tf.config.experimental.reset_memory_stats("GPU:0")
    return 0.0


def _gpu_bytes() -> tuple[float, float]:
    """(peak, now) in bytes."""
    if _on_tensorflow():
        import tensorflow as tf

        info = tf.config.experimental.get_memory_info("GPU:0")
        return float(info["peak"]), float(info["current"])
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return float(stats.get("peak_bytes_in_use", 0)), float(stats.get("bytes_in_use", 0))


def _on_tensorflow() -> bool:
    import keras

    return bool(keras.backend.backend() == "tensorflow")
