"""The versions of a study whose space was edited between runs, and the trials that a newer version left behind.

In the study store a study is always its newest version: one Optuna study, in which each trial of an earlier version
that still fits stands under its own number. A trial that does not fit any more is a placeholder there, which keeps its
number and, in `WAS`, the whole trial as it was. `search.renewal` makes a new version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.engines import keras_tuner
from search.engines import optuna as engine
from search.errors import StudyBusy
from search.links import RUN_ID
from search.plan import DECLARED
from spaces import Space, declared

VERSIONS = "versions"  # of a study: one entry a version, the oldest first
LEFT = "search.left"  # of a placeholder: the version the trial belongs to, and why it does not fit the next
WAS = "search.was"  # and the trial itself
LEFT_SPACE = "left the space"  # the reason of a trial that was unfinished then
ASSUMED, ASIDE = "assumed", "aside"  # of a trial: hyperparameters at defaults, and those no longer drawn
BEGAN_AS = "began.hash"  # of an unfinished trial: the hash of its configuration when it began
RECORD = ("id", "plan", "plan.first", VERSIONS, "warm")  # attributes of a study that study.json has too
OWN = (engine.POSITION, engine.NOTED, keras_tuner.ASKED)  # of a trial: what its sampler goes on from, in its space
OUTSIDE = (RUN_ID, "memory")  # attributes that a placeholder shows, since others look for them


def first(space: Space) -> list[dict[str, Any]]:
    """The versions of a new study."""
    return [{"version": 1, "space": snapshot(space), "metric": space.metric}]


def told(attributes: Mapping[str, Any]) -> str:
    """A study's versions as a JSON text for people and programs."""
    return json.dumps(noted(attributes), indent=2) + "\n"


def recorded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What of a study's attributes its study.json holds."""
    return {name: attributes[name] for name in RECORD if name in attributes}


def snapshot(space: Space) -> dict[str, Any]:
    """All hyperparameters that a space declares, as JSON."""
    found = {name: asdict(parameter) | {"said": parameter.describe()} for name, parameter in declared(space).items()}
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as it will be read
    return plain


