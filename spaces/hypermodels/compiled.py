"""What a compiled Keras model wants of its labels and says of its outputs; Keras is there where this runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

ONE_HOT, SPARSE, BINARY = "one-hot", "sparse", "binary"
TRIED = 4  # images' worth of random outputs that an unknown loss is tried on


def labels_of(model: Any, units: int | None, classes: int) -> str:
    """How the model's loss wants its labels; `units` are the model's outputs for one image, None where unknown.

    A loss of Keras' own says it by its name; of another its metrics may, and else it is tried.
    """
    if units == 1:
        return BINARY
    loss = single(model.loss)
    if loss is None:
        return _of_metrics(model) or ONE_HOT
    if isinstance(loss, str) or _is_keras(loss):
        return SPARSE if "sparse" in name_of(loss).lower() else ONE_HOT
    return _of_metrics(model) or _tried(loss, classes)


def shaped(labels: npt.NDArray[Any], kind: str, classes: int) -> npt.NDArray[Any]:
    """Class numbers (n,) as one-hot float32 (n, classes), binary float32 (n, 1), or as they are, int32."""
    if kind == ONE_HOT:
        return np.eye(classes, dtype=np.float32)[labels]
    return labels.astype(np.float32)[:, None] if kind == BINARY else labels.astype(np.int32)


def from_logits(model: Any) -> bool:
    """Whether the model's loss takes its outputs for logits."""
    loss = single(model.loss)
    said = getattr(loss, "from_logits", None)
    return bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False) if said is None else said)


def accuracy_of(model: Any) -> str:
    """The name of the metric that is the share of right classes; empty where there is none."""
    from keras import metrics as known

    classes = (known.BinaryAccuracy, known.CategoricalAccuracy, known.SparseCategoricalAccuracy)
    functions = {known.binary_accuracy, known.categorical_accuracy, known.sparse_categorical_accuracy}
    for metric in metrics_of(model):
        if isinstance(metric, classes) or getattr(metric, "_fn", None) in functions:
            return str(metric.name)
    return ""


def metrics_of(model: Any) -> Iterable[Any]:
    """The model's metrics one by one, as far as it has made them."""
    for metric in model.metrics:
        inner = getattr(metric, "metrics", None)
        yield from inner if isinstance(inner, list) else [metric]


def make_metrics(model: Any, labels: npt.NDArray[Any], units: int, shape: tuple[int, ...]) -> None:
    """Have the model make its metrics, which it does when it first sees labels and outputs; here they are made up."""
    images, outputs = np.zeros((len(labels), *shape), np.float32), np.full((len(labels), units), 1 / units, np.float32)
    model.compute_metrics(images, labels, outputs)
    model.reset_metrics()


def name_of(thing: Any) -> str:
    """What a loss or an optimizer is called, as it was written or by its class."""
    return thing if isinstance(thing, str) else getattr(thing, "__name__", type(thing).__name__)


def single(loss: Any) -> Any:
    """The loss of the one output, however it was given."""
    if isinstance(loss, dict):
        loss = list(loss.values())
    return loss[0] if isinstance(loss, (list, tuple)) and len(loss) == 1 else loss


def _is_keras(thing: Any) -> bool:
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module).partition(".")[0] == "keras"


def _of_metrics(model: Any) -> str:
    """What the names of its metrics say; empty where they say nothing."""
    written = (getattr(model, "_compile_config", None) or {}).get("metrics")
    given = [*metrics_of(model), *(written if isinstance(written, (list, tuple)) else ())]
    names = [name_of(metric).lower() + str(getattr(metric, "name", "")).lower() for metric in given]
    if any("sparse" in name for name in names):
        return SPARSE
    return ONE_HOT if any("categorical" in name for name in names) else ""


def _tried(loss: Any, classes: int) -> str:
    """One-hot where the loss takes those for some even outputs, else sparse."""
    outputs = np.full((TRIED, classes), 1 / classes, dtype=np.float32)
    try:
        found = np.asarray(loss(shaped(np.arange(TRIED) % classes, ONE_HOT, classes), outputs))
    except Exception:
        return SPARSE
    return ONE_HOT if np.isfinite(found).all() else SPARSE
