"""What this machine has to train on, found without importing Keras, and how slots share it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi lists it; memory in MiB."""

    index: int
    name: str
    memory: int
    compute_capability: float


@dataclass(frozen=True)
class Slot:
    """One place a trial can run: some cores and, where `gpu` is not None, a GPU or a share of one."""

    index: int
    cores: tuple[int, ...]
    gpu: int | None = None

    @property
    def device(self) -> str:
        """As people write it: gpu:0 or cpu (2 cores)."""
        count = len(self.cores)
        return f"gpu:{self.gpu}" if self.gpu is not None else f"cpu ({count} core{'s' if count > 1 else ''})"


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs of this machine; empty where nvidia-smi is missing or finds none."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index,name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return ()
    found = []
    for line in listed.strip().splitlines():
        index, name, memory, capability = (part.strip() for part in line.split(","))
        found.append(Gpu(int(index), name, int(float(memory)), float(capability)))
    return tuple(found)


def cores() -> tuple[int, ...]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def memory() -> float:
    """The memory this process may use, in MB: the machine's, or less where its control group says so."""
    import psutil

    limits = [float(psutil.virtual_memory().total)]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(float(Path(path).read_text()))
    return min(limits) / 1e6


def share(count: int, gpu_indices: tuple[int, ...], available: tuple[int, ...]) -> tuple[Slot, ...]:
    """`count` slots over the GPUs in turn, the cores divided so that no two differ by more than one.

    With more slots than cores, cores are shared, as evenly as can be.
    """
    slots = []
    for i in range(count):
        first, last = i * len(available) // count, (i + 1) * len(available) // count
        mine = available[first:last] or (available[i % len(available)],)
        slots.append(Slot(i, mine, gpu_indices[i % len(gpu_indices)] if gpu_indices else None))
    return tuple(slots)
