"""Our own search: the proposals and the scheduler of search.engines, asked and told as a study asks and tells them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

import optuna
from optuna.trial import TrialState

from bench.simulation import Ask, Ending, Verdict
from search.choosing import choose
from search.engines import menu, pruners
from search.engines import optuna as engine
from search.engines.menu import AUTO
from search.engines.scheduler import Scheduler, resting
from search.reader import Reader
from spaces import Space

ENDLESS = 1_000_000  # trials: it is time that ends a search here


class Ours:
    """A study in memory, as search/study.py has it; `sampler` and `pruner` None are what `auto` chooses."""

    def __init__(
        self, space: Space, seed: int, epochs: int, slots: int, sampler: str | None, pruner: str | None
    ) -> None:
        choice = choose(
            space,
            {},
            Reader(),
            sampler=sampler or AUTO,
            pruner=pruner or AUTO,
            trials=ENDLESS,
            epochs=epochs,
            slots=slots,
        )
        self.space, self.seed, self.epochs, self.sampler = space, seed, epochs, choice.sampler
        self.study = engine.open_study(
            optuna.storages.InMemoryStorage(),
            "s",
            direction="maximize",
            pruner=pruners.make(menu.read("pruner", choice.pruner), epochs),
            create=True,
        )
        self.scheduler = Scheduler(self.study, choice.pruner, epochs)
        self.full = False
        self._best: dict[Hashable, float] = {}
        self._rests: dict[Hashable, int] = {}

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """As Session._next: a trial that rests and may go on, or a new one."""
        number = self.scheduler.promoted(last=self.full)
        if number is not None:
            frozen = engine.numbered(self.study, number)
            engine.reopen(self.study, frozen).set_user_attr(engine.RESTS, None)
            return Ask(number, frozen.user_attrs["config"], self.epochs)
        try:
            proposal = engine.propose(
                self.study, self.space, {}, sampler=self.sampler, seed=self.seed, refuse=lambda _: None
            )
        except engine.Exhausted:
            if self.full:
                return "done"
            self.full = True
            return self.suggest()
        frozen = engine.accept(self.study, proposal, {})
        self._best[frozen.number] = float("-inf")
        return Ask(frozen.number, proposal.config, self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """As Session._on_epoch and _decide."""
        mine = self._trial(trial)
        self._best[trial] = max(self._best[trial], value)
        mine.report(value, epoch)
        verdict = self.scheduler.after(mine, epoch, self.epochs)
        engine.note_verdict(self.study, mine, verdict.notes)
        if verdict.word == "rest":
            self._rests[trial] = epoch
            return "pause"
        return "stop" if verdict.word == "prune" else "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """As Session._on_done and _failed."""
        mine = self._trial(trial)
        if how == "paused":
            mine.set_user_attr(engine.RESTS, self._rests[trial])
            assert resting(engine.numbered(self.study, mine.number))
        elif how == "complete":
            self.study.tell(mine, self._best[trial])
        else:
            self.study.tell(mine, state=TrialState.PRUNED if how == "stopped" else TrialState.FAIL)

    def _trial(self, number: Hashable) -> optuna.Trial:
        return engine.reopen(self.study, engine.numbered(self.study, int(str(number))))


def made(sampler: str | None, pruner: str | None) -> Callable[[Space, int, int, int], Ours]:
    """A maker of searches by these names."""
    return lambda space, seed, epochs, slots: Ours(space, seed, epochs, slots, sampler, pruner)


auto = made(None, None)
