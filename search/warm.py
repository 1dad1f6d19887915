"""What a study learns from earlier ones (`run --warm-start STUDY`), written down before its first trial.

Results that can be compared (same images and epochs, same objective) teach the sampler as if they were its own; they
are no trials of the new study, count for nothing and get no run. A configuration that is known from there exactly is
not proposed again. Where images or epochs differ, results say which configurations are good and not how good: the best
few run first, and their values are left out. Another dataset or another objective is refused.

`warm.json` in the study's folder holds it, in the words of hyperparameters and not of Optuna, so that it outlives the
earlier studies and fits newer versions of the space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import store
from search.earlier import take
from search.engines import optuna as engine
from search.engines.known import known
from search.errors import SearchError
from search.fits import Misfit, fit
from search.plan import Plan
from search.settings import Settings
from spaces import Space, config_hash

WARM, FILE = "warm", "warm.json"  # the attribute of the study, with the file's digest, and the file
FROM = "warm.from"  # of a trial that runs first because it was good elsewhere: STUDY:NUMBER


@dataclass(frozen=True)
class Warm:
    """What a study begins with: trials of others to learn from, and (where it is from, what it is) to run first."""

    lessons: tuple[FrozenTrial, ...] = ()
    first: tuple[tuple[str, engine.Proposal], ...] = ()


NOTHING = Warm()

# ---- writing down and reading


def digest(found: Mapping[str, Any]) -> str:
    """The digest of what `take` gives."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def keep(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write down what a study learns from; gives the attribute by which the study knows it."""
    store.write_json(folder / FILE, found)
    return {"digest": digest(found), "lines": found["lines"]}


def begin(plan: Plan, space: Space, settings: Settings) -> dict[str, Any] | None:
    """Take and write down what a new study learns from; None where it is to learn from none."""
    if not plan.warm_start:
        return None
    folder = settings.study_folder(plan.study)
    before: dict[str, Any] | None = ((store.read_json(folder / "study.json") or {}).get("attributes") or {}).get(WARM)
    if before and digest(store.read_json(folder / FILE) or {}) == before["digest"]:
        return before  # the study was cut off while it was made
    return keep(folder, take(plan, space, settings))


def load(study: optuna.Study, plan: Plan, space: Space, folder: Path) -> Warm:
    """What a study begins with, in the terms of its space as it is now.

    Raises SearchError where that was written down and is gone or damaged.
    """
    noted = study.user_attrs.get(WARM)
    if not noted:
        return Warm()
    found = store.read_json(folder / FILE)
    if found is None or digest(found) != noted["digest"]:
        raise SearchError(
            f"what study {plan.study!r} learns from, {folder / FILE}, is gone or damaged; bring it back: "
            f"python -m search reconcile {plan.study}"
        )
    lessons = [_lesson(each, space, plan) for each in found["lessons"]]
    first = [(each["from"], _proposal(each, space, plan)) for each in found["first"]]
    return Warm(
        tuple(lesson for lesson in lessons if lesson is not None),
        tuple((where, proposal) for where, proposal in first if proposal is not None),
    )


def _proposal(said: Mapping[str, Any], space: Space, plan: Plan) -> engine.Proposal | None:
    """None where the space has changed since and it does not fit any more."""
    try:
        found = fit(space, said["values"] | said["aside"], plan.narrowings)
    except Misfit:
        return None
    return known(space, found.values, plan.narrowings)


def _lesson(said: Mapping[str, Any], space: Space, plan: Plan) -> FrozenTrial | None:
    proposal = _proposal(said, space, plan)
    if proposal is None:
        return None
    return optuna.trial.create_trial(
        state=TrialState[said["state"]],
        values=said["results"],
        params=proposal.params,
        distributions=proposal.distributions,
        intermediate_values={int(step): value for step, value in said["epochs"].items()},
        constraints=said["constraints"] or None,
        user_attrs={FROM: said["from"]} | ({"config.hash": config_hash(proposal.config)} if said["same"] else {}),
    )


# ---- mending


def mend(study: optuna.Study, folder: Path, text: str | None) -> str | None:
    """Bring `warm.json` back from its copy in MLflow, the text of it; gives a line where something was mended.

    Raises SearchError where both are gone.
    """
    noted = study.user_attrs.get(WARM)
    if not noted:
        return None
    found = store.read_json(folder / FILE)
    if found is not None and digest(found) == noted["digest"]:
        return None
    try:
        copy = json.loads(text or "")
    except ValueError:
        copy = None
    if isinstance(copy, dict):
        copy.pop("crc", None)
        if digest(copy) == noted["digest"]:
            store.write_json(folder / FILE, copy)
            return f"{FILE} (what it learns from) was gone or damaged; made again from MLflow"
    raise SearchError(f"{FILE}, what it learnt from ({'; '.join(noted['lines'])}), is gone from everywhere")
