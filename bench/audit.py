"""What a study left in both stores and on disk, read from the stores themselves, and what is wrong with it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import optuna
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from search import store
from search.mirror import STATUS
from search.trial.schedule import best_epoch

STUCK, DUPLICATED, LOST, DOUBLED = "stuck", "duplicated", "metrics lost", "metrics doubled"
WRONG, MISSING, MODELS, LEFT_OVER = "metrics wrong", "missing in MLflow", "models lost", "left over"
ORPHANS, DIFFERS, COMMANDS = "orphans", "differs from the reference", "commands failed"
KINDS = (STUCK, DUPLICATED, LOST, DOUBLED, WRONG, MISSING, MODELS, LEFT_OVER, ORPHANS, DIFFERS, COMMANDS)

# What two runs of the same training need not share.
TIMING = ("seconds", "images_per_second")
OWN_TAGS = ("search.study", "search.trial.attempts", "mlflow.parentRunId", "mlflow.log-model.history")

Points = list[tuple[int, float, int]]  # (step, value, timestamp in ms), as MLflow has them


@dataclass(frozen=True)
class Harm:
    """One thing that is wrong; `kind` is one of KINDS."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class TrialLeft:
    """One trial as its study store, its folder, its runs and its logged models have it."""

    number: int
    state: str
    config_hash: str
    attributes: dict[str, Any]
    values: dict[int, float]
    epochs: list[dict[str, Any]]  # the epoch events, as often as they are in the file
    folder: Path
    runs: list[Run] = field(default_factory=list)
    metrics: dict[str, Points] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    models: list[LoggedModel] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)  # a digest a model; "" where its files are not whole

    def same_training(self) -> list[dict[str, Any]]:
        """The recorded metrics that two runs of this trial must share."""
        return [
            {k: v for k, v in event["metrics"].items() if k not in TIMING and not k.startswith("system/")}
            for event in self.epochs
        ]


@dataclass
class StudyLeft:
    """One study as it stands in both stores; `strays` are runs that belong to no trial of it."""

    name: str
    metric: str
    direction: str
    keep: int | None
    asked: int
    run_id: str
    parents: list[Run]
    parent_metrics: dict[str, Points]
    strays: list[str]
    trials: list[TrialLeft]
    kept: dict[int, str]  # the model of each trial whose weights the study store says are kept


def read(home: Path, study: str, client: MlflowClient, files: Path, *, metric: str, direction: str) -> StudyLeft:
    """Read everything of a study whose MLflow artifacts lie in `files` (a server's) or where their URIs say."""
    opened = optuna.load_study(study_name=study, storage=f"sqlite:///{home / 'study.db'}")
    attributes = opened.user_attrs
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = list(client.search_runs(experiments, f"tags.`search.study` = '{study}'", max_results=1000))
    parents = [run for run in runs if run.data.tags.get("search.kind") == "study"]
    found = opened.get_trials(deepcopy=False)
    folders = {t.number: store.trial_folder(home / "studies" / study, t.number) for t in found}
    trials = {
        t.number: TrialLeft(
            t.number,
            t.state.name,
            str(t.user_attrs.get("config.hash")),
            t.user_attrs,
            {step - 1: value for step, value in t.intermediate_values.items()},
            [e for e in store.events(folders[t.number]) if e["event"] == "epoch"],
            folders[t.number],
        )
        for t in found
    }
    strays = []
    for run in (run for run in runs if run not in parents):
        number = run.data.tags.get("search.trial.number", "")
        if number.isdigit() and int(number) in trials:
            trials[int(number)].runs.append(run)
        else:
            strays.append(run.info.run_id)
    for trial in trials.values():
        _fill(trial, client, experiments, files)
    parent = parents[0] if parents else None
    return StudyLeft(
        study,
        metric,
        direction,
        attributes["plan"]["keep"],
        attributes["plan"]["trials"],
        str(attributes.get("mlflow.run_id")),
        parents,
        _metrics(client, parent) if parent else {},
        strays,
        list(trials.values()),
        {int(number): entry[1] for number, entry in attributes.get("weights", {}).items()},
    )


