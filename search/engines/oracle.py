"""KerasTuner's oracle over one space: `python -m search.engines.oracle ORDER`, a JSON line in, a JSON line out.

In a process of its own, since KerasTuner imports Keras and TensorFlow. It does what KerasTuner's tuners do between two
trials, and keeps nothing: what it was told and asked before is told and asked again when it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from spaces import HyperParameters, Parameter, Space, find

ENDLESS = 1_000_000_000  # failed trials in a row, trials in all, brackets: the study counts those


class Drawn(HyperParameters):
    """The hp vocabulary of a space over KerasTuner's own container, which hears of every hyperparameter met."""

    def __init__(self, container: Any, narrowings: Mapping[str, str]) -> None:
        super().__init__(narrowings)
        self.container = container

    def draw(self, parameter: Parameter) -> Any:
        """The container's value."""
        return self._declare(parameter)

    def _register(self, parameter: Parameter, parent_name: str | None, parent_values: Any) -> Any:
        value = super()._register(parameter, parent_name, parent_values)
        met = self.declared[parameter.name]
        if value is None or met.kind == "fixed":  # not drawn, but KerasTuner must know it
            self._declare(met)
        return value

    def meet(self, parameter: Parameter, *, active: bool) -> Any:
        """As of HyperParameters; KerasTuner hears of it."""
        value = super().meet(parameter, active=active)
        if value is None or parameter.kind == "fixed":  # not drawn, but KerasTuner must know it
            self._declare(self._narrowed(parameter))
        return value

    def _declare(self, p: Parameter) -> Any:
        name = p.own_name  # of two of the same name KerasTuner loses one's value
        with contextlib.ExitStack() as scopes:
            for parent, values in p.conditions:
                scopes.enter_context(self.container.conditional_scope(parent, list(values)))
            if p.kind == "boolean" and len(p.choices) == 2:
                return self.container.Boolean(name, default=p.default)
            if p.kind == "fixed" or len(p.choices) == 1:
                return self.container.Fixed(name, p.choices[0])
            if p.choices:
                return self.container.Choice(name, list(p.choices), default=p.default)
            if p.low == p.high:
                return self.container.Fixed(name, p.low)
            make = self.container.Int if p.kind == "int" else self.container.Float
            return make(name, p.low, p.high, step=p.step, sampling=p.sampling, default=p.default)


class Tuner:
    """An oracle and what KerasTuner's tuner does around it."""

    def __init__(self, order: Mapping[str, Any], folder: str) -> None:
        self.narrowings = order["narrowings"]
        self.space: Space = find(order["space"], order.get("dataset"))
        self.metric = order["metric"]
        self.oracle = make(order)
        self.oracle.verbose = 0
        self.oracle._set_project_dir(folder, "oracle")
        self._explore()

    def _explore(self) -> None:
        """Every conditional scope is entered once, as a tuner does before its first trial, so that all is known."""
        never: list[Any] = []
        once: list[Any] = []
        container = self.oracle.get_space()
        while True:
            self._sample(container)
            self.oracle.update_space(container)
            for conditions in container.active_scopes:
                once += [] if conditions in once else [list(conditions)]
                if conditions in never:
                    never.remove(conditions)
            never += [list(c) for c in container.inactive_scopes if c not in once]
            if not never:
                return
            container = self.oracle.get_space()
            for condition in never[0]:
                container.values[condition.name] = condition.values[0]
            container.ensure_active_values()

    def _sample(self, container: Any) -> dict[str, Any]:
        with contextlib.redirect_stdout(sys.stderr):
            return self.space.sample(Drawn(container, self.narrowings))

    def ask(self, tuner: str) -> dict[str, Any]:
        """The next trial: its id there, its configuration, the epochs until which it trains, whom it goes on with."""
        trial = self.oracle.create_trial(tuner)
        if trial.status != "RUNNING":
            return {"status": trial.status}
        values = dict(trial.hyperparameters.values)
        own = {name: value for name, value in values.items() if name.startswith("tuner/")}
        config = self._sample(trial.hyperparameters)
        answer = {"status": "RUNNING", "id": trial.trial_id, "config": config}
        if "tuner/epochs" in own:
            answer |= {"until": own["tuner/epochs"], "from": own.get("tuner/trial_id")}
        return answer

    def tell(self, trial_id: str, status: str, score: float | None) -> None:
        """A trial has ended, with its best value where it has one."""
        trial = self.oracle.trials[trial_id]
        if score is not None:
            self.oracle.update_trial(trial_id, {self.metric: score}, step=0)
        trial.status = status
        trial.message = None
        self.oracle.end_trial(trial)


def make(order: Mapping[str, Any]) -> Any:
    """KerasTuner's oracle of an order: name, seed, metric, direction, epochs and options."""
    from keras_tuner import Objective, oracles

    said: dict[str, Any] = {
        "objective": Objective(order["metric"], "max" if order["direction"] == "maximize" else "min"),
        "seed": order["seed"],
        "max_consecutive_failed_trials": ENDLESS,
        **order["options"],
    }
    match order["name"]:
        case "kt-random":
            return oracles.RandomSearchOracle(max_trials=ENDLESS, **said)
        case "kt-bayesian":
            return oracles.BayesianOptimizationOracle(max_trials=ENDLESS, **said)
        case "kt-grid":
            return oracles.GridSearchOracle(max_trials=None, **said)
        case _:
            return oracles.HyperbandOracle(max_epochs=order["epochs"], hyperband_iterations=ENDLESS, **said)


def main() -> None:
    """Answer every line of standard input, until there are no more."""
    out = os.fdopen(os.dup(1), "w")  # what KerasTuner or a space prints must not stand among the answers
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="search-oracle-") as folder:
        tuner: Tuner | None = None
        for line in sys.stdin:
            order = json.loads(line)
            answer: dict[str, Any]
            try:
                tuner = tuner or Tuner(json.loads(sys.argv[1]), folder)
                for told in order["told"]:
                    tuner.tell(*told)
                answer = tuner.ask(order["tuner"])
            except (Exception, SystemExit) as error:
                words = " ".join(str(error).split())[:300]
                answer = {"status": "ERROR", "error": f"{type(error).__name__}: {words}"}
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
