"""Optuna as its documentation shows it: ask, report each epoch, prune where it says so, tell."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from bench.simulation import Ask, Ending, Verdict
from search.engines.optuna import OptunaDraws
from spaces import Space


class PlainOptuna:
    """`study.optimize` with an objective that returns its last value, turned inside out."""

    def __init__(self, space: Space, epochs: int, sampler: BaseSampler, pruner: BasePruner | None) -> None:
        self.space, self.epochs = space, epochs
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self._open: dict[Hashable, tuple[optuna.Trial, float]] = {}

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """What the sampler proposes, again and again the same where it does."""
        trial = self.study.ask()
        config = self.space.sample(OptunaDraws(trial, {}))
        self._open[trial.number] = trial, float("nan")
        return Ask(trial.number, config, self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """`trial.report`, then `trial.should_prune`."""
        open_trial, _ = self._open[trial]
        self._open[trial] = open_trial, value
        open_trial.report(value, epoch)
        return "stop" if epoch < self.epochs and open_trial.should_prune() else "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """`study.tell`."""
        open_trial, value = self._open.pop(trial)
        state = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED}.get(how, TrialState.FAIL)
        self.study.tell(open_trial, value if state == TrialState.COMPLETE else None, state=state)


def tpe(space: Space, seed: int, epochs: int, slots: int) -> PlainOptuna:
    """TPESampler and MedianPruner, as create_study() takes them."""
    from bench.peers.settings import OPTUNA_MEDIAN, OPTUNA_TPE

    sampler = optuna.samplers.TPESampler(seed=seed, **OPTUNA_TPE)
    return PlainOptuna(space, epochs, sampler, optuna.pruners.MedianPruner(**OPTUNA_MEDIAN))


def random(space: Space, seed: int, epochs: int, slots: int) -> PlainOptuna:
    """RandomSampler without a pruner."""
    return PlainOptuna(space, epochs, optuna.samplers.RandomSampler(seed=seed), optuna.pruners.NopPruner())
