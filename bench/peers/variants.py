"""Samplers crossed with schedulers, to find out which `auto` should choose: a bench for development, no peer.

A name is `SAMPLER[,option...]|SCHEDULER[,option...]`: tpe, random or forest; none, median, stop or promote.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from bench.grid import points
from bench.simulation import Ask, Ending, Verdict
from search.engines.optuna import OptunaDraws
from spaces import Space, config_hash, declared
from spaces._space import Config

TIRED = 20  # asks that only repeat, after which an unseen point is drawn by chance


@dataclass
class _Trial:
    """A configuration, its values by epoch, and whether it may go on: state is new, paused, running or over."""

    config: Config
    frozen: FrozenTrial
    values: list[float] = field(default_factory=list)
    state: str = "running"
    rung: int = -1  # the last it was compared at


class Variant:
    """One sampler under one scheduler; a trial's value is its best epoch's."""

    def __init__(self, space: Space, seed: int, epochs: int, slots: int, name: str) -> None:
        self.space, self.epochs = space, epochs
        self.rng = np.random.default_rng(seed)
        sampler, scheduler = name.split("|")
        self.sampling, self.options = _read(sampler)
        self.kind, said = _read(scheduler)
        self.eta, first = float(said.get("eta", 3)), int(said.get("first", 1))
        self.rungs: list[int] = []
        while first < epochs and self.kind in ("stop", "promote"):
            self.rungs.append(first)
            first = round(first * self.eta)
        self.study = optuna.create_study(direction="maximize", sampler=self._sampler(seed))
        self.trials: list[_Trial] = []
        self.known: set[str] = set()
        self.unseen = {config_hash(point): point for point in points(space)}
        self.encode = _Encoder(space)

    def _sampler(self, seed: int) -> BaseSampler:
        if self.sampling != "tpe":
            return optuna.samplers.RandomSampler(seed=seed)
        options: dict[str, Any] = {}
        o = self.options
        if "mv" in o:
            options["multivariate"] = bool(int(o["mv"]))
        if "group" in o:
            options["group"] = bool(int(o["group"]))
        if "startup" in o:
            options["n_startup_trials"] = int(o["startup"])
        if "liar" in o:
            options["constant_liar"] = bool(int(o["liar"]))
        if "candidates" in o:
            options["n_ei_candidates"] = int(o["candidates"])
        if "gamma" in o:
            share = float(o["gamma"])
            options["gamma"] = lambda n: min(math.ceil(share * n), 25)
        return optuna.samplers.TPESampler(seed=seed, **options)

    # ---- the protocol

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """A promotion where one is due, else a new configuration."""
        if self.kind == "promote" and (number := self._promotable()) is not None:
            self.trials[number].state = "running"
            return Ask(number, self.trials[number].config, self.epochs)
        if not self.unseen:
            left = [n for n, t in enumerate(self.trials) if t.state == "paused"]
            if not left:
                return "done"
            best = max(left, key=lambda n: (self.trials[n].rung, max(self.trials[n].values)))
            self.trials[best].state = "running"
            return Ask(best, self.trials[best].config, self.epochs)
        number = self._new()
        return Ask(number, self.trials[number].config, self.epochs)

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """At a rung: stop or pause what is not among the best."""
        mine = self.trials[int(str(trial))]
        mine.values.append(value)
        mine.frozen.intermediate_values[epoch] = value
        if epoch in self.rungs and epoch < self.epochs:
            mine.rung = self.rungs.index(epoch)
            if self.kind == "promote":
                return "go" if self._among_the_best(mine) else "pause"
            return "go" if self._among_the_best(mine) else "stop"
        if self.kind == "median" and epoch < self.epochs:
            others = [max(t.values[:epoch]) for t in self.trials if len(t.values) >= epoch and t is not mine]
            if len(others) >= 5 and max(mine.values) < float(np.median(others)):
                return "stop"
        return "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """What is over is told to the sampler, in place: an in-memory study hands out what it holds."""
        mine = self.trials[int(str(trial))]
        mine.state = "paused" if how == "paused" else "over"
        if how == "complete":
            mine.frozen.values = [max(mine.values)]
            mine.frozen.state = TrialState.COMPLETE
        elif how == "failed":
            mine.frozen.state = TrialState.FAIL
        else:
            mine.frozen.state = TrialState.PRUNED

    # ---- schedulers

    def _at(self, rung: int) -> list[tuple[float, int]]:
        epoch = self.rungs[rung]
        return [(max(t.values[:epoch]), n) for n, t in enumerate(self.trials) if len(t.values) >= epoch]

    def _among_the_best(self, mine: _Trial) -> bool:
        values = sorted((value for value, _ in self._at(mine.rung)), reverse=True)
        place = math.floor(len(values) / self.eta)
        if self.kind == "stop":
            place = max(place, 1)  # a first one goes on
        return place > 0 and max(mine.values) >= values[place - 1]

    def _promotable(self) -> int | None:
        for rung in reversed(range(len(self.rungs))):
            ranked = sorted(self._at(rung), reverse=True)
            for _, number in ranked[: math.floor(len(ranked) / self.eta)]:
                trial = self.trials[number]
                if trial.state == "paused" and trial.rung == rung:
                    return number
        return None

    # ---- samplers

    def _new(self) -> int:
        if self.sampling == "forest":
            config = self._forest()
            return self._accept(config)
        for _ in range(TIRED):
            trial = self.study.ask()
            config = self.space.sample(OptunaDraws(trial, {}))
            if config_hash(config) in self.unseen:
                return self._accept(config, trial)
            self._forget()
        return self._accept(self._by_chance())

    def _forget(self) -> None:
        """A repeated proposal leaves no trace."""
        storage: Any = self.study._storage
        info = storage._studies[self.study._study_id]
        gone = info.trials.pop()
        storage._trial_id_to_study_id_and_number.pop(gone._trial_id, None)
        self.study._thread_local.cached_all_trials = None

    def _by_chance(self) -> Config:
        names = list(self.unseen)
        return self.unseen[names[int(self.rng.integers(len(names)))]]

    def _accept(self, config: Config, trial: optuna.Trial | None = None) -> int:
        if trial is None:
            trial = self.study.ask()
            trial = self._replayed(config)
        storage: Any = self.study._storage
        frozen = storage._studies[self.study._study_id].trials[-1]
        self.unseen.pop(config_hash(config))
        self.trials.append(_Trial(config, frozen))
        return len(self.trials) - 1

    def _replayed(self, config: Config) -> optuna.Trial:
        self._forget()
        fixed = optuna.trial.FixedTrial(dict(_suggested(self.space, config)))
        self.space.sample(OptunaDraws(fixed, {}))
        frozen = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=dict(fixed.params), distributions=dict(fixed.distributions)
        )
        self.study.add_trial(frozen)
        return optuna.trial.Trial(self.study, self.study.get_trials(deepcopy=False)[-1]._trial_id)

    def _forest(self) -> Config:
        """The unseen point with the largest expected improvement, by extra trees over configuration and epoch."""
        startup = int(self.options.get("startup", 10))
        seen = [t for t in self.trials if t.values]
        if len(self.trials) < startup or len(seen) < 5 or self.rng.random() < float(self.options.get("chance", 0.1)):
            return self._by_chance()
        from sklearn.ensemble import ExtraTreesRegressor

        rows, values = list[list[float]](), list[float]()
        marks = sorted({*self.rungs, self.epochs})
        for t in seen:
            at = sorted({m for m in marks if m <= len(t.values)} | {len(t.values)})
            best = np.maximum.accumulate(t.values)
            for epoch in at:
                rows.append([*self.encode(t.config), math.log(epoch)])
                values.append(float(best[epoch - 1]))
        model = ExtraTreesRegressor(
            int(self.options.get("trees", 60)),
            min_samples_leaf=int(self.options.get("leaf", 1)),
            bootstrap=bool(int(self.options.get("bootstrap", 1))),
            max_features=float(self.options.get("features", 1.0)),
            random_state=int(self.rng.integers(2**31)),
        ).fit(np.array(rows), np.array(values))
        names = list(self.unseen)
        asked = np.array([[*self.encode(self.unseen[name]), math.log(self.epochs)] for name in names], np.float32)
        each = np.array([tree.predict(asked) for tree in model.estimators_])
        mean, deviation = each.mean(axis=0), each.std(axis=0) + 1e-6
        best_mean = max(values)
        z = (mean - best_mean) / deviation
        from scipy.stats import norm

        gain = deviation * (z * norm.cdf(z) + norm.pdf(z))
        running = [t for t in self.trials if t.state == "running" and not t.values]
        if running and self.options.get("liar", "1") == "1":
            mine = np.array([self.encode(t.config) for t in running])
            near = np.abs(asked[:, None, :-1] - mine[None]).sum(axis=2).min(axis=1)
            gain = gain * (1 - np.exp(-near))
        return self.unseen[names[int(np.argmax(gain))]]


class _Encoder:
    """A configuration as numbers: the place among its values of what is ordered, one column a choice of what is not."""

    def __init__(self, space: Space) -> None:
        self.parameters = declared(space)

    def __call__(self, config: Config) -> list[float]:
        row: list[float] = []
        for name, p in self.parameters.items():
            options = list(p.choices or p.grid() or ())
            numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in options)
            if numbers:
                row.append(options.index(config[name]) / max(1, len(options) - 1) if name in config else -1.0)
            else:
                row += [float(config.get(name) == option) for option in options]
        return row


def _suggested(space: Space, config: Config) -> dict[str, Any]:
    """A configuration under the names that OptunaDraws suggests."""
    found: dict[str, Any] = {}
    for name, p in declared(space).items():
        if name not in config:
            continue
        grid = p.grid()
        if grid is not None and not p.choices and p.sampling != "linear" and p.step is not None:
            found[f"{name}#index"] = min(range(len(grid)), key=lambda i: abs(grid[i] - config[name]))
        else:
            found[name] = config[name]
    return found


def _read(text: str) -> tuple[str, dict[str, str]]:
    kind, *options = text.split(",")
    return kind, dict(option.split("=") for option in options)
