"""Makes the study store, the trial folders and MLflow agree again."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from search.engines import optuna as engine

MIRRORED = "mirrored"


def unfinished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were begun and not told, the oldest first."""
    return [t for t in engine.counted(list(trials)) if not t.state.is_finished()]
