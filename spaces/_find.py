"""Finds a space by its file's name, a user's own file, a package's entry point, or a KerasTuner model `module:Name`."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from spaces._measured import complete
from spaces._space import Space, without_formula
from spaces.datasets import paths
from spaces.errors import BrokenSpace, BuildFailed, UnknownSpace
from spaces.hypermodels import space as hypermodel
from spaces.hypermodels.reference import parse

FOLDER = Path(__file__).parent
GROUP = "keras_search.spaces"  # of entry points, each naming a Space: `pets = "pets.search:SPACE"`


def names() -> tuple[str, ...]:
    """The names of the spaces that come with the project and with installed packages, sorted."""
    return tuple(sorted({*_own(), *_packaged()}))


def _own() -> tuple[str, ...]:
    return tuple(p.stem for p in FOLDER.glob("*.py") if not p.stem.startswith("_") and p.stem != "errors")


def _packaged() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def name_of(reference: str) -> str:
    """What the space of a reference is called, or was when its file was there: nothing is loaded."""
    found = parse(reference)
    return found.title if found else Path(reference).stem if reference.endswith(".py") else reference


def find(reference: str, dataset: str | None = None, *, alone: bool = False) -> Space:
    """The space called `reference`, or the one in the file of that path (it must end in .py).

    `module:Name` and `file.py:Name` are HyperModels, or functions build(hp), of KerasTuner; `alone` starts no process
    that looks at them and leaves open what only that could say. `dataset` is another than a space's own. A name of ours
    goes before the same one of an installed package. Raises UnknownSpace (with the nearest name) or BrokenSpace (with
    file and line), and UnknownDataset for a HyperModel without one.
    """
    if (named := parse(reference)) is not None:
        return hypermodel.space(named, dataset, alone=alone)
    if not reference.endswith(".py") and reference not in _own() and reference in (packaged := _packaged()):
        return _of_package(packaged[reference], dataset)
    path = Path(reference).expanduser().resolve() if reference.endswith(".py") else FOLDER / f"{reference}.py"
    if not reference.endswith(".py") and reference not in names():
        near = difflib.get_close_matches(reference, names(), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else _dotted(reference)
        raise UnknownSpace(f"unknown space {reference!r}.{hint} List them: python -m search spaces")
    if not path.is_file():
        raise UnknownSpace(
            f"no space file at {reference}; give the path of a .py file or a name from: python -m search spaces"
        )
    space = getattr(_load(path), "SPACE", None)
    if not isinstance(space, Space):
        raise BrokenSpace(
            f"{path}:1: no SPACE = Space(...) in this file; see spaces/cnn_digits.py for a short one, or name the "
            f"KerasTuner model in it: {reference}:NAME"
        )
    if path.parent == FOLDER and space.name != path.stem:
        raise BrokenSpace(f"{path}:1: the space is called {space.name!r}, its file {path.stem!r}; give both one name")
    if path.parent != FOLDER:
        space = _muffled(space)
    return complete(replace(space, path=path, dataset=dataset or _beside(path, space.dataset)), str(path))


def _dotted(reference: str) -> str:
    """What may have been meant by a dotted name."""
    module, dot, name = reference.rpartition(".")
    return f" A KerasTuner model is named {module}:{name}." if dot and parse(f"{module}:{name}") else ""


def _of_package(point: EntryPoint, dataset: str | None) -> Space:
    where = f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'}"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            space = point.load()
    except (Exception, SystemExit) as error:
        raise BrokenSpace(f"{where}: {type(error).__name__}: {error}".splitlines()[0]) from error
    if not isinstance(space, Space):
        raise BrokenSpace(f"{where}: it names no Space, but {type(space).__name__}")
    file = getattr(sys.modules.get(point.module), "__file__", None)
    if not file:
        raise BrokenSpace(f"{where}: module {point.module} has no file; results could not say what they come from")
    own = dataset or _beside(Path(file), space.dataset)
    return complete(replace(_muffled(space), path=Path(file), dataset=own), point.name)


def _muffled(space: Space) -> Space:
    """The space of a user, whose functions print to standard error: standard output is the command's own."""

    def muffled(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            with contextlib.redirect_stdout(sys.stderr):
                return function(*arguments)

        return function if function is without_formula else call

    names = ("sample", "recipe", "params", "multiply_adds", *(["activations"] if space.activations else []))
    functions: dict[str, Any] = {name: muffled(getattr(space, name)) for name in names}
    return replace(space, **functions)


def _beside(file: Path, dataset: str) -> str:
    """The path that a space's own file names is beside that file, wherever the search is started."""
    if not paths.is_path(dataset) or dataset.startswith(f"{paths.PREFIX}~"):
        return dataset
    return f"{paths.PREFIX}{file.parent / dataset.removeprefix(paths.PREFIX)}"


def _load(path: Path) -> ModuleType:
    module_name = f"spaces.{path.stem}" if path.parent == FOLDER else f"_user_space_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is the command's own
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module_name, None)
        raise BrokenSpace(f"{path}:{line_of(error, path)}: {type(error).__name__}: {error}".splitlines()[0]) from error
    return module


def line_of(error: BaseException, path: Path) -> int:
    """The line of `path` at which `error` arose (1 where it arose elsewhere)."""
    if isinstance(error, BuildFailed):
        return error.line
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return (lines[-1] if lines else None) or 1
