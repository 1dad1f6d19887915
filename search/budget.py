"""When to stop: wall clock, device-hours, a trial's own time, a trial without progress."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search import clock, store
from search.executors.devices import Slot

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}
USED_UP = "the budget is used up"
TIME_LIMIT = "time limit"
SIZES = {"mb": 1, "m": 1, "gb": 1000, "g": 1000, "": 1}


@dataclass(frozen=True)
class Budget:
    """How long devices may be used in all, in seconds of one `device`: gpu or core."""

    seconds: float
    device: str

    def __str__(self) -> str:
        unit = next((u for u in ("h", "m") if round(self.seconds / UNITS[u], 2) * UNITS[u] == self.seconds), "s")
        return f"{self.seconds / UNITS[unit]:.12g}{self.device}-{unit}"


def read_time(text: str) -> float | None:
    """Seconds of 90, 90s, 30m, 8h or 2d; None where it is none of these or not above zero."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)", text)
    return (float(match[1]) * UNITS[match[2]] or None) if match else None


def read_size(text: str) -> float | None:
    """MB of 6000, 6000mb or 6gb; None where it is none of these or not above zero."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(mb|gb|m|g|)", text.lower())
    return (float(match[1]) * SIZES[match[2]] or None) if match else None


def read_share(text: str) -> float | None:
    """The share of 0.1 or 10%; None where it is not one from 0 to 1."""
    match = re.fullmatch(r"(\d*\.?\d+)\s*(%|)", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    return share if 0.0 <= share <= 1.0 else None


def read_budget(text: str) -> Budget | None:
    """The budget of 8gpu-h or 90core-m; None where it is not one."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(gpu|core)-(s|m|h|d)", text)
    seconds = float(match[1]) * UNITS[match[3]] if match else 0.0
    return Budget(seconds, match[2]) if match and seconds > 0 else None


def share(slot: Slot, slots: Sequence[Slot], device: str) -> float:
    """How many devices a trial on `slot` uses: its cores, or its part of a GPU that `slots` share."""
    if device == "core":
        return float(len(slot.cores))
    return 0.0 if slot.gpu is None else 1.0 / sum(other.gpu == slot.gpu for other in slots)


def trained(folder: Path) -> list[tuple[float, dict[str, float]]]:
    """(seconds, devices used by kind) of each attempt that a trial's record says is over or was cut off."""
    found: list[tuple[float, dict[str, float]]] = []
    began = 0.0
    devices: dict[str, float] = {}
    last = 0.0
    for event in store.events(folder):
        if event["event"] == "attempt":
            if began:
                found.append((last - began, devices))
            began = last = event["time"]
            devices = event.get("devices", {})
        else:
            last = max(last, event["time"])  # a clock that was set back takes nothing away
    return [*found, (last - began, devices)] if began else found


def spent(study_folder: Path, device: str) -> float:
    """Seconds of one `device` that all attempts recorded in a study used."""
    folders = store.trial_folders(study_folder).values()
    return sum(seconds * devices.get(device, 0.0) for folder in folders for seconds, devices in trained(folder))


class Clock:
    """Counts what the study of this process has used, and says which limit is reached."""

    def __init__(self, timeout: float | None, budget: Budget | None, study_folder: Path) -> None:
        self.deadline = None if timeout is None else clock.monotonic() + timeout
        self.budget = budget
        self.before = 0.0 if budget is None else spent(study_folder, budget.device)
        self._ended = 0.0

    def ended(self, seconds: float, devices: dict[str, float]) -> None:
        """An attempt of this process is over."""
        if self.budget is not None:
            self._ended += seconds * devices.get(self.budget.device, 0.0)

    def reached(self, running: Sequence[tuple[float, dict[str, float]]]) -> str:
        """Why the study must stop; empty where it need not. `running` are (seconds, devices) of running attempts."""
        if self.deadline is not None and clock.monotonic() > self.deadline:
            return TIME_LIMIT
        if self.budget is None:
            return ""
        now = sum(seconds * devices.get(self.budget.device, 0.0) for seconds, devices in running)
        return f"{USED_UP} (--budget {self.budget})" if self.before + self._ended + now >= self.budget.seconds else ""
