"""The story of a study, top to bottom: reconcile, ask, run, report, tell, finish. Read this first."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import clock, figures, mirror, ranking, renewal, simulated, store, versions, warm
from search.asking import MEMORY, Asker
from search.budget import Clock, share, trained
from search.console import Progress, Row, Screen
from search.engines import optuna as engine
from search.engines import pruners
from search.engines.menu import read
from search.engines.scheduler import GO, UNTIL, Scheduler, resting
from search.errors import FAILED, OK, InputError, SearchError
from search.executors.devices import Slot
from search.executors.local import Died, LocalExecutor
from search.executors.simulate import SimulateExecutor
from search.interrupt import Interrupt, heeded
from search.lease import Lease, leased, owned
from search.mirror import IDENTITY, MIRRORED, REASON, TOLD, Mirror
from search.plan import DATA, DECLARED, Plan, as_begun, check_data, check_identity, describe_plan, said_space
from search.scores import Scores
from search.settings import Settings
from search.specs import goals_of, space_of, trial_spec
from search.trial.faults import MACHINE
from search.trial.schedule import best_epoch
from search.trial.spec import TrialSpec
from search.weights import UNKEPT, Shelf
from spaces import Space, declared
from spaces.datasets import DataSpec, describe, prepare
from tracking.nowhere import Nowhere
from tracking.provenance import collect
from tracking.runs import Run, Tracker

MAX_CRASHES = 3  # of one trial, after which it fails
TICK = 0.25  # seconds
GRACE = 15.0  # seconds a trial that must stop has to end its epoch
AWAY, LAST_WAIT = 10.0, 300.0  # seconds the end waits for an MLflow that is silent, and for one that answers
HURRY = 3.0  # and after a Ctrl-C meanwhile, or a second one before
SHOWN = 3  # of what MLflow refused
WORTH_A_WORD = 3.0  # seconds of waiting after which a person is told


@dataclass(frozen=True)
class Outcome:
    """How a study's run ended; `reason` is empty where all trials are done."""

    study: str
    counts: dict[str, int]
    best: tuple[int, float] | None
    reason: str
    exit_code: int


@dataclass
class Active:
    """A trial on a slot: its handle in the study, its run, its spec, its epochs so far.

    `ending` is why it alone must stop, as (reason, words), `rests` the epochs after which it is to wait, None where it
    is not; `began` is on the monotonic clock, `before` the seconds that earlier attempts took.
    """

    trial: optuna.Trial
    run: Run
    spec: TrialSpec
    slot: Slot
    history: list[dict[str, float]]
    before: float
    devices: dict[str, float]
    reported: frozenset[int]
    began: float = field(default_factory=clock.monotonic)
    ending: tuple[str, str] | None = None
    rests: int | None = None

    @property
    def seconds(self) -> float:
        """How long this attempt has run."""
        return clock.monotonic() - self.began


def run(
    plan: Plan, settings: Settings, *, quiet: bool = False, offline: bool = False, untracked: bool = False
) -> Outcome:
    """Run or go on with the study of `plan` until its trials are done, its time is up or it is interrupted.

    `offline` takes an MLflow that is away for granted, `untracked` tells it nothing. Raises SearchError, SpaceError or
    TrackingError with one line for people.
    """
    plan = as_begun(plan, store.stored_plan(settings.study_folder(plan.study)))
    space = space_of(plan)
    progress = Progress(
        plan.study,
        space.columns,
        space.metric,
        plan.trials,
        max if space.direction == "maximize" else min,
        slots=len(plan.slots),
        several=goals_of(plan, space).several,
    )
    screen = Screen(progress, quiet=quiet)
    for line in describe_plan(plan):
        screen.say(line)
    data_folder = settings.cache if plan.table else _prepared(plan, space, settings, screen)
    folder = settings.study_folder(plan.study)
    # From here on a first Ctrl-C closes the study in good order, whatever an earlier process left behind.
    with heeded() as interrupt, owned(folder, plan.study):
        plan = renewal.renew(plan, space, settings, screen.say)
        study = open_study(plan, space, settings)
        for line in (study.user_attrs.get(warm.WARM) or {}).get("lines", ()):
            screen.say(line)
        with leased(study, screen.say) as lease:
            versions.check_newest(study, plan.study)
            tracker = _tracker(space, settings, offline, untracked)
            with _executor(plan, space, folder) as executor:
                session = Session(plan, space, study, folder, data_folder, executor, tracker, screen, interrupt, lease)
                try:
                    with screen:
                        session.story()
                finally:
                    session.asker.close()
            interrupt.armed = False  # what is left takes seconds and must not be torn
            return session.finish()


