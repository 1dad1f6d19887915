"""KerasTuner models as users write them, after the ways that KerasTuner's guides show; images are 8 by 8 digits."""

from typing import ClassVar

import keras
import keras_tuner as kt
import numpy as np
from keras import layers

SIDE, CLASSES = 8, 10
CONSTANT = 3


def compiled(model, rate=1e-3, loss="categorical_crossentropy", metrics=("accuracy",)):
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=list(metrics))
    return model


def dense(units, last="softmax", inputs=True, outputs=CLASSES):
    first = [keras.Input((SIDE, SIDE, 1))] if inputs else []
    return keras.Sequential(
        [*first, layers.Flatten(), layers.Dense(units, "relu"), layers.Dense(outputs, activation=last)]
    )


# ---- getting started: functions


def loop(hp):
    """As many layers as are drawn, each with units of its own; no input, one activation for all."""
    model = keras.Sequential([layers.Flatten()])
    for i in range(hp.Int("layers", 1, 3)):
        model.add(layers.Dense(hp.Int(f"units_{i}", 8, 32, step=8), hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(hp.Float("rate", 0.1, 0.5, step=0.1)))
    model.add(layers.Dense(CLASSES, activation="softmax"))
    return compiled(model, hp.Float("learning_rate", 1e-3, 1e-2, sampling="log"))


def plain_if(hp):
    """Two kinds of network behind a plain Python if, with labels as class numbers."""
    x = image = keras.Input((SIDE, SIDE, 1))
    if hp.Choice("kind", ["mlp", "cnn"]) == "mlp":
        x = layers.Flatten()(x)
        for i in range(hp.Int("mlp_layers", 1, 2)):
            x = layers.Dense(hp.Int(f"units_{i}", 8, 16, step=8), "relu")(x)
    else:
        for i in range(hp.Int("cnn_layers", 1, 2)):
            x = layers.Conv2D(hp.Int(f"filters_{i}", 4, 8, step=4), 3, padding="same", activation="relu")(x)
            x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x)
    model = keras.Model(image, layers.Dense(CLASSES, "softmax")(x))
    return compiled(model, loss="sparse_categorical_crossentropy")


def no_accuracy(hp):
    """Nothing but a loss to compare by."""
    return compiled(dense(hp.Choice("units", [8, 16])), metrics=())


def every_kind(hp):
    """Each kind of hyperparameter in turn."""
    hp.Int("doubled", 2, 32, step=2, sampling="log")
    hp.Int("halved", 2, 33, step=2, sampling="reverse_log")
    hp.Int("late", 1, 100, sampling="reverse_log")
    hp.Float("tenth", 0.0, 1.0, step=0.2)
    hp.Float("power", 0.001, 10.0, step=10, sampling="log")
    hp.Fixed("fixed", "as it is")
    hp.Choice("numbers", [0.5, 0.25], ordered=True)
    hp.Choice("switch", [True, False])
    with hp.name_scope("inner"):
        hp.Boolean("on", default=True)
        with hp.conditional_scope("on", [True]):
            hp.Int("deep", 1, 9, default=3)
    assert hp.get("fixed") == "as it is"
    return compiled(dense(8))


def one_name_twice(hp):
    """A name that means another range under each condition."""
    kind = hp.Choice("kind", ["small", "large"])
    with hp.conditional_scope("kind", ["small"]):
        small = hp.Choice("units", [4, 8])
    with hp.conditional_scope("kind", ["large"]):
        large = hp.Choice("units", [16, 32])
    assert (small is None) == (kind == "large")
    return compiled(dense(small or large))


# ---- getting started: HyperModels


class Plain(kt.HyperModel):
    def build(self, hp):
        return compiled(dense(hp.Int("units", 8, 32, step=8), inputs=False))


class Shuffled(Plain):
    """Whether the data are shuffled is drawn in fit(), whose arguments are passed on whole."""

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, shuffle=hp.Boolean("shuffle"), **kwargs)


class Normalised(Plain):
    """Images go through a layer before training."""

    def fit(self, hp, model, x, y, **kwargs):
        if hp.Boolean("normalise"):
            x = layers.Normalization()(x)
        return model.fit(x, y, **kwargs)


class Cropped(kt.HyperModel):
    """What fit() gets from build() by name: the side that images are cropped to."""

    def build(self, hp):
        side = hp.Int("side", 4, SIDE)
        image = keras.Input((side, side))
        x = layers.Dense(hp.Int("units", 8, 32, step=8), "relu")(layers.Flatten()(image))
        return compiled(keras.Model(image, layers.Dense(CLASSES, "softmax")(x)))

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        side = hp.get("side")
        if validation_data:
            validation_data = (validation_data[0][:, :side, :side, :], validation_data[1])
        return model.fit(x[:, :side, :side, :], y, validation_data=validation_data, **kwargs)


class Scored(Plain):
    """Its figure is worked out after training."""

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        images, labels = validation_data
        return float(np.mean(np.abs(model.predict(images, verbose=0) - labels)))


