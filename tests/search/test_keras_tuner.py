"""KerasTuner's own oracles as samplers: the proposals of a plain KerasTuner run, resumed after any kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.engines import optuna as engine
from search.engines import pruners, rungs
from search.engines.keras_tuner import ASKED, MORE, Oracle
from search.engines.menu import Chosen
from search.engines.scheduler import UNTIL, resting
from spaces import find

EPOCHS, SEED = 9, 7
NARROW = {"learning_rate": "0.0001,0.001,0.01", "dropout": "0..0.2", "weight_decay": "0,0.001"}


def score(config: dict[str, Any], epochs: int = EPOCHS) -> float:
    """What a configuration reaches: any function that tells them apart and grows with training."""
    named = sorted((k, v) for k, v in ours(config).items() if k != "tuner/epochs")
    return (engine.derive(0, *named) % 1000 / 1000) * epochs / (epochs + 2)


def plain(kind: str, folder: Path, count: int) -> list[dict[str, Any]]:
    """The configurations of `count` trials of a plain KerasTuner run over the digits space."""
    import keras
    import keras_tuner

    space = find("cnn_digits")

    def build(hp: Any) -> Any:
        space.sample(hp)
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    kinds = {
        "kt-random": (keras_tuner.RandomSearch, {"max_trials": count}),
        "kt-bayesian": (keras_tuner.BayesianOptimization, {"max_trials": count, "num_initial_points": 8}),
        "kt-hyperband": (keras_tuner.Hyperband, {"max_epochs": EPOCHS}),
        "kt-grid": (keras_tuner.GridSearch, {"max_trials": count}),
    }
    base, options = kinds[kind]
    found: list[dict[str, Any]] = []

    class Plain(base):  # type: ignore[misc,valid-type]
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
            self.hypermodel.build(trial.hyperparameters)
            values = dict(trial.hyperparameters.values)
            found.append(values)
            return {"val_accuracy": score(values, values.get("tuner/epochs", EPOCHS))}

    objective = keras_tuner.Objective("val_accuracy", "max")
    tuner = Plain(
        build, objective=objective, seed=SEED, directory=folder, project_name="plain", overwrite=True, **options
    )
    tuner.search(verbose=0)
    return found[:count]


@contextmanager
def oracle(study: optuna.Study, sampler: str, **said: Any) -> Iterator[Oracle]:
    asked = {"found_by": "cnn_digits", "dataset": None, "narrowings": {}, "metric": "val_accuracy", "epochs": EPOCHS}
    made = Oracle(study, sampler, find("cnn_digits"), **(asked | {"seed": SEED} | said))
    try:
        yield made
    finally:
        made.close()


def study(folder: Path) -> optuna.Study:
    store = engine.storage(f"sqlite:///{folder}/study.db")
    create = "s" not in {s.study_name for s in engine.studies(store)}
    pruner = pruners.make(Chosen("none"), 1)
    return engine.open_study(store, "s", direction="maximize", pruner=pruner, create=create)


def step(opened: optuna.Study, made: Oracle, narrowings: dict[str, str] | None = None) -> dict[str, Any] | None:
    """One proposal taken up, as the study's loop does; its configuration with KerasTuner's epochs."""
    answer = made.ask()
    if answer.stopped:
        return None
    until = answer.until or EPOCHS
    if answer.number is not None:
        frozen = engine.numbered(opened, answer.number)
        trial = engine.reopen(opened, frozen)
        trial.set_user_attr(MORE, [*frozen.user_attrs.get(MORE, []), answer.entry])
        trial.set_user_attr(engine.RESTS, None)
        config, begun = frozen.user_attrs["config"], max(frozen.intermediate_values)
    else:
        proposal = engine.replay(find("cnn_digits"), answer.config or {}, narrowings or {})
        frozen = engine.accept(opened, proposal, {ASKED: dict(answer.entry or {})})
        trial, config, begun = engine.reopen(opened, frozen), proposal.config, 0
    for epochs in range(begun + 1, until + 1):
        trial.report(score(config, epochs), epochs)
    if until < EPOCHS:
        trial.set_user_attr(UNTIL, until)
        trial.set_user_attr(engine.RESTS, until)
        assert resting(engine.numbered(opened, frozen.number)) == until
    else:
        opened.tell(trial, score(config, until))
    return config | ({} if answer.until is None else {"tuner/epochs": until})


def ours(values: dict[str, Any]) -> dict[str, Any]:
    """Without KerasTuner's own hyperparameters, and without the digits that a step in binary has too many of."""
    kept = {k: v for k, v in values.items() if not k.startswith("tuner/") or k == "tuner/epochs"}
    return {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in kept.items()}


@pytest.mark.filterwarnings("ignore:The optimal value found:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "kind",
    [
        "kt-random",
        pytest.param("kt-bayesian", marks=pytest.mark.long),
        "kt-hyperband",
        pytest.param("kt-grid", marks=pytest.mark.long),
    ],
)
def test_the_first_twenty_proposals_are_those_of_a_plain_keras_tuner_run(kind, tmp_path):
    """One half of them asked by one process, the other by a second one that knows only the study store."""
    wanted = [ours(values) for values in plain(kind, tmp_path / "plain", 20)]
    sampler = f"{kind}:num_initial_points=8" if kind == "kt-bayesian" else kind
    found = []
    for count in (11, 20):
        opened = study(tmp_path)
        with oracle(opened, sampler) as made:
            while len(found) < count:
                found.append(ours(step(opened, made) or {}))
    assert found == wanted
    trials = study(tmp_path).get_trials()
    assert len(trials) == len({t.user_attrs["config.hash"] for t in trials})
    assert not any(name.startswith("tuner/") for t in trials for name in t.params)


def test_a_promotion_of_hyperband_goes_on_with_the_same_trial(tmp_path):
    opened = study(tmp_path)
    with oracle(opened, "kt-hyperband") as made:
        for _ in range(14):
            step(opened, made)
    trials = opened.get_trials()
    on = [t for t in trials if t.user_attrs.get(MORE)]
    assert on and len(trials) < 14
    assert all(set(t.intermediate_values) == set(range(1, max(t.intermediate_values) + 1)) for t in on)


def test_the_brackets_that_a_plan_prints_are_those_of_keras_tuner():
    from keras_tuner.oracles import HyperbandOracle

    for epochs, factor in ((9, 3), (100, 3), (20, 2), (1, 3), (50, 4)):
        made = HyperbandOracle("val_accuracy", max_epochs=epochs, factor=factor, seed=1)
        count = made._get_num_brackets()
        wanted = [
            [(made._get_size(b, n), made._get_epochs(b, n)) for n in range(made._get_num_rounds(b))]
            for b in reversed(range(count))
        ]
        assert [[(r.trials, r.epochs) for r in rounds] for rounds in rungs.brackets(epochs, factor)] == wanted


@pytest.mark.long
@pytest.mark.parametrize("kind", ["kt-random", "kt-bayesian", "kt-grid"])
def test_a_small_space_is_told_to_be_used_up(kind, tmp_path):
    narrow = {
        **{"conv_layers": "1", "filters": "8", "dense_units": "16", "dropout": "0", "optimizer": "adam,adamw"},
        **{"learning_rate": "0.001,0.01", "weight_decay": "0", "batch_size": "16", "schedule": "constant"},
        **{"augmentation": "none"},
    }
    opened = study(tmp_path)
    with oracle(opened, kind, narrowings=narrow) as made:
        found = []
        while (config := step(opened, made, narrow)) is not None:
            found.append(config)
    assert len(found) == 4
    assert all(t.state == TrialState.COMPLETE for t in opened.get_trials())