def _prepared(plan: Plan, space: Space, settings: Settings, screen: Screen) -> Path:
    """The folder of the images, once all that trials need is there."""
    if space.fetch is not None:
        space.fetch({name: p.choices for name, p in declared(space, plan.narrowings).items()}, screen.say)
    return prepare(
        space.dataset, cache=settings.cache, data=settings.data, progress=screen.console.is_terminal, say=screen.say
    )


def _tracker(space: Space, settings: Settings, offline: bool, untracked: bool) -> Tracker:
    if untracked:
        return cast(Tracker, Nowhere())
    return Tracker(settings.tracking_uri, space.name, settings.artifacts, offline=offline)


def _executor(plan: Plan, space: Space, folder: Path) -> LocalExecutor | SimulateExecutor:
    if plan.table:
        return SimulateExecutor(plan.slots, folder, simulated.open_table(plan), space)
    return LocalExecutor(
        plan.slots,
        folder,
        backend=plan.backend,
        max_trials=plan.worker_trials,
        max_memory=plan.worker_memory,
        trial_memory=plan.memory,
    )


def open_study(plan: Plan, space: Space, settings: Settings) -> optuna.Study:
    """The plan's study in the store, made where it is new. Raises InputError where an old one is a different study."""
    settings.home.mkdir(parents=True, exist_ok=True)
    opened = engine.storage(settings.storage)
    known = {s.study_name for s in engine.studies(opened)}
    if plan.table and simulated.alone(engine.plans(opened)):
        engine.unsynced(opened)
    learnt = warm.begin(plan, space, settings) if plan.study not in known else None  # before there is a study
    pruner = pruners.make(read("pruner", plan.pruner), plan.epochs)
    directions = [objective.direction for objective in goals_of(plan, space).objectives]
    study = engine.open_study(opened, plan.study, direction=directions, pruner=pruner, create=plan.study not in known)
    folder = settings.study_folder(plan.study)
    attrs = study.user_attrs
    stored = attrs.get("plan")
    if stored is None and study.get_trials(deepcopy=False):
        raise InputError(f"study {plan.study!r} was not made by this program; choose another name with --study")
    if stored is None and store.trial_folders(folder):
        raise InputError(
            f"study {plan.study!r} is not in the study store, but its record is in {folder}; bring it back: "
            f"python -m search reconcile {plan.study}, or choose another name with --study"
        )
    if stored is not None:
        check_identity(plan, stored)
    begun = len(engine.counted(study.get_trials(deepcopy=False)))
    if plan.trials < begun:
        raise InputError(
            f"--trials {plan.trials}: study {plan.study!r} has {begun} trials already; give {begun} or more"
        )
    now = json.loads(json.dumps((stored or {}) | plan.to_json()))
    first = attrs.get("plan.first") or stored
    if first is None:
        first = now | {DECLARED: said_space(space), DATA: describe(space.dataset).digest}
    else:
        check_data(plan.study, space, first.get(DATA))
    said = {IDENTITY: attrs.get(IDENTITY) or uuid.uuid4().hex, "plan": now, "plan.first": first}
    said[versions.VERSIONS] = attrs.get(versions.VERSIONS) or versions.first(space)
    learnt = attrs.get(warm.WARM) if stored else (learnt or warm.begin(plan, space, settings))
    said |= {warm.WARM: learnt} if learnt else {}
    store.write_json(folder / "study.json", {"study": plan.study, "directions": directions, "attributes": said})
    for name, value in said.items():
        if attrs.get(name) != value:
            study.set_user_attr(name, value)
    return study


