"""How a network is trained, apart from the network: optimizer, schedule, batch size, augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from spaces._hp import HyperParameters

#: What a space draws from where it names no optimizers; `adadelta`, which has no learning rate, is there to be named.
OPTIMIZERS = ("adam", "adamax", "adamw", "rmsprop", "sgd")
ADADELTA_RATE = 1.0  # Zeiler's steps as they come; Keras' default, 0.001, is not Adadelta
SCHEDULES = ("constant", "step", "cosine", "plateau")


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image: rotation in degrees, shift and zoom as shares of its size.

    `flip` is left to right, `upside_down` the other way.
    """

    flip: bool = False
    upside_down: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "shift": Augmentation(shift=0.125),
    "shift_turn": Augmentation(shift=0.125, rotation=15.0),
    "flip_shift": Augmentation(flip=True, shift=0.125),
    "turn_flips": Augmentation(flip=True, upside_down=True, rotation=30.0),
    "full": Augmentation(flip=True, shift=0.125, rotation=20.0, zoom=0.1),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the training loop needs to know beside the model.

    `weight_decay` is decoupled (subtracted from the weights times the learning rate, never from
    biases or normalisation). `milestones` are shares of the epochs, at each of which schedule `step`
    divides the learning rate by ten. `patience` is in epochs of no better val_loss; None never stops early.
    `train_size` is how many images, stratified, a trial trains on at most; None takes all that its study has.
    `balanced` weighs each image by how rare its class is among those trained on (scikit-learn's "balanced").
    """

    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    augmentation: str = "none"
    patience: int | None = 10
    balanced: bool = False
    train_size: int | None = None


def sample_recipe(
    hp: HyperParameters,
    *,
    batch_sizes: Sequence[int] = (32, 64, 128, 256),
    optimizers: Sequence[str] = OPTIMIZERS,
    schedules: Sequence[str] = SCHEDULES,
    augmentations: Sequence[str] = ("none", "flip_shift", "full"),
) -> None:
    """Draw every hyperparameter that `read_recipe` reads."""
    hp.Choice("optimizer", optimizers)
    if "sgd" in optimizers:
        with hp.conditional_scope("optimizer", "sgd"):
            hp.Float("momentum", 0.0, 0.95, default=0.9)
            hp.Boolean("nesterov", default=True)
    rated = [name for name in optimizers if name != "adadelta"]
    with hp.conditional_scope("optimizer", rated) if len(rated) < len(optimizers) else nullcontext():
        hp.Float("learning_rate", 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Choice("weight_decay", [0.0, 1e-5, 1e-4, 1e-3, 1e-2], ordered=True)
    hp.Choice("batch_size", batch_sizes, ordered=True, default=64 if 64 in batch_sizes else batch_sizes[0])
    hp.Choice("schedule", schedules)
    if "step" in schedules:
        with hp.conditional_scope("schedule", "step"):
            hp.Float("milestone_1", 0.3, 0.6, step=0.05, default=0.5)
            hp.Float("milestone_2", 0.65, 0.9, step=0.05, default=0.75)
    hp.Choice("augmentation", augmentations)


def read_recipe(config: Mapping[str, Any], *, patience: int | None = 10, balanced: bool = False) -> Recipe:
    """The recipe inside a configuration that `sample_recipe` drew."""
    sgd = config["optimizer"] == "sgd"
    steps = config["schedule"] == "step"
    return Recipe(
        batch_size=config["batch_size"],
        optimizer=config["optimizer"],
        learning_rate=ADADELTA_RATE if config["optimizer"] == "adadelta" else config["learning_rate"],
        weight_decay=config["weight_decay"],
        momentum=config["momentum"] if sgd else 0.0,
        nesterov=config["nesterov"] if sgd else False,
        schedule=config["schedule"],
        milestones=(config["milestone_1"], config["milestone_2"]) if steps else (),
        augmentation=config["augmentation"],
        patience=patience,
        balanced=balanced,
    )
