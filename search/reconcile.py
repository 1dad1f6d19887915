"""Makes the study store, the trial folders and MLflow agree again: each is restored from the two others.

The folders say what happened in every epoch, the study store which state a trial is in, MLflow mirrors both.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import figures, links, report, store, weights
from search.engines import optuna as engine
from search.engines import rows
from search.errors import InputError, SearchError
from search.lease import leased, owned
from search.mirror import IDENTITY, MIRRORED, STATUS, Mirror, keep_provenance
from search.plan import Plan, Request
from search.plan import resume as resumed_plan
from search.settings import Settings
from search.trial import checkpoints
from spaces import Space, find
from tracking import audit, removal
from tracking.audit import Found
from tracking.provenance import collect
from tracking.runs import PARENT, Tracker

STATIC = ("config", "config.hash", "seed", "asked.seed", "asks", "epochs", "parameters", "baseline", "milestones")
FINISHED_FILES = ("config.json", "provenance.json")
PATIENCE = 600.0  # seconds for MLflow to take what was missing


def reconcile(name: str | None, settings: Settings, as_json: bool) -> int:
    """Mend one study, or all, and print what was mended and what cannot be; 1 where something cannot."""
    names = [name] if name else sorted({*report.names(settings), *_folders(settings)})
    if not names:
        raise InputError("no study yet; start one: python -m search run cnn_digits")
    found = {each: mend(each, settings, print if not as_json else lambda line: None) for each in names}
    if as_json:
        report.emit([{"study": each, "mended": m.mended, "lost": m.lost} for each, m in found.items()])
    return 1 if any(m.lost for m in found.values()) else 0


def _folders(settings: Settings) -> list[str]:
    return [p.parent.name for p in (settings.home / "studies").glob("*/study.json")]


def mend(name: str, settings: Settings, say: Callable[[str], None]) -> Mender:
    """Mend the study `name`. Raises InputError where nothing is known of it, StudyBusy where it runs."""
    folder = settings.study_folder(name)
    known = name in report.names(settings)
    if not known and not (folder / "study.json").is_file():
        raise InputError(
            f"no study {name!r} in the study store nor in {folder.parent}; list them: python -m search list"
        )
    with owned(folder, name):
        study, lost_study = _study(name, settings, known)
        with leased(study, say):
            plan = resumed_plan(study.user_attrs["plan"], Request(space="", study=name))
            space = find(plan.space)
            tracker = Tracker(settings.tracking_uri, space.name, settings.artifacts)
            try:
                mender = Mender(study, plan, space, folder, tracker, say)
                if lost_study:
                    mender.fix("the study was gone from the study store; made again from its folder")
                mender.run()
            finally:
                tracker.close(1.0)
            say(f"{name}: {len(mender.mended)} mended" + (f", {len(mender.lost)} lost" if mender.lost else ""))
            return mender


def _study(name: str, settings: Settings, known: bool) -> tuple[optuna.Study, bool]:
    """The study of the store, made again from its folder's study.json where it is gone."""
    stored = store.read_json(settings.study_folder(name) / "study.json")
    direction = (stored or {}).get("direction", "maximize")
    study = engine.open_study(
        engine.storage(settings.storage),
        name,
        direction=direction,
        pruner=optuna.pruners.NopPruner(),
        create=not known,
    )
    for key, value in ((stored or {}).get("attributes") or {}).items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    if "plan" not in study.user_attrs:
        raise SearchError(f"study {name!r}: its plan is neither in the study store nor in its folder; it cannot go on")
    if IDENTITY not in study.user_attrs:
        raise SearchError(f"study {name!r} was made by an earlier version; resume it once, then it can be mended")
    return study, not known


