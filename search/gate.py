"""The rules by which a model becomes champion; what they need is measured elsewhere.

1. Which trial is promoted is settled by training and validation data alone, and noted before the test split opens.
2. Where there is no champion, the candidate must be better than always naming the test split's most frequent class and,
   unless it is that baseline itself, better than the study's baseline.
3. Where there is one, the candidate must be better than it.
4. Figures on different data are not compared: the candidate is refused.

"Better" is on the same images: a gain in accuracy of at least `least_gain`, and McNemar's exact test, one-sided, at
`level`. With equal models at most that share of promotions passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.statistics import Paired, paired

Right = npt.NDArray[np.bool_]  # (n,): which test images a model names rightly

FIRST, CHALLENGE = "first", "challenge"
LEAST_P = 1e-300  # that is written out; a smaller one may have been rounded to nothing


@dataclass(frozen=True)
class Rules:
    """`level` bounds the chance that an equal model passes, `least_gain` is in accuracy (0.001: a tenth of a point)."""

    level: float = 0.05
    least_gain: float = 0.001


@dataclass(frozen=True)
class Comparison:
    """The candidate against one other, by its name in words, and whether it is better."""

    against: str
    accuracy: float
    other_accuracy: float
    paired: Paired
    better: bool

    def __str__(self) -> str:
        """One line with every figure."""
        low, high = self.paired.gain_interval
        return (
            f"{'better' if self.better else 'not better'} than {self.against}: {self.accuracy:.4f} against "
            f"{self.other_accuracy:.4f}, gain {self.paired.gain:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), "
            f"only the one right on {self.paired.only_first} images, only the other on {self.paired.only_second}, "
            + (f"p = {self.paired.p:.3g}" if self.paired.p >= LEAST_P else f"p < {LEAST_P:g}")
        )


@dataclass(frozen=True)
class Decision:
    """Whether the candidate may become champion, why, what was needed, and the comparisons it rests on."""

    passed: bool
    kind: str
    reason: str
    needed: str
    comparisons: tuple[Comparison, ...]


def compare(candidate: Right, other: Right, against: str, rules: Rules) -> Comparison:
    """Whether the candidate is better than the other on the same images."""
    found = paired(candidate, other)
    better = found.gain >= rules.least_gain and found.p <= rules.level
    return Comparison(against, float(candidate.mean()), float(other.mean()), found, better)


def first(
    candidate: Right, labels: npt.NDArray[np.uint8], baseline: tuple[str, Right] | None, rules: Rules
) -> Decision:
    """The gate where there is no champion; `baseline` is a name and what it gets right, None where it does not bind."""
    majority = int(np.bincount(labels).argmax())
    comparisons = [compare(candidate, labels == majority, "always naming the most frequent class", rules)]
    if baseline is not None:
        comparisons.append(compare(candidate, baseline[1], baseline[0], rules))
    return _decide(FIRST, comparisons, rules)


def challenge(candidate: Right, champion: Right, name: str, rules: Rules) -> Decision:
    """The gate where there is a champion, called `name` in words."""
    return _decide(CHALLENGE, [compare(candidate, champion, name, rules)], rules)


def _decide(kind: str, comparisons: list[Comparison], rules: Rules) -> Decision:
    failed = [c for c in comparisons if not c.better]
    needed = f"a gain of {rules.least_gain:g} and p of at most {rules.level:g} are needed"
    reason = f"{failed[0]}; {needed}" if failed else "; ".join(map(str, comparisons))
    return Decision(not failed, kind, reason, needed, tuple(comparisons))
