"""The peers' adapters against the tools themselves: on one slot, the same proposals trained for as many epochs."""

from pathlib import Path

import pytest

from bench import peers, synthetic
from bench.peers import settings
from bench.peers.drawn import config_of, options
from bench.simulation import METRIC, Truth, one_training_each, simulate
from spaces import config_hash, declared, find
from spaces._space import Space

GRID = Path(__file__).parent.parent.parent / "bench" / "grids" / "cifar.py"
SPACE: Space = find(str(GRID))
TABLE = synthetic.table(SPACE)
# One seed a configuration, so that a tool that knows nothing of them sees the same values.
TRUTH = Truth(one_training_each(TABLE))
TRIALS, SEED = 20, 3


def values(config):
    return TRUTH.table.curve(config_hash(config), 0).metrics[METRIC]


def ours(name, trials=TRIALS):
    """(configuration, epochs trained) of each of the first trials that the adapter runs on one slot."""
    method, trained = peers.make(name, SPACE, SEED, TABLE.epochs, 1), {}
    report = method.report

    def heard(trial, epoch, value):
        trained[trial] = epoch
        return report(trial, epoch, value)

    method.report = heard
    outcome = simulate(TRUTH, method, slots=1, seconds=3 * trials * TRUTH.full, seed=0)
    return [(name, epochs) for (name, _), epochs in zip(outcome.asked, trained.values(), strict=False)][:trials]


@pytest.mark.parametrize(("name", "pruned"), [("optuna-tpe", True), ("optuna-random", False)])
def test_optuna_proposes_and_prunes_what_its_own_optimize_does(name, pruned):
    import optuna

    from search.engines.optuna import OptunaDraws

    found = []

    def objective(trial):
        config = SPACE.sample(OptunaDraws(trial, {}))
        found.append([config_hash(config), 0])
        for epoch, value in enumerate(values(config), 1):
            found[-1][1] = epoch
            trial.report(value, epoch)
            if epoch < TABLE.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return value

    kinds = {"optuna-tpe": optuna.samplers.TPESampler, "optuna-random": optuna.samplers.RandomSampler}
    pruner = None if pruned else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", sampler=kinds[name](seed=SEED), pruner=pruner)
    study.optimize(objective, n_trials=TRIALS)
    assert [tuple(each) for each in found] == ours(name)
    assert pruned == any(epochs < TABLE.epochs for _, epochs in found)


@pytest.mark.parametrize("name", ["kt-random", pytest.param("kt-bayesian", marks=pytest.mark.long), "kt-hyperband"])
def test_keras_tuner_proposes_what_its_own_search_does(name, tmp_path):
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner

    found = []

    class Tuner(BaseTuner):
        def run_trial(self, trial, *_, **__):
            drawn = {k: v for k, v in trial.hyperparameters.values.items() if not k.startswith("tuner/")}
            config = config_of(SPACE, drawn)
            until = trial.hyperparameters.values.get("tuner/epochs", TABLE.epochs)
            begun = trial.hyperparameters.values.get("tuner/initial_epoch", 0)
            found.append((config_hash(config), until))
            return {METRIC: max(values(config)[begun:until])}

    class Model(keras_tuner.HyperModel):
        def build(self, hp):
            SPACE.sample(hp)

    kinds = {
        "kt-random": (keras_tuner.oracles.RandomSearchOracle, settings.KERAS_TUNER_RANDOM),
        "kt-bayesian": (keras_tuner.oracles.BayesianOptimizationOracle, settings.KERAS_TUNER_BAYESIAN),
        "kt-hyperband": (keras_tuner.oracles.HyperbandOracle, settings.KERAS_TUNER_HYPERBAND),
    }
    oracle, said = kinds[name]
    trials = {"kt-hyperband": 40, "kt-bayesian": 27}.get(name, TRIALS)  # Bayesian draws 24 by chance first
    limit = {} if name == "kt-hyperband" else {"max_trials": trials}
    made = oracle(objective=keras_tuner.Objective(METRIC, "max"), seed=1 + 1_000_003 * SEED, **(said | limit))
    tuner = Tuner(made, hypermodel=Model(), directory=str(tmp_path), project_name="p", overwrite=True)
    tuner.oracle.verbose = 0
    if name == "kt-hyperband":  # its own end is thousands of trials away
        create = made.create_trial
        made.create_trial = lambda tuner_id: _ended(create, tuner_id, found, trials)
    tuner.search()
    method = peers.make(name, SPACE, SEED, TABLE.epochs, 1)
    outcome = simulate(TRUTH, method, slots=1, seconds=trials * TRUTH.full, seed=0)
    assert outcome.asked[:trials] == found[:trials]
    assert len(found) >= trials


def _ended(create, tuner_id, found, trials):
    trial = create(tuner_id)
    if len(found) >= trials:
        trial.status = "STOPPED"
    return trial


@pytest.mark.long
def test_ray_tune_proposes_and_stops_what_its_own_run_does(tmp_path):
    ray = pytest.importorskip("ray", reason="a peer, in the extra `bench`")
    trials = 8  # each starts a process
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    curves = {name: group[0].metrics[METRIC] for name, group in TRUTH.table.curves.items()}
    grid = str(GRID)

    def trainable(drawn):
        for value in curves[config_hash(config_of(find(grid), drawn))]:
            tune.report({METRIC: value})

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        tuner = tune.Tuner(
            trainable,
            param_space={name: tune.choice(options(p)) for name, p in declared(SPACE).items()},
            tune_config=tune.TuneConfig(
                num_samples=trials,
                search_alg=BasicVariantGenerator(random_state=SEED, max_concurrent=1),
                scheduler=ASHAScheduler(metric=METRIC, mode="max", **settings.RAY_ASHA),
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        )
        found = sorted(tuner.fit(), key=lambda r: r.metrics["trial_id"])
    finally:
        ray.shutdown()
    real = [(config_hash(config_of(SPACE, r.config)), r.metrics["training_iteration"]) for r in found]
    assert real == ours("ray-asha", trials)


@pytest.mark.filterwarnings("ignore")  # statsmodels' own
@pytest.mark.parametrize(("name", "trials"), [("syne-asha", TRIALS), ("syne-bohb", 70)])  # its model needs 60
def test_syne_tune_proposes_and_stops_what_its_own_tuner_does(name, trials):
    pytest.importorskip("syne_tune", reason="a peer, in the extra `bench`")
    from syne_tune_loop import tuned

    assert tuned(name, SPACE, SEED, TABLE.epochs, values, trials) == ours(name, trials)