class Mender:
    """Mends one study; `mended` and `lost` say what was done and what cannot be, one line each."""

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        space: Space,
        folder: Path,
        tracker: Tracker,
        say: Callable[[str], None],
    ) -> None:
        self.study, self.plan, self.space, self.folder, self.tracker, self.say = (
            study,
            plan,
            space,
            folder,
            tracker,
            say,
        )
        self.mended: list[str] = []
        self.lost: list[str] = []
        self.identity: str = study.user_attrs[IDENTITY]

    def fix(self, line: str) -> None:
        """Note what was mended."""
        self.mended.append(line)
        self.say(f"mended: {line}")

    def give_up(self, line: str) -> None:
        """Note what cannot be."""
        self.lost.append(line)
        self.say(f"lost: {line}")

    def run(self) -> None:
        """Folders first, since they are the record; then the study store; then MLflow."""
        found = audit.runs(self.tracker.connection, self.identity)
        found = self._without_doubles(found)
        children = {f.number: f for f in found if f.number is not None}
        self._folders(children)
        self._rows(children)
        self._leftovers()
        self._mlflow(next((f for f in found if f.number is None), None), children)

    # ---- folders

    def _folders(self, children: Mapping[int, Found]) -> None:
        """Give back to a trial's folder what the study store and MLflow still know."""
        for trial in engine.counted(self.study.get_trials(deepcopy=False)):
            folder = store.trial_folder(self.folder, trial.number)
            if "config" in trial.user_attrs and store.read_json(folder / "trial.json") is None:
                static = {k: trial.user_attrs[k] for k in (*STATIC, engine.POSITION) if k in trial.user_attrs}
                record = engine.record(trial.number, trial.params, trial.distributions, static)
                store.write_json(folder / "trial.json", record)
                self.fix(f"trial {trial.number}: trial.json was gone; made again from the study store")
        for number in sorted({*store.trial_folders(self.folder), *children}):
            self._epochs(number, store.trial_folder(self.folder, number), children.get(number))

    def _epochs(self, number: int, folder: Path, child: Found | None) -> None:
        """Epochs that the record lost and MLflow kept are written down again, at their first times."""
        have = {event["epoch"] for event in store.events(folder) if event["event"] == "epoch"}
        there = _steps(child, self.space.metric) if child else {}
        missing = sorted(set(there) - have)
        if missing and (folder / "trial.json").is_file():
            for step in missing:
                store.append(
                    folder, {"event": "epoch", "epoch": step, "metrics": there[step][1], "time": there[step][0]}
                )
            self.fix(f"trial {number}: the record had lost epochs {_list(missing)}; read back from MLflow")

    # ---- the study store

    def _rows(self, children: Mapping[int, Found]) -> None:
        """Put back into the study store what the folders know."""
        for number, folder in store.trial_folders(self.folder).items():
            record = store.read_json(folder / "trial.json")
            row = self._row(number)
            if record is None:
                if row is None and number not in children:
                    shutil.rmtree(folder)
                    self.fix(f"trial {number}: a folder of no trial was removed")
                continue
            if row is None and not store.attempts(folder) and number not in children:
                shutil.rmtree(folder)  # killed between writing it down and storing it: it was never a trial
                self.fix(f"trial {number}: a folder of a trial that was never stored was removed")
                continue
            self._mend_row(number, row, self._expected(folder, record, row))
        self._fill_holes(children)

    def _row(self, number: int) -> FrozenTrial | None:
        try:
            return engine.numbered(self.study, number)
        except KeyError:
            return None

    def _expected(self, folder: Path, record: Mapping[str, Any], row: FrozenTrial | None) -> FrozenTrial:
        """The trial as its record says it is."""
        events = store.events(folder)
        ends = [e for e in events if e["event"] == "finished"]
        attempts = store.attempts(folder)
        intermediate = {e["epoch"] + 1: e["metrics"][self.space.metric] for e in store.epochs(folder)}
        attributes: dict[str, Any] = dict(row.user_attrs) if row else {"attempts": len(attempts), "state": "paused"}
        state, value, constraints = TrialState.RUNNING, None, None
        if ends and ends[-1]["state"] in TrialState.__members__:
            state = TrialState[ends[-1]["state"]]
            attributes = {**ends[-1].get("attributes", {}), **attributes}
            constraints = ends[-1].get("constraints")
            if state == TrialState.COMPLETE:
                best = max if self.space.direction == "maximize" else min
                value = best(intermediate.values()) if intermediate else None
        elif row is not None and row.state.is_finished():
            state, value, constraints = row.state, row.value, row.constraints or None
        if state == TrialState.COMPLETE and value is None:
            state = TrialState.FAIL
        return engine.restored(
            record,
            state=state,
            value=value,
            intermediate_values=intermediate,
            constraints=constraints or None,
            user_attrs={k: v for k, v in attributes.items() if k not in record["attributes"] or k == "attempts"},
        )

    def _mend_row(self, number: int, row: FrozenTrial | None, expected: FrozenTrial) -> None:
        wrong = [] if row is None else _differences(row, expected)
        if row is not None and not wrong:
            return
        if row is not None and not row.state.is_finished() and wrong == ["epochs"]:
            trial = engine.reopen(self.study, row)  # killed between writing an epoch down and reporting it
            for step, value in expected.intermediate_values.items():
                if step not in row.intermediate_values:
                    trial.report(value, step)
            return self.fix(f"trial {number}: the study store lacked epochs; reported again")
        expected = _timed(expected, store.events(store.trial_folder(self.folder, number)))
        self.study = rows.put_back(self.study, number, expected)
        what = (
            "was gone from the study store" if row is None else f"was damaged in the study store ({', '.join(wrong)})"
        )
        return self.fix(f"trial {number}: {what}; put back from its folder")

    def _fill_holes(self, children: Mapping[int, Found]) -> None:
        """A number that nobody knows any more stays taken: Optuna would give the last one twice."""
        numbers = {t.number for t in self.study.get_trials(deepcopy=False)}
        for number in sorted(set(range(max(numbers, default=-1) + 1)) - numbers):
            empty = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={engine.REFUSED: "lost"})
            self.study = rows.put_back(self.study, number, empty)
            run = f"; its run is {children[number].run_id}" if number in children else ""
            self.fix(f"trial {number}: its number is kept, so that it is not given twice")
            self.give_up(f"trial {number}: its row and its folder are gone{run}")
        for number in sorted(set(children) - numbers - set(range(max(numbers, default=-1) + 1))):
            self.give_up(f"trial {number}: its row and its folder are gone; its run is {children[number].run_id}")

    # ---- files

    def _leftovers(self) -> None:
        for path in sorted(self.folder.rglob("*.part")):
            path.unlink()
            self.fix(f"{path.relative_to(self.folder)}: half written, removed")
        for trial in engine.counted(self.study.get_trials(deepcopy=False)):
            folder = store.trial_folder(self.folder, trial.number)
            if trial.state.is_finished() and checkpoints.files(folder):
                checkpoints.remove(folder)
                self.fix(f"trial {trial.number}: the checkpoint of a finished trial, removed")

    # ---- MLflow

    def _without_doubles(self, found: Sequence[Found]) -> list[Found]:
        """Of several runs of one trial, or of the study, one stays: the one noted, else the fullest."""
        kept: dict[int | None, Found] = {}
        noted = {links.run_id(self.study, t) for t in self.study.get_trials(deepcopy=False)}
        noted |= {str(self.study.user_attrs.get(links.RUN_ID, ""))}
        for run in sorted(found, key=lambda f: (f.run_id not in noted, f.deleted, -sum(map(len, f.metrics.values())))):
            if run.number not in kept:
                kept[run.number] = run
            elif not run.deleted:
                versions = removal.remove_run(self.tracker.connection, run.run_id)
                who = "the study" if run.number is None else f"trial {run.number}"
                if versions:
                    self.give_up(f"{who} has two runs; {run.run_id} stays, for {', '.join(versions)} came from it")
                else:
                    self.fix(f"{who} had two runs; {run.run_id} was removed")
        return list(kept.values())

    def _mlflow(self, parent: Found | None, children: Mapping[int, Found]) -> None:
        mirror = Mirror(
            self.tracker,
            self.study,
            self.plan,
            self.space,
            self.folder,
            keep_provenance(self.folder, collect(Path.cwd())),
        )
        shelf = weights.Shelf(self.study, self.folder, self.space, self.tracker, self.plan.keep)
        trials = engine.counted(self.study.get_trials(deepcopy=False))
        wrong_parent = self._wrong_parent(parent)
        if parent is None or "parameters" in wrong_parent:
            mirror.describe_study()
        changed = bool(wrong_parent)
        for trial in trials:
            wrong = self._wrong_child(mirror, trial, children.get(trial.number), parent)
            offered = (store.trial_folder(self.folder, trial.number) / "model").is_dir()
            if not wrong and not offered:
                continue
            changed = True
            run = self._mend_run(mirror, trial, children.get(trial.number), wrong)
            if offered and trial.state.is_finished() and shelf.offer(run, trial):
                self.fix(f"trial {trial.number}: its weights were not in MLflow; uploaded")
        self._settle(mirror, shelf)
        self._weights(shelf)
        if changed:
            self._end_study(mirror, trials, wrong_parent)
        self._settle(mirror, shelf)
        for failure in self.tracker.outbox.failures:
            self.give_up(f"MLflow refused: {failure}")
        done = [t.number for t in trials if t.state.is_finished()]
        if self.study.user_attrs.get(MIRRORED) != done and not self.tracker.outbox.failures:
            self.study.set_user_attr(MIRRORED, done)

    def _settle(self, mirror: Mirror, shelf: weights.Shelf) -> None:
        if not self.tracker.settle(10.0, PATIENCE) and self.tracker.outbox.pending:
            raise SearchError("MLflow went away meanwhile; nothing is lost: run reconcile again once it is back")
        mirror.note_made()
        shelf.settle()

    def _end_study(self, mirror: Mirror, trials: Sequence[FrozenTrial], wrong: Sequence[str]) -> None:
        ended = self.study.user_attrs.get("ended") or {"status": "KILLED", "reason": "the coordinator was killed"}
        if not self.study.user_attrs.get("ended"):
            self.study.set_user_attr("ended", ended)
        mirror.end_study(ended["status"], ended["reason"], pictures=ended["status"] != "KILLED")
        if wrong:
            self.fix(f"the study's own run: {', '.join(wrong)}")

    def _wrong_parent(self, parent: Found | None) -> list[str]:
        """What is wrong with the study's own run."""
        if parent is None:
            return ["it was gone", "parameters"]
        ended = self.study.user_attrs.get("ended") or {"status": "KILLED"}
        wrong = ["deleted"] if parent.deleted else []
        wrong += [f"status {parent.status}, not {ended['status']}"] if parent.status != ended["status"] else []
        wrong += [] if {"trial_count", "trials"} & set(parent.params) else ["parameters"]
        files = {"trials.csv", "provenance.json"}
        if figures.ranked(self.study) and ended["status"] != "KILLED":
            files.add("figures")
        gone = sorted(files - parent.artifacts)
        wrong += [f"without {', '.join(gone)}"] if gone else []
        if "provenance.json" in gone:
            wrong.append("parameters")
        if "mlflow.note.content" not in parent.tags:
            wrong.append("without its note")
        return wrong

    def _wrong_child(self, mirror: Mirror, trial: FrozenTrial, child: Found | None, parent: Found | None) -> list[str]:
        """What is wrong with a trial's run."""
        if child is None:
            return ["it was gone"]
        folder = store.trial_folder(self.folder, trial.number)
        recorded = store.epochs(folder)
        status = STATUS[trial.state] if trial.state.is_finished() else "SCHEDULED"
        wrong = ["deleted"] if child.deleted else []
        wrong += [f"status {child.status}, not {status}"] if child.status != status else []
        wrong += ["under no study"] if parent and child.tags.get(PARENT) != parent.run_id else []
        wrong += ["not the run noted"] if links.run_id(self.study, trial) != child.run_id else []
        wrong += ["parameters"] if _lacks(child.params, mirror.params(trial)) else []
        wanted = mirror.end_tags(trial) if trial.state.is_finished() else {"search.trial.state": "paused"}
        wrong += (
            ["tags"] if _lacks(child.tags, wanted | {"search.config.hash": trial.user_attrs["config.hash"]}) else []
        )
        wrong += ["dataset"] if not child.datasets else []
        files = {*FINISHED_FILES, *(name for name in ("model_summary.txt", "error.txt") if (folder / name).is_file())}
        if recorded and trial.state.is_finished():
            files.add("learning_curves.png")
        gone = sorted(files - child.artifacts)
        wrong += [f"without {', '.join(gone)}"] if gone else []
        lacking, doubled = _against(child, recorded)
        wrong += [f"metrics of epochs {_list(lacking)}"] if lacking else []
        if doubled:
            wrong.append(f"{DOUBLED} {_list(doubled)}")
        return wrong

    def _mend_run(self, mirror: Mirror, trial: FrozenTrial, child: Found | None, wrong: Sequence[str]) -> Any:
        if any(w.startswith(DOUBLED) for w in wrong) and child is not None:
            # MLflow can take no point back, so the run is made anew from the record.
            versions = removal.remove_run(self.tracker.connection, child.run_id)
            if versions:
                self.give_up(
                    f"trial {trial.number}: {', '.join(wrong)}; it stays, for {', '.join(versions)} came from it"
                )
                return mirror.trial(trial, fresh=False)
            weights.forget(self.study, trial.number)
            links.remember(self.study, trial, "")
        if trial.state.is_finished():
            run = mirror.replay(trial)
        else:
            run = mirror.attempt(trial, fresh=False)
            mirror.paused(run)
        if wrong:
            self.fix(f"trial {trial.number}, its run: {', '.join(wrong)}")
        return run

    def _weights(self, shelf: weights.Shelf) -> None:
        """Kept weights that are gone are noted as gone; whole ones that nobody noted are noted or removed."""
        trials = {t.number: t for t in engine.counted(self.study.get_trials(deepcopy=False))}
        by_run = {links.run_id(self.study, t): t for t in trials.values()}
        there = {m.model_id: m for m in audit.models(self.tracker.connection, [r for r in by_run if r])}
        for each in weights.kept(self.study):
            if each.model_id not in there or not there[each.model_id].whole:
                weights.forget(self.study, each.number)
                self.give_up(f"trial {each.number}: its weights ({each.model_id}) are gone from MLflow")
        known = {k.model_id for k in weights.kept(self.study)}
        for model in there.values():
            trial = by_run[model.run_id]
            if model.model_id in known or model.registered:
                continue
            value = figures.value_of(trial, self.study)
            has = weights.model_id(self.study, trial.number)
            if model.whole and not has and value is not None and trial.state.is_finished() and shelf.has_room(value):
                weights.remember(self.study, weights.Kept(trial.number, value, model.model_id))
                self.fix(f"trial {trial.number}: its weights were in MLflow and not noted")
            else:
                removal.remove_model(self.tracker.connection, model.model_id)
                self.fix(f"trial {trial.number}: a model that is not kept ({model.model_id}) was removed")


