"""The story of a study, top to bottom: reconcile, ask, run, report, tell, finish. Read this first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import figures, mirror, store, weights
from search.console import Progress, Row, Screen
from search.engines import optuna as engine
from search.engines.pruners import PRUNERS
from search.errors import FAILED, INTERRUPTED, OK, InputError, SearchError
from search.executors.devices import Slot
from search.executors.local import Died, LocalExecutor
from search.plan import Plan, check_identity, describe_plan
from search.reconcile import MIRRORED, REASON, RUN_ID, reconcile
from search.settings import Settings
from search.trial.schedule import best_epoch
from search.trial.spec import TrialSpec
from search.weights import Kept
from spaces import Baseline, Space, find
from spaces._find import line_of
from spaces.datasets import DataSpec, describe, prepare
from tracking.provenance import Provenance, collect
from tracking.runs import DatasetInfo, Tracker

MAX_CRASHES = 3  # of one trial, after which it fails
MAX_FAILURES = 5  # failed trials in a row after which the fault is the study's
MAX_REFUSED = 200  # refused proposals in a row after which nothing is left to run
TICK = 0.25  # seconds
DATA_SEED = 0  # the split is the dataset's, the same for every study, so that studies can be compared


@dataclass(frozen=True)
class Outcome:
    """How a study's run ended; `reason` is empty where all trials are done."""

    study: str
    experiment_id: str
    run_id: str
    counts: dict[str, int]
    best: tuple[int, float] | None
    reason: str
    exit_code: int


@dataclass
class Active:
    """A trial on a slot: its handle in the study, its run, its spec, its epochs so far."""

    trial: optuna.Trial
    run_id: str
    spec: TrialSpec
    slot: Slot
    history: list[dict[str, float]] = field(default_factory=list)
    mirrored: set[int] = field(default_factory=set)  # epochs MLflow had before this attempt


def run(plan: Plan, settings: Settings, *, quiet: bool = False) -> Outcome:
    """Run or go on with the study of `plan` until its trials are done, its time is up or it is interrupted.

    Raises SearchError, SpaceError or TrackingError with one line for people.
    """
    space = find(plan.space)
    progress = Progress(
        plan.study,
        space.columns,
        space.metric,
        plan.trials,
        max if space.direction == "maximize" else min,
        slots=len(plan.slots),
    )
    screen = Screen(progress, quiet=quiet)
    for line in describe_plan(plan):
        screen.say(line)
    data_folder = prepare(
        space.dataset, cache=settings.cache, data=settings.data, progress=screen.console.is_terminal, say=screen.say
    )
    folder = settings.study_folder(plan.study)
    executor = LocalExecutor(
        plan.slots, folder, backend=plan.backend, max_trials=plan.worker_trials, max_memory=plan.worker_memory
    )
    with store.owned(folder, plan.study):
        tracker = Tracker(settings.tracking_uri, space.name, settings.artifacts)
        study = open_study(plan, space, settings)
        with executor, _signals() as interrupt:
            session = Session(plan, space, study, folder, data_folder, executor, tracker, screen, interrupt)
            with screen:
                session.story()
            interrupt.armed = False  # what is left takes seconds and must not be torn
            return session.finish()


def open_study(plan: Plan, space: Space, settings: Settings) -> optuna.Study:
    """The plan's study in the store, made where it is new. Raises InputError where an old one is a different study."""
    settings.home.mkdir(parents=True, exist_ok=True)
    opened = engine.storage(settings.storage)
    known = {s.study_name for s in engine.studies(opened)}
    pruner = PRUNERS[plan.pruner](plan.epochs)
    study = engine.open_study(
        opened, plan.study, direction=space.direction, pruner=pruner, create=plan.study not in known
    )
    stored = study.user_attrs.get("plan")
    if stored is None and study.get_trials(deepcopy=False):
        raise InputError(f"study {plan.study!r} was not made by this program; choose another name with --study")
    if stored is not None:
        check_identity(plan, stored)
    begun = len(engine.counted(study.get_trials(deepcopy=False)))
    if plan.trials < begun:
        raise InputError(
            f"--trials {plan.trials}: study {plan.study!r} has {begun} trials already; give {begun} or more"
        )
    study.set_user_attr("plan", json.loads(json.dumps((stored or {}) | plan.to_json())))
    return study


