"""A HyperModel's own callbacks, led through epochs that are fitted one by one, and told of past ones again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from search.trial.checkpoints import Unusable
from spaces.hypermodels.handed import is_followed

OURS = ("learning_rate", "seconds", "images_per_second", "data_wait")  # of a record, not of Keras' figures


class Followed:
    """Callbacks that hear of epochs as in one model.fit of `epochs`; `batches` go with each fit and evaluation."""

    def __init__(self, callbacks: Sequence[Any], model: Any, epochs: int, steps: int) -> None:
        self._each = list(callbacks)
        self._own = [callback for callback in self._each if not is_followed(callback)]
        self.batches = [_Batches(self._own)] if self._own else []
        self._begun = False
        for callback in self._each:
            callback.set_model(model)
            callback.set_params({"epochs": epochs, "steps": steps, "verbose": 0})

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        if not self._begun:
            self._begun = True
            for callback in self._each:
                callback.on_train_begin({})
        for callback in self._each:
            callback.on_epoch_begin(epoch, {})

    def end(self, epoch: int, record: Mapping[str, float]) -> None:
        """An epoch has ended, with these figures."""
        logs = {name: value for name, value in record.items() if name not in OURS}
        for callback in self._each:
            callback.on_epoch_end(epoch, logs)

    def again(self, history: Sequence[Mapping[str, float]]) -> None:
        """Tell them of epochs that another process trained, from which their state follows.

        Raises Unusable where there is one whose state does not.
        """
        if self._own:
            names = ", ".join(type(callback).__name__ for callback in self._own)
            raise Unusable(f"it keeps no state of {names}, a callback of the model's own")
        for epoch, record in enumerate(history):
            self.begin(epoch)
            self.end(epoch, record)

    def finish(self, record: Mapping[str, float]) -> None:
        """Training has come to its end."""
        if self._begun:
            for callback in self._own:  # Keras' own would only take back weights that are taken from the best epoch
                callback.on_train_end({name: value for name, value in record.items() if name not in OURS})


class _Batches(keras.callbacks.Callback):
    """Passes a fit's and an evaluation's batches on."""

    def __init__(self, each: Sequence[Any]) -> None:
        super().__init__()
        self._each = each

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keras' hook, as are those below."""
        for callback in self._each:
            callback.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for callback in self._each:
            callback.on_train_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        for callback in self._each:
            callback.on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        for callback in self._each:
            callback.on_test_end(logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        for callback in self._each:
            callback.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        for callback in self._each:
            callback.on_test_batch_end(batch, logs)
