"""All that the next epoch of a training depends on: copied to the host, and put back once it is known to fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from search.trial.checkpoints import Snapshot, Unusable


def copied(
    config_hash: str, variables: Sequence[Any], best: Sequence[np.ndarray], history: Sequence[dict[str, float]]
) -> Snapshot:
    """A copy in the host's memory; call it between epochs."""
    # np.array copies: on a CPU, JAX hands out views of buffers that the next step overwrites.
    return Snapshot(
        config_hash=config_hash,
        variables=[np.array(keras.ops.convert_to_numpy(v.value)) for v in variables],
        best=best,
        history=tuple(history),
    )


def check(
    snapshot: Snapshot, variables: Sequence[Any], weights: Sequence[np.ndarray], config_hash: str, most_epochs: int
) -> None:
    """Raises Unusable where a snapshot is not one of this trial, or of more than `most_epochs`.

    `weights` are the network's, of which the best were kept.
    """
    if snapshot.config_hash != config_hash:
        raise Unusable("it belongs to another configuration")
    if snapshot.epochs > most_epochs:
        raise Unusable(f"it is {_epochs(snapshot.epochs - most_epochs)} ahead of what was recorded")
    _check_fit("variable", snapshot.variables, [(tuple(v.shape), v.dtype) for v in variables])
    _check_fit("best weight", snapshot.best, [(w.shape, w.dtype.name) for w in weights])


def assign(snapshot: Snapshot, variables: Sequence[Any]) -> None:
    """Put back what a snapshot that was checked holds of the variables."""
    for variable, value in zip(variables, snapshot.variables, strict=True):
        variable.assign(value)


def size(variables: Sequence[Any], best: Sequence[np.ndarray]) -> int:
    """Bytes of a snapshot, nearly."""
    return sum(math.prod(v.shape) * 4 for v in variables) + sum(weight.nbytes for weight in best)


def _check_fit(what: str, stored: Sequence[np.ndarray], wanted: list[tuple[tuple[int, ...], str]]) -> None:
    if len(stored) != len(wanted):
        raise Unusable(f"it holds {len(stored)} {what}s, the model has {len(wanted)}")
    for i, (array, (shape, dtype)) in enumerate(zip(stored, wanted, strict=True)):
        if array.shape != shape or array.dtype.name != dtype:
            raise Unusable(f"its {what} {i} is {array.dtype.name} {array.shape}, the model's {dtype} {shape}")


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
