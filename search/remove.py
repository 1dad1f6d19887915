"""Removes a study with all it left (`delete`), and what no study needs any more (`gc`)."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import optuna

from search import links, ranking, renewal, report, store, weights
from search.engines import optuna as engine
from search.errors import OK, InputError, StudyBusy
from search.lease import leased, owned
from search.mirror import IDENTITY
from search.settings import Settings, masked
from search.trial import checkpoints
from search.versions import is_left
from spaces import find, name_of
from spaces.errors import SpaceError
from tracking import audit, removal
from tracking.client import Connection
from tracking.runs import STUDY

DELETED = ".deleted"  # in the studies' folder: where the files of deleted ones are until they are removed


def delete(name: str, settings: Settings, *, yes: bool, as_json: bool) -> int:
    """Remove a study: its runs with their files and weights, its trials, its folder. Asks first, unless `yes`.

    A run that a registered version came from stays, which is said. Done again after a failure it goes on.
    Raises InputError for an unknown study, StudyBusy where it runs.
    """
    folder = settings.study_folder(name)
    aside = folder.parent / DELETED / name
    study = _load(name, settings)
    if study is None and not (folder / "study.json").is_file() and aside.is_dir():  # killed before it was all gone
        _remove_aside(aside)
        if as_json:
            report.emit({"study": name, "runs": 0, "kept": {}})
        else:
            print(f"{name} is deleted: the files that were left of it")
        return OK
    if study is None and not (folder / "study.json").is_file():
        raise InputError(f"no study {name!r} in {masked(settings.storage)}; list them: python -m search list")
    with contextlib.ExitStack() as held:
        held.enter_context(owned(folder, name))
        if study is not None:
            held.enter_context(leased(study, _aside))
        connection, identity = _connection(name, settings, study)
        runs = _runs(connection, identity, study) if identity else []
        if not yes:
            trials = sum(r.number is not None for r in runs)
            asked = (
                f"delete study {name}: {trials} trial runs in {masked(settings.tracking_uri)} and "
                f"{_megabytes(folder):.0f} MB in {folder}?"
            )
            try:
                agreed = click.confirm(asked, err=True)
            except click.Abort:
                if sys.stdin.isatty():  # Ctrl-C
                    raise
                click.echo(err=True)  # the question stands alone on its line
                raise InputError(f"nobody is there to answer; nothing was deleted: delete {name} --yes") from None
            if not agreed:
                raise click.Abort
        kept = _remove_runs(connection, runs)
        if study is not None:
            renewal.sweep(name, engine.database(study, "it cannot be deleted"))
            optuna.delete_study(study_name=name, storage=study._storage)
        # Last, for it is what lets a delete that failed go on; and in one step, for half of a record is a dead end.
        if aside.is_dir():
            shutil.rmtree(aside)
        aside.parent.mkdir(exist_ok=True)
        folder.replace(aside)
    _remove_aside(aside)
    if as_json:
        report.emit({"study": name, "runs": len(runs) - len(kept), "kept": kept})
        return OK
    print(f"{name} is deleted: {len(runs) - len(kept)} runs, its trials, its files")
    for run_id, versions in kept.items():
        print(f"run {run_id} stays: {', '.join(versions)} came from it")
    if not identity:
        print("its runs in MLflow stay: it was made by an earlier version, or what it was is lost")
    return OK


def _remove_aside(folder: Path) -> None:
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # another's is there
        folder.parent.rmdir()


def _runs(connection: Connection, identity: str, study: optuna.Study | None) -> list[audit.Found]:
    """The runs of a study that are not deleted: those with its tag, and those noted that lost all tags."""
    found = audit.runs(connection, identity)
    seen = {run.run_id for run in found}
    noted = [] if study is None else [str(study.user_attrs.get(links.RUN_ID, ""))]
    noted += [] if study is None else [links.run_id(study, t) for t in study.get_trials(deepcopy=False)]
    others = [audit.run(connection, run_id) for run_id in noted if run_id and run_id not in seen]
    found += [run for run in others if run is not None and STUDY not in run.tags]
    return [run for run in found if not run.deleted]


def _remove_runs(connection: Connection, runs: Sequence[audit.Found]) -> dict[str, list[str]]:
    """Children first, so that a failure in the middle leaves them under their study; returns what had to stay."""
    kept: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda r: r.number is None):
        if run.number is None and kept:
            kept[run.run_id] = ["its trials' versions"]
            continue
        versions = removal.remove_run(connection, run.run_id)
        if versions:
            kept[run.run_id] = versions
    return kept


@dataclass(frozen=True)
class Waste:
    """Something that nobody needs: what it is, in words, and how many bytes it takes on this disk."""

    what: str
    size: int


def gc(name: str | None, settings: Settings, *, keep: int | None, dry_run: bool, as_json: bool) -> int:
    """Apply retention: only the best `keep` trials (default: as the study says) keep their weights.

    Removes checkpoints and half-written files of finished trials and models that no study keeps. A registered version
    is never touched, nor what is not ours. Of all studies, those that run are passed over. Raises InputError for an
    unknown study, StudyBusy for a named one that runs.
    """
    found: list[Waste] = []
    busy: list[str] = []
    for each in [name] if name else report.names(settings):
        study = _load(each, settings)
        if study is None:
            raise InputError(f"no study {each!r} in {masked(settings.storage)}; list them: python -m search list")
        try:
            with owned(settings.study_folder(each), each), leased(study, _aside):
                found += _collect(study, settings, keep, dry_run)
        except StudyBusy as error:
            if name:
                raise
            busy.append(str(error))
    for line in busy:
        print(f"passed over: {line}", file=sys.stderr)
    if as_json:
        report.emit({"removed": [w.what for w in found], "bytes": sum(w.size for w in found), "dry_run": dry_run})
        return OK
    for waste in found:
        print(f"{'would remove' if dry_run else 'removed'}: {waste.what} ({waste.size / 1e6:.1f} MB)")
    print(f"{len(found)} things, {sum(w.size for w in found) / 1e6:.1f} MB")
    return OK


def _collect(study: optuna.Study, settings: Settings, keep: int | None, dry_run: bool) -> list[Waste]:
    folder, found = settings.study_folder(study.study_name), []
    ended = [t.number for t in engine.counted(study.get_trials(deepcopy=False)) if t.state.is_finished()]
    old = [path for number in ended for path in checkpoints.files(store.trial_folder(folder, number))]
    for path in [*old, *store.half_written(folder)]:
        found.append(Waste(f"{study.study_name}: {path.relative_to(folder)}", path.stat().st_size))
        if not dry_run:
            path.unlink(missing_ok=True)
    connection, identity = _connection(study.study_name, settings, study)
    limit = keep if keep is not None else study.user_attrs["plan"]["keep"]
    if limit is None or not identity:
        return found
    runs = _runs(connection, identity, study)
    there = audit.models(connection, [r.run_id for r in runs])
    for model in _fallen(study, runs, there, limit):
        found.append(Waste(f"{study.study_name}: weights {model.model_id} of run {model.run_id}", model.size))
        if not dry_run:
            removal.remove_model(connection, model.model_id)
            for each in weights.kept(study):
                if each.model_id == model.model_id:
                    weights.forget(study, each.number)
                    weights.unnote(folder, each.number)
    return found


def _fallen(
    study: optuna.Study, runs: Sequence[audit.Found], models: Sequence[audit.FoundModel], limit: int
) -> list[audit.FoundModel]:
    """The models that are not of the `limit` best trials. One that nobody noted may be the best: its trial says."""
    noted = {k.model_id: k for k in weights.kept(study)}
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    number_of = {r.run_id: r.number for r in runs}
    there: list[tuple[int, float, bool, audit.FoundModel]] = []
    for model in models:
        trial = trials.get(-1 if (number := number_of[model.run_id]) is None else number)
        mine = None if trial is None else ranking.point(trial, study)
        known = noted.get(model.model_id)
        if known is not None:
            there.append((known.number, known.value, False, model))
        elif trial is not None and mine is not None and model.whole and trial.state.is_finished():
            there.append((trial.number, mine.values[0], True, model))
    best: dict[int, audit.FoundModel] = {}
    order = weights.standing(study, {number: value for number, value, _, _ in there})
    for number, _, _, model in sorted(there, key=lambda m: (order[m[0]], m[0], m[2])):
        if len(best) < limit:
            best.setdefault(number, model)
    stays = {model.model_id for model in best.values()}
    behind = {t.number for t in trials.values() if is_left(t)}  # the best of a version are its own
    stays |= {model.model_id for model in models if number_of[model.run_id] in behind}
    return [model for model in models if model.model_id not in stays and not model.registered]


def _load(name: str, settings: Settings) -> optuna.Study | None:
    return report.load(name, settings) if name in report.names(settings) else None


def _connection(name: str, settings: Settings, study: optuna.Study | None) -> tuple[Connection, str]:
    """The study's experiment in MLflow and its identity; the latter is empty for one of an earlier version."""
    stored = store.read_json(settings.study_folder(name) / "study.json") or {}
    attributes = (dict(study.user_attrs) if study is not None else {}) or stored.get("attributes", {})
    plan = attributes.get("plan")
    asked = str(plan.get("space", "")) if isinstance(plan, dict) else ""
    try:
        name = find(asked, plan.get("dataset") if isinstance(plan, dict) else None, alone=True).name
    except SpaceError:  # its file is gone; the experiment has its name all the same
        name = name_of(asked)
    identity = str(attributes.get(IDENTITY, "")) if name else ""
    return Connection(settings.tracking_uri, name, settings.artifacts), identity


def _megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def _aside(line: str) -> None:
    """Say what is waited for, beside what was asked for."""
    print(line, file=sys.stderr, flush=True)
