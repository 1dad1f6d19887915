"""Turns a trained Keras model into an MLflow model folder; runs in the worker, where Keras is loaded."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking import quiet

CONFIG_FILE = "config.json"


def save(
    model: Any,
    folder: Path,
    *,
    example: np.ndarray,
    requirements: Sequence[str],
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Write `model` to `folder`, replacing what is there, so that mlflow.keras and mlflow.pyfunc load it.

    `example` is a few images as served, uint8 (n, height, width, channels); the signature says uint8 in and float32
    (n, classes) out. `requirements` are pip lines (see `environment_versions`). `config` goes beside the model as
    config.json, and with `metadata` into MLmodel. The folder appears whole or not at all.

    Raises ValueError where `example` is not that, OSError where nothing can be written.
    """
    if example.dtype != np.uint8 or example.ndim != 4 or not len(example):
        raise ValueError(f"example is {example.dtype} of shape {example.shape}; give uint8 images (n, h, w, c)")
    quiet.prepare()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(model, aside, example, requirements, config, metadata)
        # mkdtemp's folder is for its owner alone; a server that keeps artifacts for several users copies the mode.
        aside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def environment_versions() -> list[str]:
    """Pinned pip lines of what it takes to load a model saved here: Keras, its backends, numpy."""
    import keras

    names = ["keras", "tensorflow", "numpy"] + (["jax"] if keras.backend.backend() == "jax" else [])
    found = []
    for name in names:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write(
    model: Any,
    folder: Path,
    example: np.ndarray,
    requirements: Sequence[str],
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    signature = _signature(model, example)
    # mlflow.keras, not mlflow.tensorflow: it needs no TensorFlow under JAX. save_model, not log_model: that one would
    # load the model again to score the example, and look up requirements by importing it in a process of its own.
    from mlflow.keras import save_model

    plain = json.loads(json.dumps(dict(config)))
    save_model(
        model,
        str(folder),
        signature=signature,
        input_example=example,
        pip_requirements=list(requirements),
        metadata={**json.loads(json.dumps(dict(metadata))), "config": plain},
    )
    (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def _signature(model: Any, example: np.ndarray) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    # Without names: MLflow would hand a named input to Keras as a dictionary, which one input layer refuses.
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))
    outputs = TensorSpec(np.dtype(np.float32), (-1, *model.output_shape[1:]))
    return ModelSignature(inputs=Schema([inputs]), outputs=Schema([outputs]))
