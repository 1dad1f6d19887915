"""Which trial a promotion is about: settled by validation alone, and said in words before the test split opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search import links, ranking, shown, versions, weights
from search.errors import InputError
from search.repeats import REPEAT_OF, REPEAT_TRIAL


@dataclass(frozen=True)
class Candidate:
    """A complete trial whose weights are kept, and why it was chosen."""

    study: optuna.Study
    trial: FrozenTrial
    model_id: str
    run_id: str
    why: str

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes in the study store."""
        return self.trial.user_attrs

    @property
    def value(self) -> float:
        """Its metric on validation data, at its best epoch."""
        metric = shown.goals_of(self.study).metric
        return float(ranking.figures_of(self.trial).get(metric, self.trial.values[0]))

    def __str__(self) -> str:
        return f"trial {self.trial.number} of {self.study.study_name}"


def choose(study: optuna.Study, number: int | None) -> Candidate:
    """The best trial, or trial `number`; of repeats the best kept one of the configuration with the best mean.

    Of several objectives the best is the trial on the front that is best in the first one. One that is over a limit is
    chosen by its number alone. Raises InputError where there is no complete trial or its weights were not kept.
    """
    leading, complete = ranking.ranked(study), ranking.complete(study)
    name, goals = study.study_name, shown.goals_of(study)
    if number is not None:
        found = [t for t in complete if t.number == number]
        if not found:
            numbers = ", ".join(str(t.number) for t in complete) or "none"
            behind = {t.number: of for t, of, _ in versions.left(study.get_trials(deepcopy=False))}
            if number in behind:
                raise InputError(
                    f"--trial {number}: it belongs to version {behind[number]} of the space of {name!r}; put the space "
                    f"back as it was and resume the study to have it again; complete: {numbers}"
                )
            raise InputError(f"--trial {number}: not a complete trial of {name!r}; complete: {numbers}")
        over = goals.over(ranking.figures_of(found[0]))
        return _candidate(study, found[0], f"named by --trial; {over}" if over else "named by --trial")
    if not leading:
        numbers = ", ".join(str(t.number) for t in complete)
        promote = f"; or promote one all the same: promote {name} --trial N, of {numbers}" if complete else ""
        raise InputError(shown.none_within(name, complete, goals) + promote)
    if study.user_attrs["plan"].get("merged"):
        return _of_all_data(study, leading)
    if REPEAT_OF not in leading[0].user_attrs:
        first, front = goals.objectives[0].name, len(ranking.front(study))
        what = f"the best by {first} of the {front} on the front of {len(leading)} complete trials (--trial N: another)"
        return _candidate(
            study, leading[0], what if goals.several else f"the best of {len(leading)} complete trials by {first}"
        )
    return _repeated(study, leading, goals.objectives[0].name)


def baseline(study: optuna.Study, name: str) -> FrozenTrial | None:
    """The complete trial of a baseline; None where the study has none."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return next((t for t in done if t.user_attrs.get("baseline") == name), None)


def _repeated(study: optuna.Study, leading: list[FrozenTrial], metric: str) -> Candidate:
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in leading:  # best first
        groups.setdefault(trial.user_attrs["config.hash"], []).append(trial)
    sign = ranking.signs(study)[0]
    best = max(groups.values(), key=lambda group: sign * float(np.mean([t.values[0] for t in group])))
    mean = float(np.mean([t.values[0] for t in best]))
    kept = [t for t in best if weights.model_id(study, t.number)] or best
    why = (
        f"of the configuration with the best mean {metric} ({mean:.4f} over {len(best)} repeats) the repeat with the "
        "best validation value"
    )
    return _candidate(study, kept[0], why)


def _of_all_data(study: optuna.Study, leading: list[FrozenTrial]) -> Candidate:
    """There is no validation figure to choose by: the first seed of what was best before."""
    first = study.user_attrs["plan"]["repeats"][0]["trial"]
    mine = [t for t in leading if t.user_attrs[REPEAT_TRIAL] == first] or leading
    chosen = min(mine, key=lambda t: t.number)
    return _candidate(
        study, chosen, f"the first seed of trial {first}'s configuration, on training and validation data"
    )


def _candidate(study: optuna.Study, trial: FrozenTrial, why: str) -> Candidate:
    model_id = weights.model_id(study, trial.number)
    if not model_id and trial.user_attrs.get(weights.UNKEPT):
        raise InputError(
            f"trial {trial.number} of {study.study_name!r}: its model was not kept: {trial.user_attrs[weights.UNKEPT]}"
        )
    if not model_id:
        keep = study.user_attrs["plan"]["keep"]
        raise InputError(
            f"trial {trial.number} of {study.study_name!r}: its weights were not kept (--keep {keep}); promote one of "
            "the best, or search again with --keep all"
        )
    return Candidate(study, trial, model_id, links.run_id(study, trial), why)
