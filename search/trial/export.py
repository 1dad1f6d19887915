"""Writes a packaged model in another format, loads that and compares: `python -m search.trial.export ORDER ANSWER`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from search.trial import served
from search.trial.answer import answer

Pixels = npt.NDArray[np.uint8]
Predict = Callable[[Pixels], npt.NDArray[np.float32]]


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Write the order's `model` folder as `format` to `path`; answer how far it is from the `expected` probabilities.

    `images` and `expected` are .npy files, uint8 images and what the original gives for them. The answer's
    `difference` is the largest of all probabilities, None where one is not a number.
    """
    images, expected = np.load(order["images"]), np.load(order["expected"])
    write, load = FORMATS[order["format"]]
    path = Path(order["path"])
    write(Path(order["model"]), path)
    again = load(path)
    # One alone and the others together: the number of images must not be fixed.
    found = np.concatenate([again(images[:1]), again(images[1:])])
    if found.shape != expected.shape:
        raise ValueError(f"what was written gives {found.shape} for images that should give {expected.shape}")
    difference = float(np.abs(found - expected).max())
    said = {"difference": difference if np.isfinite(difference) else None, "images": len(images)}
    return said


def _write_keras(model: Path, path: Path) -> None:
    shutil.copyfile(model / served.WEIGHTS, path)


def _load_keras(path: Path) -> Predict:
    model = served.load_file(path)
    return lambda images: served.probabilities(model, images)


def _write_saved_model(model: Path, path: Path) -> None:
    served.load(model).export(path, format="tf_saved_model", verbose=False)


def _load_saved_model(path: Path) -> Predict:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(images))


def _write_onnx(model: Path, path: Path) -> None:
    loaded = served.load(model)
    for layer in _layers(loaded):
        if isinstance(layer, keras.layers.Normalization):
            # As tensors, which Keras makes of them, they would become inputs of the ONNX graph.
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    loaded(np.zeros((1, *loaded.input_shape[1:]), np.uint8))  # Keras refuses one that was never called
    loaded.export(path, format="onnx", verbose=False)


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


FORMATS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path], Predict]]] = {
    "keras": (_write_keras, _load_keras),
    "saved_model": (_write_saved_model, _load_saved_model),
    "onnx": (_write_onnx, _load_onnx),
}


if __name__ == "__main__":
    answer(main)