DOUBLED = "doubled metrics at epochs"


def _steps(child: Found, metric: str) -> dict[int, tuple[float, dict[str, float]]]:
    """(time in seconds, metrics) of each epoch that MLflow has whole."""
    epochs: dict[int, tuple[float, dict[str, float]]] = {}
    for key, points in child.metrics.items():
        if key == f"best_{metric}":
            continue
        for point in points:
            epochs.setdefault(point.step, (point.timestamp / 1000, {}))[1].setdefault(key, point.value)
    names = max((set(metrics) for _, metrics in epochs.values()), key=len, default=set())
    return {step: found for step, found in epochs.items() if metric in found[1] and set(found[1]) == names}


def _against(child: Found, recorded: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """(epochs of which a metric is missing, epochs of which one is there twice)."""
    lacking, doubled = set(), set()
    for event in recorded:
        for key, value in event["metrics"].items():
            points = [p for p in child.metrics.get(key, ()) if p.step == event["epoch"]]
            if not points and not math.isinf(value):
                lacking.add(event["epoch"])
            if len(points) > 1:
                doubled.add(event["epoch"])
    return sorted(lacking), sorted(doubled)


def _lacks(have: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return any(have.get(str(name)) != str(value)[: len(have.get(str(name), ""))] for name, value in wanted.items())


def _differences(row: FrozenTrial, expected: FrozenTrial) -> list[str]:
    """In what a stored trial differs from its record; what only the store knows is not looked at."""
    wrong = []
    if row.state != expected.state:
        wrong.append(f"state {row.state.name}, not {expected.state.name}")
    if expected.state == TrialState.COMPLETE and row.state == expected.state and row.value != expected.value:
        wrong.append("value")
    if row.params != expected.params:
        wrong.append("parameters")
    lacking = [k for k, v in expected.user_attrs.items() if k != "attempts" and row.user_attrs.get(k) != v]
    wrong += ["attributes"] if lacking else []
    if any(not _same(row.intermediate_values.get(k), v) for k, v in expected.intermediate_values.items()):
        wrong.append("epochs")
    if expected.constraints and not row.constraints:
        wrong.append("constraints")
    return wrong


def _same(one: float | None, other: float) -> bool:
    return one is not None and (one == other or (one != one and other != other))


def _timed(trial: FrozenTrial, events: Sequence[Mapping[str, Any]]) -> FrozenTrial:
    """With the times of its record instead of now."""
    begins = [e["time"] for e in events if e["event"] == "attempt"]
    ends = [e["time"] for e in events if e["event"] == "finished"]
    if begins:
        trial.datetime_start = datetime.fromtimestamp(begins[0])
    if trial.state.is_finished() and ends:
        trial.datetime_complete = datetime.fromtimestamp(ends[-1])
    return trial


def _list(numbers: Sequence[int]) -> str:
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
