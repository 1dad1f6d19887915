"""Syne Tune's own Tuner over curves in memory: a backend whose trials report one epoch at each look."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from syne_tune import Tuner
from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status, TrialResult
from syne_tune.constants import ST_WORKER_TIMESTAMP

from bench import peers
from bench.peers.drawn import config_of
from spaces import config_hash
from spaces._space import Space


class Curves(TrialBackend):
    """Trials in memory, the epochs of each in `trained`."""

    def __init__(self, space: Space, values: Callable[[Any], Sequence[float]]) -> None:
        super().__init__()
        self.space, self.values = space, values
        self.trained: dict[int, list[dict[str, float]]] = {}
        self.curves: dict[int, Sequence[float]] = {}
        self.hashes: dict[int, str] = {}
        self.looks = 0

    def _schedule(self, trial_id: int, config: dict[str, Any]) -> None:
        mine = config_of(self.space, config)
        self.hashes[trial_id] = config_hash(mine)
        self.trained[trial_id], self.curves[trial_id] = [], self.values(mine)

    def _all_trial_results(self, trial_ids: list[int]) -> list[TrialResult]:
        found = []
        for trial_id in trial_ids:
            trial, epochs = self._trial_dict[trial_id], self.trained[trial_id]
            status = trial.status
            if status == Status.in_progress:
                self.looks += 1
                value = self.curves[trial_id][len(epochs)]
                epochs.append({"epoch": len(epochs) + 1, "val_accuracy": value, ST_WORKER_TIMESTAMP: self.looks})
                if len(epochs) == len(self.curves[trial_id]):
                    status = Status.completed
            found.append(TrialResult(trial_id, trial.config, datetime(2026, 1, 1), metrics=epochs, status=status))
        return found

    def _stop_trial(self, trial_id: int, result: dict[str, Any] | None) -> None:
        pass

    def _cleanup_after_trial(self, trial_id: int) -> None:
        pass

    def busy_trial_ids(self) -> list[tuple[int, str]]:
        return [(n, t.status) for n, t in self._trial_dict.items() if t.status == Status.in_progress]

    def stop_all(self) -> None:
        pass

    def set_path(self, results_root: str | None = None, tuner_name: str | None = None) -> None:
        pass

    def entrypoint_path(self) -> Path:
        return Path(__file__)

    def set_entrypoint(self, entry_point: str) -> None:
        pass


def tuned(
    name: str, space: Space, seed: int, epochs: int, values: Callable[[Any], Sequence[float]], trials: int
) -> list[tuple[str, int]]:
    """(hash, epochs) of each of the first trials that Tuner runs with the scheduler of our adapter, on one worker."""
    scheduler = peers.make(name, space, seed, epochs, 1).scheduler  # type: ignore[attr-defined]
    backend = Curves(space, values)
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler,
        stop_criterion=lambda status: status.num_trials_started > trials,
        n_workers=1,
        sleep_time=0,
        results_update_interval=1e9,
        callbacks=[],
        save_tuner=False,
        tuner_name="loop",
    )
    tuner.tuner_path = Path(tempfile.mkdtemp(prefix="syne-"))
    tuner.run()
    return [(backend.hashes[n], len(done)) for n, done in backend.trained.items()][:trials]
