"""A space that was edited between runs: its study goes on as a new version, whole or not at all.

First the new version is written down whole, in version-N.json; from then on it is so, and any command that opens the
study finishes what is left to do: a new Optuna study takes the old one's name in one step, then the trials' records and
study.json follow. The trials keep their numbers, folders and runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search import carried, lease, store, versions, weights
from search.engines import menu, rows
from search.engines import optuna as engine
from search.errors import InputError
from search.fits import reasons
from search.fitting import check_narrowings, choose_baselines
from search.mirror import MIRRORED, REASON
from search.plan import Plan, check_data, check_identity, noted_data
from search.reader import Reader
from search.settings import Settings
from search.trial import checkpoints
from search.versions import ASSUMED, LEFT_SPACE, VERSIONS
from spaces import Space
from spaces._hp import show

Say = Callable[[str], None]


def renew(plan: Plan, space: Space, settings: Settings, say: Say) -> Plan:
    """The plan as the study can go on with it; where its space was edited the study is made a new version first.

    Needs the study's folder to be owned. Raises InputError where the study cannot go on with such a space, StudyBusy
    where it runs elsewhere.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    opened = engine.storage(settings.storage)
    if cut_off := finish(plan.study, settings, opened, say):
        say(f"study {plan.study} was cut off while it became version {cut_off}; finished")
    study = _open(plan.study, opened)
    if study is None:
        return plan
    attributes = study.user_attrs
    before, now = versions.noted(attributes)[-1], versions.snapshot(space)
    _check_objective(plan, space, study, before)
    change = versions.differences(before["space"], now)
    if not change and before["version"] == 1:
        return plan
    baselines, left_out = choose_baselines(space, plan.narrowings, plan.epochs, plan.max_params)
    renewed = replace(plan, baselines=baselines, left_out=left_out)
    if not change:  # it may have been made while this plan was read
        return renewed
    if plan.repeats:  # of configurations as they were
        raise InputError(
            f"the space {space.name} ({space.path}) has changed since study {plan.study!r} began, which repeats "
            f"trials: {'; '.join(change)}; put it back as it was, or repeat again (--name NAME)"
        )
    check_identity(plan, attributes["plan"])
    check_data(plan.study, space, noted_data(attributes))
    _check_narrowed(plan, space, change)
    _check_sampler(plan, change)
    with lease.leased(study, say):
        new = carried.Change(study, renewed, space, before, change).settled(now)
        store.write_json(_file(settings.study_folder(plan.study), new["version"]), new)
    finish(plan.study, settings, opened, say)
    say(_words(plan.study, space, new))
    return renewed


def finish(name: str, settings: Settings, opened: BaseStorage, say: Say) -> int:
    """Finish a new version that was written down and cut off, however far it came; done again it changes nothing.

    Gives the version that was finished, 0 where there was nothing to do. `opened` is the study store. Needs the study's
    folder to be owned; raises StudyBusy where it runs elsewhere.
    """
    folder = settings.study_folder(name)
    new, study = _newest(folder), _open(name, opened)
    number = new["version"] if new else 0
    written = store.read_json(folder / "study.json") or {}
    if new is not None and study is not None and versions.current(study.user_attrs) < number:
        with lease.leased(study, say):
            versions.check_newest(study, name)
            sweep(name, opened)
            _replace(study, new)
        study = _open(name, opened)
    if study is not None and _asides(name, opened):
        with lease.leased(study, say):  # another machine's draft is not ours to remove
            sweep(name, opened)
    if new is None:
        return 0
    if versions.current(written.get("attributes") or {}) >= number or not (study or written):
        return 0
    for trial, said in new["trials"].items():
        _follow(store.trial_folder(folder, int(trial)), said)
    if study is None:  # gone from the store; what it was is made again from here
        attributes = (written.get("attributes") or {}) | {VERSIONS: new["versions"], "plan": new["plan"]}
        said = {"attributes": attributes}
    else:
        directions = [direction.name.lower() for direction in study.directions]
        said = {"study": name, "directions": directions, "attributes": versions.recorded(study.user_attrs)}
    store.write_json(folder / "study.json", written | said)
    return int(number)


def _file(folder: Path, version: int) -> Path:
    return folder / f"version-{version}.json"


def _newest(folder: Path) -> dict[str, Any] | None:
    """The newest version that was written down whole."""
    found = [store.read_json(path) for path in folder.glob("version-*.json")]
    return max((each for each in found if each), key=lambda each: each["version"], default=None)


def _open(name: str, opened: BaseStorage) -> optuna.Study | None:
    """The study as the store has it now; None where it is not there or was cut off while it was made."""
    if name not in {s.study_name for s in engine.studies(opened)}:
        return None
    pruner = optuna.pruners.NopPruner()
    study = engine.open_study(opened, name, direction="maximize", pruner=pruner, create=False)
    return study if "plan" in study.user_attrs else None


# ---- what the new version is


