"""`reconcile`: opens one study, or all, has each mended, and says what was mended and what is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import optuna

from search import renewal, report, store, versions
from search.engines import optuna as engine
from search.errors import FAILED, OK, InputError, SearchError
from search.lease import leased, owned
from search.mender import Mender
from search.mirror import IDENTITY
from search.plan import Request
from search.plan import resume as resumed_plan
from search.settings import Settings
from search.specs import space_of
from spaces.errors import DatasetError, SpaceError
from tracking.errors import TrackingError
from tracking.faults import one_line
from tracking.runs import Tracker


def reconcile(name: str | None, settings: Settings, as_json: bool, *, files_gone: bool = False) -> int:
    """Mend one study, or all, and print what was mended and what cannot be; 1 where something cannot.

    `files_gone` says that where MLflow has no file of a study they are lost, and what can be made again is.
    A study that cannot be mended at all is said and holds up no other; where it is the only one its error is raised.
    """
    names = [name] if name else sorted({*report.names(settings), *_folders(settings)})
    if not names:
        raise InputError("no study yet; start one: python -m search run cnn_digits")
    found: list[dict[str, Any]] = []
    for each in names:
        try:
            say: Callable[[str], None] = print if not as_json else lambda line: None
            done = mend(each, settings, say, files_gone=files_gone)
            found.append({"study": each, "mended": done.mended, "lost": done.lost})
        except (SearchError, SpaceError, DatasetError, TrackingError, OSError) as error:
            if len(names) == 1:
                raise
            print(f"error: {each}: {error}", file=sys.stderr)
            found.append({"study": each, "mended": [], "lost": [], "error": str(error)})
    if as_json:
        report.emit(found)
    return FAILED if any(f["lost"] or "error" in f for f in found) else OK


def _folders(settings: Settings) -> list[str]:
    return [p.parent.name for p in (settings.home / "studies").glob("*/study.json")]


def mend(name: str, settings: Settings, say: Callable[[str], None], *, files_gone: bool = False) -> Mender:
    """Mend the study `name`.

    Raises InputError where nothing is known of it, StudyBusy where it runs, SearchError where its plan is lost,
    SpaceError where its space is gone, TrackingError where MLflow is away.
    """
    folder = settings.study_folder(name)
    known = name in report.names(settings)
    if not known and not (folder / "study.json").is_file():
        left = " (its folder is there, its plan is not)" if store.trial_folders(folder) else ""
        raise InputError(
            f"no study {name!r} in the study store nor in {folder.parent}{left}; list them: python -m search list"
        )
    with owned(folder, name):
        version = renewal.finish(name, settings, engine.storage(settings.storage), say)
        study, fixed = _study(name, settings, known)
        fixed += [f"it was cut off while it became version {version} of its space; finished"] if version else []
        with leased(study, say):
            plan = resumed_plan(study.user_attrs["plan"], Request(space="", study=name))
            space = space_of(plan)
            tracker = Tracker(settings.tracking_uri, space.name, settings.artifacts)
            try:
                mender = Mender(study, plan, space, folder, tracker, say, files_gone=files_gone)
                for line in fixed:
                    mender.fix(line)
                mender.run()
            except Exception as error:
                if not type(error).__module__.startswith(("mlflow.", "requests.")):
                    raise
                raise TrackingError(
                    f"MLflow: {one_line(error)}; nothing is lost: once it is back, python -m search reconcile {name}"
                ) from error
            finally:
                tracker.close(1.0)
            say(f"{name}: {len(mender.mended)} mended" + (f", {len(mender.lost)} lost" if mender.lost else ""))
            return mender


def _study(name: str, settings: Settings, known: bool) -> tuple[optuna.Study, list[str]]:
    """The study of the store and what had to be mended of it or of its study.json, each made from the other."""
    path = settings.study_folder(name) / "study.json"
    fixed: list[str] = []
    stored = store.read_json(path) or {}
    found = stored.get("attributes")
    attributes: dict[str, Any] = found if isinstance(found, dict) else {}
    directions = stored.get("directions") or [stored.get("direction")]  # of an older program
    if not known and (not attributes.get("plan") or not set(directions) <= {"maximize", "minimize"}):
        raise SearchError(f"study {name!r} is gone from the study store and {path} is damaged; it cannot be made again")
    study = engine.open_study(
        engine.storage(settings.storage),
        name,
        direction=directions,
        pruner=optuna.pruners.NopPruner(),
        create=not known,
    )
    if not known:
        fixed.append("the study was gone from the study store; made again from its folder")
    for key, value in attributes.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    known_now = versions.recorded(study.user_attrs)
    if not known_now.get("plan"):
        raise SearchError(f"study {name!r}: its plan is neither in the study store nor in its folder; it cannot go on")
    if not known_now.get(IDENTITY):
        raise SearchError(f"study {name!r} was made by an earlier version; resume it once, then it can be mended")
    if attributes != known_now:
        directions = [direction.name.lower() for direction in study.directions]
        store.write_json(path, {"study": name, "directions": directions, "attributes": known_now})
        fixed.append("study.json was gone or damaged; made again from the study store")
    return study, fixed
