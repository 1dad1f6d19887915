"""A simulated study: recorded trainings replayed on a simulated clock through the whole of the study's loop."""

import json
import re
import time
from pathlib import Path

import pytest
from support import command, trial_spec

from bench import grid, synthetic
from bench.places import ROOT
from search import clock, store
from search.executors import table
from search.executors.devices import Slot
from search.executors.died import Died
from search.executors.simulate import SimulateExecutor
from spaces import config_hash, find

DIGITS = Path(__file__).parent.parent / "bench" / "grids" / "digits.py"
SPACE = find(str(DIGITS))
SLOTS = (Slot(0, (0,)), Slot(1, (1,)))


@pytest.fixture(scope="module")
def made():
    return synthetic.table(SPACE)


@pytest.fixture(scope="module")
def file(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "digits.json.xz"
    table.write(path, made)
    return path


def simulate(home, file, *arguments):
    flags = ("--executor", "simulate", "--table", str(file), "--study", "s")
    return command(home, "run", str(DIGITS), *flags, *arguments)


def told(home):
    """Every trial's events, by number."""
    return {n: store.events(folder) for n, folder in store.trial_folders(home / "studies" / "s").items()}


# ---- the executor


def spec_of(tmp_path, config, number=0, **said):
    values = {"config": config, "config_hash": config_hash(config), "number": number, "epochs": 3}
    return trial_spec(tmp_path / f"trial-{number:04}", **(values | said))


def curves_of(made):
    return [group[0] for group in made.curves.values() if len(group) == 1]


@pytest.fixture
def executor(made, tmp_path):
    with SimulateExecutor(SLOTS, tmp_path, made, SPACE) as running:
        yield running


def heard(executor, answers=lambda message: {"do": "go"}, until=1000):
    """Answer all that is asked; what was said, as (time since the start, trial, event)."""
    began, found = clock.now(), []
    for _ in range(until):
        events = list(executor.events(0.25))
        if not events:
            break
        for slot, number, message in events:
            name = "died" if isinstance(message, Died) else message["event"]
            found.append((clock.now() - began, number, name))
            if name == "epoch":
                executor.answer(slot, answers(message))
            elif name == "trained":
                executor.answer(slot, {"package": True})
    return found


def test_trials_take_the_time_that_was_recorded_and_run_side_by_side(executor, made, tmp_path):
    first, second = curves_of(made)[:2]
    executor.submit(SLOTS[0], spec_of(tmp_path, first.config, 0))
    executor.submit(SLOTS[1], spec_of(tmp_path, second.config, 1))
    assert executor.free() == []
    found = heard(executor)
    ended = {number: at for at, number, name in found if name == "done"}
    assert ended == pytest.approx({0: first.cost(), 1: second.cost()}, abs=1e-5)
    assert [at for at, *_ in found] == sorted(at for at, *_ in found)
    assert executor.free() == list(SLOTS)


def test_time_is_simulated_only_while_the_executor_is_open(made, tmp_path):
    with SimulateExecutor(SLOTS, tmp_path, made, SPACE) as running:
        running.submit(SLOTS[0], spec_of(tmp_path, curves_of(made)[0].config))
        heard(running)
        assert clock.is_simulated()
        assert clock.now() > time.time() + 1
    assert not clock.is_simulated()
    assert clock.now() == pytest.approx(time.time(), abs=1)


def test_a_trial_that_was_paused_goes_on_with_its_curve_and_pays_its_start_again(executor, made, tmp_path):
    curve = curves_of(made)[0]
    executor.submit(SLOTS[0], spec_of(tmp_path, curve.config))
    found = heard(executor, lambda message: {"do": "stop"})
    assert [name for *_, name in found] == ["started", "epoch", "done"]
    executor.submit(SLOTS[0], spec_of(tmp_path, curve.config, recorded=1))
    again = heard(executor)
    assert [name for *_, name in again] == ["started", "epoch", "epoch", "trained", "done"]
    assert again[-1][0] == pytest.approx(curve.start_cpu + curve.cpu[1] + curve.cpu[2], abs=1e-5)


def test_a_trial_that_is_told_to_stop_ends_with_its_epoch_or_is_broken_off_after_its_grace(executor, made, tmp_path):
    curve = curves_of(made)[0]
    for grace, names in ((60.0, ["epoch", "done"]), (0.01, ["done"])):
        executor.submit(SLOTS[0], spec_of(tmp_path, curve.config))
        next(executor.events(0.25))  # it has started
        executor.stop(SLOTS[0], grace)
        assert [name for *_, name in heard(executor)] == names


def test_a_worker_that_is_killed_is_told_as_one(executor, made, tmp_path):
    executor.submit(SLOTS[0], spec_of(tmp_path, curves_of(made)[0].config))
    executor.kill(SLOTS[0])
    assert [name for *_, name in heard(executor)] == ["died"]


def test_a_training_that_broke_off_fails_when_it_did(made, tmp_path):
    curve = curves_of(made)[0]
    short = {name: values[:1] for name, values in curve.metrics.items()}
    broken = table.Curve(**{**vars(curve), "metrics": short, "cpu": curve.cpu[:2], "failed": "the loss is nan"})
    other = table.Table(**{**vars(made), "curves": table.grouped([broken])})
    with SimulateExecutor(SLOTS, tmp_path, other, SPACE) as running:
        running.submit(SLOTS[0], spec_of(tmp_path, curve.config))
        found = heard(running)
    assert [name for *_, name in found] == ["started", "epoch", "failed"]
    assert found[-1][0] == pytest.approx(curve.start_cpu + curve.cpu[0] + curve.cpu[1], abs=1e-5)


# ---- the study


def test_a_simulated_study_is_a_study_whose_times_are_those_that_were_recorded(file, made, tmp_path):
    home = tmp_path / "home"
    code, out, err = simulate(home, file, "--trials", "12", "--pruner", "none", "--untracked")
    assert code == 0, err
    assert "12 complete" in out
    assert "promote:" not in out
    for events in told(home).values():
        spec = store.read_json(store.trial_folder(home / "studies" / "s", 0) / "attempt-1.json")
        assert spec is not None
        took = events[-1]["time"] - events[0]["time"]
        costs = [curve.cost() for curve in made.everything()]
        assert min(abs(took - cost) for cost in costs) < 1e-3
    whole = max(e[-1]["time"] for e in told(home).values()) - min(e[0]["time"] for e in told(home).values())
    assert whole > 12 * min(curve.cost() for curve in made.everything()), "one slot: one after the other"


@pytest.mark.long
def test_mlflow_hears_that_a_study_is_simulated_and_of_the_simulated_time(file, tmp_path):
    home = tmp_path / "home"
    code, _, err = simulate(home, file, "--trials", "2", "--pruner", "none")
    assert code == 0, err

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 3
    assert {run.data.tags["search.simulated"] for run in runs} == {"digits.json.xz"}
    trial = next(run for run in runs if run.data.tags["search.kind"] == "trial")
    events = told(home)[int(trial.data.tags["search.trial.number"])]
    recorded = [int(event["time"] * 1000) for event in events if event["event"] == "epoch"]
    history = client.get_metric_history(trial.info.run_id, "val_accuracy")
    assert [m.timestamp for m in sorted(history, key=lambda m: m.step)] == recorded


def test_limits_go_by_the_simulated_clock_and_a_resumed_study_proposes_what_it_would_have(file, tmp_path):
    flags = ("--trials", "8", "--sampler", "tpe", "--pruner", "none", "--untracked")
    code, out, err = simulate(tmp_path / "whole", file, *flags)
    assert code == 0, err
    cut = tmp_path / "cut"
    code, out, err = simulate(cut, file, *flags, "--timeout", "5s")
    assert "time limit" in out, err
    before = len(told(cut))
    assert before < 8
    code, out, err = command(cut, "resume", "s", "--untracked")
    assert code == 0, err

    def configs(home):
        return [json.loads((f / "trial.json").read_text())["attributes"]["config"] for f in folders(home)]

    def folders(home):
        return store.trial_folders(home / "studies" / "s").values()

    assert configs(cut) == configs(tmp_path / "whole")
    times = [event["time"] for events in told(cut).values() for event in events]
    assert max(times) > min(times) + 5


def test_a_configuration_that_is_not_in_the_table_is_refused_beforehand(made, tmp_path):
    few = dict(list(made.curves.items())[:6])
    path = tmp_path / "few.json.xz"
    table.write(path, table.Table(**{**vars(made), "curves": few}))
    code, out, err = simulate(tmp_path / "home", path, "--sampler", "random", "--pruner", "none", "--untracked")
    assert code == 0
    assert "refused beforehand: not in few.json.xz" in out + err
    assert "6 complete; ended: the space is exhausted" in out


def test_what_cannot_be_simulated_is_told_at_once(file, tmp_path):
    home = tmp_path / "home"
    code, _, err = command(home, "run", str(DIGITS), "--executor", "simulate")
    assert (code, "--table FILE" in err) == (2, True)
    code, _, err = command(home, "run", str(DIGITS), "--table", str(file), "--untracked")
    assert code == 2
    assert len(err.splitlines()) == 2
    code, _, err = simulate(home, file, "--epochs", "9", "--train-images", "50")
    assert (code, len(err.splitlines())) == (2, 2)
    code, _, err = command(home, "run", "cnn_digits", "--executor", "simulate", "--table", str(file))
    assert (code, "digits_grid" in err) == (2, True)
    assert not (home / "studies").exists()


def test_no_model_of_a_simulated_study_can_be_promoted_or_repeated(file, tmp_path):
    home = tmp_path / "home"
    assert simulate(home, file, "--trials", "2", "--untracked")[0] == 0
    for verb in ("promote", "repeat"):
        code, _, err = command(home, verb, "s")
        assert code == 2
        assert err.splitlines() == [line for line in err.splitlines() if "was simulated" in line]


# ---- the audit of early stopping


REAL = ROOT / "bench" / "tables" / "fashion.json.xz"
AUDIT = re.compile(
    r"audit: of (\d+) stopped trials (\d+) went on to be audited: stopping was wrong for (\d+) "
    r"\(\d+ %, 95 % interval (\d+) to (\d+) %\)"
)


def audited(home, share):
    """What the audit of a hasty study on the real table printed, and what the table says became of each trial.

    The table's word: of each trial its number, whether it was stopped, whether audited, and the best accuracy of the
    whole of its recorded curve, whatever the study saw of it.
    """
    hasty = ("--sampler", "random", "--pruner", "asha:min_resource=1,reduction_factor=6", "--seed", "2")
    flags = ("--executor", "simulate", "--table", str(REAL), "--study", "s", "--trials", "40", "--untracked")
    code, out, err = command(home, "run", str(grid.grid_of("fashion")), *hasty, *flags, "--audit", share)
    assert code == 0, err
    found = AUDIT.search(out)
    assert found is not None, out
    recorded, trials = table.read(REAL), []
    for folder in store.trial_folders(home / "studies" / "s").values():
        spec, events = store.read_json(folder / "attempt-1.json"), store.events(folder)
        assert spec is not None
        curve = recorded.curve(spec["config_hash"], spec["seed"])
        assert curve is not None
        was_audited = store.standing(events).get("audited") is not None
        was_stopped = was_audited or len(store.epochs_of(events)) < recorded.epochs
        trials.append((was_stopped, was_audited, max(curve.metrics["val_accuracy"])))
    return [int(figure) for figure in found.groups()], trials


def wrongly_stopped(trials):
    best = max(value for was_stopped, _, value in trials if not was_stopped)
    return [was_audited for was_stopped, was_audited, value in trials if was_stopped and value > best]


def test_an_audit_of_all_stopped_trials_reports_the_share_that_the_table_has(tmp_path):
    (stopped, went_on, wrong, *_), trials = audited(tmp_path / "home", "1")
    assert stopped == went_on == sum(was_stopped for was_stopped, *_ in trials) > 20
    assert wrong == len(wrongly_stopped(trials)) > 0


@pytest.mark.long
def test_an_audit_of_some_stopped_trials_has_the_share_of_all_within_its_interval(tmp_path):
    (stopped, went_on, wrong, low, high), trials = audited(tmp_path / "home", "0.3")
    assert 0 < went_on < stopped == sum(was_stopped for was_stopped, *_ in trials)
    assert wrong == sum(wrongly_stopped(trials))
    assert low <= 100 * len(wrongly_stopped(trials)) / stopped <= high


def test_a_study_whose_trials_rested_and_were_audited_has_nothing_to_mend(file, tmp_path):
    home = tmp_path / "home"
    flags = ("--trials", "6", "--sampler", "random", "--pruner", "asha:pause=true,min_resource=1", "--audit", "0.5")
    code, out, err = simulate(home, file, *flags)
    assert code == 0, err
    assert "went on to be audited" in out
    assert command(home, "reconcile", "s")[:2] == (0, "s: 0 mended\n")