def untold(left: int, refused: Sequence[str], study: str) -> list[str]:
    """What a person should know of a study that MLflow has not whole: `left` entries, and those it refused."""
    lines = [f"MLflow refused: {failure}" for failure in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more")
    mend = f"python -m search reconcile {study}"
    if left:
        lines.append(f"MLflow did not take everything ({left} entries left); nothing is lost: once it is back, {mend}")
    elif refused:
        lines.append(f"what MLflow refused is not lost: once what it complains of is mended, {mend} sends it again")
    return lines


class Session:
    """One run of the coordinator over one study."""

    def __init__(
        self,
        plan: Plan,
        space: Space,
        study: optuna.Study,
        folder: Path,
        data_folder: Path,
        executor: LocalExecutor | SimulateExecutor,
        tracker: Tracker,
        screen: Screen,
        interrupt: Interrupt,
        lease: Lease,
    ) -> None:
        self.plan, self.space, self.study, self.folder = plan, space, study, folder
        self.data_folder, self.executor, self.screen, self.interrupt = data_folder, executor, screen, interrupt
        self.lease, self.tracker = lease, tracker
        self.data: DataSpec = describe(space.dataset)
        self.mirror = Mirror(tracker, study, plan, space, folder, mirror.keep_provenance(folder, collect(Path.cwd())))
        self.scores = Scores(goals_of(plan, space), space, study)
        self.shelf = Shelf(study, folder, space, tracker, plan.keep)
        self.clock = Clock(plan.timeout, plan.budget, folder)
        self.scheduler = Scheduler(study, plan.pruner, plan.epochs, audit=plan.audit, seed=plan.seed)
        self.active: dict[int, Active] = {}
        self.waiting: list[FrozenTrial] = []
        self.found: set[int] = set()  # trials whose run may have been made already
        begin_with = warm.load(study, plan, space, folder)
        self.asker = Asker(plan, space, study, folder, begin_with, say=screen.step, passed_over=self._passed_over)
        self.reason = ""  # why running trials are to stop
        self.untracked = isinstance(tracker, Nowhere)
        self.pressed = 0  # Ctrl-C, when the study's end began
        self.said_waiting = self.gave_up = False  # at the end, of MLflow
        self.fault = ""  # of the machine, in one line that says what to do
        self.nothing_left = False  # but what rests may still go on
        self.failures = 0  # in a row

    # ---- the story

    def story(self) -> None:
        """Everything between opening the study and drawing its pictures."""
        try:
            self._take_up()
            while True:
                self._look_at_the_clock()
                idle = not self.reason and self._fill_slots()
                if not self.active and (self.reason or idle or self._is_done()):
                    if not self.reason:
                        self._end_resting()
                    break
                for slot, number, message in self.executor.events(TICK):
                    if not isinstance(message, Died) and message["event"] == "leftovers":
                        left = ", ".join(message["names"])  # after its trial has ended
                        self.screen.say(f"trial {number} left processes behind, which were ended: {left}")
                    elif number in self.active:
                        self._handle(slot, self.active[number], message)
                self.mirror.note_made()
                self.shelf.settle()
        except KeyboardInterrupt:
            self.interrupt.armed = False
            self.reason = "interrupted"
            self._kill()
        except BaseException:
            if self.lease.lost:  # nothing here is ours to write to any more
                self.executor.close(kill=True)
                self.tracker.close(0.1)
                raise
            with contextlib.suppress(Exception):  # the study store itself may be what failed
                self._kill()
            self.tracker.finish(self.mirror.parent, "FAILED", {"search.reason": "the coordinator failed"})
            self.tracker.settle(AWAY, 30)
            with contextlib.suppress(Exception):
                self.mirror.note_made()
            self.tracker.close(0.1)
            raise

    def _take_up(self) -> None:
        """Where an earlier process stopped: MLflow is brought up to date, unfinished trials wait for a slot."""
        self.study.set_user_attr("ended", None)
        self.mirror.describe_study()
        self.tracker.reopen(self.mirror.parent)
        trials = self.study.get_trials(deepcopy=False)
        unfinished = [self._as_recorded(trial) for trial in engine.unfinished(trials)]
        self.waiting = [trial for trial in unfinished if resting(trial) is None]
        self.screen.progress.resting |= {trial.number for trial in unfinished if resting(trial) is not None}
        self.found = {trial.number for trial in unfinished}
        mirrored = set(self.study.user_attrs.get(MIRRORED, ()))
        behind = [t for t in engine.counted(trials) if t.state.is_finished() and t.number not in mirrored]
        for trial, _, _ in versions.left(trials):  # of an earlier version: its run says so, and stays
            if trial.number not in mirrored:
                self.mirror.replay(trial)
        for trial in behind:
            self.shelf.offer(self.mirror.replay(trial), trial, again=True)
        if behind:
            self.screen.say(f"MLflow is brought up to date: {len(behind)} finished trials")
        self.shelf.drop_fallen()
        self.asker.take_up(trials)
        self._count_what_is_done(trials)

    def _look_at_the_clock(self) -> None:
        for active in self.active.values():
            self._look_at(active)
        if self.reason:
            return
        if self.lease.lost:
            raise SearchError(f"study {self.plan.study!r} was taken over by another process; nothing is lost")
        limit = self.clock.reached([(a.seconds, a.devices) for a in self.active.values()])
        if self.interrupt.count:
            self._stop(
                "interrupted", "stopping: running trials end their epoch and checkpoint; Ctrl-C again kills them"
            )
        elif limit:
            self._stop(
                limit,
                f"{limit}: {'running trials end their epoch and checkpoint' if self.active else 'no trial is started'}",
            )

    def _look_at(self, active: Active) -> None:
        """Whether a trial is over its own limits."""
        if active.ending:
            return
        limit, stall = self.plan.trial_timeout, self.plan.stall_timeout
        if limit is not None and active.before + active.seconds > limit:
            active.ending = "timeout", f"longer than --trial-timeout {limit:g} s"
            self.executor.stop(active.slot, GRACE)
        elif stall is not None and self.executor.silent(active.slot) > stall:
            active.ending = "stalled", f"no progress for {stall:g} s (--stall-timeout)"
            self.executor.kill(active.slot)

    def _stop(self, reason: str, line: str) -> None:
        """Ask all running trials to stop, for a reason that is the study's."""
        self.reason = reason
        self.screen.progress.stopping = line
        self.screen.step(line)
        for active in self.active.values():
            if not active.ending:
                self.executor.stop(active.slot, GRACE)

    def _is_done(self) -> bool:
        """Whether nothing will run, whatever a slot asks for once it is free, as it is not at once after a trial."""
        return self.nothing_left and not self.waiting and not self._resting()

    def _fill_slots(self) -> bool:
        """Give every free slot a trial; whether one was free and nothing is left for it."""
        for slot in self.executor.free():
            trial = self._next()
            if trial is None:
                return self.nothing_left
            self._start(trial, slot)
        return False

    def _next(self) -> FrozenTrial | None:
        """The trial that a free slot takes: one that waits, one that rests and may go on, or a new one."""
        if self.waiting:
            return self.waiting.pop(0)
        number = self.scheduler.promoted(last=self.nothing_left)
        if number is None and not self.nothing_left:
            trial = self.asker.next()
            if trial is not None:
                return trial if resting(trial) is None else self._wake(trial)
            if self.asker.waits and self.active:  # the sampler wants to hear of them first
                return None
            self.nothing_left = True
            number = self.scheduler.promoted(last=True)
        if number is not None:
            return self._wake(engine.numbered(self.study, number))
        if not self.active:
            for trial in self.scheduler.audited(self._resting()):
                return self._wake(trial, audited=True)
        return None

    def _resting(self) -> list[FrozenTrial]:
        trials = engine.unfinished(self.study.get_trials(deepcopy=False))
        return [trial for trial in trials if resting(trial) is not None]

    def _wake(self, frozen: FrozenTrial, *, audited: bool = False) -> FrozenTrial:
        """A resting trial goes on; that is written down before it is acted on."""
        epochs = resting(frozen)
        event = {"event": "promoted", "epochs": epochs}
        event |= {"until": frozen.user_attrs[UNTIL]} if UNTIL in frozen.user_attrs else {}
        store.append(store.trial_folder(self.folder, frozen.number), event | ({"audited": True} if audited else {}))
        trial = engine.reopen(self.study, frozen)
        if audited:
            trial.set_user_attr(engine.AUDITED, epochs)
        trial.set_user_attr(engine.RESTS, None)
        return engine.numbered(self.study, frozen.number)

    def _as_recorded(self, frozen: FrozenTrial) -> FrozenTrial:
        """An unfinished trial as its record has it: a kill may have come before the study store was told."""
        said = store.standing(store.events(store.trial_folder(self.folder, frozen.number)))
        wrong = {name: value for name, value in said.items() if frozen.user_attrs.get(name) != value}
        if not wrong:
            return frozen
        trial = engine.reopen(self.study, frozen)
        for name, value in wrong.items():
            trial.set_user_attr(name, value)
        return engine.numbered(self.study, frozen.number)

    # ---- run

    def _start(self, frozen: FrozenTrial, slot: Slot) -> None:
        trial = engine.reopen(self.study, frozen)
        attrs, attempt = frozen.user_attrs, frozen.user_attrs["attempts"] + 1
        trial.set_user_attr("attempts", attempt)
        trial.set_user_attr("state", "running")
        folder = store.trial_folder(self.folder, frozen.number)
        events, damaged = store.read_events(folder)
        recorded = store.epochs_of(events)
        if damaged:
            self.screen.say(
                f"trial {frozen.number}: {store.lines(damaged)} of its record left out; "
                "an epoch that was there is trained again"
            )
        self.scores.catch_up(trial, frozen, recorded)
        spec = trial_spec(
            self.plan,
            self.space,
            frozen.number,
            attrs,
            folder=folder,
            data_folder=self.data_folder,
            attempt=attempt,
            recorded=len(recorded),
            rungs=self.scheduler.rungs(frozen),
        )
        spec = replace(spec, pictures=str(store.pictures_folder(self.folder)))
        if attempt > 1 and self._pruned_before(trial, spec):
            spec = replace(spec, pruned_at=len(recorded))
        store.write_spec(spec)
        devices = {device: share(slot, self.plan.slots, device) for device in ("gpu", "core")}
        before = sum(seconds for seconds, _ in trained(folder))
        began = {"attempt": attempt, "slot": slot.device, "devices": devices, "provenance": self.mirror.provenance}
        store.append(folder, {"event": "attempt", **began})
        fresh = frozen.number not in self.found
        mirrored = self.mirror.attempt(engine.numbered(self.study, frozen.number), fresh=fresh)
        self.found.add(frozen.number)
        history = [e["metrics"] for e in recorded]
        self.active[frozen.number] = Active(
            trial, mirrored, spec, slot, history, before, devices, frozenset(frozen.intermediate_values)
        )
        best = history[best_epoch(history, spec.metric, spec.direction)][spec.metric] if history else None
        row = Row(
            frozen.number, spec.config, spec.epochs, note=attrs.get("baseline", ""), epoch=len(history), value=best
        )
        self.screen.started(row)
        self.executor.submit(slot, spec)

    def _handle(self, slot: Slot, active: Active, message: dict[str, Any] | Died) -> None:
        if isinstance(message, Died):
            return self._on_died(active, message)
        match message["event"]:
            case "started":
                self._on_started(active, message)
            case "epoch":
                self.executor.answer(slot, {"do": self._on_epoch(active, message)})
            case "trained":
                stands = self.scores.trained(active.spec, active.history, message)
                self.executor.answer(slot, {"package": self.shelf.has_room(stands)})
            case "done":
                self._on_done(active, message)
            case "failed" if message["reason"] == "oom":
                self._out_of_memory(active, message["error"], message.get("peak_memory"))
            case "failed" if message["reason"] == MACHINE:
                self._machine_failed(active, message["error"])
            case "failed":
                if message.get("traceback"):
                    store.write_text(active.spec.path / "error.txt", message["traceback"])
                self._failed(active, message["reason"], message["error"])

    def _on_started(self, active: Active, message: dict[str, Any]) -> None:
        for note in message["notes"]:
            self.screen.step(f"trial {active.spec.number}: {note}")
        store.write_text(active.spec.path / "model_summary.txt", message["summary"])
        store.append(active.spec.path, {"event": "started", "split": message["data_digest"]})
        self.mirror.started(active.run, active.spec.path)
        counted = self.space.params(active.spec.config, self.data)
        if message["parameters"] != counted:
            self.screen.say(
                f"trial {active.spec.number}: Keras counts {message['parameters']:,} parameters, the space's params() "
                f"{counted:,}; limits and reports go by the latter: mend it"
            )

    # ---- report

    def _on_epoch(self, active: Active, message: dict[str, Any]) -> str:
        """Keep an epoch, then say whether its trial goes on: go, prune or stop."""
        number, epoch, metrics = active.spec.number, message["epoch"], message["metrics"]
        stop = "stop" if self.reason or active.ending else "go"
        if epoch < len(active.history):
            return stop  # trained again since its checkpoint; it is recorded already
        event = {"event": "epoch", "epoch": epoch, "metrics": metrics}
        recorded = store.append(active.spec.path, event)
        active.history.append(metrics)
        self.mirror.epoch(active.run, event | {"time": recorded})
        # A step is epochs trained, so that a rung of 3 means three epochs.
        if epoch + 1 not in active.reported:  # a study taken over without its folders trains them again
            self.scores.report(active.trial, metrics, epoch + 1)
        self.screen.epoch(number, epoch + 1, metrics)
        if word := self._decide(active.trial, active.spec, epoch + 1):
            active.rests = epoch + 1 if word == "rest" else None
            return "prune" if word == "prune" else "stop"
        return stop

    def _decide(self, trial: optuna.Trial, spec: TrialSpec, epochs: int) -> str:
        """What else than going on becomes of a trial after `epochs`: prune or rest; empty where it goes on.

        What the scheduler says is written down before it is acted on.
        """
        if spec.patience == 0:  # a known setting
            return ""
        verdict = self.scheduler.after(trial, epochs, spec.epochs)
        if verdict != GO:
            said = {"prune": verdict.word == "prune", "notes": dict(verdict.notes)}
            said |= {"rest": True} if verdict.word == "rest" else {}
            said |= {"audited": True} if verdict.audited else {}
            store.append(spec.path, {"event": "verdict", "epochs": epochs, **said})
            engine.note_verdict(self.study, trial, verdict.notes)
            if verdict.audited:
                trial.set_user_attr(engine.AUDITED, epochs)
                self.screen.step(f"trial {spec.number}: stopped after {epochs} epochs; goes on to be audited")
        return "" if verdict.word == "go" else verdict.word

    def _pruned_before(self, trial: optuna.Trial, spec: TrialSpec) -> bool:
        """Whether a trial that goes on was to end where its record does: killed between the verdict and its end."""
        events = store.events(spec.path)
        said = [e for e in events if e["event"] in ("verdict", "promoted") and e["epochs"] == spec.recorded]
        if not said:
            return spec.recorded > 0 and self._decide(trial, spec, spec.recorded) == "prune"
        if said[-1]["event"] == "promoted":
            return False
        engine.note_verdict(self.study, trial, said[-1]["notes"])
        return bool(said[-1]["prune"])

    # ---- tell

    def _on_done(self, active: Active, message: dict[str, Any]) -> None:
        if message["state"] == "stopped":
            if active.ending:
                return self._failed(active, *active.ending)
            if active.rests is not None and not self.reason:
                return self._rest(active)
            return self._pause([active], f"after {len(active.history)} epochs")
        pruned, folder, value = message["state"] == "pruned", active.spec.path, message["value"]
        if message.get(UNKEPT):
            active.trial.set_user_attr(UNKEPT, message[UNKEPT])
            self.screen.say(f"trial {active.spec.number}: its model is not kept: {message[UNKEPT]}")
        self.asker.observe(active.trial, active.spec.config, True, message.get("peak_memory"))
        if not pruned and (unusable := self.scores.unusable(folder, value)):
            return self._failed(active, "nan", unusable)
        over = "" if pruned else self.scores.over(folder)
        early = "early stopping" if message["early"] else ""
        reason = "pruned" if pruned else "; ".join(filter(None, (early, over)))
        if reason:
            active.trial.set_user_attr(REASON, reason)
        if pruned:
            self.study.tell(active.trial, state=TrialState.PRUNED)
        else:
            self.scores.tell(active.trial, folder, value)
        self.failures = 0
        note = f"best epoch {message['best_epoch'] + 1}"
        self._ended(active, message["state"], f"{note}; {over}" if over else note)

    def _on_died(self, active: Active, died: Died) -> None:
        """A worker is gone: a limit of its trial, the study's end, memory, or a crash."""
        if active.ending:
            return self._failed(active, *active.ending)
        if died.told:
            return self._pause([active], "did not stop in time; goes on from its last checkpoint")
        if died.oom:
            return self._out_of_memory(active, str(died), died.peak_memory)
        error = str(died)
        store.append(active.spec.path, {"event": "crashed", "error": error})
        crashes = sum(event["event"] == "crashed" for event in store.events(active.spec.path))
        if crashes >= MAX_CRASHES or self.reason:
            if self.reason and crashes < MAX_CRASHES:
                return self._pause([active], f"{error}; goes on from its last checkpoint")
            return self._failed(active, "crash", error)
        self.screen.step(f"trial {active.spec.number}: {error}; it goes on in attempt {active.spec.attempt + 1}")
        self._left(active)
        self.waiting.insert(0, engine.numbered(self.study, active.spec.number))

    def _failed(self, active: Active, reason: str, error: str) -> None:
        """A trial's own fault ends it, and never the study."""
        active.trial.set_user_attr(REASON, reason)
        active.trial.set_user_attr("error", error)
        self.study.tell(active.trial, state=TrialState.FAIL)
        self._ended(active, "failed", f"{reason}: {error}")
        self._count_failure(error)

    def _machine_failed(self, active: Active, error: str) -> None:
        """No trial is charged with what the machine did: it waits for a resume, and so do all after it."""
        if active.ending:
            return self._failed(active, *active.ending)
        number = active.spec.number
        self.fault = self.fault or f"trial {number} is paused: {error}, then go on"
        self._pause([active], error)
        if not self.reason:
            self._stop(error, f"trial {number} cannot go on: {error}")

    def _out_of_memory(self, active: Active, error: str, peak: float | None) -> None:
        """Pruned and infeasible, never tried again; the next like it is refused beforehand."""
        active.trial.set_user_attr(REASON, "oom")
        active.trial.set_user_attr("error", error)
        self.asker.observe(active.trial, active.spec.config, False, peak)
        engine.tell_infeasible(self.study, active.trial, "memory", self.asker.violation(active.spec.config))
        self._ended(active, "pruned", f"oom: {error}")

    def _passed_over(self, error: str) -> bool:
        self.screen.say(f"passed over: {error}")
        self._count_failure(error)
        return not self.reason

    def _count_failure(self, error: str) -> None:
        self.failures += 1
        if self.failures >= self.plan.max_failures and not self.reason:
            words = f"{self.failures} trials in a row failed (--max-failures), the last with: {error}"
            self._stop(words, words)

    def _ended(self, active: Active, state: str, note: str) -> None:
        """A trial is told: its record is closed, MLflow hears of it, its weights are offered."""
        frozen = self._told(active.spec.number, active.run)
        self._left(active)
        self.screen.judged(active.spec.number, ranking.within(frozen), self.scores.leading())
        self.screen.ended(active.spec.number, state, note)

    def _told(self, number: int, run: Run) -> FrozenTrial:
        frozen = engine.numbered(self.study, number)
        said = {k: v for k, v in frozen.user_attrs.items() if k in (*TOLD, MEMORY, UNKEPT)}
        end = {"state": frozen.state.name, "attributes": said, "constraints": frozen.constraints}
        store.append(store.trial_folder(self.folder, number), {"event": "finished", **end})
        self.shelf.offer(run, frozen)
        self.mirror.end(run, frozen)
        return frozen

    def _left(self, active: Active) -> None:
        del self.active[active.spec.number]
        self.clock.ended(active.seconds, active.devices)

    # ---- finish

    def _count_what_is_done(self, everything: list[FrozenTrial]) -> None:
        progress = self.screen.progress
        trials = engine.counted(everything)
        done = [t for t in trials if t.state.is_finished()]
        progress.finished = len(done)
        progress.bests = {t.number: v for t in done if (v := self.scores.best_of(t)) is not None and ranking.within(t)}
        progress.leading = self.scores.leading()
        name, total = self.plan.study, self.plan.trials
        if len(done) >= total:
            self.screen.say(
                f"all {total} trials of study {name} are done; more: python -m search resume {name} --trials TOTAL"
            )
        elif trials:
            self.screen.say(
                f"study {name} goes on: {len(done)} of {total} trials are done, {len(trials) - len(done)} unfinished"
            )

    def _kill(self) -> None:
        self.executor.close(kill=True)
        self._pause(list(self.active.values()), "killed; goes on from its last checkpoint")

    def _pause(self, trials: list[Active], note: str, state: str = "paused") -> None:
        """Unfinished trials leave their slots; MLflow is told first, since the study store may be what failed."""
        for active in trials:
            self.mirror.paused(active.run)
        for active in trials:
            active.trial.set_user_attr("state", "paused")
            store.append(active.spec.path, {"event": "paused"})
            self._left(active)
            self.screen.ended(active.spec.number, state, note)

    def _rest(self, active: Active) -> None:
        """A trial leaves its slot at a rung, to be gone on with where others turn out to be no better."""
        active.trial.set_user_attr(engine.RESTS, active.rests)
        self._pause([active], f"after {active.rests} epochs", "resting")

    def _end_resting(self) -> None:
        """Nothing more will run: what still rests was not good enough to go on."""
        for frozen in self._resting():
            trial = engine.reopen(self.study, frozen)
            trial.set_user_attr(REASON, "pruned")
            self.study.tell(trial, state=TrialState.PRUNED)
            run = self.mirror.runs.get(frozen.number) or self.mirror.trial(frozen, fresh=False)
            self._told(frozen.number, run)
            self.screen.ended(frozen.number, "pruned", f"rested after {resting(frozen)} epochs to the end")

    def finish(self) -> Outcome:
        """Draw the study, close its run and say how it ended."""
        self.pressed = self.interrupt.count
        interrupted, failed = self.reason == "interrupted", bool(self.fault) or " in a row failed" in self.reason
        trials = engine.counted(self.study.get_trials(deepcopy=False))
        for trial in self.waiting:  # crashed while the study was stopping, or not gone on with
            run = self.mirror.runs.get(trial.number)
            self.mirror.paused(run or self.mirror.trial(trial, fresh=False))
        best, why = figures.ranked(self.study), self.reason or self.asker.exhausted
        status = "KILLED" if interrupted else ("FAILED" if failed else "FINISHED")
        self.study.set_user_attr("ended", {"status": status, "reason": why})
        self._flush()  # so that the runs' ids are known to what follows
        self.mirror.end_study(status, why, pictures=self.interrupt.count == 0 and not self.untracked)
        self._flush()
        self._close()
        if self.fault:
            self.screen.error(f"{self.fault}: python -m search resume {self.plan.study}")
        counts = {s.name.lower(): sum(t.state == s for t in trials) for s in TrialState}
        counts["paused"] = counts.pop("running")  # nothing runs any more
        code = FAILED if failed or not (best or counts["paused"]) else OK
        return Outcome(
            self.plan.study,
            {k: v for k, v in counts.items() if v},
            (best[0].number, best[0].values[0]) if best else None,
            why,
            self.interrupt.exit_code if interrupted else code,
        )

    def _flush(self) -> None:
        """Wait for MLflow: as long as it answers, a little where it is silent, hardly where somebody is in a hurry."""
        begun, outbox = time.monotonic(), self.tracker.outbox
        while not self.tracker.flush(TICK) and outbox.pending:
            hurried = self.interrupt.count > min(self.pressed, 1)
            most = HURRY if hurried or (outbox.silent and self.gave_up) else (AWAY if outbox.silent else LAST_WAIT)
            gone = time.monotonic() - begun
            if gone > most:
                self.gave_up = True
                break
            if gone > WORTH_A_WORD and not self.said_waiting:
                self.said_waiting = True
                what = "MLflow does not answer or only fails" if outbox.silent else "MLflow is slow"
                self.screen.say(
                    f"{what} ({outbox.pending} entries left); waiting up to {most:.0f} s for it; Ctrl-C ends the wait"
                )
        self.mirror.note_made()
        self.shelf.settle()

    def _close(self) -> None:
        left = self.tracker.close(0.1)
        refused = self.tracker.outbox.failures
        for line in untold(left, refused, self.plan.study):
            self.screen.say(line)
        if not (left or refused or self.untracked):
            done = [t.number for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
            self.study.set_user_attr(MIRRORED, done)
