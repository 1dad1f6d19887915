"""Objectives and limits of a study: what is to be as high or as low as possible, and what may not be exceeded."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search.reader import Reader
from search.trial.spec import BESIDE, TOP

Direction = Literal["maximize", "minimize"]

EPOCH = ("val_accuracy", "val_loss", "accuracy", "loss")
LOWER = ("loss", "error", "mse", "mae")  # how metrics end that are better when lower
COUNTS = ("params", "multiply_adds")
DIRECTIONS: Mapping[str, Direction] = {"max": "maximize", "min": "minimize"}
SHORT: Mapping[Direction, str] = {"maximize": "max", "minimize": "min"}
OPPOSITE = {"<=": ">", ">=": "<", "<": ">=", ">": "<="}
LIMIT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*")
LEAST, MOST = 1e-9, 1e9  # violations: of a value on a bound that is not allowed, and of NaN


@dataclass(frozen=True)
class Objective:
    """A figure that is to be as high or as low as possible; as text `NAME:max` or `NAME:min`."""

    name: str
    direction: Direction

    def __str__(self) -> str:
        return f"{self.name}:{SHORT[self.direction]}"

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.name} ({SHORT[self.direction]})"


@dataclass(frozen=True)
class Limit:
    """A figure that must stay on one side of a finite bound; as text `NAME<=BOUND`."""

    name: str
    operator: str
    bound: float

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{number(self.bound)}"

    @property
    def is_upper(self) -> bool:
        """Whether it bounds from above."""
        return self.operator in ("<=", "<")

    def broken(self, value: float) -> bool:
        """Whether a value is beyond it; NaN is."""
        holds = {
            "<=": value <= self.bound,
            ">=": value >= self.bound,
            "<": value < self.bound,
            ">": value > self.bound,
        }
        return not holds[self.operator]

    def violation(self, value: float) -> float:
        """How far a value is beyond it, relative to the bound (where that is 0, the difference).

        Above zero exactly where it is broken; at most MOST, also of NaN and infinity.
        """
        if math.isnan(value):
            return MOST
        beyond = (value - self.bound) / (abs(self.bound) or 1.0) * (1 if self.is_upper else -1)
        return min(max(beyond, LEAST), MOST) if self.broken(value) else max(min(beyond, 0.0), -MOST)

    def words(self, value: float) -> str:
        """What is wrong with a value that breaks it: latency_ms 7.2 > 5."""
        text = written(self.name, value)
        bound = written(self.name, self.bound) if self.name in COUNTS else number(self.bound)
        if text == written(self.name, self.bound) and value != self.bound:  # they would look alike
            text, bound = number(value), number(self.bound)
        return f"{self.name} {text} {OPPOSITE[self.operator]} {bound}"


def number(value: float) -> str:
    """A number as short as it can be and still exact: 1000000, 0.05."""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(float(value))


def written(name: str, value: float | None) -> str:
    """A figure for people: counts with commas, what is measured with four digits, metrics with four decimals."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if name in COUNTS:
        return f"{value:,.0f}"
    if name in BESIDE:
        before = len(f"{abs(value):.0f}") if abs(value) >= 1 else 0
        return f"{value:,.{max(0, 4 - before)}f}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def natural(name: str) -> Direction:
    """The direction in which a figure is better."""
    return "minimize" if name in BESIDE or name.endswith(LOWER) else "maximize"


def parse_objective(text: str) -> Objective:
    """The objective of its canonical text. Raises KeyError, ValueError for another."""
    name, direction = text.split(":")
    return Objective(name, DIRECTIONS[direction])


def parse_limit(text: str) -> Limit:
    """The limit of its text. Raises ValueError for another."""
    found = LIMIT.fullmatch(text)
    bound = float(found[3]) if found else math.nan
    if found is None or not math.isfinite(bound):
        raise ValueError(text)
    return Limit(found[1], found[2], bound)


def read_objectives(texts: Sequence[str], own: Objective, classes: int, read: Reader) -> tuple[Objective, ...]:
    """The objectives asked for, in order; none where that is the space's `own` alone.

    Images have `classes` classes. What is wrong is noted in `read`, all of it.
    """
    found: list[Objective] = []
    for text in texts:
        name, colon, direction = text.partition(":")
        if colon and direction not in DIRECTIONS:
            read.problems.append(f"--objective {text}: give NAME, NAME:max or NAME:min")
        elif problem := _unknown(name, own, classes):
            read.problems.append(f"--objective {text}: {problem}")
        elif name in (each.name for each in found):
            read.problems.append(f"--objective {text}: {name} is named twice; keep one")
        else:
            usual = own.direction if name == own.name else natural(name)
            found.append(Objective(name, DIRECTIONS[direction] if colon else usual))
    return () if found == [own] else tuple(found)


def read_limits(texts: Sequence[str], own: Objective, classes: int, read: Reader) -> tuple[Limit, ...]:
    """The limits asked for, in an order that does not depend on that of the texts."""
    found: dict[tuple[str, bool], Limit] = {}
    for text in texts:
        try:
            limit = parse_limit(text)
        except ValueError:
            read.problems.append(f"--limit {text}: give NAME<=NUMBER (or >=, <, >) like 'params<=1e6', in quotes")
            continue
        if problem := _unknown(limit.name, own, classes):
            read.problems.append(f"--limit {text}: {problem}")
            continue
        before = found.setdefault((limit.name, limit.is_upper), limit)
        if before is not limit:
            read.problems.append(f"--limit {text}: {limit.name} is limited twice, by {before} too; keep one")
    for (name, is_upper), upper in found.items():
        lower = found.get((name, False)) if is_upper else None
        if lower and (upper.broken(lower.bound) or lower.broken(upper.bound)):
            read.problems.append(f"--limit {upper} and {lower}: no value is within both")
    return tuple(sorted(found.values(), key=str))


def _unknown(name: str, own: Objective, classes: int) -> str | None:
    """Why no trial has a figure of this name; None where it has."""
    if name == own.name or name in (*EPOCH, *BESIDE):
        return None
    top = TOP.fullmatch(name)
    if top and 0 < int(top[1]) < classes:
        return None
    if top:
        return f"there are {classes} classes; give a number from 1 to {classes - 1} for {top[1]}"
    names = list(dict.fromkeys((own.name, *EPOCH[:2], "val_top_5_accuracy", *EPOCH[2:], *BESIDE)))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown; choose one of {', '.join(names)} (any number for 5).{hint}"
