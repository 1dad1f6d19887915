"""Mends one study: folders, study store and MLflow are each restored from what the others know.

The folders say what happened in every epoch, the study store which state a trial is in, MLflow mirrors both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import links, mismatch, ranking, restore, store, warm, weights
from search.engines import optuna as engine
from search.engines import rows
from search.errors import SearchError
from search.mirror import IDENTITY, MIRRORED, TEXTS, Mirror, keep_provenance
from search.mismatch import spans
from search.plan import Plan
from search.restore import Remains
from search.specs import goals_of
from search.trial import checkpoints
from search.versions import is_left, left_now, placeholder, recorded, thawed
from search.versions import left as left_behind
from spaces import Space
from spaces.datasets import describe
from tracking import audit, removal
from tracking.audit import Found
from tracking.provenance import collect
from tracking.runs import KIND, NUMBER, PARENT, STUDY, Run, Tracker
from tracking.values import Point

PATIENCE = 600.0  # seconds for MLflow to take what was missing
ANEW = "(MLflow can take nothing back: made anew)"


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
        *,
        files_gone: bool = False,
    ) -> None:
        self.files_gone = files_gone  # a person said that MLflow's files are lost, and not only away
        self.study, self.plan, self.space, self.folder = study, plan, space, folder
        self.tracker, self.say = tracker, say
        self.goals, self.data = goals_of(plan, space), describe(space.dataset)
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
        self.study = rows.sweep(self.study)
        found = self._found()
        self._check_files([run for _, run in found if not run.deleted])
        parent, children = self._one_each(found)
        self._what_it_learns_from(parent)
        rewritten = self._rows(children)
        self._leftovers()
        self._mlflow(parent, children, rewritten)

    # ---- what there is

    def _trials(self) -> list[FrozenTrial]:
        return engine.counted(self.study.get_trials(deepcopy=False))

    def _left_behind(self) -> list[FrozenTrial]:
        """Those of earlier versions, as they were."""
        return [trial for trial, _, _ in left_behind(self.study.get_trials(deepcopy=False))]

    def _found(self) -> list[tuple[int | None, Found]]:
        """Every run of the study in MLflow with its trial's number (None: the study's own), however it is known."""
        connection = self.tracker.connection
        everything = self.study.get_trials(deepcopy=False)
        noted = {links.run_id(self.study, t): t.number for t in everything}
        mine = str(self.study.user_attrs.get(links.RUN_ID, ""))
        by_hash = {t.user_attrs["config.hash"]: t.number for t in everything if "config.hash" in t.user_attrs}
        found = audit.runs(connection, self.identity)
        seen = {run.run_id for run in found}
        found += [r for i in (mine, *noted) if i and i not in seen for r in [audit.run(connection, i)] if r]
        known: list[tuple[int | None, Found]] = []
        for run in found:
            if run.run_id == mine or (run.tags.get(KIND) == "study" and run.run_id not in noted):
                known.append((None, run))
                continue
            number = noted.get(run.run_id, run.number)
            number = by_hash.get(run.tags.get("search.config.hash", "")) if number is None else number
            if number is not None:
                known.append((number, run))
            elif not run.deleted:
                self.give_up(f"run {run.run_id} says that it is of this study and not of which trial; it is left alone")
        return known

    def _check_files(self, found: Sequence[Found]) -> None:
        """Raises SearchError where not one file of any ended run is there: their store is away, and nothing is lost."""
        ended = [run for run in found if run.status in ("FINISHED", "KILLED", "FAILED")]
        if self.files_gone or not ended or any(run.artifacts for run in found):
            return
        connection = self.tracker.connection
        there = [audit.model(connection, kept.model_id) for kept in weights.kept(self.study)]
        if any(model is not None and model.size for model in there):
            return
        raise SearchError(
            f"MLflow has {len(found)} runs of study {self.plan.study!r} and not one of their files in "
            f"{audit.place(connection)}: bring that back; nothing was changed. Only where the files are lost for good: "
            f"python -m search reconcile {self.plan.study} --files-are-lost"
        )

    def _one_each(self, found: Sequence[tuple[int | None, Found]]) -> tuple[Found | None, dict[int, Found]]:
        """Of several runs of one trial, or of the study, one stays: the one noted, else the fullest."""
        kept: dict[int | None, Found] = {}
        noted = {links.run_id(self.study, t) for t in self.study.get_trials(deepcopy=False)}
        noted |= {str(self.study.user_attrs.get(links.RUN_ID, ""))}

        def worth(entry: tuple[int | None, Found]) -> tuple[bool, bool, int]:
            run = entry[1]
            return run.run_id not in noted, run.deleted, -sum(map(len, run.metrics.values()))

        for number, run in sorted(found, key=worth):
            if number not in kept:
                kept[number] = run
            elif not run.deleted and number is not None and self._has_own_epochs(number, run, kept[number]):
                self.give_up(
                    f"trial {number} has two runs with epochs of their own, {kept[number].run_id} and {run.run_id}: "
                    "a copy of this study trained it too; both stay"
                )
            elif not run.deleted:
                versions = removal.remove_run(self.tracker.connection, run.run_id)
                who = "the study" if number is None else f"trial {number}"
                if versions:
                    self.give_up(f"{who} has two runs; {run.run_id} stays, for {', '.join(versions)} came from it")
                else:
                    self.fix(f"{who} had two runs; {run.run_id} was removed")
        return kept.pop(None, None), {number: run for number, run in kept.items() if number is not None}

    def _has_own_epochs(self, number: int, run: Found, kept: Found) -> bool:
        """Whether a trial's second run has what neither the one that is kept nor the trial's record has."""
        recorded = store.epochs(store.trial_folder(self.folder, number))
        known = {(p.key, p.step, p.timestamp) for p in mismatch.points(recorded)}
        known |= {(p.key, p.step, p.timestamp) for points in kept.metrics.values() for p in points}
        return any((p.key, p.step, p.timestamp) not in known for points in run.metrics.values() for p in points)

    # ---- folders and the study store

    def _what_it_learns_from(self, parent: Found | None) -> None:
        text = audit.text(self.tracker.connection, parent.run_id, warm.FILE) if parent else None
        try:
            line = warm.mend(self.study, self.folder, text)
        except SearchError as error:
            self.give_up(f"{error}; from here on the study learns from its own trials alone")
            self.study.set_user_attr(warm.WARM, None)
            written = store.read_json(self.folder / "study.json") or {}
            store.write_json(self.folder / "study.json", written | {"attributes": recorded(self.study.user_attrs)})
            return
        if line:
            self.fix(line)

    def _rows(self, children: Mapping[int, Found]) -> bool:
        """Give back to folders and study store what either, or MLflow, knows; whether rows were written."""
        by_number = {t.number: t for t in self.study.get_trials(deepcopy=False)}
        folders, again = store.trial_folders(self.folder), {}
        behind = left_now(self.study.user_attrs)
        shelved = {each.number: [each.value, each.model_id] for each in weights.noted(self.folder)}
        last = max((*by_number, *children, *(n for n, folder in folders.items() if _was_begun(folder))), default=-1)
        names = {name for folder in folders.values() for event in store.epochs(folder) for name in event["metrics"]}
        for number in range(max((*by_number, *folders, *children), default=-1) + 1):
            row, stays = by_number.get(number), number in behind
            if row is not None and engine.REFUSED in row.user_attrs and not (stays and is_left(row)):
                continue
            was = thawed(row) if row is not None and is_left(row) else row
            left = self._remains(number, was, children.get(number))
            if number > last:
                shutil.rmtree(left.folder)  # killed between writing it down and storing it: it was never a trial
                self.fix(f"trial {number}: a folder of a trial that was never stored was removed")
                continue
            wanted = self._restored(left, names)
            if wanted is not None and stays and engine.REFUSED not in wanted.user_attrs:
                wanted.number = number
                wanted = placeholder(wanted, behind[number]["why"], behind[number]["version"], shelved.get(number))
            if wanted is not None:
                again[number] = wanted
        self.study = rows.put_back(self.study, again)
        return bool(again)

    def _remains(self, number: int, row: FrozenTrial | None, run: Found | None) -> Remains:
        def text(path: str) -> str | None:
            return audit.text(self.tracker.connection, run.run_id, path) if run else None

        return Remains(number, store.trial_folder(self.folder, number), row, run, text)

    def _restored(self, left: Remains, names: Set[str]) -> FrozenTrial | None:
        """Mend a trial's folder; gives its row where that must be written anew."""
        number = left.number
        left.record, where = restore.record(left, self.space, self.plan)
        if left.record is None:
            return self._unknown(left)
        if where:
            store.write_json(left.folder / "trial.json", left.record)
            self.fix(f"trial {number}: trial.json was gone or damaged; made again from {where}")
        had, damaged = restore.recorded(left.folder, self.goals.metric)
        known = self.goals.known(self.space, left.record["attributes"]["config"], self.data)
        events, gone = restore.events(left, had, self.goals, known, names, self._began_with(left.run))
        if damaged or len(events) > len(had):
            store.write_events(left.folder, events)
        else:
            gone = []  # said when it was lost
        if damaged:
            self.fix(f"trial {number}: events.jsonl had {store.lines(damaged)}; removed")
        if len(events) > len(had):
            self.fix(f"trial {number}: events.jsonl had lost {_what(events, had)}; read back from the stores")
        for line in gone:
            self.give_up(line)
        wanted = restore.row(left, events, self.goals)
        if left.row is None:
            if _was_begun(left.folder) and not events:
                self.give_up(f"trial {number}: its epochs and its end are gone from everywhere; resume trains it again")
            self.fix(f"trial {number}: was gone from the study store; put back")
            return wanted
        wrong = restore.differences(left.row, wanted)
        if not wrong:
            return None
        if wrong == ["attributes"] and not left.row.state.is_finished():
            trial = engine.reopen(self.study, left.row)
            for key, value in wanted.user_attrs.items():
                trial.set_user_attr(key, value)
            self.fix(f"trial {number}: lacked attributes in the study store, or was left as running; mended")
            return None
        if wrong == ["epochs"] and not left.row.state.is_finished():
            trial = engine.reopen(self.study, left.row)  # killed between writing an epoch down and reporting it
            for step, value in wanted.intermediate_values.items():
                if step not in left.row.intermediate_values:
                    trial.report(value, step)
            self.fix(f"trial {number}: the study store lacked epochs; reported again")
            return None
        self.fix(f"trial {number}: was damaged in the study store ({', '.join(wrong)}); put back")
        return wanted

    def _unknown(self, left: Remains) -> FrozenTrial:
        """Nobody knows its configuration; its number stays taken, for Optuna would give it twice."""
        known = [f"its run is {left.run.run_id}"] if left.run else []
        known += [f"its folder is {left.folder}"] if left.folder.is_dir() else []
        what = f"trial {left.number}: its configuration is gone from everywhere"
        self.give_up("; ".join([what, *known]))
        self.fix(f"trial {left.number}: its number is kept, so that it is not given twice")
        return restore.placeholder(left.row)

    # ---- files

    def _leftovers(self) -> None:
        for path in store.half_written(self.folder):
            path.unlink()
            self.fix(f"{path.relative_to(self.folder)}: half written, removed")
        for trial in self._trials():
            folder = store.trial_folder(self.folder, trial.number)
            if trial.state.is_finished() and checkpoints.files(folder):
                checkpoints.remove(folder)
                self.fix(f"trial {trial.number}: the checkpoint of a finished trial, removed")

    # ---- MLflow

    def _mlflow(self, parent: Found | None, children: Mapping[int, Found], rewritten: bool) -> None:
        if parent is not None and self.study.user_attrs.get(links.RUN_ID) != parent.run_id:
            self.study.set_user_attr(links.RUN_ID, parent.run_id)
        ended = self._ended(parent)
        mirror = Mirror(self.tracker, self.study, self.plan, self.space, self.folder, self._provenance())
        mirror.parent.resumed = True
        shelf = weights.Shelf(self.study, self.folder, self.space, self.tracker, self.plan.keep)
        self._settle(mirror, shelf)
        wrong_parent = mismatch.of_study(mirror, parent, ended)
        if wrong_parent:
            mirror.describe_study()
            self.tracker.set_tags(mirror.parent, mismatch.own_tags(mirror))
        trials, renamed = [*self._trials(), *self._left_behind()], False
        for trial in trials:
            before = links.run_id(self.study, trial)
            self._mend_trial(mirror, shelf, trial, children.get(trial.number))
            self._settle(mirror, shelf)
            renamed |= links.run_id(self.study, trial) != before
        self._weights(shelf)
        if wrong_parent or rewritten or renamed:
            mirror.end_study(ended["status"], ended["reason"], pictures="without figures" in wrong_parent)
        if wrong_parent:
            self.fix(f"the study's own run: {', '.join(wrong_parent)}")
        self._settle(mirror, shelf)
        for failure in self.tracker.outbox.failures:
            self.give_up(f"MLflow refused: {failure}")
        done = sorted(t.number for t in trials if t.state.is_finished())
        if self.study.user_attrs.get(MIRRORED) != done and not self.tracker.outbox.failures:
            self.study.set_user_attr(MIRRORED, done)

    def _settle(self, mirror: Mirror, shelf: weights.Shelf) -> None:
        for _ in range(2):  # what was uploaded may put others off the shelf
            if not self.tracker.settle(10.0, PATIENCE) and self.tracker.outbox.pending:
                raise SearchError("MLflow went away meanwhile; nothing is lost: run reconcile again once it is back")
            mirror.note_made()
            shelf.settle()

    def _provenance(self) -> str:
        """Where the study's results come from: what its first attempt noted, not who mends it."""
        folder = self.folder / "provenance"
        began = [e for f in store.trial_folders(self.folder).values() for e in store.attempts(f)]
        keys = [str(e.get("provenance", "")) for e in sorted(began, key=lambda e: e["time"])]
        keys += [path.stem for path in sorted(folder.glob("*.json"))]
        found = next((key for key in keys if key and store.read_json(folder / f"{key}.json")), None)
        return found or keep_provenance(self.folder, collect(Path.cwd()))

    def _began_with(self, run: Found | None) -> str:
        """The provenance of a trial whose record lost it: the study's only one, or that of its run's commit."""
        paths = sorted((self.folder / "provenance").glob("*.json"), key=lambda p: p.stat().st_mtime)
        commit = run.tags.get("mlflow.source.git.commit") if run else None
        mine = [p.stem for p in paths if commit and (store.read_json(p) or {}).get("commit") == commit]
        return mine[0] if mine else (paths[0].stem if len(paths) == 1 else "")

    def _ended(self, parent: Found | None) -> dict[str, str]:
        """How the study ended: as its store says, else as its run says, else as its trials look."""
        noted = self.study.user_attrs.get("ended")
        if noted:
            return dict(noted)
        if parent is not None and parent.status in ("FINISHED", "KILLED", "FAILED"):
            reason = parent.tags.get("search.reason", "")
            ended = {"status": parent.status, "reason": "" if reason == mismatch.DONE else reason}
        elif sum(t.state.is_finished() for t in self._trials()) >= self.plan.trials:
            ended = {"status": "FINISHED", "reason": ""}
        else:
            ended = {"status": "KILLED", "reason": "the coordinator was killed"}
        self.study.set_user_attr("ended", ended)
        return ended

    def _mend_trial(self, mirror: Mirror, shelf: weights.Shelf, trial: FrozenTrial, child: Found | None) -> None:
        """Bring the run of a trial, and its weights, up to what folder and study store say."""
        number, folder = trial.number, store.trial_folder(self.folder, trial.number)
        wrong, taken, missing = mismatch.of_trial(mirror, trial, child)
        if taken and child is not None:
            versions = audit.registered(self.tracker.connection, child.run_id)
            if versions:
                which = ", ".join(f"{v.name} version {v.version}" for v in versions)
                self.give_up(f"trial {number}, its run: {', '.join(taken)}; it stays, for {which} came from it")
                taken = []
        self._rescue(trial, None if taken else child)
        if taken and child is not None:
            removal.remove_run(self.tracker.connection, child.run_id)
            links.remember(self.study, trial, "")
            wrong, child = [*wrong, *taken, ANEW], None
        elif child is not None and links.run_id(self.study, trial) != child.run_id:
            links.remember(self.study, trial, child.run_id)
        frozen = thawed(engine.numbered(self.study, number))
        offered = trial.state.is_finished() and (folder / "model").is_dir()
        if not wrong and not offered:
            return
        run = self._send(mirror, frozen, missing)
        if wrong:
            self.fix(f"trial {number}, its run: {', '.join(wrong)}")
        if offered and shelf.offer(run, frozen, again=True):
            self.fix(f"trial {number}: its weights were not in MLflow; uploaded")

    def _send(self, mirror: Mirror, trial: FrozenTrial, missing: Sequence[Point]) -> Run:
        """Everything of a trial to its run, which is made where it is gone."""
        began = [str(e.get("provenance", "")) for e in store.attempts(store.trial_folder(self.folder, trial.number))]
        first, mine = mirror.provenance, next((key for key in began if key), mirror.provenance)
        mirror.provenance = mine
        if trial.state.is_finished():
            run = mirror.replay(trial)
        else:
            run = mirror.attempt(trial, fresh=False)
            for path in (store.trial_folder(self.folder, trial.number) / name for name in TEXTS):
                if path.is_file():
                    self.tracker.log_text(run, path.name, path.read_text(errors="replace"))
            mirror.paused(run)
        parent = self.tracker.id_of(mirror.parent)
        self.tracker.set_tags(run, {STUDY: self.identity, KIND: "trial", NUMBER: trial.number, PARENT: parent})
        self.tracker.outbox.put_batch(
            run.lane, metrics=missing
        )  # the mirror looks whether a step is there, not all of it
        mirror.provenance = first
        return run

    # ---- weights

    def _rescue(self, trial: FrozenTrial, child: Found | None) -> None:
        """Bring kept weights back into the trial's folder where MLflow no longer has them under the trial's run.

        `child` is None where that run is gone or about to be.
        """
        noted = {k.number: k for k in (*weights.noted(self.folder), *weights.kept(self.study))}
        each, connection = noted.get(trial.number), self.tracker.connection
        if each is None:
            return
        there = audit.model(connection, each.model_id)
        if there is not None and (there.registered or (there.whole and child and there.run_id == child.run_id)):
            return
        folder = store.trial_folder(self.folder, trial.number) / "model"
        if (folder / "MLmodel").is_file():  # brought back by one that was killed before it could upload it
            weights.forget(self.study, trial.number)
            weights.unnote(self.folder, trial.number)
            return
        aside = folder.with_name("model.rescued")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        if audit.model_files(connection, each.model_id, aside):
            aside.replace(folder)
            if there is not None:
                removal.remove_model(connection, each.model_id)
        else:
            self.give_up(f"trial {trial.number}: its weights ({each.model_id}) are gone from MLflow")
            shutil.rmtree(aside, ignore_errors=True)
        weights.forget(self.study, trial.number)
        weights.unnote(self.folder, trial.number)

    def _weights(self, shelf: weights.Shelf) -> None:
        """Whole weights that nobody noted are noted, or removed where they are not among the best."""
        by_run = {links.run_id(self.study, t): t for t in self._trials()}
        models = audit.models(self.tracker.connection, [run_id for run_id in by_run if run_id])
        known = {k.model_id for k in weights.kept(self.study)}
        for model in models:
            trial = by_run[model.run_id]
            if model.model_id in known or model.registered:
                continue
            mine = ranking.point(trial, self.study)
            has = weights.model_id(self.study, trial.number)
            if model.whole and not has and mine and trial.state.is_finished() and shelf.has_room(mine):
                weights.remember(self.study, weights.Kept(trial.number, mine.values[0], model.model_id))
                self.fix(f"trial {trial.number}: its weights were in MLflow and not noted")
            else:
                removal.remove_model(self.tracker.connection, model.model_id)
                self.fix(f"trial {trial.number}: a model that is not kept ({model.model_id}) was removed")
        best = weights.kept(self.study)[: self.plan.keep]
        for each in weights.kept(self.study):
            if each not in best:  # MLflow was away when they fell
                removal.remove_model(self.tracker.connection, each.model_id)
                weights.forget(self.study, each.number)
                weights.unnote(self.folder, each.number)
                self.fix(f"trial {each.number}: its weights are not among the best {self.plan.keep} and were removed")
            elif each not in weights.noted(self.folder):
                weights.note(self.folder, each)


def _was_begun(folder: Path) -> bool:
    return bool(store.attempts(folder)) or any(folder.glob("attempt-*.json"))


def _what(events: Sequence[Mapping[str, Any]], had: Sequence[Mapping[str, Any]]) -> str:
    """What of a trial's events is new: epochs 0 to 2, attempt, end."""
    old = {e["epoch"] for e in had if e["event"] == "epoch"}
    new = sorted({e["epoch"] for e in events if e["event"] == "epoch"} - old)
    kinds = {e["event"] for e in events} - {e["event"] for e in had} - {"epoch"}
    return ", ".join(([f"epochs {spans(new)}"] if new else []) + sorted(kinds)) or "a verdict"
