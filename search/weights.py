"""The weights of a study's best trials: uploaded while they are among the best, removed when they fall.

Which are kept is remembered with the study: Optuna lets nobody write to a finished trial.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import optuna
from optuna.trial import FrozenTrial

from search import store
from search.ranking import Point, places, point, signs
from search.trial import checkpoints
from search.trial.schedule import best_epoch
from spaces import Space
from tracking.runs import Run, Tracker

ATTRIBUTE, NOTE = "weights", "weights.json"
UNKEPT = "unkept"  # of a trial: why its model, of which the figures are right, cannot be served


@dataclass(frozen=True)
class Kept:
    """A trial whose weights MLflow keeps as logged model `model_id`; `value` is its best of the first objective."""

    number: int
    value: float
    model_id: str


def kept(study: optuna.Study) -> list[Kept]:
    """Every trial whose weights are kept, the best first, the earlier of equals first."""
    found = [Kept(int(number), *entry) for number, entry in study.user_attrs.get(ATTRIBUTE, {}).items()]
    order = standing(study, {k.number: k.value for k in found})
    return sorted(found, key=lambda k: (order[k.number], k.number))


def standing(
    study: optuna.Study, values: Mapping[int, float], new: Point | None = None
) -> dict[int, tuple[int, float]]:
    """What to sort trials of a study by, the best first: those of `values`, by number, with their first value.

    What else the study has is known from it, but for a `new` trial that is not told yet.
    """
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    points = {n: p for n, t in trials.items() if (p := point(t, study))} | ({new.number: new} if new else {})
    if len(study.directions) == 1:  # as it was when it was kept
        points |= {n: Point(n, (v,), points[n].within if n in points else True) for n, v in values.items()}
    lost = {n: (3, 0.0) for n in values if n not in points}
    return places(list(points.values()), signs(study)) | lost


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


def note(study_folder: Path, new: Kept) -> None:
    """Write down beside the trial's record what `remember` notes in the store, which may get lost."""
    said = {"value": new.value, "model_id": new.model_id}
    store.write_json(store.trial_folder(study_folder, new.number) / NOTE, said)


def noted(study_folder: Path) -> list[Kept]:
    """What `note` wrote down."""
    found = ((n, store.read_json(folder / NOTE) or {}) for n, folder in store.trial_folders(study_folder).items())
    return [Kept(n, float(s["value"]), str(s["model_id"])) for n, s in found if {"value", "model_id"} <= set(s)]


def unnote(study_folder: Path, number: int) -> None:
    """Take a note back."""
    (store.trial_folder(study_folder, number) / NOTE).unlink(missing_ok=True)


class Shelf:
    """Room for the weights of the `keep` best trials of a study; None keeps all."""

    def __init__(self, study: optuna.Study, folder: Path, space: Space, tracker: Tracker, keep: int | None) -> None:
        self.study, self.folder, self.space, self.tracker, self.keep = study, folder, space, tracker, keep
        self._uploaded: SimpleQueue[Kept] = SimpleQueue()
        self._removing: set[int] = set()
        self._removed: SimpleQueue[int] = SimpleQueue()

    def has_room(self, new: Point | None) -> bool:
        """Whether a trial that stands so, and whose weights are not kept, is among the best."""
        if new is None or self.keep is None:
            return new is not None
        there = {k.number: k.value for k in kept(self.study)}
        order = standing(self.study, there, new)
        return sum(order[number] <= order[new.number] for number in there) < self.keep

    def offer(self, run: Run, frozen: FrozenTrial, *, again: bool = False) -> bool:
        """Upload the model folder that a finished trial left, where it is among the best; else remove it.

        `again` says that an earlier process may have uploaded it, and was killed before it had noted that.
        """
        folder = store.trial_folder(self.folder, frozen.number)
        mine = point(frozen, self.study)
        history = [event["metrics"] for event in store.epochs(folder)]
        checkpoints.remove(folder)
        known = any(k.number == frozen.number for k in kept(self.study))
        if known or mine is None or not history or not self.has_room(mine):
            if again and not known:
                self.tracker.discard_models(run)
            store.remove_model(folder)
            return False
        if not (folder / "model" / "MLmodel").is_file():
            store.remove_model(folder)
            return False
        best = best_epoch(history, self.space.metric, self.space.direction)
        number, value = frozen.number, mine.values[0]
        self.tracker.upload_model(
            run,
            folder / "model",
            name="model",
            step=best,
            metrics={k: v for k, v in history[best].items() if not k.startswith("system/")},
            params={k: str(v) for k, v in frozen.user_attrs["config"].items()},
            on_done=lambda model_id: self._uploaded.put(Kept(number, value, model_id)),
        )
        return True

    def settle(self) -> None:
        """Remember what was uploaded, and remove the weights of trials that are no longer among the best."""
        if self._uploaded.empty() and self._removed.empty():  # looked at four times a second; the store must not be
            return
        with contextlib.suppress(Empty):
            while True:
                new = self._uploaded.get_nowait()
                note(self.folder, new)
                remember(self.study, new)
                # Only now: until then the folder is all that says there are weights.
                store.remove_model(store.trial_folder(self.folder, new.number))
        with contextlib.suppress(Empty):
            while True:
                number = self._removed.get_nowait()
                forget(self.study, number)
                unnote(self.folder, number)
                self._removing.discard(number)
        self.drop_fallen()

    def drop_fallen(self) -> None:
        """Remove the weights of trials that are not among the best; they are noted until they are gone."""
        fallen = [] if self.keep is None else kept(self.study)[self.keep :]
        for each in fallen:
            if each.number not in self._removing:
                self._removing.add(each.number)
                self.tracker.delete_model(each.model_id, lambda n=each.number: self._removed.put(n))  # type: ignore[misc]
