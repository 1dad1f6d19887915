"""`reproduce`: trains a registered model again from what was noted of it, and says whether it came out the same."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from search import job
from search.errors import FAILED, OK, InputError, SearchError
from search.executors.devices import Slot, cores, gpus, share
from search.report import emit
from search.retrain import retrain
from search.settings import Settings
from search.trial.spec import TrialSpec
from spaces import Space, find
from spaces.datasets import describe, prepare
from spaces.errors import SpaceError
from tracking import provenance, registry
from tracking.integrity import EVALUATION, file_digest

RECIPE, RECIPE_TAG = "spec.json", "search.recipe.sha256"
REPORT_TAG = "search.report"  # a path among the model's files; the recipe lies beside it
NOT_COMPARED = ("seconds", "images_per_second", "data_wait")  # and system/*: the machine's, not the training's
TOLERANCE = 0.02  # in every metric and probability, where bit for bit cannot be asked: another processor, or a GPU
DECIDING = ("python", "keras", "tensorflow", "jax", "numpy")  # packages whose version may change a result


@dataclass(frozen=True)
class Compared:
    """How the two trainings differ: at most, in any metric of any epoch, and in any probability."""

    epochs: int
    epochs_before: int
    curves: float
    predictions: float
    same_class: float
    weights_equal: bool


def reproduce(reference: str, settings: Settings, *, tolerance: float | None, as_json: bool) -> int:
    """Train the version that `reference` means again and compare curves and predictions; 1 where they differ.

    Raises InputError where the data are others or what it takes is not there, TrackingError and JobError with one line.
    """
    if tolerance is not None and not (0 <= tolerance < math.inf):
        raise InputError(f"--tolerance {tolerance:g}: give a number from 0 on, like 0.02")
    said: list[str] = []
    say = said.append if as_json else lambda line: print(line, flush=True)
    version = registry.find(settings.tracking_uri, reference)
    recipe = _recipe(settings, version)
    spec = TrialSpec.from_json(recipe["spec"])
    space = _space(recipe)
    data = describe(space.dataset)
    if data.digest != recipe["data"]["digest"]:
        raise InputError(
            f"{version.name} version {version.version} was trained on {recipe['data']['name']} "
            f"{recipe['data']['digest'][:12]}, here it is {data.name} {data.digest[:12]}: the data differ"
        )
    warnings = _differences(recipe, space)
    for warning in warnings:
        say(f"warning: {warning}")
    exact = tolerance is None and not warnings and "gpu" not in recipe["device"]
    limit = 0.0 if exact else TOLERANCE if tolerance is None else tolerance
    data_folder = prepare(space.dataset, cache=settings.cache, data=settings.data, progress=False, say=say)
    if space.fetch is not None:
        space.fetch({name: (value,) for name, value in spec.config.items()}, say)
    original = registry.fetch(settings.tracking_uri, version, settings.models)
    say(
        f"training again: trial {spec.number} of {spec.study}, at most {spec.epochs} epochs on {recipe['backend']}, "
        + ("to be equal bit for bit" if exact else f"to be within {limit:g} in every metric and probability")
    )
    with tempfile.TemporaryDirectory(prefix="keras-search-") as folder:
        again = _placed(spec, Path(folder), data_folder)
        slot = _slot(recipe)
        made = retrain(again, slot, recipe["backend"], said=lambda epoch, metrics: say(_epoch(epoch, metrics, recipe)))
        found = _compare(recipe, made.history, spec, original, made.model, space.dataset, data_folder)
    same = found.epochs == found.epochs_before and max(found.curves, found.predictions) <= limit
    same = same and (found.weights_equal or not exact)
    words = _verdict(found, same, limit, exact)
    if as_json:
        emit(
            {
                "model": version.name,
                "version": version.version,
                "reproduced": same,
                "exact": same and found.weights_equal,
                "tolerance": limit,
                "warnings": warnings,
                **found.__dict__,
            }
        )
    else:
        print(words)
    return OK if same else FAILED


def _recipe(settings: Settings, version: registry.Version) -> dict[str, Any]:
    told = f"{version.name} version {version.version}"
    path = f"{PurePosixPath(version.tags.get(REPORT_TAG, f'{EVALUATION}/report.html')).parent}/{RECIPE}"
    content = registry.read_file(settings.tracking_uri, version.model_id, path)
    if content is None:
        raise InputError(f"{told} was not registered by `promote`: what it takes to train it again was not noted")
    wanted = version.tags.get(RECIPE_TAG)
    if wanted and hashlib.sha256(content).hexdigest() != wanted:
        raise SearchError(f"{told}: {path} is not what was registered; it was changed, and is not used")
    found: dict[str, Any] = json.loads(content)
    return found


def _space(recipe: Mapping[str, Any]) -> Space:
    name = recipe["space"]["name"]
    try:
        return find(name, recipe["spec"].get("dataset"))
    except SpaceError as error:
        raise InputError(f"space {name} is not here ({error}); reproduce it where its file is") from error


def _differences(recipe: Mapping[str, Any], space: Space) -> list[str]:
    """What is different here from where it was trained, one line each."""
    before, now = recipe["provenance"], provenance.collect(Path.cwd())
    found = []
    noted = recipe["space"]["sha256"]  # all of it, or its first digits as MLflow's tag has them
    if space.path and noted and not file_digest(space.path).startswith(noted):
        found.append(f"the space's file {space.path} is not the one it was trained with")
    if before.get("commit") and now.commit and before["commit"] != now.commit:
        found.append(f"the code is at {now.commit[:12]}, it was trained at {before['commit'][:12]}")
    if before.get("dirty") or now.dirty:
        found.append("the code had changes that no commit holds" + ("" if before.get("dirty") else ", here and now"))
    versions = before.get("versions", {})
    found += [
        f"{name} is {now.versions.get(name, 'missing')}, it was {versions[name]}"
        for name in DECIDING
        if name in versions and versions[name] != now.versions.get(name)
    ]
    cpu = before.get("hardware", {}).get("cpu")
    if cpu and cpu != now.hardware.get("cpu"):
        found.append(f"the processor is {now.hardware.get('cpu')}, it was {cpu}")
    return found


def _slot(recipe: Mapping[str, Any]) -> Slot:
    """A slot like the one it was trained on: as many cores, on a GPU where that was one."""
    on_gpu = "gpu" in recipe["device"]
    found = gpus()
    if on_gpu and not found:
        raise InputError("it was trained on a GPU, and there is none here; reproduce it on a machine that has one")
    return share(recipe["slots"], tuple(g.index for g in found[:1]) if on_gpu else (), cores())[0]


def _placed(spec: TrialSpec, folder: Path, data_folder: Path) -> TrialSpec:
    values = spec.to_json() | {"folder": str(folder / "trial"), "data_folder": str(data_folder), "recorded": 0}
    return TrialSpec.from_json(values)


def _epoch(epoch: int, metrics: Mapping[str, float], recipe: Mapping[str, Any]) -> str:
    before = recipe["history"][epoch] if epoch < len(recipe["history"]) else {}
    return f"epoch {epoch + 1}: loss {metrics['loss']:.6g}, it was {before.get('loss', math.nan):.6g}"


def _compare(
    recipe: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    spec: TrialSpec,
    original: Path,
    again: Path,
    dataset: str,
    data_folder: Path,
) -> Compared:
    order = {
        "models": [str(original), str(again)],
        "dataset": dataset,
        "data_folder": str(data_folder),
        "data_seed": spec.data_seed,
        "train_limit": spec.train_limit,
        "validation_limit": spec.validation_limit,
    }
    agreed = job.run("search.trial.agree", order, backend=recipe["backend"])
    return Compared(
        epochs=len(history),
        epochs_before=len(recipe["history"]),
        curves=curve_difference(recipe["history"], history),
        predictions=agreed["difference"],
        same_class=agreed["same_class"],
        weights_equal=agreed["weights_equal"],
    )


def curve_difference(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> float:
    """The largest difference in any metric of any epoch that both have; infinite where one lacks a metric."""
    worst = 0.0
    for one, other in zip(before, now, strict=False):
        names = {n for n in one.keys() | other.keys() if n not in NOT_COMPARED and not n.startswith("system/")}
        for name in names:
            a, b = one.get(name, math.inf), other.get(name, math.inf)
            gap = 0.0 if a == b or (a != a and b != b) else abs(a - b)
            worst = max(worst, math.inf if math.isnan(gap) else gap)
    return worst


def _verdict(found: Compared, same: bool, limit: float, exact: bool) -> str:
    if same and found.weights_equal and not found.curves:
        return (
            f"reproduced bit for bit: {found.epochs} epochs, every metric, every weight and every prediction are equal"
        )
    told = (
        f"{found.epochs} epochs (before: {found.epochs_before}), metrics differ by at most {found.curves:.3g}, "
        f"probabilities by {found.predictions:.3g}; {found.same_class:.2%} of validation images get the same class"
    )
    asked = "equality was asked for" if exact else f"{limit:g} is allowed"
    return f"{'reproduced' if same else 'not reproduced'}: {told} ({asked})"
