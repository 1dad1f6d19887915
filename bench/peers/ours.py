"""Our own search: the proposals of search.engines, and its pruners asked at the epochs at which a study asks them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

import optuna
from optuna.trial import TrialState

from bench.simulation import Ask, Ending, Verdict
from search.engines import optuna as engine
from search.engines.pruners import PRUNERS, rungs
from spaces import Space


class Ours:
    """A study in memory, asked and told as search/study.py asks and tells."""

    def __init__(self, space: Space, seed: int, epochs: int, sampler: str, pruner: str) -> None:
        self.space, self.seed, self.epochs, self.sampler = space, seed, epochs, sampler
        self.rungs = rungs(epochs) if pruner == "asha" else None
        self.study = engine.open_study(
            optuna.storages.InMemoryStorage(), "s", direction="maximize", pruner=PRUNERS[pruner](epochs), create=True
        )
        self._open: dict[Hashable, optuna.Trial] = {}
        self._best: dict[Hashable, float] = {}

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """`propose` and `accept`, as search/asking.py does."""
        try:
            proposal = engine.propose(
                self.study, self.space, {}, sampler=self.sampler, seed=self.seed, refuse=lambda _: None
            )
        except engine.Exhausted:
            return "done"
        frozen = engine.accept(self.study, proposal, {})
        self._open[frozen.number] = engine.reopen(self.study, frozen)
        self._best[frozen.number] = float("-inf")
        return Ask(frozen.number, proposal.config, self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """As Session._on_epoch and _prunes."""
        mine = self._open[trial]
        self._best[trial] = max(self._best[trial], value)
        mine.report(value, epoch)
        if epoch >= self.epochs or not (self.rungs is None or epoch in self.rungs):
            return "go"
        verdict, notes = engine.should_prune(self.study, mine)
        engine.note_verdict(self.study, mine, notes)
        return "stop" if verdict else "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """As Session._on_done and _failed."""
        mine = self._open.pop(trial)
        if how == "complete":
            self.study.tell(mine, self._best[trial])
        else:
            self.study.tell(mine, state=TrialState.PRUNED if how == "stopped" else TrialState.FAIL)


def made(sampler: str, pruner: str) -> Callable[[Space, int, int, int], Ours]:
    """A maker of searches by these names."""
    return lambda space, seed, epochs, slots: Ours(space, seed, epochs, sampler, pruner)


auto = made("tpe", "asha")