class Trained(kt.HyperModel):
    """Everything about training is drawn: optimizer, batch, epochs, callbacks with a state."""

    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.num_classes, self.shape = num_classes, input_shape

    def build(self, hp):
        image = keras.Input(self.shape)
        x = layers.Dense(hp.Int("units", 8, 32, step=8), "relu")(layers.Flatten()(image))
        x = layers.Dropout(0.3)(x)
        model = keras.Model(image, layers.Dense(self.num_classes)(x))
        model.compile(
            hp.Choice("optimizer", ["adam", "sgd"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="right")],
        )
        return model

    def fit(self, hp, model, x, y, callbacks=None, **kwargs):
        followed = [
            keras.callbacks.EarlyStopping("val_right", patience=2, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=0, min_delta=0.2),
            keras.callbacks.ModelCheckpoint("best.keras"),
        ]
        return model.fit(
            x,
            y,
            batch_size=hp.Choice("batch_size", [48, 64]),
            epochs=hp.Int("epochs", 4, 6),
            class_weight={i: 1.0 + i / 10 for i in range(self.num_classes)},
            callbacks=[*callbacks, *followed],
            **kwargs,
        )


class Told(keras.callbacks.Callback):
    """A callback of a user's own; `heard` is what it was told."""

    heard: ClassVar[list] = []

    def on_train_begin(self, logs=None):
        self.heard.append("begin")

    def on_train_batch_end(self, batch, logs=None):
        self.heard.append(("batch", sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.heard.append((epoch, sorted(logs)))

    def on_train_end(self, logs=None):
        self.heard.append("end")


class WithOwnCallback(Plain):
    def fit(self, hp, model, *args, callbacks, **kwargs):
        return model.fit(*args, callbacks=[*callbacks, Told()], **kwargs)


class Compiling(kt.HyperModel):
    """build() leaves compiling to fit()."""

    def build(self, hp):
        return dense(8)

    def fit(self, hp, model, x, y, epochs, **kwargs):
        compiled(model, hp.Float("rate", 1e-3, 1e-2, sampling="log"))
        return model.fit(x, y, epochs=epochs, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)


class StepModel(keras.Model):
    """A training step of its own, with random numbers from Keras' unseeded draws."""

    def train_step(self, data):
        x, y = data
        x = x + 0.1 * keras.random.normal(keras.ops.shape(x))
        return super().train_step((x, y))


def own_step(hp):
    image = keras.Input((SIDE, SIDE, 1))
    x = layers.Dense(hp.Int("units", 8, 16, step=8), "relu")(layers.Flatten()(image))
    return compiled(StepModel(image, layers.Dense(CLASSES, "softmax")(x)))


def averaged(hp):
    """Its optimizer keeps moving averages; a learning rate that follows a schedule of steps."""
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 200)
    model = dense(hp.Choice("units", [8, 16]))
    model.compile(keras.optimizers.Adam(rate, use_ema=True), "categorical_crossentropy", metrics=["acc"])
    return model


def two_classes(hp):
    """One number for two classes."""
    model = keras.Sequential([layers.Flatten(), layers.Dense(hp.Int("units", 4, 8), "relu"), layers.Dense(1)])
    return compiled(model, loss=keras.losses.BinaryCrossentropy(from_logits=True))


def sigmoids(hp):
    """Probabilities that do not sum up to one."""
    return compiled(dense(8, last="sigmoid"), loss="binary_crossentropy")


# ---- what cannot be


class OwnLoop(Plain):
    """A training loop of its own."""

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        size = hp.Int("batch_size", 16, 64, step=16)
        for begin in range(0, len(x), size):
            model.train_on_batch(x[begin : begin + size], y[begin : begin + size])
        return float(model.evaluate(*validation_data, verbose=0)[0])


class Twice(Plain):
    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)
        return model.fit(*args, **kwargs)


class Streamed(Plain):
    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(((x[:8], y[:8]) for _ in range(4)), **kwargs)


class Needy(kt.HyperModel):
    def __init__(self, width):
        super().__init__()
        self.width = width


class Failing(kt.HyperModel):
    def __init__(self, classes):
        raise RuntimeError("no constructor")


class MyTuner(kt.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        return 1.0


made = Trained(CLASSES, (SIDE, SIDE, 1))


def too_large(hp):
    """Some configurations are refused by the model itself."""
    units = hp.Int("units", 8, 32, step=8)
    model = dense(units)
    if units > 16:
        raise ValueError(f"too large: {model.count_params()} parameters")
    return compiled(model)


def ending(hp):
    """Some configurations end the search."""
    if hp.Int("units", 8, 32, step=8) > 8:
        raise kt.errors.FatalError("this must not go on")
    return compiled(dense(8))


def not_compiled(hp):
    return dense(8)


def no_model(hp):
    return "a model"


def other_classes(hp):
    return compiled(dense(8, outputs=7))


def other_images(hp):
    return compiled(
        keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(CLASSES, activation="softmax")])
    )
