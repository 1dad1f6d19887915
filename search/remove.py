"""Removes a study with all it left (`delete`), and what no study needs any more (`gc`)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import optuna

from search import report, store, weights
from search.engines import optuna as engine
from search.errors import OK, InputError
from search.lease import leased, owned
from search.mirror import IDENTITY
from search.settings import Settings, masked
from search.trial import checkpoints
from spaces import find
from tracking import audit, removal
from tracking.client import Connection


def delete(name: str, settings: Settings, *, yes: bool, as_json: bool) -> int:
    """Remove a study: its runs with their files and weights, its trials, its folder. Asks first, unless `yes`.

    A run that a registered version came from stays, which is said. Done again after a failure it goes on.
    Raises InputError for an unknown study, StudyBusy where it runs.
    """
    folder = settings.study_folder(name)
    study = _load(name, settings)
    if study is None and not (folder / "study.json").is_file():
        raise InputError(f"no study {name!r} in {masked(settings.storage)}; list them: python -m search list")
    with owned(folder, name):
        connection, identity = _connection(name, settings, study)
        runs = audit.runs(connection, identity) if identity else []
        mine = [r for r in runs if not r.deleted]
        if not yes:
            trials = sum(r.number is not None for r in mine)
            click.confirm(
                f"delete study {name}: {trials} trial runs in {masked(settings.tracking_uri)} and "
                f"{_megabytes(folder):.0f} MB in {folder}?",
                abort=True,
                err=True,
            )
        kept = _remove_runs(connection, mine)
        if study is not None:
            optuna.delete_study(study_name=name, storage=study._storage)
        shutil.rmtree(folder)
    if as_json:
        report.emit({"study": name, "runs": len(mine) - len(kept), "kept": kept})
    else:
        print(f"{name} is deleted: {len(mine) - len(kept)} runs, its trials, its files")
        for run_id, versions in kept.items():
            print(f"run {run_id} stays: {', '.join(versions)} came from it")
    return OK


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
    is never touched.
    """
    found: list[Waste] = []
    for each in [name] if name else report.names(settings):
        study = _load(each, settings)
        if study is None:
            raise InputError(f"no study {each!r} in {masked(settings.storage)}; list them: python -m search list")
        with owned(settings.study_folder(each), each), leased(study, lambda line: None):
            found += _collect(study, settings, keep, dry_run)
    if as_json:
        report.emit({"removed": [w.what for w in found], "bytes": sum(w.size for w in found), "dry_run": dry_run})
        return OK
    for waste in found:
        print(f"{'would remove' if dry_run else 'removed'}: {waste.what} ({waste.size / 1e6:.1f} MB)")
    print(f"{len(found)} things, {sum(w.size for w in found) / 1e6:.1f} MB")
    return OK


def _collect(study: optuna.Study, settings: Settings, keep: int | None, dry_run: bool) -> list[Waste]:
    folder, found = settings.study_folder(study.study_name), []
    for trial in engine.counted(study.get_trials(deepcopy=False)):
        mine = store.trial_folder(folder, trial.number)
        old = checkpoints.files(mine) if trial.state.is_finished() else []
        for path in [*old, *mine.rglob("*.part")]:
            found.append(Waste(f"{study.study_name}: {path.relative_to(folder)}", path.stat().st_size))
            if not dry_run:
                path.unlink(missing_ok=True)
    connection, identity = _connection(study.study_name, settings, study)
    limit = keep if keep is not None else study.user_attrs["plan"]["keep"]
    if limit is None or not identity:
        return found
    stays = {k.model_id for k in weights.kept(study)[:limit]}
    for model in audit.models(connection, [r.run_id for r in audit.runs(connection, identity) if not r.deleted]):
        if model.model_id in stays or model.registered:
            continue
        found.append(Waste(f"{study.study_name}: weights {model.model_id} of run {model.run_id}", model.size))
        if not dry_run:
            removal.remove_model(connection, model.model_id)
            for each in weights.kept(study):
                if each.model_id == model.model_id:
                    weights.forget(study, each.number)
    return found


def _load(name: str, settings: Settings) -> optuna.Study | None:
    return report.load(name, settings) if name in report.names(settings) else None


def _connection(name: str, settings: Settings, study: optuna.Study | None) -> tuple[Connection, str]:
    """The study's experiment in MLflow and its identity; the latter is empty for one of an earlier version."""
    stored = store.read_json(settings.study_folder(name) / "study.json") or {}
    attributes = (dict(study.user_attrs) if study is not None else {}) or stored.get("attributes", {})
    space = find(attributes["plan"]["space"])
    return Connection(settings.tracking_uri, space.name, settings.artifacts), str(attributes.get(IDENTITY, ""))


def _megabytes(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
