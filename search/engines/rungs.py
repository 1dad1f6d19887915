"""Where trials are compared and which go on: successive halving that pauses and continues, as functions of the trials.

Asynchronous successive halving by promotion, as in Li et al., "A System for Massively Parallel Hyperparameter Tuning"
(2020), algorithm 2, and several brackets of it side by side, as in Hyperband (Li et al., 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

REDUCTION = 3
LEAST_FIRST = 1.3


def first_rung(epochs: int) -> int:
    """Epochs after which trials are first compared: a 27th, a 9th or a 3rd of all, the least that is not just one.

    After a single epoch small networks are told apart by luck.
    """
    shares = [epochs / REDUCTION**k for k in (3, 2, 1) if epochs / REDUCTION**k >= LEAST_FIRST]
    return round(shares[0]) if shares else epochs


def rungs(epochs: int, first: int | None = None, reduction: int = REDUCTION) -> tuple[int, ...]:
    """Epochs trained at which successive halving compares trials, below `epochs`."""
    found, rung = [], first or first_rung(epochs)
    while rung < epochs:
        found.append(rung)
        rung *= reduction
    return tuple(found)


@dataclass(frozen=True)
class Ladder:
    """The rungs of each bracket, the hastiest first; a trial keeps to its bracket's. `reduction` of them go on as one.

    Of `counts` trials each bracket gets its part, in the order of their numbers, so that all train about as long.
    `eager` lets the best at a rung go on even where fewer than `reduction` have reached it.
    """

    brackets: tuple[tuple[int, ...], ...]
    reduction: int
    counts: tuple[int, ...] = (1,)
    eager: bool = False

    def bracket(self, number: int) -> int:
        """The bracket of a trial, by its number."""
        place = number % sum(self.counts)
        for bracket, count in enumerate(self.counts):
            place -= count
            if place < 0:
                return bracket
        raise AssertionError("unreachable")

    def of(self, number: int) -> tuple[int, ...]:
        """The rungs of a trial, by its number."""
        return self.brackets[self.bracket(number)]


def one_bracket(epochs: int, first: int | None, reduction: int, *, eager: bool = False) -> Ladder:
    """Successive halving alone."""
    return Ladder((rungs(epochs, first, reduction),), reduction, eager=eager)


def hyperband(epochs: int, first: int | None, reduction: int, *, eager: bool = False) -> Ladder:
    """Hyperband's brackets, as many as there are rungs and one; each skips one more rung than the one before."""
    all_rungs = rungs(epochs, first, reduction)
    brackets = tuple(all_rungs[skipped:] for skipped in range(len(all_rungs) + 1))
    top = len(brackets)
    counts = tuple(math.ceil(top * reduction ** len(b) / (len(b) + 1)) for b in brackets)
    return Ladder(brackets, reduction, counts, eager)


@dataclass(frozen=True)
class Round:
    """A round of one of KerasTuner's brackets: how many trials train until after how many epochs."""

    trials: int
    epochs: int


def brackets(epochs: int, factor: int) -> list[list[Round]]:
    """The brackets of KerasTuner's Hyperband in their order, each with its rounds, by the formulas of its oracle."""
    ends = math.ceil(1 + math.log(epochs, factor))
    count, left = 0, float(epochs)
    while left >= 1:
        left, count = left / factor, count + 1

    def round_of(bracket: int, number: int) -> Round:
        below = bracket - number
        return Round(math.ceil(ends / (bracket + 1) * factor**below), math.ceil(epochs / factor**below))

    return [[round_of(b, number) for number in range(b + 1)] for b in reversed(range(count))]


@dataclass(frozen=True)
class Standing:
    """A trial as far as comparing goes: its values by epochs trained, where it waits (None: it does not), its sign.

    `values` are such that higher is better.
    """

    number: int
    values: Mapping[int, float]
    waits_at: int | None = None


def leading(standings: Sequence[Standing], ladder: Ladder, bracket: int, rung: int, *, last: bool) -> list[int]:
    """Numbers of the trials of a bracket that may go on from a rung, the best first.

    One of every `reduction` that reached it; one at least where no more trials come (`last`) or the ladder is eager.
    """
    mine = [s for s in standings if ladder.bracket(s.number) == bracket]
    there = [s for s in mine if math.isfinite(s.values.get(rung, math.nan))]
    many = len(there) // ladder.reduction
    best = sorted(there, key=lambda s: (-s.values[rung], s.number))
    return [s.number for s in best[: max(many, 1) if last or ladder.eager else many]]


def goes_on(standings: Sequence[Standing], ladder: Ladder, number: int, rung: int, *, last: bool = False) -> bool:
    """Whether a trial that has just reached a rung goes on at once instead of waiting there."""
    return number in leading(standings, ladder, ladder.bracket(number), rung, last=last)


def promoted(standings: Sequence[Standing], ladder: Ladder, *, last: bool) -> int | None:
    """The waiting trial that goes on next: of the highest rung where one may, the best; None where none may."""
    waiting = {s.number: s.waits_at for s in standings if s.waits_at is not None}
    found: list[tuple[int, float, int]] = []
    by_number = {s.number: s for s in standings}
    for bracket, rung in {(ladder.bracket(number), rung) for number, rung in waiting.items()}:
        for number in leading(standings, ladder, bracket, rung, last=last):
            if waiting.get(number) == rung:
                found.append((rung, by_number[number].values[rung], -number))
    return -max(found)[2] if found else None