def _fill(trial: TrialLeft, client: MlflowClient, experiments: list[str], files: Path) -> None:
    for run in trial.runs:
        for key, points in _metrics(client, run).items():
            trial.metrics.setdefault(key, []).extend(points)
        trial.artifacts += [a.path for a in client.list_artifacts(run.info.run_id)]
        trial.models += client.search_logged_models(
            experiments, filter_string=f"source_run_id = '{run.info.run_id}'", max_results=100
        )
    trial.weights = [weights_digest(_place(model.artifact_location, files)) for model in trial.models]


def _metrics(client: MlflowClient, run: Run) -> dict[str, Points]:
    return {
        key: sorted((m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def _place(uri: str, files: Path) -> Path:
    if uri.startswith("mlflow-artifacts:"):
        return files / uri.removeprefix("mlflow-artifacts:").lstrip("/")
    return Path(uri.removeprefix("file://"))


def weights_digest(model: Path) -> str:
    """A digest of every weight, bit for bit, of a logged model's folder; empty where it is not whole."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(model / "data" / "model.keras") as archive:
            content = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content), "r") as weights:
            for name, data in _datasets(weights):
                digest.update(f"{name} {data.dtype} {data.shape}".encode() + data[()].tobytes())
        assert (model / "MLmodel").is_file()
    except (OSError, KeyError, zipfile.BadZipFile, AssertionError):
        return ""
    return digest.hexdigest()


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    for name in sorted(group):
        if isinstance(group[name], h5py.Dataset):
            yield group[name].name, group[name]
        else:
            yield from _datasets(group[name])


# ---- what is wrong


def harms(left: StudyLeft, reference: StudyLeft) -> list[Harm]:
    """Everything that is wrong with a finished study, measured against the same one run without a kill."""
    found = [*_of_study(left)]
    for trial in left.trials:
        where = f"trial {trial.number}"
        found += [Harm(harm.kind, f"{where}: {harm.text}") for harm in _of_trial(trial, left)]
    return [*found, *_differences(left, reference)]


def weights_equal(left: StudyLeft, reference: StudyLeft) -> tuple[int, int]:
    """(trials whose kept weights are the reference's bit for bit, trials whose weights are to be kept)."""
    there = {t.number: t.weights[0] for t in reference.trials if t.weights}
    wanted = _to_keep(replace(reference, keep=left.keep))
    return sum(t.weights == [there.get(t.number)] for t in left.trials if t.number in wanted), len(wanted)


def running(client: MlflowClient, study: str) -> list[str]:
    """The runs of a study that MLflow has as RUNNING."""
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`search.study` = '{study}' and attributes.status = 'RUNNING'")
    return [f"{run.info.run_name} ({run.info.run_id})" for run in found]


def _of_study(left: StudyLeft) -> Iterator[Harm]:
    if len(left.trials) != left.asked:
        kind = DUPLICATED if len(left.trials) > left.asked else STUCK
        yield Harm(kind, f"{left.asked} trials were asked, {len(left.trials)} are there")
    for config, count in Counter(t.config_hash for t in left.trials).items():
        if count > 1:
            yield Harm(DUPLICATED, f"configuration {config} stands in {count} trials")
    ids = [run.info.run_id for run in left.parents]
    if len(ids) > 1:
        yield Harm(DUPLICATED, f"{len(ids)} study runs: {', '.join(ids)}; the study store knows {left.run_id}")
    if left.run_id not in ids:
        yield Harm(MISSING, f"the study's run {left.run_id} is not in MLflow")
    for run in left.parents:
        if run.info.status != "FINISHED":
            yield Harm(STUCK, f"study run {run.info.run_id} is {run.info.status}")
    for stray in left.strays:
        yield Harm(DUPLICATED, f"run {stray} belongs to no trial")
    for key, points in left.parent_metrics.items():
        for step, count in Counter(point[0] for point in points).items():
            if count > 1:
                yield Harm(DOUBLED, f"the study's {key} has step {step} {count} times")
    expected, kept = _to_keep(left), set(left.kept)
    if kept != expected:
        yield Harm(
            MODELS, f"the study store keeps the weights of trials {sorted(kept)}, to be kept are {sorted(expected)}"
        )


def _to_keep(left: StudyLeft) -> set[int]:
    """The finished trials whose weights the plan keeps: the best, the earlier of equals first."""
    sign = -1 if left.direction == "maximize" else 1
    ranked = []
    for trial in left.trials:
        if trial.epochs and trial.state in ("COMPLETE", "PRUNED"):
            history = [event["metrics"] for event in trial.epochs]
            best = history[best_epoch(history, left.metric, left.direction)][left.metric]
            ranked.append((sign * best, trial.number))
    return {number for _, number in sorted(ranked)[: left.keep]}


def _of_trial(trial: TrialLeft, left: StudyLeft) -> Iterator[Harm]:
    if trial.state in ("RUNNING", "WAITING"):
        yield Harm(STUCK, f"{trial.state} in the study store, attribute state={trial.attributes.get('state')}")
    if len(trial.runs) != 1:
        ids = ", ".join(run.info.run_id for run in trial.runs)
        yield Harm(DUPLICATED if trial.runs else MISSING, f"{len(trial.runs)} runs in MLflow: {ids}")
    for run in trial.runs:
        yield from _of_run(run, trial, left)
    yield from _of_epochs(trial)
    yield from _of_metrics(trial, left)
    yield from _of_models(trial, left)


def _of_run(run: Run, trial: TrialLeft, left: StudyLeft) -> Iterator[Harm]:
    wanted, parent = STATUS[optuna.trial.TrialState[trial.state]], run.data.tags.get("mlflow.parentRunId")
    if run.info.status != wanted:
        yield Harm(STUCK, f"{trial.state} in the study store, {run.info.status} in MLflow")
    if parent != left.run_id:
        yield Harm(DUPLICATED, f"its run's parent is {parent}, not {left.run_id}")
    if trial.attributes.get("mlflow.run_id") != run.info.run_id:
        yield Harm(DUPLICATED, f"run {run.info.run_id}, the study store knows {trial.attributes.get('mlflow.run_id')}")
    if run.data.tags.get("search.trial.state") != trial.state:
        yield Harm(MISSING, f"tag search.trial.state={run.data.tags.get('search.trial.state')}, it is {trial.state}")
    attempts = str(trial.attributes.get("attempts"))
    if run.data.tags.get("search.trial.attempts") != attempts:
        told = run.data.tags.get("search.trial.attempts")
        yield Harm(MISSING, f"tag search.trial.attempts={told}, the study store has {attempts}")
    if not run.info.end_time:
        yield Harm(MISSING, "its run has no end time")
    if run.inputs is None or len(run.inputs.dataset_inputs) != 1:
        yield Harm(MISSING, f"its run has {len(run.inputs.dataset_inputs) if run.inputs else 0} datasets, not one")


def _of_epochs(trial: TrialLeft) -> Iterator[Harm]:
    numbers = [event["epoch"] for event in trial.epochs]
    if sorted(set(numbers)) != list(range(len(set(numbers)))):
        yield Harm(LOST, f"its record has epochs {sorted(set(numbers))}")
    if len(numbers) != len(set(numbers)):
        yield Harm(DOUBLED, f"its record has an epoch twice: {numbers}")
    if set(trial.values) != set(numbers):
        yield Harm(LOST, f"the study store has epochs {sorted(trial.values)}, the record {sorted(set(numbers))}")


def _of_metrics(trial: TrialLeft, left: StudyLeft) -> Iterator[Harm]:
    wanted: dict[str, dict[int, tuple[float, int]]] = {}
    for event in trial.epochs:
        for key, value in event["metrics"].items():
            wanted.setdefault(key, {}).setdefault(event["epoch"], (value, int(event["time"] * 1000)))
    if trial.epochs:
        history = [event["metrics"] for event in trial.epochs]
        best = best_epoch(history, left.metric, left.direction)
        wanted[f"best_{left.metric}"] = {best: (history[best][left.metric], int(trial.epochs[best]["time"] * 1000))}
    for key in wanted.keys() | trial.metrics.keys():
        points, steps = trial.metrics.get(key, []), wanted.get(key, {})
        there = Counter(step for step, _, _ in points)
        if lost := sorted(set(steps) - set(there)):
            yield Harm(LOST, f"{key} lacks steps {lost} of {len(steps)}")
        if twice := sorted(step for step, count in there.items() if count > 1):
            yield Harm(DOUBLED, f"{key} has steps {twice} more than once")
        if more := sorted(set(there) - set(steps)):
            yield Harm(WRONG, f"{key} has steps {more}, which no epoch recorded")
        for step, value, timestamp in points:
            if step in steps and (value, timestamp) != steps[step]:
                yield Harm(WRONG, f"{key} of step {step} is {value} at {timestamp}, recorded were {steps[step]}")


def _of_models(trial: TrialLeft, left: StudyLeft) -> Iterator[Harm]:
    expected = trial.number in _to_keep(left)
    ids = [model.model_id for model in trial.models]
    if len(ids) > 1:
        yield Harm(DUPLICATED, f"{len(ids)} logged models: {', '.join(ids)}")
    if expected and not ids:
        yield Harm(MODELS, "its weights are to be kept, but no model is logged")
    if ids and not expected:
        yield Harm(LEFT_OVER, f"logged model {', '.join(ids)} of a trial whose weights are not kept")
    for model, weights in zip(trial.models, trial.weights, strict=True):
        status = str(getattr(model.status, "value", model.status))
        if status != "READY":
            yield Harm(MODELS, f"model {model.model_id} is {status}")
        if not weights:
            yield Harm(MODELS, f"the files of model {model.model_id} are not whole")
    if expected and ids and left.kept.get(trial.number) not in ids:
        yield Harm(MODELS, f"the study store keeps model {left.kept.get(trial.number)}, MLflow has {', '.join(ids)}")
    for path in sorted(trial.folder.iterdir()) if trial.folder.is_dir() else []:
        if path.name.startswith(("model", ".model", "checkpoint")):
            yield Harm(LEFT_OVER, f"{path.name} stays in its folder")


def _differences(left: StudyLeft, reference: StudyLeft) -> Iterator[Harm]:
    """How it differs from the reference; once the proposals part, what follows is no news."""
    for mine, theirs in zip(left.trials, reference.trials, strict=False):
        where = f"trial {mine.number}:"
        if mine.config_hash != theirs.config_hash:
            yield Harm(DIFFERS, f"{where} configuration {mine.config_hash}, without kills {theirs.config_hash}")
            return
        if (mine.state, len(mine.epochs)) != (theirs.state, len(theirs.epochs)):
            yield Harm(
                DIFFERS,
                f"{where} {mine.state} after {len(mine.epochs)} epochs (attempts {mine.attributes.get('attempts')}, "
                f"reason {mine.attributes.get('reason')}), without kills {theirs.state} after {len(theirs.epochs)}",
            )
            continue
        ours, other = mine.same_training(), theirs.same_training()
        first = next((n for n, (a, b) in enumerate(zip(ours, other, strict=True)) if a != b), None)
        if first is not None:
            yield Harm(DIFFERS, f"{where} epoch {first} gave {ours[first]}, without kills {other[first]}")
        if mine.weights and theirs.weights and mine.weights[0] != theirs.weights[0]:
            yield Harm(DIFFERS, f"{where} its weights are not the reference's")
        if mine.runs and theirs.runs:
            yield from _run_differences(where, mine, theirs)


def _run_differences(where: str, mine: TrialLeft, theirs: TrialLeft) -> Iterator[Harm]:
    run, other = mine.runs[0].data, theirs.runs[0].data
    if run.params != other.params:
        wrong = sorted(k for k in run.params.keys() | other.params.keys() if run.params.get(k) != other.params.get(k))
        yield Harm(MISSING, f"{where} parameters {wrong} are not as without kills")
    tags = {k for k, v in other.tags.items() if k not in OWN_TAGS and run.tags.get(k) != v}
    if tags:
        yield Harm(MISSING, f"{where} tags {sorted(tags)} are not as without kills")
    if lacking := set(theirs.artifacts) - set(mine.artifacts):
        yield Harm(MISSING, f"{where} artifacts {sorted(lacking)} are missing")
