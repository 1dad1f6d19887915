"""One contract for every pruner: what it decides follows from the trials, survives a kill, and can be audited."""

from __future__ import annotations

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from search.engines import menu, pruners, rungs
from search.engines import optuna as engine
from search.engines.menu import Chosen
from search.engines.rungs import Standing
from search.engines.scheduler import Scheduler, resting

EPOCHS = 9
EVERY = [
    *(name for name in menu.PRUNERS if name not in (*menu.OVER_REPLICATES, "patient")),
    "asha:pause=true",
    "asha:pause=true,eager=true,min_resource=1",
    "hyperband:pause=true,min_resource=1",
    "asha:min_resource=1,reduction_factor=2",
    "median:n_startup_trials=1,n_warmup_steps=0",
    "percentile:percentile=10,n_startup_trials=2",
    "patient:patience=2",
]


def curve(number: int, epoch: int) -> float:
    """What trial `number` reaches; curves that cross or fall again, and one that is not a number in the end."""
    best, speed = engine.derive(1, number) % 1000 / 1000, 1 + engine.derive(2, number) % 5
    peak = min(epoch, 3) - max(0, epoch - 3) / 9 if number % 4 == 1 else epoch
    return math.nan if number == 6 and epoch > 2 else best * peak / (peak + speed)


class Loop:
    """The study's loop without workers: one slot, a trial trained epoch by epoch; `kill` forgets all but the study."""

    def __init__(self, pruner: str, total: int, audit: float = 0.0) -> None:
        self.pruner, self.total, self.audit = pruner, total, audit
        made = pruners.make(menu.read("pruner", pruner), EPOCHS)
        self.study = optuna.create_study(study_name="s", direction="maximize", pruner=made)
        self.kill()
        self.ends: dict[int, tuple[str, int]] = {}
        self.steps = 0

    def kill(self) -> None:
        """What the coordinator knew beside the study is gone."""
        self.study.pruner = pruners.make(menu.read("pruner", self.pruner), EPOCHS)
        self.scheduler = Scheduler(self.study, self.pruner, EPOCHS, audit=self.audit, seed=3)

    def next(self) -> optuna.Trial | None:
        """A trial to train: the unfinished one, one that rests and may go on, a new one, at last one to be audited."""
        trials = self.study.get_trials(deepcopy=False)
        for frozen in engine.unfinished(trials):
            if resting(frozen) is None:
                return engine.reopen(self.study, frozen)
        full = len(trials) >= self.total
        number = self.scheduler.promoted(last=full)
        if number is None and not full:
            trial = self.study.ask()
            trial.set_user_attr("config", {"x": trial.suggest_float("x", 0, 1)})
            return trial
        rest = [t for t in engine.unfinished(trials) if resting(t) is not None]
        audited = self.scheduler.audited(rest) if number is None else []
        if number is None and not audited:
            return None
        chosen = audited[0] if number is None else engine.numbered(self.study, number)
        trial = engine.reopen(self.study, chosen)
        if number is None:
            trial.set_user_attr(engine.AUDITED, resting(chosen))
        trial.set_user_attr(engine.RESTS, None)
        return trial

    def epoch(self) -> bool:
        """One epoch of one trial, and what becomes of it then; false where all is done."""
        trial = self.next()
        if trial is None:
            for frozen in engine.unfinished(self.study.get_trials(deepcopy=False)):
                self.end(engine.reopen(self.study, frozen), "rested", resting(frozen) or 0, TrialState.PRUNED)
            return False
        self.steps += 1
        epochs = len(engine.numbered(self.study, trial.number).intermediate_values) + 1
        value = curve(trial.number, epochs)
        if math.isnan(value):
            self.end(trial, "failed", epochs - 1, TrialState.FAIL)
            return True
        trial.report(value, epochs)
        if epochs == EPOCHS:
            self.end(trial, "complete", epochs, TrialState.COMPLETE, value)
            return True
        verdict = self.scheduler.after(trial, epochs, EPOCHS)
        assert verdict == self.scheduler.after(trial, epochs, EPOCHS), "asked again it says the same"
        engine.note_verdict(self.study, trial, verdict.notes)
        if verdict.audited:
            trial.set_user_attr(engine.AUDITED, epochs)
        if verdict.word == "rest":
            trial.set_user_attr(engine.RESTS, epochs)
        if verdict.word == "prune":
            self.end(trial, "pruned", epochs, TrialState.PRUNED)
        return True

    def end(self, trial: optuna.Trial, how: str, epochs: int, state: TrialState, value: float | None = None) -> None:
        self.ends[trial.number] = (how, epochs)
        self.study.tell(trial, value, state=state)


