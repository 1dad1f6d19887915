"""Builds a stranger's networks for who asks: `python -m spaces.hypermodels.builder REFERENCE`, JSON lines in and out.

Asked `about`, it says which files the code is in; asked to `build`, it asks back for the value of each hyperparameter
in turn and says in the end what was built.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from spaces._builder import counts, forget
from spaces.datasets import DataSpec
from spaces.datasets._spec import spec_of
from spaces.errors import BrokenSpace, SpaceError
from spaces.hypermodels import compiled, making, stranger
from spaces.hypermodels.draws import Built
from spaces.hypermodels.noted import digest
from spaces.hypermodels.reference import Reference, parse

EPOCHS = 20  # what fit() is told where it asks
CHANGED = "its fit() changes the images before training; a model is kept only where raw images give it the same figures"
LOGITS = "its outputs are logits: a model that is kept gives probabilities"
NUMBERS, MOST, LEAST = 8e6, 2048, 64  # of the made-up images: numbers in all, and images


class GivenUp(BaseException):
    """Raised out of build() where who asked wants no answer any more."""


class Line:
    """Standard input and output, which a stranger's prints must not reach."""

    def __init__(self) -> None:
        self._out: IO[str] = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, answer: dict[str, Any]) -> None:
        """Write one line."""
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()

    def hear(self) -> dict[str, Any]:
        """Read one line. Raises SystemExit where there are no more."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        heard: dict[str, Any] = json.loads(line)
        return heard


def main() -> None:
    """Answer every line of standard input, until there are no more."""
    line, workshop = Line(), Workshop(_reference())
    while True:
        order = line.hear()
        if "about" in order:
            line.say(workshop.about(spec_of(order["about"])))
        elif "build" in order:
            try:
                line.say(workshop.build(spec_of(order["build"]), line))
            except GivenUp:
                line.say({"given_up": True})
            forget()


class Workshop:
    """What was loaded, and the images that fit() is shown."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._loaded: dict[DataSpec, tuple[Any, Path]] = {}
        self._images: dict[DataSpec, making.Images] = {}

    def about(self, data: DataSpec) -> dict[str, Any]:
        """The file that it is in, and the digests of all that it was loaded from; or why it cannot be used."""
        try:
            _, path = self._load(data)
        except SpaceError as error:
            return {"refused": "broken" if isinstance(error, BrokenSpace) else "unknown", "error": str(error)}
        found = stranger.sources()
        if path.is_file():
            found[str(path.resolve())] = digest(path)
        return {"path": str(path), "sources": found}

    def build(self, data: DataSpec, line: Line) -> dict[str, Any]:
        """Build one network; hyperparameters are asked for on the way."""
        import keras

        idle: list[dict[str, Any]] = []

        def ask(hyperparameter: Any, active: bool) -> Any:
            if not active:
                idle.append(_plain(hyperparameter))
                return None
            line.say({"draw": _plain(hyperparameter), "idle": idle[:]})
            idle.clear()
            heard = line.hear()
            if "value" not in heard:
                raise GivenUp
            return heard["value"]

        try:
            hypermodel, path = self._load(data)
            keras.utils.set_random_seed(0)
            shown, hp = self._shown(data), making.hyperparameters(ask)
            made = making.ready(hypermodel, hp, data, shown, path=path, epochs=EPOCHS, to_the_end=True)
            return {"built": asdict(_built(made, data, changed=made.call.x is not shown.x)), "idle": idle}
        except making.Broken as error:
            place = {"function": error.function, "line": error.line, "fatal": error.fatal}
            return {"error": str(error), "idle": idle, **place}
        except (Exception, SystemExit) as error:
            words = " ".join(str(error).split())[:400]
            return {"error": f"{type(error).__name__}: {words}", "idle": idle}

    def _load(self, data: DataSpec) -> tuple[Any, Path]:
        if data not in self._loaded:
            self._loaded[data] = stranger.load(self.reference, data)
        return self._loaded[data]

    def _shown(self, data: DataSpec) -> making.Images:
        """Made-up images, of the real ones' shape, more than a batch; a copy each time, since fit() may change them."""
        if data not in self._images:
            count = int(min(MOST, max(LEAST, data.classes, NUMBERS // np.prod(data.input_shape)), data.fitting_size))
            x = np.random.default_rng(0).random((count, *data.input_shape), dtype=np.float32)
            y = (np.arange(count) % data.classes).astype(np.uint8)
            held = max(1, count // 4)
            self._images[data] = making.Images(x, y, x[:held].copy(), y[:held].copy())
        made = self._images[data]
        return making.Images(made.x.copy(), made.y.copy(), made.x_val.copy(), made.y_val.copy())


def _built(made: making.Ready, data: DataSpec, *, changed: bool) -> Built:
    model, call = made.model, made.call
    labels = compiled.shaped(np.arange(data.classes), made.labels, data.classes)
    compiled.make_metrics(model, labels, made.units, tuple(call.x.shape)[1:])
    remarks = [*call.remarks, *([CHANGED] if changed else []), *([LOGITS] if compiled.from_logits(model) else [])]
    return Built(
        **counts(model),
        labels=made.labels,
        loss=compiled.name_of(compiled.single(model.loss)) if model.loss is not None else "none",
        accuracy=compiled.accuracy_of(model),
        optimizer=type(model.optimizer).__name__,
        batch_size=call.batch_size,
        epochs=call.epochs,
        remarks=tuple(remarks),
    )


def _plain(hyperparameter: Any) -> dict[str, Any]:
    """A hyperparameter of KerasTuner's as `draws.parameter_of` reads it."""
    kind = type(hyperparameter).__name__.lower()
    found: dict[str, Any] = {
        "name": hyperparameter.name,
        "kind": kind,
        "default": hyperparameter.default,
        "conditions": [[condition.name, list(condition.values)] for condition in hyperparameter.conditions],
    }
    if kind in ("int", "float"):
        step = hyperparameter.step
        found |= {
            "low": hyperparameter.min_value,
            "high": hyperparameter.max_value,
            "step": None if kind == "int" and step == 1 and hyperparameter.sampling == "linear" else step,
            "sampling": hyperparameter.sampling,
        }
    else:
        found["choices"] = [False, True] if kind == "boolean" else list(hyperparameter.values)
    return found


def _reference() -> Reference:
    found = parse(sys.argv[1])
    if found is None:
        raise SystemExit(f"{sys.argv[1]}: not module:Name nor file.py:Name")
    return found


if __name__ == "__main__":
    main()
