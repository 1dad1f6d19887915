"""Syne Tune's schedulers, called as its Tuner calls them."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, Literal

import numpy as np

from bench.peers import settings
from bench.peers.drawn import config_of, options
from bench.simulation import Ask, Ending, Verdict
from spaces import Parameter, Space, declared


class SyneTune:
    """A scheduler that may stop a trial; none of these pauses one."""

    def __init__(self, space: Space, epochs: int, scheduler: Any) -> None:
        self.space, self.epochs, self.scheduler = space, epochs, scheduler
        self._open: dict[Hashable, tuple[Any, dict[str, Any]]] = {}
        self._begun = 0
        self._decided: set[Hashable] = set()

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """`scheduler.suggest` and `scheduler.on_trial_add`."""
        from syne_tune.backend.trial_status import Trial

        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return "done"
        trial = Trial(self._begun, suggestion.config, datetime(2026, 1, 1))
        self._begun += 1
        self.scheduler.on_trial_add(trial)
        self._open[trial.trial_id] = trial, {}
        return Ask(trial.trial_id, config_of(self.space, suggestion.config), self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """`scheduler.on_trial_result`."""
        open_trial, _ = self._open[trial]
        result = {"epoch": epoch, "val_accuracy": value}
        self._open[trial] = open_trial, result
        verdict = self.scheduler.on_trial_result(open_trial, result)
        if verdict != "STOP":
            return "go"
        self._decided.add(trial)  # also at its last epoch: Tuner takes that for stopped, not for complete
        return "stop" if epoch < self.epochs else "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """`on_trial_complete`, `on_trial_error` or, where it was stopped, `on_trial_remove`."""
        open_trial, result = self._open.pop(trial)
        if how == "complete" and trial not in self._decided:
            self.scheduler.on_trial_complete(open_trial, result)
        elif how == "failed":
            self.scheduler.on_trial_error(open_trial)
        else:
            self.scheduler.on_trial_remove(open_trial)


def _domain(parameter: Parameter) -> Any:
    """Ordered where its values are numbers: Syne Tune then knows which are near each other."""
    from syne_tune.config_space import choice, ordinal

    values = options(parameter)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return ordinal(values, kind="equal") if numbers else choice(values)


def _made(kind: str) -> Callable[[Space, int, int, int], SyneTune]:
    def make(space: Space, seed: int, epochs: int, slots: int) -> SyneTune:
        with contextlib.redirect_stdout(io.StringIO()):
            from syne_tune.optimizer import baselines

            logging.getLogger("syne_tune").setLevel(logging.ERROR)
            np.random.seed(seed)  # brackets are drawn from the global generator
            domains = {name: _domain(parameter) for name, parameter in declared(space).items()}
            scheduler = getattr(baselines, kind)(
                domains, metric="val_accuracy", do_minimize=False, random_seed=seed, **settings.SYNE_TUNE
            )
        return SyneTune(space, epochs, scheduler)

    return make


asha = _made("ASHA")
bohb = _made("BOHB")
bore = _made("ASHABORE")
