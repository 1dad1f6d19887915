"""Learns from trials that fitted into memory and trials that did not which configurations will not, before launch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces import Space
from spaces.datasets import DataSpec

LEAST_PEAKS = 5  # measured peaks from which a line is drawn
SCATTER = 0.1  # the least relative scatter of measured peaks around the line that is believed
RISK = 0.6  # the chance of running out of memory above which a trial is refused
CAUTION = 0.6  # what is left of that risk for each of the RECENT launches that failed
RECENT = 30
LEARNING = 10  # launches at first whose failures make nobody cautious
BLURS = (0.06, 0.15)  # how far from the threshold, relative, trials may lie on its wrong side
ODD = 0.02  # the share of trials that may lie there however far
LIMIT_SCATTER = 0.15  # how far from the limit, relative, the threshold of a line through measured peaks may lie
THRESHOLDS = 120  # tried between the scores
# What a parameter takes to what an activation takes: weight, gradient and the optimizer's two to output and gradient.
# Where no peaks are measured other ratios are tried too, far enough for multiply-adds in place of activations.
USUAL_RATIO = 2.0
USUAL_DECADES = 1.0
RATIO_DECADES = np.linspace(-4, 4, 33)
RATIOS = np.stack([np.zeros(33), USUAL_RATIO * 10.0**RATIO_DECADES, np.ones(33)], axis=1)

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Demand:
    """A trial's size and where it is to run: `activations` are one batch's, `limit` is the memory there in MB.

    `device` names the kind of device, since a trial takes more on one than on another.
    """

    parameters: int
    activations: int
    device: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Observation:
    """A trial that was launched: whether it fitted, and its peak in MB (where killed, the last seen), if measured."""

    demand: Demand
    fitted: bool
    peak: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, to be stored with the trial."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Observation:
        """What to_json made. Raises TypeError or KeyError for anything else."""
        return cls(Demand(**stored["demand"]), stored["fitted"], stored["peak"])


@dataclass(frozen=True)
class Judgement:
    """What is expected of a trial.

    `expected` is its peak in MB, None where too little was measured. `refused` is one line that says why it is not
    to be launched, None where it may. `violation` is how far it exceeds the limit, relative and above zero; 1.0
    where that is unknown.
    """

    expected: float | None
    refused: str | None
    violation: float


def demand(
    space: Space, config: Mapping[str, Any], data: DataSpec, *, device: str = "", limit: float | None = None
) -> Demand:
    """A configuration's size, by the space's formulas; multiply-adds stand in where it has none for activations."""
    config = dict(config)
    formula = space.multiply_adds if space.activations is None else space.activations
    activations = formula(config, data) * space.recipe(config).batch_size
    return Demand(space.params(config, data), activations, device, limit)


def verdict(observations: Sequence[Observation], candidate: Demand) -> str | None:
    """Why a trial is not to be launched, in one line for people; None where it may."""
    return judge(observations, candidate).refused


def judge(observations: Sequence[Observation], candidate: Demand) -> Judgement:
    """Whether a trial will fit, told from those on the same kind of device, given in the order of their launch.

    One no larger than a trial that fitted is not refused, one no smaller than a trial that did not is. Where
    neither holds, or trials contradict each other, the chance decides that its score lies above the threshold
    between what fitted and what did not. Before anything failed, a trial is refused where what was measured leaves no doubt that it exceeds the
    limit.
    """
    seen = [o for o in observations if o.demand.device == candidate.device]
    fitted, failed = [o for o in seen if o.fitted], [o for o in seen if not o.fitted]
    line = _line(fitted, failed)
    expected = None if line is None else float(line @ _row(candidate))
    enough = any(_takes_more(o.demand, candidate) for o in fitted)
    below = [o for o in failed if _takes_more(candidate, o.demand)]
    # A failure below something that fitted was bad luck or is at the very edge: alone it closes nothing.
    too_much = any(not any(_takes_more(f.demand, o.demand) for f in fitted) for o in below)
    if too_much or (enough and not below):
        refused = too_much
    elif fitted and failed:
        refused = _chance(fitted, failed, candidate, line) > _risk(seen)
    else:
        refused = line is not None and _no_doubt(fitted, candidate, line)
    over = None if expected is None or candidate.limit is None else expected / candidate.limit - 1
    violation = 1.0 if over is None else max(over, 0.01)
    return Judgement(expected, _reason(seen, candidate, expected) if refused else None, violation)


def _risk(seen: Sequence[Observation]) -> float:
    """The chance of running out of memory that is taken: the less, the more of the last launches did.

    A sampler drawn to large networks proposes mostly what just fits or just does not.
    """
    return RISK * CAUTION ** sum(not o.fitted for o in seen[LEARNING:][-RECENT:])


def _reason(seen: Sequence[Observation], candidate: Demand, expected: float | None) -> str:
    learned = f"(learned from {len(seen)} trial{'s' if len(seen) > 1 else ''})"
    limit, failed = candidate.limit, sum(not o.fitted for o in seen)
    if expected is not None and limit is not None:
        close = "" if expected > limit else "which is too close: "
        return f"about {expected:,.0f} MB expected, {close}{limit:,.0f} MB are there {learned}"
    times = "once" if failed == 1 else f"{failed} times"
    size = "of the size" if expected is None else f"about {expected:,.0f} MB expected, the size"
    return f"{size} at which memory ran out {times} {learned}"


def _takes_more(one: Demand, other: Demand) -> bool:
    """Whether `one` is at least as large as `other` and has no more memory; an unknown limit is that of the device."""
    scarcer = one.limit is None or other.limit is None or one.limit <= other.limit
    return scarcer and one.parameters >= other.parameters and one.activations >= other.activations


def _row(demand: Demand) -> Rows:
    """What a peak is a weighted sum of; in millions, which keeps the numbers of one order."""
    return np.array([1.0, demand.parameters / 1e6, demand.activations / 1e6])


def _rows(observations: Sequence[Observation]) -> Rows:
    return np.array([_row(o.demand) for o in observations])


def _line(fitted: Sequence[Observation], failed: Sequence[Observation]) -> Rows | None:
    """MB at rest, per million parameters, per million activations; None where too few peaks are known.

    Fitted to the peaks in relative error, none below zero. A trial that failed says only that it takes more than
    was there, so it counts where the line says less.
    """
    from scipy.optimize import nnls

    measured = [o for o in fitted if o.peak]
    if len(measured) < LEAST_PEAKS:
        return None
    bounded = [(o, bound) for o in failed if (bound := max(o.peak or 0.0, o.demand.limit or 0.0))]
    rows = _rows([*measured, *(o for o, _ in bounded)])
    targets = np.array([*(o.peak for o in measured), *(bound for _, bound in bounded)], dtype=float)
    rows /= targets[:, None]
    measurements = np.arange(len(targets)) < len(measured)
    counts = measurements
    for _ in range(20):  # it settles after two or three
        line: Rows = nnls(rows[counts], np.ones(counts.sum()))[0]
        now = measurements | (rows @ line < 1)
        if (now == counts).all():
            break
        counts = now
    return line


def _chance(
    fitted: Sequence[Observation], failed: Sequence[Observation], candidate: Demand, line: Rows | None
) -> float:
    """The chance that a trial runs out of memory, over all thresholds by how well they part what fitted from the rest.

    A trial's score is what the line says it takes, relative to its limit where all limits are known. Without a line
    it is parameters times a ratio plus activations, over all ratios. Trials near the threshold fall on both sides of
    it, and a few anywhere, so that one odd trial does not close the space.
    """
    from scipy.special import ndtr

    demands = [*(o.demand for o in fitted), *(o.demand for o in failed), candidate]
    limits = np.array([math.nan if d.limit is None else d.limit for d in demands])
    rows = np.array([_row(d) for d in demands])
    rows = rows if np.isnan(limits).any() else rows / limits[:, None]
    lines = RATIOS if line is None else line[None]
    scores = np.log(lines @ rows.T + 1e-12)
    seen, asked = scores[:, None, :-1], scores[:, None, -1]
    low, high = seen.min(axis=2) - 1, seen.max(axis=2) + 1
    thresholds = low + (high - low) * np.linspace(0, 1, THRESHOLDS)
    prior = -0.5 * (RATIO_DECADES / USUAL_DECADES)[:, None] ** 2 if line is None else np.zeros((1, 1))
    if line is not None and not np.isnan(limits).any():
        prior = prior - 0.5 * (thresholds / LIMIT_SCATTER) ** 2
    side = np.where(np.arange(len(fitted) + len(failed)) < len(fitted), 1.0, -1.0)
    weights, chances = [], []
    for blur in BLURS:
        right = ndtr((thresholds[:, :, None] - seen) / blur * side)
        weights.append(prior + np.log(ODD + (1 - 2 * ODD) * right).sum(axis=2))
        chances.append(ndtr((asked - thresholds) / blur))
    weight = np.exp(np.array(weights) - np.max(weights))
    return float((weight * np.array(chances)).sum() / weight.sum())


def _no_doubt(fitted: Sequence[Observation], candidate: Demand, line: Rows) -> bool:
    """Whether even the lowest line through the measured peaks, within their scatter, lies above the limit."""
    from scipy.optimize import linprog

    if candidate.limit is None or line @ _row(candidate) <= candidate.limit:
        return False
    measured = [o for o in fitted if o.peak]
    rows = _rows(measured) / np.array([o.peak for o in measured], dtype=float)[:, None]
    scatter = max(SCATTER, 1.5 * float(np.abs(rows @ line - 1).max()))
    around = np.concatenate([np.full(len(rows), 1 + scatter), np.full(len(rows), scatter - 1)])
    lowest = linprog(_row(candidate), A_ub=np.concatenate([rows, -rows]), b_ub=around, method="highs")
    return bool(lowest.success and lowest.fun > candidate.limit)
