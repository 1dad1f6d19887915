"""What a HyperModel's own fit() hands to model.fit: it is called, and stopped or led on where it begins to train."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from spaces.hypermodels.compiled import metrics_of

BATCH = 32  # Keras' own, where nobody says another
#: Callbacks whose state follows from the figures of the epochs, so that no checkpoint has to keep it.
FOLLOWED = ("EarlyStopping", "ReduceLROnPlateau", "LearningRateScheduler", "TerminateOnNaN")
#: Callbacks that only write down what a study keeps itself.
NEEDLESS = (
    "ModelCheckpoint",
    "BackupAndRestore",
    "TensorBoard",
    "CSVLogger",
    "RemoteMonitor",
    "ProgbarLogger",
    "History",
)


class Unsupported(Exception):
    """Raised where a fit() does what cannot be followed epoch by epoch; the text is for people."""


class Handed(BaseException):
    """Raised out of model.fit where fit() is not to go on; no `except Exception` may swallow it."""


class Epochs(int):
    """The number of epochs that fit() was told, to know it again where it only passes it on."""


@dataclass(frozen=True, eq=False)
class Given:
    """What fit() is called with: images in 0 to 1, float32 (n, height, width, channels), and labels as its loss wants
    them, to train on and to validate on, and the most epochs."""

    x: Any
    y: Any
    x_val: Any
    y_val: Any
    epochs: int


@dataclass(frozen=True, eq=False)
class Call:
    """How a model is to be trained. `x`, `y` and `validation` are what was given, or what fit() made of it.

    `epochs` is None where fit() leaves that open. `callbacks` are those that take part.
    """

    x: Any
    y: Any
    validation: tuple[Any, ...]
    sample_weight: Any = None
    class_weight: Mapping[int, float] | None = None
    batch_size: int = BATCH
    epochs: int | None = None
    shuffle: bool = True
    callbacks: tuple[Any, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def restorable(self) -> bool:
        """Whether its callbacks' state follows from the figures of the epochs."""
        return all(is_followed(callback) for callback in self.callbacks)


def handed(hypermodel: Any, hp: Any, model: Any, given: Given, *, to_the_end: bool) -> Call:
    """What `hypermodel.fit(hp, model, ...)` hands to model.fit, or, where it has no fit() of its own, what is given.

    `to_the_end` lets fit() go on with a made-up history, for what it draws and does after training; otherwise it ends
    where training would begin. Raises Unsupported, and what fit() raises.
    """
    if not has_own_fit(hypermodel):
        return Call(given.x, given.y, (given.x_val, given.y_val))
    calls: list[tuple[Any, dict[str, Any]]] = []
    after = ""
    returned: Any = None
    with _caught(model, calls, to_the_end):
        try:
            returned = _called(hypermodel, hp, model, given, calls)
        except Handed:
            pass
        except Exception:
            if not calls:
                raise
            after = "fails on what was made up"  # of what comes after training nothing is run anyway
    if not calls:
        raise Unsupported(
            "its fit() never calls model.fit(): a training loop of its own can be neither stopped nor resumed epoch by "
            "epoch here; call model.fit(), or put the loop into train_step() of a keras.Model"
        )
    if len(calls) > 1:
        raise Unsupported(f"its fit() calls model.fit() {len(calls)} times; only one training can be followed")
    trained, arguments = calls[0]
    if trained is not model:
        raise Unsupported("its fit() trains another model than the one that build() returned")
    call = _read(arguments, given)
    if to_the_end and (after or not _is_history(returned)):
        remark = "what its fit() does after training, and returns, is left out"
        call = replace(call, remarks=(*call.remarks, remark))
    return call


def has_own_fit(hypermodel: Any) -> bool:
    """Whether it overrides HyperModel.fit."""
    import keras_tuner

    return getattr(hypermodel.fit, "__func__", None) is not keras_tuner.HyperModel.fit


def is_followed(callback: Any) -> bool:
    """Whether a callback is one of Keras' whose state follows from the figures of the epochs."""
    return _kind(callback) in FOLLOWED


def _called(hypermodel: Any, hp: Any, model: Any, given: Given, calls: Sequence[Any]) -> Any:
    """Call fit() as Tuner.search(x, y, validation_data=..., callbacks=[]) does, and with what else it names."""
    parameters = list(inspect.signature(hypermodel.fit).parameters.values())[2:]  # after hp and model
    names = {p.name for p in parameters}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    places = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    positional = any(p.kind is p.VAR_POSITIONAL for p in parameters) or places >= 2
    always = {"validation_data": (given.x_val, given.y_val), "callbacks": []}
    named = {
        "x_val": given.x_val,
        "y_val": given.y_val,
        "epochs": Epochs(given.epochs),
        "batch_size": BATCH,
        "verbose": 0,
    }
    told = {name: value for name, value in always.items() if open_ended or name in names}
    told |= {name: value for name, value in named.items() if name in names}
    first = (given.x, given.y) if positional else ()
    told |= {} if positional else {"x": given.x, "y": given.y}
    try:
        return hypermodel.fit(hp, model, *first, **told)
    except KeyError as error:  # it looks into its **kwargs for what only some who call it give
        more = {str(name): named[str(name)] for name in error.args if str(name) in named and str(name) not in told}
        if calls or not more:
            raise
        return hypermodel.fit(hp, model, *first, **told, **more)


