"""Loads a stranger's HyperModel and says what is wrong with its code; Keras is there where this runs."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from spaces.datasets import DataSpec
from spaces.errors import BrokenSpace, UnknownSpace
from spaces.hypermodels.handed import Unsupported
from spaces.hypermodels.noted import digest
from spaces.hypermodels.reference import Reference

SHAPE, CLASSES = ("input_shape",), ("classes", "num_classes", "n_classes")  # what a constructor calls them
OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("bench", "search", "spaces", "tracking"))


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
    what = f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"
    raise BrokenSpace(
        f"{reference}: it is {what}, neither a HyperModel nor a function build(hp).{_hint(module, reference.name)}"
    )


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


def in_words(error: BaseException) -> str:
    """One line for people."""
    text = " ".join(str(error).split())[:400]
    if "URL fetch failure on" in text:
        where = text.partition("URL fetch failure on ")[2].partition(": ")[0]
        return f"it downloads weights, which cannot be fetched here ({where}); put the file into Keras' cache of models"
    return text if isinstance(error, Unsupported) else f"{type(error).__name__}: {text}"


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
    """The module of a file, run anew each time, so that no trial finds what one before it left there."""
    name = f"_user_model_{file.stem}"
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
        raise BrokenSpace(f"{path}:{line_in(error, path)}: {kind.__name__}() failed: {in_words(error)}") from error


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
