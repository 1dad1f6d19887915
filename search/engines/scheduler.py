"""Who stops, who waits and who goes on: one answer at each epoch of a trial, and one where a slot is free.

What is decided follows from the trials in the study store alone, so that asking again after a kill gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.engines import menu, rungs
from search.engines import optuna as engine
from search.engines.rungs import Ladder, Standing

Word = Literal["go", "prune", "rest"]
UNTIL = "until"  # of a trial: the epochs after which its sampler wants to hear of it, where those are not all


@dataclass(frozen=True)
class Verdict:
    """What becomes of a trial after an epoch: it goes on, is pruned, or rests until it is gone on with.

    `notes` are what the pruner keeps with it; `audited` says that it would have ended here and goes on to be audited.
    """

    word: Word
    notes: Mapping[str, Any] = field(default_factory=dict)
    audited: bool = False


GO = Verdict("go")


class Scheduler:
    """Stops and pauses the trials of one study.

    `pruner` is as the menu reads it, `epochs` the most a trial trains; `audit` is the share of stopped trials that go
    on to their end nevertheless, chosen by `seed` and number.
    """

    def __init__(self, study: optuna.Study, pruner: str, epochs: int, *, audit: float = 0.0, seed: int = 0) -> None:
        self.study, self.epochs, self.audit, self.seed = study, epochs, audit, seed
        chosen = menu.read("pruner", pruner)
        options = menu.defaults("pruner", chosen)
        self.ladder = _ladder(chosen.name, options, epochs) if options.get("pause") else None
        # Epochs at which trials are compared; None: at each.
        self._stops = _ladder(chosen.name, options, epochs).brackets[0] if chosen.name == "asha" else None

    def rungs(self, trial: FrozenTrial) -> tuple[int, ...]:
        """Epochs trained at which a checkpoint of a trial is always worth its cost."""
        until = trial.user_attrs.get(UNTIL)
        own = self.ladder.of(trial.number) if self.ladder else self._stops
        return tuple(sorted({*(own or ()), *(() if until is None else (until,))}))

    def after(self, trial: optuna.Trial, epochs: int, most: int) -> Verdict:
        """What becomes of a trial that has trained `epochs` of `most`."""
        frozen = engine.numbered(self.study, trial.number)
        until = frozen.user_attrs.get(UNTIL)
        if epochs >= most or frozen.user_attrs.get(engine.AUDITED) is not None:
            return GO
        if until is not None:
            return Verdict("rest") if epochs >= until else GO
        if self.ladder is not None:
            if epochs not in self.ladder.of(trial.number):
                return GO
            on = rungs.goes_on(self.standings(), self.ladder, trial.number, epochs)
            return GO if on else Verdict("rest")
        if self._stops is not None and epochs not in self._stops:
            return GO
        prune, notes = engine.should_prune(self.study, trial)
        if prune and self.audits(trial.number):
            return Verdict("go", notes, audited=True)
        return Verdict("prune" if prune else "go", notes)

    def audits(self, number: int) -> bool:
        """Whether a trial, once stopped, is one of those that go on to see whether that was right."""
        return engine.derive(self.seed, "audit", number) < self.audit * 0x80000000

    def standings(self) -> list[Standing]:
        """The trials as far as comparing goes: those that failed do not count, nor what was trained for an audit."""
        sign = 1.0 if self.study.direction == StudyDirection.MAXIMIZE else -1.0
        found = []
        for trial in engine.counted(self.study.get_trials(deepcopy=False)):
            if trial.state == TrialState.FAIL or any(c > 0 for c in trial.constraints.values()):
                continue
            audited = trial.user_attrs.get(engine.AUDITED, math.inf)
            values = {e: sign * v for e, v in trial.intermediate_values.items() if e <= audited}
            found.append(Standing(trial.number, values, resting(trial)))
        return found

    def promoted(self, *, last: bool) -> int | None:
        """The resting trial that goes on next; None where none may. `last` says that no new one will come."""
        return rungs.promoted(self.standings(), self.ladder, last=last) if self.ladder else None

    def audited(self, resting: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Of trials that rested to the study's end, those that go on to be audited."""
        return [t for t in resting if self.audits(t.number) and t.user_attrs.get(engine.AUDITED) is None]


def resting(trial: FrozenTrial) -> int | None:
    """The epochs after which an unfinished trial waits to be gone on with; None where it does not wait."""
    rests = trial.user_attrs.get(engine.RESTS)
    return None if trial.state.is_finished() or rests is None else int(rests)


def _ladder(name: str, options: Mapping[str, Any], epochs: int) -> Ladder:
    make = rungs.hyperband if name == "hyperband" else rungs.one_bracket
    first, reduction = options.get("min_resource"), options["reduction_factor"]
    skipped = reduction ** options.get("min_early_stopping_rate", 0)
    first = (first or rungs.first_rung(epochs)) * skipped
    return make(epochs, first, reduction, eager=options["eager"])
