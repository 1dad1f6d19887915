"""The grids that tables are recorded of, and every point of a space, in order."""

from __future__ import annotations

from collections.abc import Iterator

from bench.places import ROOT
from search.errors import InputError
from spaces import HyperParameters, Parameter, Space, find
from spaces._space import Config
from spaces.errors import SpaceError


class _Digits(HyperParameters):
    """Draws the values that `digits` number, the first of what is drawn beyond them; `sizes` counts the choices met."""

    def __init__(self, digits: list[int]) -> None:
        super().__init__()
        self.digits, self.sizes = digits, list[int]()

    def draw(self, parameter: Parameter) -> object:
        options = parameter.choices or parameter.grid()
        if options is None:
            raise SpaceError(f"{parameter.name} has no step, so its values cannot be listed; give it one")
        place = len(self.sizes)
        self.sizes.append(len(options))
        if place == len(self.digits):
            self.digits.append(0)
        return options[self.digits[place]]


def points(space: Space) -> Iterator[Config]:
    """Every configuration of a space, the last hyperparameter changing fastest, whatever depends on whatever.

    Raises SpaceError where one of its hyperparameters is continuous.
    """
    digits: list[int] = []
    while True:
        hp = _Digits(digits)
        yield space.sample(hp)
        while digits and digits[-1] + 1 == hp.sizes[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def grid_of(name: str) -> str:
    """The file of a grid of ours, or `name` where it is a file's."""
    if name.endswith(".py"):
        return name
    ours = {path.stem: path for path in (ROOT / "bench" / "grids").glob("*.py")}
    if name not in ours:
        raise InputError(f"unknown grid {name!r}; there are: {', '.join(sorted(ours))}, or give a .py file")
    return str(ours[name])


def grid_of_space(name: str) -> str:
    """The file of the grid of ours whose space has this name. Raises InputError where there is none."""
    for path in sorted((ROOT / "bench" / "grids").glob("*.py")):
        if find(str(path)).name == name:
            return str(path)
    raise InputError(f"no grid in bench/grids has the space {name!r}")
