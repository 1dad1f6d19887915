"""Loads a stranger's HyperModel and builds with it; KerasTuner's home, where Keras is there already."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces import _contract
from spaces.datasets import DataSpec
from spaces.errors import BrokenSpace, UnknownSpace
from spaces.hypermodels import compiled, handed
from spaces.hypermodels.noted import digest
from spaces.hypermodels.reference import Reference

SHAPE, CLASSES = ("input_shape",), ("classes", "num_classes", "n_classes")  # what a constructor calls them
OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("bench", "search", "spaces", "tracking"))

Ask = Callable[[Any, bool], Any]  # a hyperparameter of KerasTuner's, and whether it is active, for its value


class Broken(Exception):
    """Raised where a stranger's function fails; `function` is which, `line` that of its file."""

    def __init__(self, function: str, words: str, line: int) -> None:
        super().__init__(words)
        self.function, self.line = function, line


@dataclass(frozen=True, eq=False)
class Images:
    """Images in 0 to 1, float32 (n, height, width, channels), and class numbers (n,), to train and to validate on."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    x_val: npt.NDArray[np.float32]
    y_val: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ready:
    """A model as it was built and compiled, how it is to be trained, how its labels are and how many outputs it has."""

    model: Any
    call: handed.Call
    labels: str
    units: int


def hyperparameters(ask: Ask) -> Any:
    """A keras_tuner.HyperParameters whose active hyperparameters get the value that `ask` says, once each."""
    import keras_tuner

    class Drawn(keras_tuner.HyperParameters):
        def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
            new = hyperparameter.name not in self.values
            value = super()._register(hyperparameter, overwrite)
            if not self.is_active(hyperparameter):
                ask(hyperparameter, False)
            elif new and not overwrite:
                value = self.values[hyperparameter.name] = ask(hyperparameter, True)
            return value

    return Drawn()


def replayed(config: Mapping[str, Any]) -> Any:
    """A keras_tuner.HyperParameters with the values of a configuration. Raises ValueError where one is not in it."""

    def known(hyperparameter: Any, active: bool) -> Any:
        if active and hyperparameter.name not in config:
            raise ValueError(
                f"hyperparameter {hyperparameter.name!r} was not drawn when this configuration was; what is drawn must "
                "depend on nothing but the values drawn before"
            )
        return config.get(hyperparameter.name)

    return hyperparameters(known)


def load(reference: Reference, data: DataSpec) -> tuple[Any, Path]:
    """The HyperModel that is named, made for these images where a class was named; and the file that it is in.

    Raises UnknownSpace and BrokenSpace.
    """
    import keras_tuner

    module = _module(reference)
    thing: Any = module
    for name in reference.name.split("."):
        if not hasattr(thing, name):
            raise UnknownSpace(f"{reference}: there is no {name!r} in it.{_hint(module, name)}")
        thing = getattr(thing, name)
    path = reference.file or _file(thing, module)
    if isinstance(thing, type) and issubclass(thing, keras_tuner.HyperModel):
        return _made(thing, reference, data, path), path
    if isinstance(thing, keras_tuner.HyperModel):
        return thing, path
    if inspect.isroutine(thing):
        found = keras_tuner.HyperModel()
        found.build = thing
        return found, path
    what = f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
    raise BrokenSpace(
        f"{reference}: it is {what}, neither a HyperModel nor a function build(hp).{_hint(module, reference.name)}"
    )


def ready(
    hypermodel: Any, hp: Any, data: DataSpec, images: Images, *, path: Path, epochs: int, to_the_end: bool
) -> Ready:
    """Build with `hp`, and see how the model is to be trained.

    `to_the_end` as of `handed.handed`. Raises Broken.
    """
    import keras

    function = "build"
    try:
        hypermodel.declare_hyperparameters(hp)
        model = hypermodel.build(hp)
        if not isinstance(model, keras.Model):
            raise TypeError(f"it returned {model!r:.60}, not a Keras model")
        function = "fit" if handed.has_own_fit(hypermodel) else "build"
        expected = compiled.labels_of(model, _units(model), data.classes)
        y, y_val = (compiled.shaped(each, expected, data.classes) for each in (images.y, images.y_val))
        given = handed.Given(images.x, y, images.x_val, y_val, epochs)
        call = handed.handed(hypermodel, hp, model, given, to_the_end=to_the_end)
        function = "build"
        if not model.compiled:
            raise ValueError("its model is not compiled: call model.compile(optimizer, loss, metrics=['accuracy'])")
        shape = tuple(call.x.shape)[1:]
        _build(model, shape)
        units = _contract.check_as_it_is(model, data, shape)
        labels = compiled.labels_of(model, units, data.classes)
        return Ready(model, _relabelled(call, given, images, labels, data.classes), labels, units)
    except Exception as error:
        raise Broken(function, _words(error), line_in(error, path)) from error


def _relabelled(call: handed.Call, given: handed.Given, images: Images, kind: str, classes: int) -> handed.Call:
    """The call with labels as the loss wants them that is compiled now, where fit() did not put others in place."""
    if call.y is given.y:
        call = replace(call, y=compiled.shaped(images.y, kind, classes))
    x_val, y_val, *weight = call.validation
    if y_val is given.y_val:
        call = replace(call, validation=(x_val, compiled.shaped(images.y_val, kind, classes), *weight))
    return call


def sources() -> dict[str, str]:
    """The SHA-256 of each file of a stranger's code that was loaded here, by its path."""
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and is_strangers(file) and Path(file).is_file():
            found[str(Path(file).resolve())] = digest(Path(file))
    return found


