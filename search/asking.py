"""Which trial comes next: a repeat, a baseline or the sampler's proposal, written down before the store has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import repeats, store
from search.engines import memory
from search.engines import optuna as engine
from search.plan import Plan
from search.warm import FROM, NOTHING, Warm
from spaces import Baseline, Space, config_hash
from spaces._find import line_of
from spaces.datasets import DataSpec, describe

MEMORY = "memory"  # of a trial: what it took, or that it was too much
MAX_REFUSED = 200  # refused proposals in a row after which nothing is left to run


class Asker:
    """Gives a study its trials one by one, and learns from what they took which ones to refuse.

    `say` hears of what is refused; `passed_over` hears of a configuration that the space's own code failed on and
    says whether to go on. `exhausted` is why nothing is left, where the total was not reached.
    """

    def __init__(
        self,
        plan: Plan,
        space: Space,
        study: optuna.Study,
        folder: Path,
        warm: Warm = NOTHING,
        *,
        say: Callable[[str], None],
        passed_over: Callable[[str], bool],
    ) -> None:
        self.plan, self.space, self.study, self.folder = plan, space, study, folder
        self.say, self.passed_over = say, passed_over
        self.data: DataSpec = describe(space.dataset)
        self.baselines: list[Baseline] = []
        self.lessons, self.first = warm.lessons, list(warm.first)
        self.observed: list[memory.Observation] = []
        self.exhausted = ""

    def take_up(self, trials: list[FrozenTrial]) -> None:
        """Where `trials` of an earlier process left it: baselines that were not tried, memory that was seen."""
        self.observed = [memory.Observation.from_json(t.user_attrs[MEMORY]) for t in trials if MEMORY in t.user_attrs]
        tried = {t.user_attrs.get("baseline") for t in engine.counted(trials)}
        by_name = {b.name: b for b in self.space.baselines}
        self.baselines = [by_name[n] for n in self.plan.baselines if n in by_name and n not in tried]
        self.first = [(where, known) for where, known in self.first if not _has(trials, known, where)]

    def next(self) -> FrozenTrial | None:
        """The next accepted trial, written to the store; None where the total is reached or nothing is left."""
        for _ in range(MAX_REFUSED):
            trials = self.study.get_trials(deepcopy=False)
            number = len(trials)
            if len(engine.counted(trials)) >= self.plan.trials:
                return None
            if self.plan.repeats:
                return self._accept(number, *repeats.draw(self.plan, self.space, number))
            if self.baselines:
                baseline = self.baselines.pop(0)
                known = engine.replay(self.space, baseline.config, self.plan.narrowings)
                return self._accept(number, known, self._of_baseline(baseline))
            if self.first:
                where, known = self.first.pop(0)
                why = "it is a trial already" if _has(trials, known) else self._refuse(known.config)
                if why is None:
                    return self._accept(number, known, {FROM: where})
                self.say(f"{where} is not run first: {why}")
                continue
            try:
                proposal = engine.propose(
                    self.study,
                    self.space,
                    self.plan.narrowings,
                    sampler=self.plan.sampler,
                    seed=self.plan.seed,
                    refuse=self._refuse,
                    lessons=self.lessons,
                )
            except engine.Exhausted as exhausted:
                self.exhausted = f"the space is exhausted: {exhausted}"
                return None
            except engine.SpaceFault as fault:
                if not self._pass_over(fault):
                    return None
                continue
            frozen = self._accept(number, proposal, {})
            if proposal.refused is None:
                return frozen
            self.say(f"refused beforehand: {proposal.refused}")
        self.exhausted = f"the space is exhausted: {MAX_REFUSED} configurations in a row were refused beforehand"
        return None

    def observe(self, trial: optuna.Trial, config: dict[str, Any], fitted: bool, peak: float | None) -> None:
        """Keep what a trial took, `peak` in MB, for those to come."""
        seen = memory.Observation(self._demand(config), fitted, peak)
        trial.set_user_attr(MEMORY, seen.to_json())
        self.observed.append(seen)

    def violation(self, config: dict[str, Any]) -> float:
        """How far a configuration is above the memory there is, relative; above zero."""
        return memory.judge(self.observed, self._demand(config)).violation

    def _pass_over(self, fault: engine.SpaceFault) -> bool:
        """The space's own code failed on one configuration: that one is passed over."""
        path = self.space.path or Path(self.plan.space)
        error = f"{path}:{line_of(fault.error, path)}: {fault}".splitlines()[0]
        engine.pass_over(self.study, fault, error)
        return self.passed_over(error)

    def _refuse(self, config: dict[str, Any]) -> str | None:
        """Why a configuration is not worth starting."""
        limit, count = self.plan.max_params, self.space.params(config, self.data)
        if limit and count > limit:
            return f"{count:,} parameters, more than --max-params {limit:,}"
        return memory.judge(self.observed, self._demand(config)).refused

    def _demand(self, config: dict[str, Any]) -> memory.Demand:
        device = "cpu" if self.plan.slots[0].gpu is None else "gpu"
        return memory.demand(self.space, config, self.data, device=device, limit=self.plan.memory_limit)

    def _accept(self, number: int, proposal: engine.Proposal, said: Mapping[str, Any]) -> FrozenTrial:
        """Write a proposal and what is `said` of it into its folder, then into the study store."""
        attributes = {
            "seed": engine.derive(self.plan.seed, "trial", number),
            "asked.seed": proposal.seed,
            "asks": proposal.asks,
            "epochs": self.plan.epochs,
            "parameters": self.space.params(proposal.config, self.data),
            "attempts": 0,
        } | dict(said)
        if proposal.refused is not None:
            return engine.accept(self.study, proposal, attributes, violation=self.violation(proposal.config))
        attributes = engine.complete(proposal, attributes)
        record = engine.record(number, proposal.params, proposal.distributions, attributes)
        store.write_json(store.trial_folder(self.folder, number) / "trial.json", record)
        return engine.accept(self.study, proposal, attributes)

    def _of_baseline(self, baseline: Baseline) -> dict[str, Any]:
        epochs = min(baseline.epochs, self.plan.epochs) if baseline.always else baseline.epochs
        return {"baseline": baseline.name, "milestones": list(baseline.milestones), "epochs": epochs}


def _has(trials: Sequence[FrozenTrial], proposal: engine.Proposal, where: str = "") -> bool:
    """Whether a configuration of another study, from `where`, is or was one of these trials."""
    named = config_hash(proposal.config)
    return any(t.user_attrs.get("config.hash") == named or (where and t.user_attrs.get(FROM) == where) for t in trials)
