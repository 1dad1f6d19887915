"""The values that cross between coordinator and worker, as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KNOWN = ("params", "multiply_adds", "model_mb")  # figures of a configuration, before it is trained
MEASURED = ("latency_ms", "train_seconds")  # and of a trained network
BESIDE = (*KNOWN, *MEASURED)  # figures that are no metric of an epoch
TOP = re.compile(r"(?:val_)?top_(\d+)_accuracy")  # a metric of an epoch, with any number


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """All a worker needs to train one trial; it holds no address and no credential.

    `epochs` is the most it trains; `milestones` are epochs from 0 that replace the recipe's shares;
    `patience` None means the recipe's, 0 means never stop early. `folder` is the trial's own, where the
    checkpoints and the finished model stand; `recorded` is how many of its epochs the coordinator has on disk. `seed`
    fixes weights, sample order, dropout and augmentation. `rungs` are epochs trained at which a checkpoint is always
    written. `pruned_at` says that it was pruned after so many epochs, and was killed before that was told. `merged`
    trains on training and validation data together, so that there is nothing to validate on. `dataset` is another than
    the space's own. `pictures` is the folder of a study for pictures of its data, which the first trials draw.
    `measures` are the figures it is judged by, where those are more than the best of its epochs by `metric`.
    `checkpoint_hash` is by what its checkpoints know it, where that is not `config_hash`.
    """

    study: str
    number: int
    attempt: int
    space: str
    config: dict[str, Any]
    config_hash: str
    data_folder: str
    data_seed: int
    train_limit: int | None
    validation_limit: int | None
    epochs: int
    milestones: tuple[int, ...]
    patience: int | None
    seed: int
    metric: str
    direction: str
    precision: str
    folder: str
    recorded: int = 0
    rungs: tuple[int, ...] = ()
    pruned_at: int | None = None
    merged: bool = False
    dataset: str | None = None
    pictures: str = ""
    measures: tuple[str, ...] = ()
    checkpoint_hash: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrialSpec:
        """The spec of a plain dictionary."""
        tuples = {name: tuple(values.get(name, ())) for name in ("milestones", "rungs", "measures")}
        return cls(**(values | tuples))

    @property
    def checkpoint(self) -> str:
        """By what its checkpoints know the configuration."""
        return self.checkpoint_hash or self.config_hash

    @property
    def path(self) -> Path:
        """The trial's folder."""
        return Path(self.folder)


def encode(message: dict[str, Any]) -> bytes:
    """A message as bytes; NaN and infinity are kept."""
    return json.dumps(message, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    """The message of those bytes."""
    message: dict[str, Any] = json.loads(data)
    return message
