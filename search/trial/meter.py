"""Samples what a worker uses (CPU, memory, GPU) in a thread, to be averaged over an epoch."""

from __future__ import annotations

import shutil
import subprocess
import threading

import psutil

INTERVAL = 2.0  # seconds


class Meter:
    """Averages since the last `read`, under MLflow's names for system metrics."""

    def __init__(self, gpu: int | None = None) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._gpu = gpu if shutil.which("nvidia-smi") else None
        self._samples: list[dict[str, float]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        wait = threading.Event()
        while not wait.wait(INTERVAL):
            sample = self._sample()
            with self._lock:
                self._samples.append(sample)

    def _sample(self) -> dict[str, float]:
        memory = psutil.virtual_memory()
        sample = {
            "system/cpu_utilization_percentage": self._process.cpu_percent(),
            "system/process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
        }
        return sample | (self._gpu_sample() if self._gpu is not None else {})

    def _gpu_sample(self) -> dict[str, float]:
        query = ["nvidia-smi", f"--id={self._gpu}", "--query-gpu=utilization.gpu,memory.used,power.draw"]
        try:
            line = subprocess.run(
                [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=True
            ).stdout
            busy, used, power = (float(part) for part in line.split(","))
        except (subprocess.SubprocessError, OSError, ValueError):
            return {}
        name = f"system/gpu_{self._gpu}"
        return {
            f"{name}_utilization_percentage": busy,
            f"{name}_memory_usage_megabytes": used * 1.048576,
            f"{name}_power_usage_watts": power,
        }

    def read(self) -> dict[str, float]:
        """The mean of each metric since the last call (one sample now where there was none)."""
        with self._lock:
            samples, self._samples = self._samples or [self._sample()], []
        return {name: sum(s.get(name, 0.0) for s in samples) / len(samples) for name in samples[-1]}