def is_strangers(file: str) -> bool:
    """Whether a file of code is a user's: neither ours, nor Python's, nor of an installed package."""
    path = str(Path(file).resolve())
    inside = (*OURS, str(Path(os.__file__).resolve().parent))
    return "site-packages" not in path and not path.startswith(tuple(f"{each}{os.sep}" for each in inside))


def line_in(error: BaseException, path: Path) -> int:
    """The line of `path` at which `error` arose (1 where it arose elsewhere), or what it arose from."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())[:400]
    if "URL fetch failure on" in text:
        where = text.partition("URL fetch failure on ")[2].partition(": ")[0]
        return f"it downloads weights, which cannot be fetched here ({where}); put the file into Keras' cache of models"
    return text if isinstance(error, handed.Unsupported) else f"{type(error).__name__}: {text}"


# ---- loading


def _module(reference: Reference) -> ModuleType:
    file = reference.file
    try:
        return importlib.import_module(reference.place) if file is None else _of_file(file)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name
        if file is None and missing and (reference.place == missing or reference.place.startswith(f"{missing}.")):
            raise UnknownSpace(
                f"{reference}: there is no module {missing!r} here; run where it can be imported, or name its file: "
                f"./FILE.py:{reference.name}"
            ) from error
        place = _place(error, file)
        text = f"{place}: importing it failed: {type(error).__name__}: {error}"
        raise BrokenSpace(text.splitlines()[0]) from error


def _of_file(file: Path) -> ModuleType:
    name = f"_user_model_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # what stands beside it can be imported, as if it were run
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _place(error: BaseException, file: Path | None) -> str:
    """The file and line of a user's code at which importing failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_strangers(f.filename)]
    frames = [f for f in frames if not f.filename.startswith("<")]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else f"{file}:1" if file else "its module"


def _made(kind: Any, reference: Reference, data: DataSpec, path: Path) -> Any:
    """An instance of a HyperModel class, for these images where its constructor asks for that."""
    known = dict.fromkeys(SHAPE, data.input_shape) | dict.fromkeys(CLASSES, data.classes)
    names = _named(kind)
    required = [n for n, p in names.items() if p.default is p.empty and n not in known]
    if required:
        raise BrokenSpace(
            f"{reference}: {kind.__name__}({', '.join(names)}) needs {', '.join(required)}, which nobody knows here "
            f"(known: {', '.join(known)}); make one in the module and name that: {reference.place}:my_hypermodel"
        )
    try:
        return kind(**{name: value for name, value in known.items() if name in names})
    except Exception as error:
        raise BrokenSpace(f"{path}:{line_in(error, path)}: {kind.__name__}() failed: {_words(error)}") from error


def _named(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters that a class' constructor names, and those that it passes on to its base's."""
    import keras_tuner

    found: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each) or each is keras_tuner.HyperModel:
            if each is keras_tuner.HyperModel:
                break
            continue
        parameters = list(inspect.signature(each.__init__).parameters.values())[1:]
        plain = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        found = {p.name: p for p in plain} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _file(thing: Any, module: ModuleType) -> Path:
    kind = thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)
    try:
        return Path(inspect.getsourcefile(kind) or module.__file__ or "")
    except TypeError:
        return Path(module.__file__ or "")


def _hint(module: ModuleType, name: str) -> str:
    """The nearest name in a module and what in it could be meant."""
    import keras_tuner

    near = difflib.get_close_matches(name, dir(module), n=1)
    meant = [
        key
        for key, thing in vars(module).items()
        if not key.startswith("_")
        and (
            isinstance(thing, keras_tuner.HyperModel)
            or (isinstance(thing, type) and issubclass(thing, keras_tuner.HyperModel))
            or (inspect.isfunction(thing) and next(iter(inspect.signature(thing).parameters), "") == "hp")
        )
    ]
    said = f" Did you mean {near[0]!r}?" if near else ""
    return said + (f" It has: {', '.join(meant[:8])}" if meant else "")


# ---- the model


def _build(model: Any, shape: tuple[int, ...]) -> None:
    """Make the weights of a model that waits for its first images to do so."""
    import keras

    if model.built:
        return
    if isinstance(model, keras.Sequential):
        model.build((None, *shape))
    else:
        model(np.zeros((1, *shape), np.float32))


def _units(model: Any) -> int | None:
    """How many numbers the model puts out for one image; None where it does not know yet."""
    try:
        shape = model.output_shape
    except (AttributeError, ValueError):
        return None
    return int(shape[-1]) if isinstance(shape, tuple) and shape and isinstance(shape[-1], int) else None