def run(pruner: str, total: int = 14, kills: tuple[int, ...] = (), audit: float = 0.0) -> Loop:
    loop = Loop(pruner, total, audit)
    while loop.epoch():
        if loop.steps in kills:
            loop.kill()
    return loop


@pytest.mark.parametrize("pruner", EVERY)
@given(kills=st.sets(st.integers(1, 60), max_size=8))
@settings(max_examples=5, deadline=None)
def test_whatever_is_killed_the_same_trials_are_stopped_at_the_same_epochs(pruner, kills):
    """A trial that fails on the way included; every trial ends, and somebody gets to the end."""
    assert run(pruner, kills=tuple(kills)).ends == (whole := run(pruner)).ends
    assert len(whole.ends) == whole.total
    assert "complete" in {how for how, _ in whole.ends.values()}


@pytest.mark.parametrize("pruner", [p for p in EVERY if p != "none"])
def test_a_pruner_saves_epochs(pruner):
    assert run(pruner).steps < run("none").steps


@pytest.mark.parametrize("pruner", [p for p in EVERY if p != "none"])
def test_an_audit_runs_what_was_stopped_to_its_end_and_stops_nobody_else(pruner):
    """Its later epochs are as if they were not, for whoever is compared after it."""
    plain, audited = run(pruner), run(pruner, audit=1.0)
    stopped = {n: epochs for n, (how, epochs) in plain.ends.items() if how in ("pruned", "rested")}
    trials = {t.number: t for t in audited.study.trials}
    assert stopped
    assert {n: t.user_attrs[engine.AUDITED] for n, t in trials.items() if engine.AUDITED in t.user_attrs} == stopped
    assert {trials[n].state for n in stopped} <= {TrialState.COMPLETE, TrialState.FAIL}


def test_an_audited_share_is_chosen_by_the_seed():
    made = [Scheduler(optuna.create_study(), "asha", EPOCHS, audit=0.25, seed=seed) for seed in (1, 1, 2)]
    chosen = [{n for n in range(400) if scheduler.audits(n)} for scheduler in made]
    assert chosen[0] == chosen[1] != chosen[2]
    assert 60 < len(chosen[0]) < 140


numbers = st.floats(0, 1, allow_nan=False)


@given(values=st.lists(numbers, min_size=1, max_size=30), reduction=st.integers(2, 4), last=st.booleans())
@settings(deadline=None)
def test_of_those_at_a_rung_one_in_so_many_goes_on_and_no_better_one_is_left_behind(values, reduction, last):
    ladder = rungs.one_bracket(EPOCHS, 1, reduction)
    standings = [Standing(n, {1: value}, waits_at=1) for n, value in enumerate(values)]
    going = rungs.leading(standings, ladder, 0, 1, last=last)
    assert len(going) == max(len(values) // reduction, 1 if last else 0)
    assert min((values[n] for n in going), default=2) >= max(
        (v for n, v in enumerate(values) if n not in going), default=-1
    )
    assert rungs.promoted(standings, ladder, last=last) == (going[0] if going else None)


@given(epochs=st.integers(2, 200), first=st.integers(1, 5), reduction=st.integers(2, 4))
@settings(deadline=None)
def test_brackets_share_the_trials_and_end_at_the_last_epoch(epochs, first, reduction):
    ladder = rungs.hyperband(epochs, first, reduction)
    found = {ladder.bracket(n) for n in range(sum(ladder.counts))}
    assert found == set(range(len(ladder.brackets)))
    assert all(rung < epochs for bracket in ladder.brackets for rung in bracket)
    assert ladder.brackets[-1] == ()


def test_where_optuna_stops_at_rungs_our_rungs_are_the_same():
    made = pruners.make(Chosen("asha"), 27)
    assert made._min_resource == rungs.rungs(27)[0]


def test_a_trial_goes_on_until_its_sampler_wants_to_hear_of_it():
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    trial.set_user_attr("until", 3)
    scheduler = Scheduler(study, "none", EPOCHS)
    assert [scheduler.after(trial, epochs, EPOCHS).word for epochs in (1, 2, 3)] == ["go", "go", "rest"]
    assert scheduler.rungs(engine.numbered(study, 0)) == (3,)
