"""A tracker that keeps nothing, for studies that prove a method and not a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracking.runs import Run


class Nowhere:
    """Takes whatever a Tracker takes; nothing is sent, so nothing waits and nothing fails."""

    experiment_id = ""
    pending = 0
    silent = False
    failures: tuple[str, ...] = ()

    @property
    def outbox(self) -> Nowhere:
        """Where all of it goes."""
        return self

    def start_study(self, name: str, *, identity: str, **_: Any) -> Run:
        """A run without an id."""
        return Run(f"study {identity}")

    def start_trial(self, study: Run, number: int, **_: Any) -> Run:
        """A run without an id."""
        return Run(f"{study.lane} trial {number}")

    def flush(self, timeout: float | None = None) -> bool:
        """All that there is is sent."""
        return True

    def settle(self, away: float, at_most: float) -> bool:
        """All that there is is sent."""
        return True

    def close(self, timeout: float | None = None) -> int:
        """Nothing is left."""
        return 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _taken


def _taken(*_: object, **__: object) -> None:
    pass
