"""Which trial comes next: a repeat, a baseline or the sampler's proposal, written down before the store has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import repeats, simulated, store
from search.engines import keras_tuner, memory
from search.engines import optuna as engine
from search.engines.scheduler import UNTIL, resting
from search.fitting import over_known
from search.plan import Plan
from search.specs import goals_of
from search.warm import FROM, NOTHING, Warm
from spaces import Baseline, Space, config_hash
from spaces._find import line_of
from spaces.datasets import DataSpec, describe
from spaces.errors import BuildFailed

MEMORY = "memory"  # of a trial: what it took, or that it was too much
MAX_REFUSED = 200  # refused proposals in a row after which nothing is left to run


class Asker:
    """Gives a study its trials one by one, and learns from what they took which ones to refuse.

    `say` hears of what is refused; `passed_over` hears of a configuration that the space's own code failed on and
    says whether to go on. `exhausted` is why nothing is left, where the total was not reached; `waits` says that the
    sampler has nothing now, but will once it has heard of what runs.
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
        self.goals = goals_of(plan, space)
        self.baselines: list[Baseline] = []
        self.lessons, self.first = warm.lessons, list(warm.first)
        self.observed: list[memory.Observation] = []
        self.exhausted = ""
        self.waits = False
        self.oracle: keras_tuner.Oracle | None = None
        if plan.sampler.startswith(keras_tuner.PREFIX):
            self.oracle = keras_tuner.Oracle(
                study,
                plan.sampler,
                space,
                found_by=plan.space,
                dataset=plan.dataset,
                narrowings=plan.narrowings,
                metric=goals_of(plan, space).objectives[0].name,
                epochs=plan.epochs,
                seed=plan.seed,
            )

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
            full, answer = len(engine.counted(trials)) >= self.plan.trials, None
            if full and (self.oracle is None or not self.oracle.goes_on):
                return None
            if self.plan.repeats:
                if number >= self.plan.trials:
                    return None
                proposal, said = repeats.draw(self.plan, self.space, number)
                worse = repeats.surely_worse(self.study, self.plan, said[repeats.REPEAT_TRIAL])
                frozen = self._accept(number, replace(proposal, refused=worse), said)
                if worse is None:
                    return frozen
                self.say(worse)
                continue
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
            if self.oracle is not None:
                answer = self.oracle.ask(full=full)
                self.waits = answer.waits
                self.exhausted = f"{self.plan.sampler} has nothing more to propose" if answer.stopped else ""
                if answer.number is not None:
                    return self._goes_on(answer)
                if answer.config is None:
                    return None
            try:
                proposal = self._proposal() if answer is None else self._of_oracle(answer)
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

    def _proposal(self) -> engine.Proposal:
        """What a sampler of Optuna's proposes."""
        return engine.propose(
            self.study,
            self.space,
            self.plan.narrowings,
            sampler=self.plan.sampler,
            seed=self.plan.seed,
            refuse=self._refuse,
            lessons=self.lessons,
        )

    def _of_oracle(self, answer: keras_tuner.Answer) -> engine.Proposal:
        """What KerasTuner proposes."""
        proposal = engine.replay(self.space, answer.config or {}, self.plan.narrowings)
        until = answer.until if answer.until is not None and answer.until < self.plan.epochs else None
        said = {keras_tuner.ASKED: dict(answer.entry or {})} | ({} if until is None else {UNTIL: until})
        try:
            refused = self._refuse(proposal.config)
        except Exception as error:  # the space's own code, on this configuration
            refused = f"the space failed: {type(error).__name__}: {error}".splitlines()[0]
        return replace(proposal, seed=self.plan.seed, refused=refused, said=said)

    def _goes_on(self, answer: keras_tuner.Answer) -> FrozenTrial:
        """A trial that rests trains on, until its sampler wants to hear of it again; written down before it is done."""
        frozen = engine.numbered(self.study, answer.number or 0)
        until = answer.until if answer.until is not None and answer.until < self.plan.epochs else None
        event = {"event": "promoted", "epochs": resting(frozen), "until": until, keras_tuner.ASKED: answer.entry}
        store.append(store.trial_folder(self.folder, frozen.number), event)
        trial = engine.reopen(self.study, frozen)
        trial.set_user_attr(keras_tuner.MORE, [*frozen.user_attrs.get(keras_tuner.MORE, []), answer.entry])
        trial.set_user_attr(UNTIL, until)
        trial.set_user_attr(engine.RESTS, None)
        return engine.numbered(self.study, frozen.number)

    def close(self) -> None:
        """End what helps with asking."""
        if self.oracle is not None:
            self.oracle.close()

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
        if isinstance(fault.error, BuildFailed) and fault.error.fatal:
            self.exhausted = f"the model's {fault.error.function}() ended the search: {fault.error}"
            return False
        return self.passed_over(error)

    def _refuse(self, config: dict[str, Any]) -> str | None:
        """Why a configuration is not worth starting."""
        limit, count = self.plan.max_params, self.space.params(config, self.data)
        if limit and count > limit:
            return f"{count:,} parameters, more than --max-params {limit:,}"
        if self.plan.table is not None:
            return simulated.missing(self.plan, config)
        over = over_known(self.space, config, self.data, self.goals.limits)
        return over or memory.judge(self.observed, self._demand(config)).refused

    def _demand(self, config: dict[str, Any]) -> memory.Demand:
        device = "cpu" if self.plan.slots[0].gpu is None else "gpu"
        return memory.demand(self.space, config, self.data, device=device, limit=self.plan.memory_limit)

    def _accept(self, number: int, proposal: engine.Proposal, said: Mapping[str, Any]) -> FrozenTrial:
        """Write a proposal and what is `said` of it into its folder, then into the study store."""
        attributes = {
            "seed": engine.derive(self.plan.seed, "trial", number),
            "asked.seed": proposal.seed,
            "asks": proposal.asks,
            "epochs": self._epochs(proposal.config),
            "parameters": self.space.params(proposal.config, self.data),
            "attempts": 0,
        } | dict(said)
        if proposal.refused is not None:
            excess = self.goals.excess(self.goals.known(self.space, proposal.config, self.data))
            violation = excess or self.violation(proposal.config)
            return engine.accept(self.study, proposal, attributes, violation=violation)
        attributes = engine.complete(proposal, attributes)
        record = engine.record(number, proposal.params, proposal.distributions, attributes)
        store.write_json(store.trial_folder(self.folder, number) / "trial.json", record)
        return engine.accept(self.study, proposal, attributes)

    def _epochs(self, config: dict[str, Any]) -> int:
        """The study's, or fewer where the configuration itself says how many."""
        own = self.space.own_epochs(config) if self.space.own_epochs else None
        return min(own or self.plan.epochs, self.plan.epochs)

    def _of_baseline(self, baseline: Baseline) -> dict[str, Any]:
        epochs = min(baseline.epochs, self.plan.epochs) if baseline.always else baseline.epochs
        return {"baseline": baseline.name, "milestones": list(baseline.milestones), "epochs": epochs}


def _has(trials: Sequence[FrozenTrial], proposal: engine.Proposal, where: str = "") -> bool:
    """Whether a configuration of another study, from `where`, is or was one of these trials."""
    named = config_hash(proposal.config)
    return any(t.user_attrs.get("config.hash") == named or (where and t.user_attrs.get(FROM) == where) for t in trials)
