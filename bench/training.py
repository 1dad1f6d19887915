"""The process of `bench.record` that trains: one configuration after the other, by the product's own training loop."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from search.executors.table import METRICS
from search.trial.spec import TrialSpec
from spaces import Space, config_hash, find
from spaces.datasets import DataSpec, TrainingData, describe, load

DATA_SEED = 0  # of the split, as in every study


def serve(pipe: Connection, reference: str, data_folder: str, core: int) -> None:
    """Train what the pipe asks for, (config, seed) by (config, seed), on one core, until it closes or says None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    space = find(reference)
    folder = Path(data_folder)
    data = describe(space.dataset, folder)
    limits = {"train_limit": space.train_images, "validation_limit": space.validation_images}
    arrays = load(space.dataset, folder, seed=DATA_SEED, **limits)
    try:
        while (job := pipe.recv()) is not None:
            pipe.send(train(space, data, arrays, *job) | {"split": arrays.digest})
    except (EOFError, OSError):  # the parent is gone
        return


def train(space: Space, data: DataSpec, arrays: TrainingData, config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a configuration to its end; its curve and what each part of it took, as they are kept.

    `start` is building, `epochs` are (of a core, of the clock) seconds each, the first with its compiling and, where
    training broke off (`failed`), the one in which it did.
    """
    from search.trial.train import NotANumber, Training

    began = _now()
    training = Training(space, _spec(space, config, seed), data, arrays)
    start, epochs, failed = _since(began), list[tuple[float, float]](), ""
    while len(training.history) < space.epochs and not failed:
        began = _now()
        try:
            training.epoch()
        except NotANumber as error:
            failed = str(error)
        epochs.append(_since(began))
    return {
        "config": config,
        "seed": seed,
        "parameters": training.network.count_params(),
        "metrics": {name: [record[name] for record in training.history] for name in METRICS},
        "start": start,
        "epochs": epochs,
        "failed": failed,
    }


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    cpu, clock = _now()
    return round(cpu - began[0], 4), round(clock - began[1], 4)


def _spec(space: Space, config: dict[str, Any], seed: int) -> TrialSpec:
    return TrialSpec(
        study="recording",
        number=0,
        attempt=1,
        space=str(space.path),
        config=config,
        config_hash=config_hash(config),
        data_folder="",
        data_seed=DATA_SEED,
        train_limit=space.train_images,
        validation_limit=space.validation_images,
        epochs=space.epochs,
        milestones=(),
        patience=0,  # to its end
        seed=seed,
        metric=space.metric,
        direction=space.direction,
        precision="float32",
        folder="",
    )
