"""Which trials' weights are kept, remembered with the study (Optuna lets nobody write to a finished trial)."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

ATTRIBUTE = "weights"


@dataclass(frozen=True)
class Kept:
    """A trial whose weights MLflow keeps as logged model `model_id`; `value` is its best objective value."""

    number: int
    value: float
    model_id: str


def kept(study: optuna.Study) -> list[Kept]:
    """Every trial whose weights are kept, the best first, the earlier of equals first."""
    found = [Kept(int(number), *entry) for number, entry in study.user_attrs.get(ATTRIBUTE, {}).items()]
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(found, key=lambda k: (sign * k.value, k.number))


def model_id(study: optuna.Study, number: int) -> str | None:
    """The logged model of a trial, where its weights are kept."""
    return next((k.model_id for k in kept(study) if k.number == number), None)


def remember(study: optuna.Study, new: Kept) -> None:
    """Note that a trial's weights are kept."""
    study.set_user_attr(ATTRIBUTE, study.user_attrs.get(ATTRIBUTE, {}) | {str(new.number): [new.value, new.model_id]})


def forget(study: optuna.Study, number: int) -> None:
    """Note that a trial's weights are kept no longer."""
    left = {n: entry for n, entry in study.user_attrs.get(ATTRIBUTE, {}).items() if int(n) != number}
    study.set_user_attr(ATTRIBUTE, left)