def _check_objective(plan: Plan, space: Space, study: optuna.Study, before: Mapping[str, Any]) -> None:
    """That the space's own objective is the one it was; others are the plan's."""
    if plan.objectives:
        return
    was, direction = before.get("metric", space.metric), study.directions[0].name.lower()
    if (was, direction) != (space.metric, space.direction):
        raise InputError(
            f"study {plan.study!r} was searched to {direction} {was}; its space now says to {space.direction} "
            f"{space.metric}: put it back, or start a new study (--study NAME)"
        )


def _check_sampler(plan: Plan, change: list[str]) -> None:
    """One that goes on with trials by what it was told in a space can do so in that space alone."""
    chosen = menu.read("sampler", plan.sampler)
    if menu.member("sampler", chosen.name).whole:
        raise InputError(
            f"the space has changed ({'; '.join(change)}), and sampler {plan.sampler} goes on in the one that it began "
            f"with alone: put it back, or start a new study that learns from this one (--warm-start {plan.study})"
        )


def _check_narrowed(plan: Plan, space: Space, change: list[str]) -> None:
    read = Reader()
    check_narrowings(space, plan.narrowings, read)
    if read.problems:
        raise InputError(
            [f"the space {space.name} has changed ({'; '.join(change)}) and no longer allows what study {plan.study!r} "
             f"is narrowed to: {problem}; put it back, or start a new study" for problem in read.problems]
        )  # fmt: skip


def _words(name: str, space: Space, new: Mapping[str, Any]) -> str:
    """The line that says what changed and what goes on."""
    fits = sum(said.get("counts", False) for said in new["trials"].values())
    behind = Counter(said["left"]["why"] for said in new["trials"].values() if "left" in said)
    stay = f", {sum(behind.values())} stay behind ({reasons(behind)})" if behind else ""
    told = [said[ASSUMED] for said in new["trials"].values() if said.get("counts")]
    assumed = Counter(f"{name} is taken to have been {show(value)}" for each in told for name, value in each.items())
    total = fits + sum(behind.values())
    stay += f"; {reasons(assumed)}" if assumed else ""
    return (
        f"the space {space.name} has changed: {'; '.join(new['versions'][-1]['change'])}; study {name} goes on as "
        f"version {new['version']}" + (f": {fits} of {total} trials fit and stay its own{stay}" if total else "")
    )


# ---- the study store


def sweep(name: str, opened: BaseStorage) -> None:
    """Remove drafts that a kill left, and the study that a newer version has replaced."""
    for study_id in _asides(name, opened):
        opened.delete_study(study_id)


def _asides(name: str, opened: BaseStorage) -> list[int]:
    return [s._study_id for s in opened.get_all_studies() if s.study_name.startswith(f"{name}{engine.ASIDE}")]


def _replace(study: optuna.Study, new: Mapping[str, Any]) -> None:
    """Draw up the new version beside the old one, then let it take the old one's name in one step."""
    name, attributes = study.study_name, study.user_attrs
    draft = optuna.create_study(
        study_name=f"{name}{engine.ASIDE}{new['version']}",
        storage=engine.database(study, "it cannot go on as a new version"),
        directions=study.directions,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    shelved = attributes.get(weights.ATTRIBUTE, {})
    for trial in study.get_trials(deepcopy=False):
        draft.add_trial(carried.row(trial, new["trials"].get(str(trial.number), {}), shelved.get(str(trial.number))))
    kept = {n: entry for n, entry in shelved.items() if "left" not in new["trials"].get(n, {})}
    for trial in study.get_trials(deepcopy=False):  # one that comes back brings its weights
        noted = trial.user_attrs.get(versions.WAS, {}).get("weights")
        if noted and "fits" in new["trials"].get(str(trial.number), {}):
            kept[str(trial.number)] = noted
    moved = {VERSIONS: new["versions"], "plan": new["plan"], weights.ATTRIBUTE: kept, MIRRORED: []}
    for key, value in (attributes | moved).items():
        if key != lease.ATTRIBUTE:
            draft.set_user_attr(key, value)
    for key, value in study._storage.get_study_system_attrs(study._study_id).items():
        draft._storage.set_study_system_attr(draft._study_id, key, value)
    rows.take_over(study, draft, f"{name}{engine.ASIDE}old")


# ---- the folders


def _follow(folder: Path, said: Mapping[str, Any]) -> None:
    """Bring a trial's record to the new version; one that is gone or damaged is the reconciler's."""
    record = store.read_json(folder / "trial.json")
    if "fits" in said and record is not None and isinstance(record.get("attributes"), dict):
        now = carried.renewed(record["attributes"], said["fits"])
        store.write_json(folder / "trial.json", {**record, **said["fits"], "attributes": now})
    elif "left" in said and "ended" in said["left"] and folder.is_dir():
        if not any(event["event"] == "finished" for event in store.events(folder)):
            count = len(store.attempts(folder))
            end = {"state": "PRUNED", "attributes": {REASON: LEFT_SPACE, "attempts": count}, "constraints": None}
            store.append(folder, {"event": "finished", "time": said["left"]["ended"], **end})
        checkpoints.remove(folder)
