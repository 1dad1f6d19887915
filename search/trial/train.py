"""Trains one network one seeded epoch at a time, and can save and restore all that the next epoch depends on."""

from __future__ import annotations

import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from search.trial import augment
from search.trial.schedule import best_epoch, learning_rate
from search.trial.spec import TrialSpec
from spaces import Recipe, Space
from spaces.datasets import DataSpec, TrainingData

VALIDATION_BATCH = 256


class NotANumber(Exception):
    """Raised when the loss of an epoch is not finite."""


class Training:
    """One trial's model, optimizer, data and history.

    `network` is what will be saved; `model` is the same weights behind the augmentation layers.
    """

    def __init__(self, space: Space, spec: TrialSpec, data: DataSpec, arrays: TrainingData) -> None:
        keras.backend.clear_session()
        keras.utils.set_random_seed(spec.seed)
        keras.config.set_dtype_policy(spec.precision)
        self.spec = spec
        self.recipe = space.recipe(spec.config)
        self.data = arrays
        self.history: list[dict[str, float]] = []
        self.best: list[np.ndarray] = []
        self.network = space.build(spec.config, data)
        self.model = _behind(augment.layers(self.recipe.augmentation, spec.seed), self.network)
        self.model.compile(
            optimizer=optimizer(self.recipe),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=_jit(),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self._validation = arrays.validation_arrays()
        self._validation_batch = _even_batch(len(self._validation[1]))

    def epoch(self) -> dict[str, float]:
        """Train and validate the next epoch; the record has Keras' names, seconds and images_per_second.

        Raises NotANumber where the loss is not finite.
        """
        number, started = len(self.history), time.perf_counter()
        rate = learning_rate(self.recipe, number, self.spec.epochs, self.spec.milestones, self.history)
        self.model.optimizer.learning_rate = rate
        order = epoch_order(self.spec.seed, number, self.data.train, self.recipe.batch_size)
        fitted = self.model.fit(
            self.data.x[order],
            self.data.y[order],
            batch_size=min(self.recipe.batch_size, len(order)),
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        ).history
        trained = time.perf_counter() - started
        record = {name: _plain(values[-1]) for name, values in fitted.items()}
        if not math.isfinite(record.get("loss", math.nan)):
            raise NotANumber(f"the loss of epoch {number} is {record.get('loss', math.nan)}")
        measured = self.model.evaluate(
            *self._validation, batch_size=self._validation_batch, verbose=0, return_dict=True
        )
        record |= {f"val_{name}": _plain(value) for name, value in measured.items()}
        record |= {
            "learning_rate": rate,
            "seconds": time.perf_counter() - started,
            "images_per_second": len(order) / trained,
        }
        self.history.append(record)
        if best_epoch(self.history, self.spec.metric, self.spec.direction) == number:
            self.best = [np.array(weight) for weight in self.network.get_weights()]
        return record

    def best_network(self) -> Any:
        """The network with the weights of its best epoch."""
        self.network.set_weights(self.best)
        return self.network

    def _variables(self) -> list[Any]:
        # The models' variables include the seed generators of dropout and augmentation, which no Keras file keeps.
        return [*self.model.variables, *self.model.optimizer.variables]

    def save(self, path: Path) -> None:
        """Write a checkpoint: weights, optimizer, seed generators, best weights, history; whole or not at all."""
        arrays = {f"v{i:05}": np.asarray(keras.ops.convert_to_numpy(v.value)) for i, v in enumerate(self._variables())}
        arrays |= {f"b{i:05}": weight for i, weight in enumerate(self.best)}
        arrays["history"] = np.frombuffer(json.dumps(self.history).encode(), np.uint8)
        arrays["config"] = np.frombuffer(self.spec.config_hash.encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    def restore(self, path: Path, most_epochs: int) -> None:
        """Go on from a checkpoint of at most `most_epochs`. Raises ValueError where it does not fit this trial."""
        with np.load(path, allow_pickle=False) as stored:
            if stored["config"].tobytes().decode() != self.spec.config_hash:
                raise ValueError(f"{path} belongs to another configuration")
            history = json.loads(stored["history"].tobytes())
            if len(history) > most_epochs:
                raise ValueError(f"{path} is {len(history) - most_epochs} epochs ahead of what was recorded")
            variables = self._variables()
            names = sorted(name for name in stored.files if name[0] == "v")
            if len(names) != len(variables):
                raise ValueError(f"{path} holds {len(names)} variables, the model has {len(variables)}")
            for variable, name in zip(variables, names, strict=True):
                variable.assign(stored[name])
            self.best = [stored[name] for name in sorted(n for n in stored.files if n[0] == "b")]
            self.history = history


def epoch_order(seed: int, epoch: int, indices: np.ndarray, batch_size: int) -> np.ndarray:
    """The training samples of one epoch in their order, a function of (seed, epoch) alone.

    The remainder of a batch is left out (another one each epoch): a second batch shape would compile again.
    """
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(indices)
    return order[: max(batch_size, len(order) // batch_size * batch_size)]


def optimizer(recipe: Recipe) -> Any:
    """The Keras optimizer of a recipe; weight decay leaves biases and normalisation alone."""
    options: dict[str, Any] = {"learning_rate": recipe.learning_rate}
    if recipe.optimizer == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    # AdamW decays by 0.004 unless told otherwise, so zero has to be said.
    if recipe.weight_decay or recipe.optimizer == "adamw":
        options["weight_decay"] = recipe.weight_decay
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamax": keras.optimizers.Adamax,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    made = kinds[recipe.optimizer](**options)
    if recipe.weight_decay:
        made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def _plain(value: Any) -> float:
    """A float32 without the digits it does not have: 0.322, not 0.32199999690055847."""
    return float(f"{float(value):.7g}")


def _behind(layers: list[Any], network: Any) -> Any:
    if not layers:
        return network
    image = keras.Input(network.input_shape[1:], dtype="uint8")
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, network(x), name="augmented")


def _jit() -> Any:
    # XLA halves TensorFlow's speed on a CPU (stack.md, 8); elsewhere Keras chooses.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return "auto" if tf.config.list_physical_devices("GPU") else False
    return "auto"


def _even_batch(count: int) -> int:
    """The largest batch up to VALIDATION_BATCH that divides `count`; the limit itself where that would be small."""
    divisor = max(d for d in range(1, min(count, VALIDATION_BATCH) + 1) if count % d == 0)
    return divisor if divisor * 4 >= min(count, VALIDATION_BATCH) else min(count, VALIDATION_BATCH)
