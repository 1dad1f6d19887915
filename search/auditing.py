"""How often stopping a trial early was wrong: some that were stopped have trained on to their end, to see."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from search import ranking
from search.engines import optuna as engine
from search.statistics import Interval, share_interval


@dataclass(frozen=True)
class Audit:
    """What an audit of a study's stopped trials found.

    `audited` of the `stopped` trials went on to their end; `wrong` of them came out better than `best`, the best of
    those that nobody stopped, one of them by as much as `missed`. `interval` is that of the share of wrong ones.
    """

    stopped: int
    audited: int
    wrong: int
    share: float
    interval: Interval
    best: float
    missed: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = (f"{100 * end:.0f}" for end in self.interval)
        missed = f"; the best of them was better by {self.missed:.4f}" if self.wrong else ""
        return (
            f"of {self.stopped} stopped trials {self.audited} went on to be audited: stopping was wrong for "
            f"{self.wrong} ({100 * self.share:.0f} %, 95 % interval {low} to {high} %), those that became better than "
            f"{self.best:.4f}, the best of those that nobody stopped{missed}"
        )


def audit(study: optuna.Study) -> Audit | None:
    """What the audit of a study found; None where nothing was audited, or nobody got to the end without it."""
    trials = engine.counted(study.get_trials(deepcopy=False))
    sign = ranking.signs(study)[0]
    if len(study.directions) > 1:
        return None
    ended = [t for t in trials if t.state.is_finished() and t.user_attrs.get(engine.AUDITED) is not None]
    good = [t for t in trials if t.state == TrialState.COMPLETE and ranking.within(t)]
    plain = [t for t in good if t.user_attrs.get(engine.AUDITED) is None]
    if not ended or not plain:
        return None
    best = max(sign * (t.value or 0.0) for t in plain)
    gains = [sign * (t.value or 0.0) - best for t in ended if t in good]
    wrong = [gain for gain in gains if gain > 0]
    pruned = sum(t.state == TrialState.PRUNED and t.user_attrs.get("reason") == "pruned" for t in trials)
    return Audit(
        stopped=pruned + len(ended),
        audited=len(ended),
        wrong=len(wrong),
        share=len(wrong) / len(ended),
        interval=share_interval(len(wrong), len(ended)),
        best=sign * best,
        missed=max(wrong, default=0.0),
    )
