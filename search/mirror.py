"""One study in MLflow: what its record says, sent as it happens and again, unchanged, after an outage or a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import auditing, explain, figures, links, pareto, store, versions
from search.engines import optuna as engine
from search.goals import final
from search.links import RUN_ID
from search.plan import DATA, DECLARED, Plan
from search.ranking import JUDGED, figures_of, ranked
from search.specs import DATA_SEED, goals_of
from search.trial.schedule import best_epoch
from search.versions import ASIDE, ASSUMED
from search.warm import FILE as WARM_FILE
from search.warm import FROM as WARM_FROM
from spaces import Space
from spaces.datasets import DataSpec, describe
from tracking.figures import learning_curves
from tracking.provenance import Provenance
from tracking.runs import DatasetInfo, Run, Tracker

STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}
IDENTITY, REASON, MIRRORED = "id", "reason", "mirrored"
TOLD = ("attempts", REASON, "error", *JUDGED)  # of a trial, beside what it was proposed as
UNLOGGED = (
    "cuts",
    "left_out",
    "said",
    "narrowings",
    "repeats",
    "dataset",
    "warm_start",
    "auto",
    "why",
    "executor",
    "table",
    "table_digest",
    "objectives",
    "limits",
    DECLARED,
    DATA,
)  # of a plan: no parameter of its run
TEXTS = ("trial.json", "model_summary.txt", "error.txt")  # artifacts that are files of the trial's folder


class Mirror:
    """Sends a study and its trials to MLflow; nothing here waits for it.

    `provenance` names the file that `keep_provenance` wrote for this process.
    """

    def __init__(
        self, tracker: Tracker, study: optuna.Study, plan: Plan, space: Space, folder: Path, provenance: str
    ) -> None:
        self.tracker, self.study, self.plan, self.space, self.folder = tracker, study, plan, space, folder
        self.provenance = provenance
        self.goals = goals_of(plan, space)
        self.data: DataSpec = describe(space.dataset)
        self.identity: str = study.user_attrs[IDENTITY]
        self.runs: dict[int, Run] = {}
        self._shown: set[str] = set()
        self._made: SimpleQueue[tuple[int | None, str]] = SimpleQueue()
        self.version_tags = versions.tagger(study)
        self.parent = tracker.start_study(
            plan.study,
            identity=self.identity,
            tags=self._common_tags() | {"search.seed": str(plan.seed)},
            note=f"{space.summary}. Still running.",
            known=study.user_attrs.get(RUN_ID, ""),
            on_made=lambda run_id: self._made.put((None, run_id)),
        )

    def note_made(self) -> None:
        """Remember in the study store which runs MLflow made meanwhile."""
        try:
            while True:
                number, run_id = self._made.get_nowait()
                if number is None:
                    self.study.set_user_attr(RUN_ID, run_id)
                    self.study.set_user_attr(links.EXPERIMENT_ID, self.tracker.experiment_id)
                else:
                    links.remember(self.study, engine.numbered(self.study, number), run_id)
        except Empty:
            return

    # ---- the study's own run

    def describe_study(self) -> None:
        """What the parent run says before there are trials; the same again changes nothing."""
        plan = self.plan
        said = self.study.user_attrs["plan.first"]  # parameters are written once; a resumed plan may differ
        params = {k: _text(v) for k, v in said.items() if k not in UNLOGGED}
        params |= {"dataset": self.data.name} if plan.dataset else {}
        params |= {"warm_start": ", ".join(plan.warm_start)} if plan.warm_start else {}
        params |= {name: _text(texts) for name in ("objectives", "limits") if (texts := said.get(name))}
        params |= {f"space.{name}": text for name, text in plan.narrowings.items()}
        params |= {f"cut.{i}": cut for i, cut in enumerate(plan.cuts)}
        self.tracker.set_params(self.parent, params)
        self._send_provenance(self.parent, [self.provenance], {"study": plan.seed})
        version = versions.current(self.study.user_attrs)
        if self.space.path:
            self.tracker.log_file(self.parent, self.space.path, "space" if version == 1 else f"space/version-{version}")
        if version > 1:
            self.tracker.set_tags(self.parent, {"search.version": version})
            self.tracker.log_text(self.parent, "versions.json", versions.told(self.study.user_attrs))
        if (self.folder / WARM_FILE).is_file():
            self.tracker.log_file(self.parent, self.folder / WARM_FILE)

    def end_study(self, status: str, reason: str, *, pictures: bool) -> None:
        """The table, pictures, note and best trial of the study as it stands, then its status."""
        self._pictures_of_data()
        best = ranked(self.study)
        skipped: list[str] = []
        if best and pictures:
            drawn, skipped = explain.drawn(self.study, self.space, self.goals)
            for path, content in drawn.items():
                self.tracker.log_bytes(self.parent, path, content)
        note = figures.summary(self.study, self.space, self.plan, self.goals, skipped)
        tags = {"mlflow.note.content": note, "search.reason": reason or "all trials done"}
        found = auditing.audit(self.study)
        if found is not None:
            tags |= {f"search.audit.{name}": f"{getattr(found, name):.6g}" for name in ("audited", "wrong", "share")}
        if best:
            tags |= {
                "search.best.trial": str(best[0].number),
                "search.best.value": f"{best[0].values[0]:.6g}",
                "search.best.run_id": links.run_id(self.study, best[0]),
            }
            # Its place among the finished, at its own time: the same best again changes nothing, a new one is later.
            done = sorted(_ended(t) for t in self.study.get_trials(deepcopy=False) if t.state.is_finished())
            values = self.goals.values_of(best[0].values, figures_of(best[0]))
            bests = {f"best_{name}": value for name, value in values.items()}
            place, since = versions.place(self.study.user_attrs)  # that of an older version must not stay the latest
            place, since = max(done.index(_ended(best[0])), place), max(_ended(best[0]), since)
            self.tracker.log_epoch(self.parent, place, bests, since)
        if best and self.goals.several:
            tags["search.front"] = ", ".join(str(t.number) for t in pareto.front(self.study))
            self.tracker.log_text(self.parent, pareto.FILE, pareto.table(self.study, self.goals))
        self.tracker.log_text(self.parent, "trials.csv", figures.table(self.study, self.goals))
        self.tracker.finish(self.parent, status, tags)

    # ---- a trial's run

    def trial(self, frozen: FrozenTrial, *, fresh: bool) -> Run:
        """The run of a trial, the same for every attempt; `fresh` says that no process before can have made it."""
        number, baseline = frozen.number, frozen.user_attrs.get("baseline")
        known = links.run_id(self.study, frozen)
        run = self.tracker.start_trial(
            self.parent,
            number,
            identity=self.identity,
            name=f"trial {number}" + (f" ({baseline})" if baseline else ""),
            tags=self._trial_tags(frozen) | {"search.trial.state": "RUNNING"},
            known=known,
            fresh=fresh,
            on_made=lambda run_id: self._made.put((number, run_id)),
        )
        self.runs[number] = run
        return run

    def attempt(self, frozen: FrozenTrial, *, fresh: bool) -> Run:
        """An attempt at a trial is recorded and begins; sends what MLflow may not have of it."""
        run = self.trial(frozen, fresh=fresh)
        self._describe(run, frozen)
        if not fresh:
            self.tracker.reopen(run)
            self._epochs(run, frozen.number)
        self.tracker.set_tags(run, {"search.trial.state": "RUNNING"})
        return run

    def epoch(self, run: Run, event: Mapping[str, Any]) -> None:
        """One epoch, at the time it was recorded."""
        self.tracker.log_epoch(run, event["epoch"], event["metrics"], int(event["time"] * 1000))

    def started(self, run: Run, folder: Path) -> None:
        """The network is built and its data loaded."""
        self.tracker.set_tags(run, _split(folder))
        self._texts(run, folder)
        self._pictures_of_data()

    def paused(self, run: Run) -> None:
        """A trial waits to go on."""
        self.tracker.finish(run, "SCHEDULED", {"search.trial.state": "paused"})

    def end(self, run: Run, frozen: FrozenTrial) -> None:
        """The end of a trial: its best epoch, its learning curves, its state. The same again changes nothing."""
        folder = store.trial_folder(self.folder, frozen.number)
        recorded = store.epochs(folder)
        self._texts(run, folder)
        if recorded:
            history: Sequence[Mapping[str, Any]] = [event["metrics"] for event in recorded]
            best = best_epoch(history, self.space.metric, self.space.direction)
            title = f"{self.plan.study}, trial {frozen.number}"
            self.tracker.log_made(run, "learning_curves.png", lambda: learning_curves(history, title))
            finals = self.finals(frozen, history[best])
            self.tracker.log_epoch(run, best, finals, int(recorded[best]["time"] * 1000))
        self.tracker.finish(run, STATUS[frozen.state], self.end_tags(frozen), end_time_ms=_ended(frozen))

    def finals(self, frozen: FrozenTrial, best: Mapping[str, float]) -> dict[str, float]:
        """The metrics of an ended trial as a whole, logged at its `best` epoch."""
        judged = {} if self.goals.plain else figures_of(frozen)
        return {final(self.goals.metric): best[self.goals.metric]} | {final(n): v for n, v in judged.items()}

    def end_tags(self, frozen: FrozenTrial) -> dict[str, str]:
        """How a trial ended, as tags."""
        attrs, folder = frozen.user_attrs, store.trial_folder(self.folder, frozen.number)
        tags = {"search.trial.state": frozen.state.name, "search.trial.attempts": str(attrs.get("attempts", 0))}
        tags |= {f"search.trial.{name}": str(attrs[name]) for name in (REASON, "error") if attrs.get(name)}
        history = [event["metrics"] for event in store.epochs(folder)]
        if history:
            best = best_epoch(history, self.space.metric, self.space.direction)
            tags["search.trial.best_epoch"] = str(best)
        return tags

    def replay(self, frozen: FrozenTrial) -> Run:
        """Everything of a finished trial again."""
        run = self.trial(frozen, fresh=False)
        self._describe(run, frozen)
        self._epochs(run, frozen.number)
        self.end(run, frozen)
        return run

    def params(self, frozen: FrozenTrial) -> dict[str, Any]:
        """A trial's parameters in MLflow."""
        attrs = frozen.user_attrs
        milestones = {"milestone_epochs": ",".join(map(str, attrs["milestones"]))} if attrs.get("milestones") else {}
        fixed = {name: attrs[name] for name in ("epochs", "parameters", "seed")}
        return attrs["config"] | fixed | {"precision": self.plan.precision} | self._images() | milestones

    def _describe(self, run: Run, frozen: FrozenTrial) -> None:
        attrs, folder = frozen.user_attrs, store.trial_folder(self.folder, frozen.number)
        self.tracker.set_tags(run, self._trial_tags(frozen))
        self.tracker.set_params(run, self.params(frozen))
        self.tracker.log_dataset(run, self._dataset_info())
        config = json.dumps(attrs["config"], indent=2, sort_keys=True)
        self.tracker.log_text(run, "config.json", config + "\n")
        seeds = {"trial": attrs["seed"], "study": self.plan.seed, "split": DATA_SEED, "proposal": attrs["asked.seed"]}
        began = [e.get("provenance", "") for e in store.attempts(folder)]
        self._send_provenance(run, began or [self.provenance], seeds)

    def _epochs(self, run: Run, number: int) -> None:
        for event in store.epochs(store.trial_folder(self.folder, number)):
            self.epoch(run, event)

    def _texts(self, run: Run, folder: Path) -> None:
        for name in TEXTS:
            if (folder / name).is_file():
                self.tracker.log_text(run, name, (folder / name).read_text(errors="replace"))

    def _trial_tags(self, frozen: FrozenTrial) -> dict[str, str]:
        folder = store.trial_folder(self.folder, frozen.number)
        attrs, attempts = frozen.user_attrs, store.attempts(folder)
        return (
            self._common_tags()
            | _split(folder)
            | {
                "search.config.hash": attrs["config.hash"],
                "search.seed": str(attrs["seed"]),
                "search.trial.attempts": str(attrs.get("attempts", 0)),
                "search.backend": self.plan.backend,
                **({"search.device": attempts[-1]["slot"]} if attempts else {}),
                **({"search.baseline": attrs["baseline"]} if "baseline" in attrs else {}),
                **self.version_tags(frozen.number),
                **{f"search.{name}": str(attrs[name]) for name in (ASSUMED, ASIDE, WARM_FROM) if name in attrs},
                **{f"search.{name}": str(value) for name, value in attrs.items() if name.startswith("repeat.")},
            }
        )

    def _common_tags(self) -> dict[str, str]:
        facts = store.read_json(self.folder / "provenance" / f"{self.provenance}.json") or {}
        git = {f"mlflow.source.git.{name}": facts[name] for name in ("commit", "branch") if facts.get(name)}
        return {
            "search.study": self.plan.study,
            "search.space": self.space.name,
            "search.space.hash": _file_hash(self.space.path),
            "search.dataset": self.data.name,
            "search.data.digest": self.data.digest,
            **self._goal_tags(),
            "mlflow.source.name": "python -m search",
            "mlflow.source.type": "LOCAL",
            **({"search.simulated": Path(self.plan.table).name} if self.plan.table else {}),
            **git,
        }

    def _goal_tags(self) -> dict[str, str]:
        """What the study is after, where it is not the space's own objective alone."""
        said = {"search.objectives": self.plan.objectives, "search.limits": self.plan.limits}
        tags = {name: ", ".join(texts) for name, texts in said.items() if texts}
        return tags | ({"search.metric": self.goals.metric, "search.direction": self.goals.direction} if tags else {})

    def _pictures_of_data(self) -> None:
        """Those that workers have drawn since this was last asked."""
        for path in store.pictures_of_data(self.folder):
            if path.name not in self._shown:
                self._shown.add(path.name)
                self.tracker.log_file(self.parent, path, "data")

    def _images(self) -> dict[str, int]:
        """How many images a trial trains and validates on."""
        train = self.plan.train_limit or self.data.fitting_size
        validation = self.plan.validation_limit or self.data.validation_size
        if self.plan.merged:
            train, validation = train + validation, 0
        return {"train_images": train, "validation_images": validation}

    def _dataset_info(self) -> DatasetInfo:
        data = self.data
        return DatasetInfo(
            name=data.name,
            digest=data.digest,
            source=f"{data.name}, {data.digest[:12]}",
            profile={
                "input_shape": list(data.input_shape),
                "classes": data.classes,
                **self._images(),
                "split_seed": DATA_SEED,
            },
            schema=None,
        )

    def _send_provenance(self, run: Run, keys: Sequence[str], seeds: Mapping[str, int | None]) -> None:
        """Where a result came from: the code of the first attempt, and of every later one where it differs."""
        folder = self.folder / "provenance"
        told = [store.read_json(folder / f"{key}.json") for key in keys]
        first = next((facts for facts in told if facts), None)
        if first is None:
            return
        facts = {**first, "seeds": dict(seeds)}
        if len(set(keys)) > 1:
            facts["attempts"] = [{"commit": f["commit"], "dirty": f["dirty"]} if f else {} for f in told]
        self.tracker.log_text(run, "provenance.json", json.dumps(facts, indent=2) + "\n")
        for number, key in enumerate(dict.fromkeys(keys), 1):
            if (folder / f"{key}.patch").is_file():
                name = "diff.patch" if number == 1 else f"diff-{number}.patch"
                self.tracker.log_text(run, name, (folder / f"{key}.patch").read_text(errors="replace"))


def keep_provenance(study_folder: Path, found: Provenance) -> str:
    """Write down where results of this process come from; returns the name to find it by."""
    facts = {
        "commit": found.commit,
        "branch": found.branch,
        "dirty": found.dirty,
        "versions": found.versions,
        "hardware": found.hardware,
        "command": found.command,
    }
    text = json.dumps(facts, sort_keys=True) + found.diff
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = study_folder / "provenance"
    if not (folder / f"{key}.json").is_file():
        if found.diff:
            store.write_text(folder / f"{key}.patch", found.diff)
        store.write_json(folder / f"{key}.json", facts)
    return key


def _split(folder: Path) -> dict[str, str]:
    """The tag of the data a trial was split from, known once it has started."""
    found = [event["split"] for event in store.events(folder) if event["event"] == "started"]
    return {"search.data.split": found[-1]} if found else {}


def _ended(trial: FrozenTrial) -> int:
    """When a trial ended, in ms since 1970."""
    return int(trial.datetime_complete.timestamp() * 1000) if trial.datetime_complete else 0


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _file_hash(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""