def noted(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A study's versions from its attributes; of a study of an older program only what its hyperparameters were."""
    found: list[dict[str, Any]] | None = attributes.get(VERSIONS)
    if found:
        return found
    said = (attributes.get("plan.first") or {}).get(DECLARED)
    return [{"version": 1, "space": None if said is None else {name: {"said": text} for name, text in said.items()}}]


def left_now(attributes: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """By number, the trials that the newest version left behind: the version each belongs to, and why."""
    return {int(number): said for number, said in noted(attributes)[-1].get("left", {}).items()}


def place(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """(the step at which the best of the newest version is logged at least, when that began in ms); 0 of the first."""
    entry = noted(attributes)[-1]
    if "since" not in entry:
        return 0, 0
    return int(entry["place"]), int(datetime.fromisoformat(entry["since"]).timestamp() * 1000)


def current(attributes: Mapping[str, Any]) -> int:
    """The number of a study's newest version."""
    return int(noted(attributes)[-1]["version"])


def differences(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """What two snapshots of a space differ in, a line for each hyperparameter. Defaults and conditions do not count.

    `before` is None where nobody said what there was.
    """
    if before is None:
        return []
    lines = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            is_there = f"is new: {new['said']}" if new else f"was {old['said']} and is gone"  # type: ignore[index]
            lines.append(f"{name} {is_there}")
        elif old["said"] != new["said"]:
            lines.append(f"{name} was {old['said']} and is {new['said']}")
        elif "kind" in old and (kinds := _kinds(old, new)):
            lines.append(f"{name} was {old['said']} ({kinds[0]}) and is {new['said']} ({kinds[1]})")
    return lines


def _kinds(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str] | None:
    """How two hyperparameters differ that are written alike."""
    for name in ("kind", "sampling"):
        if old[name] != new[name]:
            return str(old[name]), str(new[name])
    exact = [[repr(each[name]) for name in ("low", "high", "step")] + [repr(c) for c in each["choices"]]
             for each in (old, new)]  # fmt: skip
    return (" ".join(exact[0]), " ".join(exact[1])) if exact[0] != exact[1] else None


def defaults(before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The default of each hyperparameter of a snapshot, NaN where nobody said."""
    return {name: entry.get("default", math.nan) for name, entry in (before or {}).items()}


# ---- trials that were left behind


def placeholder(trial: FrozenTrial, why: str, version: int, weights: Sequence[Any] | None = None) -> FrozenTrial:
    """What stands in a newer version for a trial of `version` that does not fit it; `weights` are noted of it."""
    was = {
        **engine.record(trial.number, trial.params, trial.distributions, trial.user_attrs),
        "state": trial.state.name,
        "values": trial.values,
        "epochs": {str(step): value for step, value in trial.intermediate_values.items()},
        "system": dict(trial.system_attrs),
        "times": [at and at.isoformat() for at in (trial.datetime_start, trial.datetime_complete)],
        "weights": list(weights) if weights else None,
    }
    shown = {name: trial.user_attrs[name] for name in OUTSIDE if name in trial.user_attrs}
    said = {engine.REFUSED: f"left the space: {why}", LEFT: {"version": version, "why": why}, WAS: was}
    # Failed, without parameters: samplers and pruners look at neither.
    made = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=shown | said)
    made.datetime_start = trial.datetime_start
    made.datetime_complete = trial.datetime_complete or made.datetime_complete
    return made


def thawed(trial: FrozenTrial) -> FrozenTrial:
    """The trial that a placeholder stands for, under its number; any other trial is returned as it is."""
    was = trial.user_attrs.get(WAS)
    if was is None:
        return trial
    shown = {name: trial.user_attrs[name] for name in OUTSIDE if name in trial.user_attrs}
    found = engine.restored(
        was,
        state=TrialState[was["state"]],
        values=was["values"],
        intermediate_values={int(step): value for step, value in was["epochs"].items()},
        system_attrs=dict(was["system"]),
        user_attrs=shown,
    )
    found.number, found._trial_id = trial.number, trial._trial_id
    found.datetime_start, found.datetime_complete = (at and datetime.fromisoformat(at) for at in was["times"])
    return found


def values(trial: FrozenTrial) -> dict[str, Any]:
    """All that is known of a trial's hyperparameters, by the space's own names: what is no longer drawn, too."""
    drawn = {name: value for name, value in trial.params.items() if "#" not in name}
    return drawn | trial.user_attrs.get(ASIDE, {}) | trial.user_attrs["config"]


def is_left(trial: FrozenTrial) -> bool:
    """Whether a trial of the store is a placeholder for one that was left behind."""
    return WAS in trial.user_attrs


def left(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, int, str]]:
    """(each trial that was left behind, the version it belongs to, why it does not fit the newest)."""
    return [
        (thawed(t), int(t.user_attrs[LEFT]["version"]), str(t.user_attrs[LEFT]["why"])) for t in trials if is_left(t)
    ]


def refused(trials: Sequence[FrozenTrial]) -> int:
    """How many proposals were refused beforehand; what was left behind is none of them."""
    return sum(engine.REFUSED in t.user_attrs and not is_left(t) for t in trials)


def tagger(study: optuna.Study) -> Callable[[int], dict[str, str]]:
    """Gives the tags, by trial number, that say which version a trial belongs to; none where there is only one."""
    now = current(study.user_attrs)
    if now == 1:
        return lambda number: {}
    behind = {
        trial.number: {"search.version": str(version), "search.trial.left": why}
        for trial, version, why in left(study.get_trials(deepcopy=False))
    }
    returned = {int(n) for each in noted(study.user_attrs)[:-1] for n in each.get("left", {})}

    def tags(number: int) -> dict[str, str]:
        here = {"search.version": str(now)} | ({"search.trial.left": ""} if number in returned else {})
        return behind.get(number, here)

    return tags


def check_newest(study: optuna.Study, name: str) -> None:
    """Raises StudyBusy where another process made a new version of the study after this one opened it."""
    if study._storage.get_study_id_from_name(name) != study._study_id:
        raise StudyBusy(f"study {name!r} went on as another version at the same moment; type the command again")
