"""Ray Tune's random search and its ASHA scheduler, called as its controller calls them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.peers import settings
from bench.peers.drawn import config_of, options
from bench.simulation import Ask, Ending, Verdict
from spaces import Space, declared


@dataclass(frozen=True)
class _Trial:
    """All that the scheduler reads of a trial."""

    trial_id: str


class RayTune:
    """Variants of a search space, as BasicVariantGenerator resolves them, under one scheduler."""

    def __init__(self, space: Space, seed: int, epochs: int, scheduler: Any) -> None:
        from ray import tune
        from ray.tune.search.variant_generator import generate_variants

        self.space, self.epochs, self.scheduler = space, epochs, scheduler
        self._resolve = generate_variants
        self._space = {"config": {name: tune.choice(options(p)) for name, p in declared(space).items()}}
        # What BasicVariantGenerator(random_state=seed) draws with.
        self._random = np.random.default_rng(seed)
        self._begun = 0
        self._last: dict[Hashable, dict[str, Any]] = {}

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """The next variant."""
        _, spec = next(iter(self._resolve(self._space, random_state=self._random)))
        trial = _Trial(f"{self._begun:05}")
        self._begun += 1
        self.scheduler.on_trial_add(None, trial)
        return Ask(trial.trial_id, config_of(self.space, spec["config"]), self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """`scheduler.on_trial_result`."""
        self._last[trial] = {"training_iteration": epoch, "val_accuracy": value}
        verdict = self.scheduler.on_trial_result(None, _Trial(str(trial)), self._last[trial])
        return "stop" if verdict == "STOP" and epoch < self.epochs else "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """`on_trial_complete` or, where it was stopped or failed, `on_trial_remove`."""
        if how == "complete":
            self.scheduler.on_trial_complete(None, _Trial(str(trial)), self._last[trial])
        else:
            self.scheduler.on_trial_remove(None, _Trial(str(trial)))


def asha(space: Space, seed: int, epochs: int, slots: int) -> RayTune:
    """ASHAScheduler over random search."""
    from ray.tune.schedulers import ASHAScheduler

    return RayTune(space, seed, epochs, ASHAScheduler(metric="val_accuracy", mode="max", **settings.RAY_ASHA))
