"""Trains one network one seeded epoch at a time, and can save and restore all that the next epoch depends on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from search.trial import augment, state, stream
from search.trial.checkpoints import Snapshot
from search.trial.schedule import best_epoch, learning_rate, stops_early
from search.trial.spec import BESIDE, TOP, TrialSpec
from spaces import Recipe, Space, _contract
from spaces._find import FOLDER
from spaces.datasets import DataSpec, TrainingData

VALIDATION_BATCH = 256

Beat = Callable[[str, int], None]  # the phase (training, validation) and the batch that begins


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
        self.notes: list[str] = []  # for people
        self.most = spec.epochs
        self.recipe = space.recipe(spec.config)
        self.data = arrays
        self.history: list[dict[str, float]] = []
        self.best: list[np.ndarray] = []
        self.network = space.build(spec.config, data)
        _contract.check(self.network, data)
        if space.path is not None and space.path.parent != FOLDER:  # ours have tests
            _contract.check_outputs(self.network, data)
        self.model = _behind(augment.layers(self.recipe.augmentation, spec.seed), self.network)
        self.model.compile(
            optimizer=optimizer(self.recipe),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy", *_asked_for(spec.metric, *spec.measures)],
            jit_compile=_jit(),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self._class_weight = class_weights(arrays.y[arrays.train], data.classes) if self.recipe.balanced else None
        held = len(arrays.validation)
        self._validation_batch = even_batch(held)
        self._validation: dict[str, Any] | None = None
        if held and not stream.is_large(arrays, held):
            self._validation = _fed(*stream.gathered(arrays, arrays.validation), self._validation_batch)

    def epoch(self, beat: Beat | None = None) -> dict[str, float]:
        """Train and validate the next epoch; the record has Keras' names, seconds and images_per_second.

        A large set is read batch by batch; `data_wait` is then the share of its training that waited for it.
        `beat` is called as each batch begins and may raise to break the epoch off; this object is then of no more use.
        Raises NotANumber where the loss is not finite.
        """
        pulse = [Pulse(beat)] if beat else []
        number, started = len(self.history), time.perf_counter()
        rate = learning_rate(self.recipe, number, self.spec.epochs, self.spec.milestones, self.history)
        self.model.optimizer.learning_rate = rate
        order = epoch_order(self.spec.seed, number, self.data.train, self.recipe.batch_size)
        waited: dict[str, float] = {}
        how: dict[str, Any] = {
            "shuffle": False,
            "verbose": 0,
            "callbacks": [keras.callbacks.TerminateOnNaN(), *pulse],
        }
        size = min(self.recipe.batch_size, len(order))
        if stream.is_large(self.data, len(order)):
            with stream.streamed(self.data, order, size, self._class_weight) as read:
                fitted = self.model.fit(read.batches, steps_per_epoch=read.steps, **how).history
            waited["data_wait"] = read.waited / (time.perf_counter() - started)
        else:
            x, y = stream.gathered(self.data, order)
            fitted = self.model.fit(**_fed(x, y, size, self._class_weight), **how).history
        trained = time.perf_counter() - started
        record = {name: plain(values[-1]) for name, values in fitted.items()}
        if not math.isfinite(record.get("loss", math.nan)):
            raise NotANumber(f"the loss of epoch {number} is {record.get('loss', math.nan)}")
        record |= self._validated(pulse)
        lacking = {self.spec.metric, *self.spec.measures} - {*record, *BESIDE}
        if lacking:
            raise ValueError(f"training reports no {', '.join(sorted(lacking))}, only {', '.join(record)}")
        record |= {
            "learning_rate": rate,
            "seconds": time.perf_counter() - started,
            "images_per_second": len(order) / trained,
            **waited,
        }
        self.history.append(record)
        if best_epoch(self.history, self.spec.metric, self.spec.direction) == number:
            self.best = [np.array(weight) for weight in self.network.get_weights()]
        return record

    def _validated(self, pulse: list[Any]) -> dict[str, float]:
        """What validation says; nothing where all images are trained on."""
        if not len(self.data.validation):
            return {}
        how: dict[str, Any] = {"verbose": 0, "return_dict": True, "callbacks": pulse}
        if self._validation is None:
            with stream.streamed(self.data, self.data.validation, self._validation_batch) as read:
                measured = self.model.evaluate(read.batches, steps=read.steps, **how)
        else:
            measured = self.model.evaluate(**self._validation, **how)
        return {f"val_{name}": plain(value) for name, value in measured.items()}

    def best_network(self) -> Any:
        """The network with the weights of its best epoch."""
        self.network.set_weights(self.best)
        return self.network

    def _variables(self) -> list[Any]:
        # The models' variables include the seed generators of dropout and augmentation, which no Keras file keeps.
        return [*self.model.variables, *self.model.optimizer.variables]

    @property
    def size(self) -> int:
        """Bytes of a snapshot, nearly."""
        return state.size(self._variables(), self.best)

    def snapshot(self) -> Snapshot:
        """A copy in the host's memory of all that the next epoch depends on; call it between epochs."""
        return state.copied(self.spec.checkpoint, self._variables(), self.best, self.history)

    def restore(self, snapshot: Snapshot, most_epochs: int) -> None:
        """Go on from a snapshot of at most `most_epochs`; all of it is checked before anything is assigned.

        Raises Unusable where it does not fit this trial, which then is as it was.
        """
        variables = self._variables()
        state.check(snapshot, variables, self.network.get_weights(), self.spec.checkpoint, most_epochs)
        state.assign(snapshot, variables)
        self.best = list(snapshot.best)
        self.history = [dict(record) for record in snapshot.history]

    def stops(self) -> bool:
        """Whether the recipe's patience, or the trial's own, is at its end."""
        return stops_early(self.history, self.recipe.patience if self.spec.patience is None else self.spec.patience)

    def finish(self) -> None:
        """Training has come to its end."""


