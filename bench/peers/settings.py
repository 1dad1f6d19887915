"""What each peer is run with, and the line of its documentation that says so."""

from __future__ import annotations

from typing import Any

EPOCHS_OF_A_TABLE = 27  # what `max_epochs` and `max_t` are set to: every curve's length

#: optuna.readthedocs.io, samplers: "TPESampler is the default sampler"; pruners: "MedianPruner is the default".
#: create_study(sampler=None, pruner=None) takes both with their defaults; objectives report each epoch and
#: `raise optuna.TrialPruned()` where `trial.should_prune()` (tutorial "Efficient Optimization Algorithms").
OPTUNA_TPE: dict[str, Any] = {}
OPTUNA_MEDIAN: dict[str, Any] = {}

#: keras.io/keras_tuner/api/tuners/random: RandomSearch(objective, max_trials=10, seed=None); max_trials "Defaults to
#: 10": set beyond what time allows, so that time is what ends the search.
KERAS_TUNER_RANDOM: dict[str, Any] = {"max_trials": 100_000}

#: keras.io/keras_tuner/api/tuners/bayesian: num_initial_points "If left unspecified, a value of 3 times the
#: dimensionality of the hyperparameter space is used"; alpha 0.0001, beta 2.6.
KERAS_TUNER_BAYESIAN: dict[str, Any] = {"max_trials": 100_000}

#: keras.io/keras_tuner/api/tuners/hyperband: factor 3; hyperband_iterations: "It is recommended to set this to as high
#: a value as is within your resource budget"; max_epochs: here what a full training is.
KERAS_TUNER_HYPERBAND: dict[str, Any] = {"max_epochs": EPOCHS_OF_A_TABLE, "factor": 3, "hyperband_iterations": 1000}

#: docs.ray.io/en/latest/tune/api/schedulers: "We recommend using the ASHA scheduler over the standard HyperBand
#: scheduler"; its example: ASHAScheduler(time_attr="training_iteration", metric=..., mode=..., max_t=100,
#: grace_period=10, reduction_factor=3, brackets=1). The defaults of the signature, grace_period=1 and
#: reduction_factor=4, are taken, since 10 of 27 epochs would be a worse choice.
RAY_ASHA: dict[str, Any] = {"time_attr": "training_iteration", "max_t": EPOCHS_OF_A_TABLE}

#: syne-tune.readthedocs.io, "Choosing a Configuration Space" (logfinrange, ordinal and choice for what is finite) and
#: the schedulers' page: ASHA, BOHB and ASHABORE(config_space, metric=..., time_attr=..., max_t=...), grace_period=1,
#: reduction_factor=3, brackets=1 by default.
SYNE_TUNE: dict[str, Any] = {"time_attr": "epoch", "max_t": EPOCHS_OF_A_TABLE}
