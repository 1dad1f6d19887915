"""Takes a trial's kept model into the registry and makes it the champion."""

from __future__ import annotations

import re

import optuna

from search import figures, links, report, weights
from search.errors import InputError
from search.settings import Settings, masked
from spaces import find
from spaces._hp import show

MODEL_NAME = re.compile(r"[\w .-]{1,200}")


def promote(name: str, number: int | None, model: str | None, settings: Settings, as_json: bool) -> None:
    """Register the best trial (or trial `number`) of a study as a version with the alias `champion`.

    Raises InputError where there is no complete trial or its weights were not kept.
    """
    from tracking import probe, registry

    place = probe.problem(settings.tracking_uri)
    if place:
        raise InputError(place)
    if model is not None and not MODEL_NAME.fullmatch(model):
        raise InputError(f"--model {model}: use letters, digits, spaces, dots, dashes and underscores")
    study = report.load(name, settings)
    trial = _chosen(study, number)
    plan, attrs = study.user_attrs["plan"], trial.user_attrs
    model_id = weights.model_id(study, trial.number)
    if not model_id:
        raise InputError(
            f"trial {trial.number} of {name!r}: its weights were not kept (--keep {plan['keep']}); promote one of the "
            f"best, or search again with --keep all"
        )
    space = find(plan["space"])
    config = " ".join(f"{k}={show(v)}" for k, v in attrs["config"].items())
    version = registry.register(
        settings.tracking_uri,
        model_name=model or space.name,
        model_id=model_id,
        run_id=links.run_id(study, trial),
        tags={
            "search.study": name,
            "search.trial.number": str(trial.number),
            "search.config.hash": attrs["config.hash"],
            f"search.{space.metric}": f"{trial.value:.6g}",
            "search.parameters": str(attrs.get("parameters", "")),
        },
        description=f"Trial {trial.number} of study {name}: {space.metric} {trial.value:.4f} (validation data; "
        f"the test split was not opened). {config}",
    )
    before = registry.set_champion(settings.tracking_uri, version.name, version.version)
    if as_json:
        return report.emit(
            {
                "model": version.name,
                "version": version.version,
                "alias": "champion",
                "previous": before,
                "study": name,
                "trial": trial.number,
                "value": trial.value,
                "model_id": model_id,
                "run_id": links.run_id(study, trial),
            }
        )
    print(
        f"{version.name} version {version.version} is champion: trial {trial.number} of {name}, {space.metric} "
        f"{trial.value:.4f}" + (f"; version {before} is now previous" if before else "")
    )
    print(
        f"load it: mlflow.keras.load_model('models:/{version.name}@champion') with MLFLOW_TRACKING_URI="
        f"{settings.pages or masked(settings.tracking_uri)}"
    )
    return None


def _chosen(study: optuna.Study, number: int | None) -> optuna.trial.FrozenTrial:
    leading = figures.ranked(study)
    if number is None:
        if not leading:
            raise InputError(
                f"study {study.study_name!r} has no complete trial; go on: python -m search resume {study.study_name}"
            )
        return leading[0]
    found = [t for t in leading if t.number == number]
    if not found:
        complete = ", ".join(str(t.number) for t in leading) or "none"
        raise InputError(f"--trial {number}: not a complete trial of {study.study_name!r}; complete: {complete}")
    return found[0]