class Interrupt:
    """Counts Ctrl-C and SIGTERM."""

    def __init__(self) -> None:
        self.count = 0
        self.armed = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.armed and self.count > 1:
            raise KeyboardInterrupt


@contextmanager
def _signals() -> Iterator[Interrupt]:
    """The first signal asks running trials to checkpoint and stop; the second raises KeyboardInterrupt."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Session:
    """One run of the coordinator over one study."""

    def __init__(
        self,
        plan: Plan,
        space: Space,
        study: optuna.Study,
        folder: Path,
        data_folder: Path,
        executor: LocalExecutor,
        tracker: Tracker,
        screen: Screen,
        interrupt: Interrupt,
    ) -> None:
        self.plan, self.space, self.study, self.folder = plan, space, study, folder
        self.data_folder, self.executor, self.screen, self.interrupt = data_folder, executor, screen, interrupt
        self.data: DataSpec = describe(space.dataset)
        self.tracker = tracker
        self.provenance: Provenance = collect(Path.cwd())
        self.active: dict[int, Active] = {}
        self.waiting: list[FrozenTrial] = []
        self.baselines: list[Baseline] = []
        self.uploaded: SimpleQueue[Kept] = SimpleQueue()
        self.reason = ""  # why running trials are to stop
        self.exhausted = ""  # why there is nothing new to start
        self.nothing_left = False
        self.failures = 0
        self.deadline = None if plan.timeout is None else time.monotonic() + plan.timeout
        self.run_id = ""

    # ---- the story

    def story(self) -> None:
        """Everything between opening the study and drawing its pictures."""
        try:
            self.run_id = self._study_run()
            self.waiting = reconcile(
                self.study, self.folder, self.tracker, self.space, describe=self._describe, say=self.screen.say
            )
            self._count_what_is_done()
            self._drop_fallen()
            while True:
                self._look_at_the_clock()
                if not self.reason:
                    self._fill_slots()
                if not self.active and (self.reason or (self.nothing_left and not self.waiting)):
                    break
                for slot, number, message in self.executor.events(TICK):
                    if number in self.active:
                        self._handle(slot, self.active[number], message)
                self._note_uploads()
        except KeyboardInterrupt:
            self.reason = "interrupted"
            self._kill()
        except BaseException:
            with contextlib.suppress(Exception):  # the study store itself may be what failed
                self._kill()
            if self.run_id:
                self.tracker.finish(self.run_id, "FAILED", {"search.reason": "the coordinator failed"})
            self.tracker.close(timeout=30)
            raise

    def _look_at_the_clock(self) -> None:
        if self.reason:
            return
        if self.interrupt.count:
            self.reason = "interrupted"
            self._stopping("stopping: running trials finish their epoch and checkpoint; Ctrl-C again kills them")
        elif self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = "time limit"
            self._stopping("time is up: running trials finish their epoch and checkpoint")

    def _stopping(self, line: str) -> None:
        self.screen.progress.stopping = line
        self.screen.step(line)

    def _fill_slots(self) -> None:
        for slot in self.executor.free():
            if self.waiting:
                self._start(self.waiting.pop(0), slot)
                continue
            trial = None if self.nothing_left else self._next_trial()
            if trial is None:
                self.nothing_left = True
                return
            self._start(trial, slot)

    # ---- ask

    def _next_trial(self) -> FrozenTrial | None:
        """The next accepted trial, written to the store; None where the total is reached or the space exhausted."""
        for _ in range(MAX_REFUSED):
            if len(engine.counted(self.study.get_trials(deepcopy=False))) >= self.plan.trials:
                return None
            if self.baselines:
                baseline = self.baselines.pop(0)
                proposal = engine.replay(self.space, baseline.config, self.plan.narrowings)
                return engine.accept(self.study, proposal, self._attributes(proposal, baseline))
            try:
                proposal = engine.propose(
                    self.study,
                    self.space,
                    self.plan.narrowings,
                    sampler=self.plan.sampler,
                    seed=self.plan.seed,
                    refuse=self._refuse,
                )
            except engine.Exhausted as exhausted:
                self.exhausted = f"the space is exhausted: {exhausted}"
                return None
            except Exception as error:
                path = self.space.path or Path(self.plan.space)
                where = f"{path}:{line_of(error, path)}: sample() failed: {type(error).__name__}: {error}"
                raise SearchError(where.splitlines()[0]) from error
            trial = engine.accept(self.study, proposal, self._attributes(proposal, None))
            if proposal.refused is None:
                return trial
            self.screen.step(f"refused beforehand: {proposal.refused}")
        self.exhausted = f"the space is exhausted: {MAX_REFUSED} configurations in a row were refused beforehand"
        return None

    def _refuse(self, config: dict[str, Any]) -> str | None:
        limit = self.plan.max_params
        count = self.space.params(config, self.data)
        return f"{count:,} parameters, more than --max-params {limit:,}" if limit and count > limit else None

    def _attributes(self, proposal: engine.Proposal, baseline: Baseline | None) -> dict[str, Any]:
        number = len(self.study.get_trials(deepcopy=False))
        epochs = (
            self.plan.epochs
            if baseline is None
            else (min(baseline.epochs, self.plan.epochs) if baseline.always else baseline.epochs)
        )
        found: dict[str, Any] = {
            "seed": engine.derive(self.plan.seed, "trial", number),
            "asked.seed": proposal.seed,
            "asks": proposal.asks,
            "epochs": epochs,
            "parameters": self.space.params(proposal.config, self.data),
            "attempts": 0,
        }
        if baseline is not None:
            found |= {"baseline": baseline.name, "milestones": list(baseline.milestones)}
        return found

    # ---- run

    def _start(self, frozen: FrozenTrial, slot: Slot) -> None:
        trial = engine.reopen(self.study, frozen)
        attrs = frozen.user_attrs
        attempt = attrs["attempts"] + 1
        trial.set_user_attr("attempts", attempt)
        trial.set_user_attr("state", "running")
        folder = store.trial_folder(self.folder, frozen.number)
        recorded = store.epochs(folder)
        spec = TrialSpec(
            study=self.plan.study,
            number=frozen.number,
            attempt=attempt,
            space=self.plan.space,
            config=attrs["config"],
            config_hash=attrs["config.hash"],
            data_folder=str(self.data_folder),
            data_seed=DATA_SEED,
            train_limit=self.plan.train_limit,
            validation_limit=self.plan.validation_limit,
            epochs=attrs["epochs"],
            milestones=tuple(attrs.get("milestones", ())),
            patience=0 if "baseline" in attrs else None,
            seed=attrs["seed"],
            metric=self.space.metric,
            direction=self.space.direction,
            precision=self.plan.precision,
            folder=str(folder),
            recorded=len(recorded),
        )
        run_id, mirrored = self._trial_run(trial, frozen, spec, slot)
        for event in recorded:  # killed between writing it down and reporting it
            if event["epoch"] + 1 not in frozen.intermediate_values:
                trial.report(event["metrics"][self.space.metric], event["epoch"] + 1)
        store.write_spec(spec)
        store.append(folder, {"event": "attempt", "attempt": attempt, "slot": slot.device})
        history = [e["metrics"] for e in recorded]
        self.active[frozen.number] = Active(trial, run_id, spec, slot, history, mirrored)
        best = history[best_epoch(history, spec.metric, spec.direction)][spec.metric] if history else None
        row = Row(
            frozen.number, spec.config, spec.epochs, note=attrs.get("baseline", ""), epoch=len(history), value=best
        )
        self.screen.started(row)
        self.executor.submit(slot, spec)

    def _handle(self, slot: Slot, active: Active, message: dict[str, Any] | Died) -> None:
        if isinstance(message, Died):
            return self._attempt_ended(active, "crash", str(message))
        match message["event"]:
            case "started":
                self._on_started(active, message)
            case "epoch":
                self.executor.answer(slot, {"do": self._on_epoch(active, message)})
            case "trained":
                self.executor.answer(slot, {"package": self._worth_keeping(message["value"])})
            case "done":
                self._on_done(active, message)
            case "failed":
                if message.get("traceback"):
                    self.tracker.log_text(active.run_id, "error.txt", message["traceback"])
                self._attempt_ended(active, message["reason"], message["error"])

    def _on_started(self, active: Active, message: dict[str, Any]) -> None:
        for note in message["notes"]:
            self.screen.step(f"trial {active.spec.number}: {note}")
        self.tracker.log_text(active.run_id, "model_summary.txt", message["summary"])
        counted = self.space.params(active.spec.config, self.data)
        if message["parameters"] != counted:
            self.screen.say(
                f"trial {active.spec.number}: Keras counts {message['parameters']:,} parameters, the space's params() "
                f"{counted:,}; limits and reports go by the latter: mend it"
            )
        self.tracker.set_tags(active.run_id, {"search.data.split": message["data_digest"]})

    # ---- report

    def _on_epoch(self, active: Active, message: dict[str, Any]) -> str:
        """Keep an epoch, then say whether its trial goes on: go, prune or stop."""
        number, epoch, metrics = active.spec.number, message["epoch"], message["metrics"]
        if epoch < len(active.history):
            return "stop" if self.reason else "go"  # trained again since its checkpoint; it is recorded already
        recorded = store.append(active.spec.path, {"event": "epoch", "epoch": epoch, "metrics": metrics})
        active.history.append(metrics)
        if epoch not in active.mirrored:
            self.tracker.log_epoch(active.run_id, epoch, metrics, int(recorded * 1000))
        value = metrics[self.space.metric]
        # A step is epochs trained, so that a rung of 3 means three epochs.
        active.trial.report(value, epoch + 1)
        self.screen.epoch(number, epoch + 1, metrics)
        last = epoch + 1 >= active.spec.epochs
        is_baseline = active.spec.patience == 0
        if not last and not is_baseline and active.trial.should_prune():
            return "prune"
        return "stop" if self.reason else "go"

    # ---- tell

    def _on_done(self, active: Active, message: dict[str, Any]) -> None:
        number = active.spec.number
        if message["state"] == "stopped":
            return self._pause([active], f"after {len(active.history)} epochs")
        if message.get("model"):
            self._upload(active, message)
        pruned = message["state"] == "pruned"
        reason = "pruned" if pruned else ("early stopping" if message["early"] else "")
        if reason:
            active.trial.set_user_attr(REASON, reason)
        if pruned:
            self.study.tell(active.trial, state=TrialState.PRUNED)
        else:
            self.study.tell(active.trial, message["value"])
        self.failures = 0
        self._finish_run(active, TrialState.PRUNED if pruned else TrialState.COMPLETE, reason)
        self._leave(active, message["state"], f"best epoch {message['best_epoch'] + 1}")
        (active.spec.path / "checkpoint.npz").unlink(missing_ok=True)
        assert number not in self.active

    def _attempt_ended(self, active: Active, reason: str, error: str) -> None:
        """A crash is tried again from its checkpoint, as the same trial; anything else, or too many, fails it."""
        store.append(active.spec.path, {"event": "failed", "reason": reason, "error": error})
        crashes = sum(e["event"] == "failed" for e in store.events(active.spec.path))
        if reason == "crash" and crashes < MAX_CRASHES and not self.reason:
            self.screen.step(f"trial {active.spec.number}: {error}; it goes on in attempt {active.spec.attempt + 1}")
            del self.active[active.spec.number]
            self.waiting.insert(0, self.study.get_trials(deepcopy=False)[active.spec.number])
            return
        active.trial.set_user_attr(REASON, reason)
        active.trial.set_user_attr("error", error)
        self.study.tell(active.trial, state=TrialState.FAIL)
        self.tracker.set_tags(active.run_id, {"search.trial.error": error})
        self._finish_run(active, TrialState.FAIL, reason)
        self._leave(active, "failed", f"{reason}: {error}")
        store.remove_weights(active.spec.path)
        self.failures += 1
        if self.failures >= MAX_FAILURES and not self.reason:
            self.reason = f"{self.failures} trials in a row failed, the last with: {error}"

    def _finish_run(self, active: Active, state: TrialState, reason: str) -> None:
        store.append(active.spec.path, {"event": "finished", "state": state.name, "reason": reason})
        title = f"{self.plan.study}, trial {active.spec.number}"
        mirror.end(self.tracker, active.run_id, active.spec.path, self.space, title=title, state=state, reason=reason)

    def _leave(self, active: Active, state: str, note: str) -> None:
        del self.active[active.spec.number]
        self.screen.ended(active.spec.number, state, note)

    # ---- weights

    def _worth_keeping(self, value: float) -> bool:
        keep = self.plan.keep
        if keep is None:
            return True
        sign = 1 if self.space.direction == "maximize" else -1
        return sum(sign * k.value >= sign * value for k in weights.kept(self.study)) < keep

    def _upload(self, active: Active, message: dict[str, Any]) -> None:
        number, folder = active.spec.number, Path(message["model"])

        def done(model_id: str) -> None:
            store.remove_weights(folder.parent)
            self.uploaded.put(Kept(number, message["value"], model_id))

        best = active.history[message["best_epoch"]]
        self.tracker.upload_model(
            active.run_id,
            folder,
            name="model",
            step=message["best_epoch"],
            metrics={k: v for k, v in best.items() if not k.startswith("system/")},
            params={k: str(v) for k, v in active.spec.config.items()},
            on_done=done,
        )

    def _note_uploads(self) -> None:
        """Remember what was uploaded, and remove the weights of trials that are no longer among the best."""
        if self.uploaded.empty():  # looked at four times a second; the store must not be
            return
        with contextlib.suppress(Empty):
            while True:
                weights.remember(self.study, self.uploaded.get_nowait())
        self._drop_fallen()

    def _drop_fallen(self) -> None:
        if self.plan.keep is not None:
            for fallen in weights.kept(self.study)[self.plan.keep :]:
                weights.forget(self.study, fallen.number)
                self.tracker.delete_model(fallen.model_id)

    # ---- runs

    def _study_run(self) -> str:
        known = self.study.user_attrs.get(RUN_ID)
        if known:
            self.tracker.reopen(known)
            return str(known)
        plan = self.plan
        params = {k: _text(v) for k, v in plan.to_json().items() if k not in ("cuts", "left_out", "narrowings")}
        params |= {f"space.{name}": text for name, text in plan.narrowings.items()}
        params |= {f"cut.{i}": cut for i, cut in enumerate(plan.cuts)}
        tags = self._common_tags() | {"search.kind": "study", "search.seed": str(plan.seed)}
        run_id = self.tracker.start_study(
            plan.study, params=params, tags=tags, note=f"{self.space.summary}. Still running."
        )
        self.study.set_user_attr(RUN_ID, run_id)
        self.study.set_user_attr("mlflow.experiment_id", self.tracker.experiment_id)
        self._log_provenance(run_id, {"study": plan.seed})
        if self.space.path:
            self.tracker.log_file(run_id, self.space.path, "space")
        return run_id

    def _common_tags(self) -> dict[str, str]:
        commit, branch = self.provenance.commit, self.provenance.branch
        git = {"mlflow.source.git.commit": commit} if commit else {}
        return {
            "search.study": self.plan.study,
            "search.space": self.space.name,
            "search.space.hash": _file_hash(self.space.path),
            "search.data.digest": self.data.digest,
            "mlflow.source.name": "python -m search",
            "mlflow.source.type": "LOCAL",
            **git,
            **({"mlflow.source.git.branch": branch} if branch else {}),
        }

    def _trial_run(self, trial: optuna.Trial, frozen: FrozenTrial, spec: TrialSpec, slot: Slot) -> tuple[str, set[int]]:
        """The trial's MLflow run, the same for every attempt, stored before training; and the epochs it has."""
        here = {
            "search.trial.attempts": str(spec.attempt),
            "search.trial.state": "RUNNING",
            "search.device": slot.device,
            "search.backend": self.plan.backend,
        }
        known = frozen.user_attrs.get(RUN_ID) or (
            self.tracker.find_trial(self.run_id, frozen.number) if spec.attempt > 1 else None
        )
        baseline = frozen.user_attrs.get("baseline")
        run_id = known or self.tracker.start_trial(
            self.run_id,
            name=f"trial {frozen.number}" + (f" ({baseline})" if baseline else ""),
            params={},
            tags=self._trial_tags(frozen) | here,
            dataset=None,
        )
        if RUN_ID not in frozen.user_attrs:
            trial.set_user_attr(RUN_ID, run_id)
        self._describe(frozen, run_id)
        if known is None:
            return run_id, set()
        self.tracker.reopen(run_id)
        self.tracker.set_tags(run_id, here)
        return run_id, mirror.epochs(self.tracker, run_id, spec.path)

    def _describe(self, frozen: FrozenTrial, run_id: str) -> None:
        """Send what a trial's run says of it beside its epochs; the same again changes nothing."""
        attrs = frozen.user_attrs
        milestones = {"milestone_epochs": ",".join(map(str, attrs["milestones"]))} if attrs.get("milestones") else {}
        config = attrs["config"]
        self.tracker.set_params(
            run_id,
            config
            | {
                "epochs": attrs["epochs"],
                "parameters": attrs["parameters"],
                "seed": attrs["seed"],
                "precision": self.plan.precision,
            }
            | self._images()
            | milestones,
        )
        self.tracker.log_dataset(run_id, self._dataset_info())
        self.tracker.log_text(run_id, "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
        seeds = {"trial": attrs["seed"], "study": self.plan.seed, "split": DATA_SEED, "proposal": attrs["asked.seed"]}
        self._log_provenance(run_id, seeds)

    def _trial_tags(self, frozen: FrozenTrial) -> dict[str, str]:
        attrs = frozen.user_attrs
        return self._common_tags() | {
            "search.kind": "trial",
            "search.trial.number": str(frozen.number),
            "search.config.hash": attrs["config.hash"],
            "search.seed": str(attrs["seed"]),
            **({"search.baseline": attrs["baseline"]} if "baseline" in attrs else {}),
        }

    def _images(self) -> dict[str, int]:
        """How many images a trial trains and validates on."""
        return {
            "train_images": self.plan.train_limit or self.data.fitting_size,
            "validation_images": self.plan.validation_limit or self.data.validation_size,
        }

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

    def _log_provenance(self, run_id: str, seeds: dict[str, int | None]) -> None:
        p = self.provenance
        facts = {
            "commit": p.commit,
            "branch": p.branch,
            "dirty": p.dirty,
            "versions": p.versions,
            "hardware": p.hardware,
            "command": p.command,
            "seeds": seeds,
        }
        self.tracker.log_text(run_id, "provenance.json", json.dumps(facts, indent=2) + "\n")
        if p.diff:
            self.tracker.log_text(run_id, "diff.patch", p.diff)

    # ---- finish

    def _count_what_is_done(self) -> None:
        progress = self.screen.progress
        trials = engine.counted(self.study.get_trials(deepcopy=False))
        done = [t for t in trials if t.state.is_finished()]
        progress.finished = len(done)
        for t in done:
            value = figures.value_of(t, self.study)
            if value is not None and (
                progress.best is None or progress.better(value, progress.best[1]) != progress.best[1]
            ):
                progress.best = (t.number, value)
        tried = {t.user_attrs.get("baseline") for t in trials}
        by_name = {b.name: b for b in self.space.baselines}
        self.baselines = [by_name[n] for n in self.plan.baselines if n in by_name and n not in tried]
        if trials:
            self.screen.say(
                f"study {self.plan.study} goes on: {len(done)} of {self.plan.trials} trials are done, "
                f"{len(self.waiting)} unfinished"
            )

    def _kill(self) -> None:
        self.executor.close(kill=True)
        self._pause(list(self.active.values()), "killed; goes on from its last checkpoint")

    def _pause(self, trials: list[Active], note: str) -> None:
        """Unfinished trials leave their slots; MLflow is told first, since the study store may be what failed."""
        for active in trials:
            mirror.paused(self.tracker, active.run_id)
        for active in trials:
            active.trial.set_user_attr("state", "paused")
            self._leave(active, "paused", note)

    def finish(self) -> Outcome:
        """Draw the study, close its run and say how it ended."""
        self.executor.close()
        for trial in self.waiting:  # crashed while the study was stopping
            run_id = trial.user_attrs.get(RUN_ID)
            if run_id:
                mirror.paused(self.tracker, run_id)
        trials = engine.counted(self.study.get_trials(deepcopy=False))
        counts = {s.name.lower(): sum(t.state == s for t in trials) for s in TrialState}
        counts["paused"] = counts.pop("running")  # nothing runs any more
        best = figures.ranked(self.study)
        skipped = self._log_pictures() if best and self.reason != "interrupted" else []
        note = figures.summary(self.study, self.space, self.plan, skipped)
        tags = {"mlflow.note.content": note, "search.reason": self._why() or "all trials done"}
        if best:
            tags |= {
                "search.best.trial": str(best[0].number),
                "search.best.value": f"{best[0].value:.6g}",
                "search.best.run_id": best[0].user_attrs[RUN_ID],
            }
            self.tracker.log_epoch(
                self.run_id, len(trials), {f"best_{self.space.metric}": best[0].value or 0.0}, int(time.time() * 1000)
            )
        self.tracker.log_text(self.run_id, "trials.csv", figures.table(self.study))
        failed = " in a row failed" in self.reason
        status = "FAILED" if failed else ("KILLED" if self.reason == "interrupted" else "FINISHED")
        self.tracker.finish(self.run_id, status, tags)
        self._flush()
        code = (
            INTERRUPTED
            if self.reason == "interrupted"
            else (FAILED if failed or not (best or counts["paused"]) else OK)
        )
        return Outcome(
            self.plan.study,
            self.tracker.experiment_id,
            self.run_id,
            {k: v for k, v in counts.items() if v},
            (best[0].number, best[0].value or 0.0) if best else None,
            self._why(),
            code,
        )

    def _why(self) -> str:
        return self.reason or self.exhausted

    def _log_pictures(self) -> list[str]:
        drawn, skipped = figures.pictures(self.study, self.space.metric, self.space.columns)
        for name, content in drawn.items():
            self.tracker.log_bytes(self.run_id, f"figures/{name}", content)
        return skipped

    def _flush(self) -> None:
        whole = self.tracker.flush(timeout=120)
        self._note_uploads()
        left = self.tracker.close(timeout=60)
        for failure in self.tracker.outbox.failures:
            self.screen.say(f"MLflow refused: {failure}")
        if not whole or left:
            self.screen.say(
                f"MLflow did not take everything ({left} entries left); nothing is lost: "
                f"python -m search resume {self.plan.study} brings it up to date"
            )
            return
        done = [t.number for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
        self.study.set_user_attr(MIRRORED, done)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _file_hash(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""
