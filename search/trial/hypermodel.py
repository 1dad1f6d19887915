"""Trains a stranger's HyperModel as it is: built and compiled by it, fitted one seeded epoch at a time as it says."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from search.trial import raw, state, stream
from search.trial.checkpoints import Snapshot
from search.trial.followed import Followed
from search.trial.schedule import best_epoch
from search.trial.spec import BESIDE, TrialSpec
from search.trial.train import NotANumber, Pulse, even_batch, plain, shuffled
from spaces import Space
from spaces.datasets import DataSpec, TrainingData
from spaces.hypermodels import compiled, handed, making, stranger

CHECKED = 256  # images on which a served model is compared with the trained one
MOST_BYTES = 4 * 2**30  # of images as float32 that a fit() may be handed


class HyperTraining:
    """One trial's model, data and history; to be used as a `train.Training` is.

    Its own fit(), where it has one, is called once, up to where it trains: what it hands to model.fit is then what is
    done here. Images that it did not change are not held as floats. `most` are the epochs that it asks for.
    """

    def __init__(self, space: Space, spec: TrialSpec, data: DataSpec, arrays: TrainingData) -> None:
        keras.backend.clear_session()
        keras.utils.set_random_seed(spec.seed)
        keras.config.set_dtype_policy(spec.precision)
        assert space.reference is not None
        self.spec, self.arrays, self.about = spec, arrays, data
        self.history: list[dict[str, float]] = []
        self.best: list[np.ndarray] = []
        hypermodel, path = stranger.load(space.reference, data)
        keras.utils.set_random_seed(spec.seed)  # again: a module is loaded by the first trial of a process alone
        own = handed.has_own_fit(hypermodel)
        images = _images(arrays, whole=own)
        hp = making.replayed(spec.config)
        made = making.ready(hypermodel, hp, data, images, path=path, epochs=spec.epochs, to_the_end=False)
        self.network = self.model = made.model
        self.call, self.labels = made.call, made.labels
        self.most = min(spec.epochs, made.call.epochs or spec.epochs)
        asked = made.call.epochs or 0
        self.notes = [f"its fit() asks for {asked} epochs, --epochs allows {spec.epochs}"] if asked > self.most else []
        # What fit() left as it was is read from the images themselves, batch by batch where they are many.
        self._x = None if self.call.x is images.x else _array(self.call.x)
        self._y = _array(self.call.y) if own else self._shaped(arrays.y[arrays.train])
        x_val, y_val, *weight = self.call.validation
        self._x_val = None if x_val is images.x_val else _array(x_val)
        self._y_val = _array(y_val) if own else self._shaped(arrays.y[arrays.validation])
        self._weight_val = _array(weight[0]) if weight and weight[0] is not None else None
        self._held = len(arrays.validation) if self._x_val is None else len(self._x_val)
        self._batch = min(self.call.batch_size, len(self._y))
        self._followed = Followed(self.call.callbacks, self.model, self.most, -(-len(self._y) // self._batch))
        self._generator = keras.src.random.seed_generator.global_seed_generator()
        self._optimizers = _optimizers(self.model)
        self.model.optimizer.build(self.model.trainable_variables)
        # Each epoch is a fit of its own, and Keras would take the averages for the weights at the end of each.
        self.model.optimizer.finalize_variable_values = lambda *_: None
        compiled.make_metrics(self.model, self._y[:1], made.units, tuple(self.call.x.shape)[1:])

    def epoch(self, beat: Callable[[str, int], None] | None = None) -> dict[str, float]:
        """Train and validate the next epoch; as `train.Training.epoch` does it.

        Raises ValueError where the model lacks a metric by which the study compares.
        """
        pulse = [*([Pulse(beat)] if beat else []), *self._followed.batches]
        number, started = len(self.history), time.perf_counter()
        random.seed(self.spec.seed * 1_000_003 + number)  # what a stranger's code draws goes on where it was
        np.random.seed((self.spec.seed * 1_000_003 + number) % 2**32)
        self._followed.begin(number)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        places = np.arange(len(self._y))
        order = shuffled(self.spec.seed, number, places) if self.call.shuffle else places
        waited: dict[str, float] = {}
        how = {"shuffle": False, "verbose": 0, "callbacks": [keras.callbacks.TerminateOnNaN(), *pulse]}
        if self._is_large(len(order)):
            with stream.streamed(self.arrays, self.arrays.train[order], self._batch) as read:
                fitted = self.model.fit(self._batches(read), steps_per_epoch=read.steps, **how).history
            waited["data_wait"] = read.waited / (time.perf_counter() - started)
        else:
            fitted = self.model.fit(
                self._x[order] if self._x is not None else self._units(self.arrays.train[order]),
                self._y[order],
                batch_size=self._batch,
                class_weight=self.call.class_weight,
                sample_weight=None if self.call.sample_weight is None else _array(self.call.sample_weight)[order],
                **how,
            ).history
        trained = time.perf_counter() - started
        record = {name: plain(values[-1]) for name, values in fitted.items()}
        if not math.isfinite(record.get("loss", math.nan)):
            raise NotANumber(f"the loss of epoch {number} is {record.get('loss', math.nan)}")
        record |= self._validated(pulse)
        self._name_accuracy(record)
        lacking = {self.spec.metric, *self.spec.measures} - {*record, *BESIDE}
        if lacking:
            raise ValueError(
                f"the model has no {', '.join(sorted(lacking))}, by which this study compares, but "
                f"{', '.join(record)}; compile every model with such metrics"
            )
        self._followed.end(number, record)
        record |= {
            "learning_rate": rate,
            "seconds": time.perf_counter() - started,
            "images_per_second": len(order) / trained,
            **waited,
        }
        self.history.append(record)
        if best_epoch(self.history, self.spec.metric, self.spec.direction) == number:
            self.best = [np.array(weight) for weight in self.model.get_weights()]
        return record

    def stops(self) -> bool:
        """Whether a callback has ended training."""
        return bool(self.history) and bool(getattr(self.model, "stop_training", False))

    def finish(self) -> None:
        """Training has come to its end: its callbacks hear of it."""
        self._followed.finish(self.history[-1] if self.history else {})

    def best_network(self) -> Any:
        """The model with the weights of its best epoch, behind raw images, checked. Raises raw.NotServable."""
        self.model.set_weights(self.best)
        part = self.arrays.validation if self._held else self.arrays.train
        images = stream.gathered(self.arrays, part[:CHECKED])[0]
        shown = raw.unit(images) if self._x_val is None or not self._held else self._x_val[:CHECKED]
        outputs = served_outputs(self.model, shown)
        return raw.behind(self.model, self.about, images, outputs, logits=compiled.from_logits(self.model))

    def _variables(self) -> list[Any]:
        # The seed generators of its layers are among the model's variables, the one of unseeded draws is not.
        each = [variable for optimizer in self._optimizers for variable in optimizer.variables]
        return [*self.model.variables, *each, self._generator.state]

    @property
    def size(self) -> int:
        """Bytes of a snapshot, nearly."""
        return state.size(self._variables(), self.best)

    def snapshot(self) -> Snapshot:
        """A copy in the host's memory of all that the next epoch depends on; call it between epochs."""
        return state.copied(self.spec.checkpoint, self._variables(), self.best, self.history)

    def restore(self, snapshot: Snapshot, most_epochs: int) -> None:
        """Go on from a snapshot, as `train.Training.restore` does; the callbacks are told of its epochs again."""
        variables = self._variables()
        state.check(snapshot, variables, self.model.get_weights(), self.spec.checkpoint, most_epochs)
        self._followed.again(snapshot.history)
        state.assign(snapshot, variables)  # after them: they set the learning rate on the way
        self.best = list(snapshot.best)
        self.history = [dict(record) for record in snapshot.history]

    # ---- inside

    def _validated(self, pulse: list[Any]) -> dict[str, float]:
        """What validation says; nothing where all images are trained on."""
        if not self._held:
            return {}
        how: dict[str, Any] = {"verbose": 0, "return_dict": True, "callbacks": pulse}
        size = even_batch(self._held)
        if self._x_val is None and stream.is_large(self.arrays, 4 * self._held):
            with stream.streamed(self.arrays, self.arrays.validation, size) as read:
                measured = self.model.evaluate(self._batches(read), steps=read.steps, **how)
        else:
            x = self._units(self.arrays.validation) if self._x_val is None else self._x_val
            measured = self.model.evaluate(x, self._y_val, batch_size=size, sample_weight=self._weight_val, **how)
        return {f"val_{name}": plain(value) for name, value in measured.items()}

    def _name_accuracy(self, record: dict[str, float]) -> None:
        """A metric that is the accuracy by another name gets that name too."""
        name = compiled.accuracy_of(self.model)
        for part in ("", "val_"):
            if name and f"{part}{name}" in record:
                record.setdefault(f"{part}accuracy", record[f"{part}{name}"])

    def _is_large(self, count: int) -> bool:
        """Whether training images are read batch by batch: as floats they take four times their bytes."""
        plain_labels = self.call.sample_weight is None and self.call.class_weight is None
        return self._x is None and plain_labels and stream.is_large(self.arrays, 4 * count)

    def _batches(self, read: stream.Stream) -> Iterator[tuple[Any, ...]]:
        return ((raw.unit(images), self._shaped(labels)) for images, labels in read.batches)

    def _units(self, index: np.ndarray) -> raw.Floats:
        return raw.unit(stream.gathered(self.arrays, index)[0])

    def _shaped(self, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return compiled.shaped(np.asarray(labels), self.labels, self.about.classes)


def served_outputs(model: Any, images: raw.Floats) -> raw.Floats:
    """What the model gives for images as it was trained on, float32 (n, units)."""
    return np.asarray(model.predict(images, batch_size=min(CHECKED, len(images)), verbose=0), dtype=np.float32)


def _images(arrays: TrainingData, *, whole: bool) -> making.Images:
    """What fit() is handed: all images, or, where nobody looks at them, one for its shape."""
    train, validation = (arrays.train, arrays.validation) if whole else (arrays.train[:1], arrays.validation[:1])
    needed = (len(train) + len(validation)) * int(np.prod(arrays.x.shape[1:])) * 4
    if needed > MOST_BYTES:
        raise ValueError(
            f"its fit() is handed all images at once, which take {needed / 2**30:.1f} GB as float32 (at most "
            f"{MOST_BYTES / 2**30:.0f}): train on fewer (--train-images), or do in build() what fit() does"
        )
    (x, y), (x_val, y_val) = stream.gathered(arrays, train), stream.gathered(arrays, validation)
    return making.Images(raw.unit(x), np.asarray(y), raw.unit(x_val), np.asarray(y_val))


def _array(values: Any) -> npt.NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(values))


def _optimizers(model: Any) -> list[Any]:
    """The model's optimizer, and others that a class of its own holds."""
    held = [value for value in vars(model).values() if isinstance(value, keras.optimizers.Optimizer)]
    return list({id(each): each for each in [model.optimizer, *held]}.values())