class Pulse(keras.callbacks.Callback):
    """Calls `beat` with the phase and the batch as each one begins.

    As they begin, not as they end: ends carry the metrics, whose reading makes the device wait for the host.
    """

    def __init__(self, beat: Beat) -> None:
        super().__init__()
        self._beat = beat

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keras' hook."""
        self._beat("training", batch)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keras' hook."""
        self._beat("validation", batch)


def _asked_for(*names: str) -> list[Any]:
    """The metrics behind names like `val_top_5_accuracy`; none for loss and accuracy, which are there."""
    found = {name.removeprefix("val_"): match for name in names if (match := TOP.fullmatch(name))}
    return [keras.metrics.SparseTopKCategoricalAccuracy(k=int(match[1]), name=name) for name, match in found.items()]


def class_weights(labels: np.ndarray, classes: int) -> dict[int, float]:
    """The weight of an image of each class: all of a class together weigh as much as all of any other."""
    counts = np.bincount(labels, minlength=classes)
    return {label: len(labels) / (classes * int(count)) if count else 0.0 for label, count in enumerate(counts)}


def epoch_order(seed: int, epoch: int, indices: np.ndarray, batch_size: int) -> np.ndarray:
    """The training samples of one epoch in their order, a function of (seed, epoch) alone.

    The remainder of a batch is left out (another one each epoch): a second batch shape would compile again.
    """
    order = shuffled(seed, epoch, indices)
    return order[: max(batch_size, len(order) // batch_size * batch_size)]


def shuffled(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """The indices in an order that is a function of (seed, epoch) alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(indices)


def optimizer(recipe: Recipe) -> Any:
    """The Keras optimizer of a recipe; weight decay leaves biases and normalisation alone."""
    options: dict[str, Any] = {"learning_rate": recipe.learning_rate}
    if recipe.optimizer == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    # AdamW decays by 0.004 unless told otherwise, so zero has to be said.
    if recipe.weight_decay or recipe.optimizer == "adamw":
        options["weight_decay"] = recipe.weight_decay
    kinds = {
        "adadelta": keras.optimizers.Adadelta,
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


def _fed(x: np.ndarray, y: np.ndarray, size: int, class_weight: dict[int, float] | None = None) -> dict[str, Any]:
    """Images and labels in batches of `size` as what Keras' fit and evaluate take.

    What Keras builds of arrays on TensorFlow at each call takes a tenth of a second, more than an epoch of a small set.
    """
    if keras.backend.backend() != "tensorflow" or class_weight or len(x) % size:
        return {"x": x, "y": y, "batch_size": size} | ({"class_weight": class_weight} if class_weight else {})
    import tensorflow as tf

    with tf.device("CPU:0"):
        batches = x.reshape(-1, size, *x.shape[1:]), y.reshape(-1, size)
        return {"x": tf.data.Dataset.from_tensor_slices(batches)}


def plain(value: Any) -> float:
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


def even_batch(count: int) -> int:
    """The largest batch up to VALIDATION_BATCH that divides `count`; the limit itself where that would be small."""
    if not count:
        return VALIDATION_BATCH
    divisor = max(d for d in range(1, min(count, VALIDATION_BATCH) + 1) if count % d == 0)
    return divisor if divisor * 4 >= min(count, VALIDATION_BATCH) else min(count, VALIDATION_BATCH)
