"""What is wrong with a run in MLflow, held against what folder and study store say of it, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from search import explain, links, pareto, store, versions, warm
from search.goals import is_final
from search.mirror import STATUS, UNLOGGED, Mirror
from search.ranking import figures_of, ranked
from search.trial.schedule import best_epoch
from tracking.audit import Found
from tracking.runs import KIND, NUMBER, PARENT, STUDY
from tracking.values import Point, params_of, points_of, tags_of

DONE = "all trials done"  # what a study's run says that ended for no other reason


def own_tags(mirror: Mirror) -> dict[str, str]:
    """The tags by which a study's own run is known."""
    return {
        STUDY: mirror.identity,
        KIND: "study",
        "search.study": mirror.plan.study,
        "search.space": mirror.space.name,
        "search.seed": str(mirror.plan.seed),
    }


def of_study(mirror: Mirror, parent: Found | None, ended: Mapping[str, str]) -> list[str]:
    """What is wrong with the study's own run."""
    best = ranked(mirror.study)
    pictures = ["without figures"] if best and ended["status"] != "KILLED" else []
    if parent is None:
        return ["it was gone", *pictures]
    wrong = ["deleted"] if parent.deleted else []
    wrong += [f"status {parent.status}, not {ended['status']}"] if parent.status != ended["status"] else []
    wrong += ["tags"] if _lacks(parent.tags, {**own_tags(mirror), "search.reason": ended["reason"] or DONE}) else []
    first = [k for k in mirror.study.user_attrs["plan.first"] if k not in UNLOGGED]
    wrong += ["parameters"] if any(k not in parent.params for k in first) else []
    files = {"trials.csv", "provenance.json", *(["space"] if mirror.space.path else [])}
    files |= {"versions.json"} if versions.current(mirror.study.user_attrs) > 1 else set()
    files |= {warm.FILE} if mirror.study.user_attrs.get(warm.WARM) else set()
    files |= {pareto.FILE} if best and mirror.goals.several else set()
    gone = sorted(files - parent.artifacts)
    wrong += [f"without {', '.join(gone)}"] if gone else []
    wrong += pictures if not {"figures", explain.FILE} <= parent.artifacts else []
    unseen = store.pictures_of_data(mirror.folder) and "data" not in parent.artifacts
    wrong += ["without pictures of its data"] if unseen else []
    bests = mirror.goals.values_of(best[0].values, figures_of(best[0])) if best else ()
    wrong += ["metrics"] if any(f"best_{name}" not in parent.metrics for name in bests) else []
    wrong += [] if "mlflow.note.content" in parent.tags else ["without its note"]
    return wrong


def of_trial(mirror: Mirror, trial: FrozenTrial, child: Found | None) -> tuple[list[str], list[str], list[Point]]:
    """What is wrong with a trial's run, what of it MLflow cannot take back, and the points it lacks."""
    if child is None:
        return ["it was gone"], [], []
    folder = store.trial_folder(mirror.folder, trial.number)
    recorded = store.epochs(folder)
    finished = trial.state.is_finished()
    status = STATUS[trial.state] if finished else "SCHEDULED"
    wrong = ["deleted"] if child.deleted else []
    wrong += [f"status {child.status}, not {status}"] if child.status != status else []
    wrong += ["not the run noted"] if links.run_id(mirror.study, trial) != child.run_id else []
    under = mirror.tracker.id_of(mirror.parent)
    wrong += ["under no study"] if child.tags.get(PARENT) != under else []
    texts, _ = params_of(mirror.params(trial))
    wrong += ["parameters"] if set(texts) - set(child.params) else []
    tags = mirror.end_tags(trial) if finished else {"search.trial.state": "paused"}
    own = {STUDY: mirror.identity, KIND: "trial", NUMBER: trial.number, "search.study": mirror.plan.study}
    own["search.config.hash"] = trial.user_attrs["config.hash"]
    own |= mirror.version_tags(trial.number)
    wrong += ["tags"] if _lacks(child.tags, tags | own) else []
    wrong += ["dataset"] if not child.datasets else []
    gone = sorted(_files(mirror, trial, folder, bool(recorded)) - child.artifacts)
    wrong += [f"without {', '.join(gone)}"] if gone else []
    missing, doubled = _against(child, _points(mirror, trial, recorded))
    epochs = spans(sorted({p.step for p in missing}))
    wrong += [f"metrics of epochs {epochs}"] if missing else []
    taken = [f"doubled or foreign metrics at epochs {spans(doubled)}"] if doubled else []
    other = [k for k, text in texts.items() if child.params.get(k, text) != text]
    taken += [f"other parameters: {', '.join(other)}"] if other else []
    return wrong, taken, missing


def _files(mirror: Mirror, trial: FrozenTrial, folder: Path, recorded: bool) -> set[str]:
    """The artifacts a trial's run must have."""
    began = [str(e.get("provenance", "")) for e in store.attempts(folder)] or [mirror.provenance]
    files = {"config.json", *(name for name in ("model_summary.txt", "error.txt") if (folder / name).is_file())}
    if any(store.read_json(mirror.folder / "provenance" / f"{key}.json") for key in began if key):
        files.add("provenance.json")
    if trial.state.is_finished() and recorded:
        files.add("learning_curves.png")
    return files


def points(recorded: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The points of a trial's recorded epochs, as MLflow is told them."""
    return [p for e in recorded for p in points_of(e["metrics"], e["epoch"], int(e["time"] * 1000))[0]]


def _points(mirror: Mirror, trial: FrozenTrial, recorded: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Every point that a trial's run must have."""
    found = points(recorded)
    if trial.state.is_finished() and recorded:
        name, history = mirror.space.metric, [e["metrics"] for e in recorded]
        best = best_epoch(history, name, mirror.space.direction)
        at = int(recorded[best]["time"] * 1000)
        found += points_of(mirror.finals(trial, history[best]), best, at)[0]
    return found


def _lacks(have: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return any(have.get(name) != text for name, text in tags_of(wanted).items())


def _against(child: Found, wanted: Sequence[Point]) -> tuple[list[Point], list[int]]:
    """(points that a run lacks, epochs at which it has one twice or another than recorded)."""
    missing: list[Point] = []
    doubled: set[int] = set()
    for point in wanted:
        there = [p for p in child.metrics.get(point.key, ()) if p.step == point.step]
        if not there:
            missing.append(point)
        elif len(there) > 1 or not _is_same(there[0], point):
            doubled.add(point.step)
    bests = {p.key: p.step for p in wanted if is_final(p.key)}
    doubled |= {p.step for key, step in bests.items() for p in child.metrics.get(key, ()) if p.step != step}
    return missing, sorted(doubled)


def _is_same(one: Point, other: Point) -> bool:
    same = one.value == other.value or (math.isnan(one.value) and math.isnan(other.value))
    return same and one.timestamp == other.timestamp


def spans(numbers: Sequence[int]) -> str:
    """0, 3, 5 to 9."""
    parts: list[str] = []
    start = previous = None
    for number in [*sorted(numbers), None]:
        if start is not None and (number is None or number != previous + 1):  # type: ignore[operator]
            parts.append(f"{start}" if start == previous else f"{start} to {previous}")
            start = None
        start = number if start is None else start
        previous = number
    return ", ".join(parts)