@contextmanager
def _caught(model: Any, calls: list[tuple[Any, dict[str, Any]]], to_the_end: bool) -> Iterator[None]:
    """While this lasts, model.fit of any model is noted in `calls` and trains nothing."""
    import keras

    signature = inspect.signature(keras.Model.fit)
    usual = {name: parameter.default for name, parameter in signature.parameters.items()} | {"epochs": None}

    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = signature.bind(self, *args, **kwargs).arguments
        calls.append((self, usual | said))
        if not to_the_end:
            raise Handed
        return _history(self, said.get("epochs", 1))

    keras.Model.fit = fit
    try:
        yield
    finally:
        del keras.Model.fit  # what it inherits comes to light again


def _history(model: Any, epochs: int) -> Any:
    """A history of zeros, with the names that a real one would have."""
    from keras.callbacks import History

    names = ["loss", *(metric.name for metric in metrics_of(model) if metric.name != "loss")]
    made = History()
    made.set_model(model)
    made.epoch = list(range(epochs))
    made.history = {f"{part}{name}": [0.0] * epochs for part in ("", "val_") for name in names}
    model.history = made
    return made


def _is_history(returned: Any) -> bool:
    from keras.callbacks import History

    return isinstance(returned, History)


def _read(arguments: Mapping[str, Any], given: Given) -> Call:
    """The call that these arguments of model.fit make. Raises Unsupported."""
    x, y = arguments["x"], arguments["y"]
    _check_arrays(x, y)
    for name in ("steps_per_epoch", "initial_epoch", "validation_steps"):
        if arguments[name]:
            raise Unsupported(f"its fit() gives model.fit {name}={arguments[name]}, which cannot be followed; leave it")
    remarks = []
    if arguments["validation_split"]:
        remarks.append("its validation_split is left out: a study has validation images of its own")
    if arguments["validation_freq"] != 1:
        remarks.append("its validation_freq is left out: every epoch is validated")
    validation = arguments["validation_data"]
    if validation is None:
        validation = (given.x_val, given.y_val)
    if not isinstance(validation, (tuple, list)) or not 2 <= len(validation) <= 3:
        raise Unsupported("its fit() hands model.fit validation data that are no arrays (x, y)")
    taking_part, said = _sorted(arguments["callbacks"])
    epochs = arguments["epochs"]
    return Call(
        x=x,
        y=y,
        validation=tuple(validation),
        sample_weight=arguments["sample_weight"],
        class_weight=arguments["class_weight"],
        batch_size=int(arguments["batch_size"] or BATCH),
        epochs=None if epochs is None or isinstance(epochs, Epochs) else int(epochs),
        shuffle=bool(arguments["shuffle"]),
        callbacks=taking_part,
        remarks=(*remarks, *said),
    )


def _check_arrays(x: Any, y: Any) -> None:
    if not hasattr(x, "shape") or not hasattr(x, "__getitem__"):
        raise Unsupported(
            f"its fit() hands model.fit a {type(x).__name__}, whose order no checkpoint keeps; hand it arrays, and "
            "batch_size"
        )
    if y is None or not hasattr(y, "shape"):
        raise Unsupported("its fit() hands model.fit no labels (y) as an array")
    if len(x) != len(y):
        raise Unsupported(f"its fit() hands model.fit {len(x)} images and {len(y)} labels")


def _sorted(callbacks: Any) -> tuple[tuple[Any, ...], list[str]]:
    """Callbacks that take part, and what is to be said of the others."""
    from keras.callbacks import CallbackList

    each = callbacks.callbacks if isinstance(callbacks, CallbackList) else callbacks or ()
    each = list(each) if isinstance(each, (list, tuple)) else [each]
    needless = sorted({_kind(callback) for callback in each if _kind(callback) in NEEDLESS})
    own = sorted({type(c).__name__ for c in each if _kind(c) not in (*FOLLOWED, *NEEDLESS)})
    said = []
    if needless:
        said.append(f"left out: its {', '.join(needless)}; the study keeps weights and figures itself")
    if own:
        said.append(f"no checkpoint keeps the state of its {', '.join(own)}: an interrupted trial begins again")
    return tuple(c for c in each if _kind(c) not in NEEDLESS), said


def _kind(callback: Any) -> str:
    """The name of a callback of Keras' own; empty for any other, one derived from Keras' included."""
    import keras

    name = type(callback).__name__
    return name if getattr(keras.callbacks, name, None) is type(callback) else ""
