"""KerasTuner's own oracles, asked as its tuners ask them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal

from bench.peers import settings
from bench.peers.drawn import config_of
from bench.simulation import Ask, Ending, Verdict
from spaces import Space

OBJECTIVE = "val_accuracy"


class KerasTuner:
    """An oracle, each slot a tuner of it; a trial of Hyperband that was promoted goes on where it was."""

    def __init__(self, space: Space, epochs: int, oracle: Any) -> None:
        self.space, self.epochs, self.oracle = space, epochs, oracle
        oracle.verbose = 0
        oracle._save_trial = oracle.save = lambda *_: None  # to its project's folder, which proposals do not depend on
        self._tuners = 0
        self._open: dict[Hashable, Any] = {}  # by the trial that was begun first, of all that are its promotions
        self._roots: dict[str, str] = {}
        self._best: dict[Hashable, float] = {}

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """`oracle.create_trial`."""
        self._tuners += 1
        trial = self.oracle.create_trial(f"tuner{self._tuners}")
        if trial.status == "STOPPED":
            return "done"
        if trial.status == "IDLE":
            return "wait"
        values = trial.hyperparameters.values
        root = self._roots.get(values.get("tuner/trial_id", ""), trial.trial_id)
        self._roots[trial.trial_id] = root
        self._open[root] = trial
        self._best[root] = float("-inf")
        drawn = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        return Ask(root, config_of(self.space, drawn), values.get("tuner/epochs", self.epochs))

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """A tuner tells its oracle the best epoch of a training, in the end."""
        self._best[trial] = max(self._best[trial], value)
        return "go"

    def ended(self, trial: Hashable, how: Ending) -> None:
        """`oracle.update_trial` and `oracle.end_trial`. A loss that is not a number leaves an accuracy all the same."""
        open_trial = self._open.pop(trial)
        self.oracle.update_trial(open_trial.trial_id, {OBJECTIVE: max(self._best[trial], 0.0)})
        open_trial.status = "COMPLETED"
        self.oracle.end_trial(open_trial)


def _made(oracle: str, options: dict[str, Any]) -> Callable[[Space, int, int, int], KerasTuner]:
    def make(space: Space, seed: int, epochs: int, slots: int) -> KerasTuner:
        import keras_tuner

        hp = keras_tuner.HyperParameters()
        space.sample(hp)
        kinds = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
            "hyperband": keras_tuner.oracles.HyperbandOracle,
        }
        objective = keras_tuner.Objective(OBJECTIVE, "max")
        # Each draw of an oracle counts its seed on by one: of neighbouring seeds, the second repeats the first's draws.
        apart = 1 + 1_000_003 * seed
        return KerasTuner(space, epochs, kinds[oracle](objective=objective, hyperparameters=hp, seed=apart, **options))

    return make


random = _made("random", settings.KERAS_TUNER_RANDOM)
bayesian = _made("bayesian", settings.KERAS_TUNER_BAYESIAN)
hyperband = _made("hyperband", settings.KERAS_TUNER_HYPERBAND)
