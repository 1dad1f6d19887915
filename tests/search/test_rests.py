"""Trials that rest at a rung: written down first, restored from what is left, gone on with after any kill."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from support import command, environment

from search import restore, store
from search.engines import keras_tuner
from search.engines import optuna as engine
from search.engines.scheduler import UNTIL
from search.goals import read_goals
from search.objectives import Objective
from search.restore import Remains
from spaces import find

GOALS = read_goals((), (), Objective("val_accuracy", "maximize"))
STEPS = st.lists(st.sampled_from(["rest", "promoted", "oracle", "audited"]), max_size=6)


def lived(steps: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events of a trial that lived so, and the attributes that the study store then has."""
    events: list[dict[str, Any]] = []
    attrs: dict[str, Any] = {}
    for at, step in enumerate(steps, 1):
        if step == "rest":
            events.append({"event": "verdict", "epochs": at, "prune": False, "notes": {}, "rest": True})
            attrs[engine.RESTS] = at
        elif attrs.get(engine.RESTS) is None:
            continue
        elif step == "audited":
            events.append({"event": "promoted", "epochs": attrs[engine.RESTS], "audited": True})
            attrs |= {engine.AUDITED: attrs[engine.RESTS], engine.RESTS: None}
        else:
            entry = {"id": f"{at:04}", "n": at, "steps": [], "until": at + 2}
            more = {keras_tuner.ASKED: entry} if step == "oracle" else {}
            events.append({"event": "promoted", "epochs": attrs[engine.RESTS], "until": at + 2, **more})
            attrs |= {engine.RESTS: None, UNTIL: at + 2}
            attrs |= {keras_tuner.MORE: [*attrs.get(keras_tuner.MORE, []), entry]} if more else {}
    return [{"time": float(n), **event} for n, event in enumerate(events, 1)], attrs


@given(steps=STEPS)
@settings(deadline=None)
def test_a_record_says_where_its_trial_rests_and_how_it_went_on(steps):
    events, attrs = lived(steps)
    assert store.standing(events) == attrs


@given(steps=STEPS, kept=st.integers(0, 6))
@settings(deadline=None)
def test_what_a_record_lost_of_it_is_restored_from_the_study_store(tmp_path_factory, steps, kept):
    events, attrs = lived(steps)
    row = create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    left = Remains(0, Path("/nowhere"), row, None, lambda name: None)
    restored, _ = restore.events(left, events[:kept], GOALS, {}, set(), "")
    found = store.standing(restored)
    assert found.get(engine.RESTS) == attrs.get(engine.RESTS)
    assert found.get(engine.AUDITED) == attrs.get(engine.AUDITED)
    assert found.get(keras_tuner.MORE, []) == attrs.get(keras_tuner.MORE, [])


@given(steps=STEPS)
@settings(deadline=None)
def test_what_the_study_store_lost_of_it_is_restored_from_the_record(steps):
    events, attrs = lived(steps)
    config = dict(find("cnn_digits").baselines[0].config)
    proposal = engine.replay(find("cnn_digits"), config, {})
    record = engine.record(0, proposal.params, proposal.distributions, {"config": config, UNTIL: 1})
    left = Remains(0, Path("/nowhere"), None, None, lambda name: None, record)
    row = restore.row(left, events, GOALS)
    expected = {UNTIL: 1} | attrs
    assert {name: value for name, value in row.user_attrs.items() if name in expected} == expected


SEARCH = (
    *("run", "cnn_digits", "--study", "s", "--pruner", "asha:pause=true,min_resource=1", "--sampler", "tpe"),
    *("--trials", "9", "--epochs", "4", "--audit", "0.5", "--keep", "0", "filters=8,16", "conv_layers=1"),
)


def ends(home: Path) -> list[tuple[Any, ...]]:
    """What became of every trial: state, configuration, epochs, whether it was audited."""
    with sqlite3.connect(home / "study.db") as database:
        states = dict(database.execute("SELECT number, state FROM trials").fetchall())
    found = []
    for number, folder in store.trial_folders(home / "studies" / "s").items():
        said = json.loads((folder / "trial.json").read_text())["attributes"]
        recorded = store.events(folder)
        metrics = [event["metrics"]["val_accuracy"] for event in store.epochs_of(recorded)]
        found.append((number, states[number], said["config.hash"], metrics, store.standing(recorded).get("audited")))
    return found


@pytest.mark.long
def test_killed_wherever_a_study_that_rests_trials_ends_as_one_in_one_go(tmp_path):
    """The coordinator is killed six times, at any moment; resume goes on with what rests."""
    code, _, err = command(tmp_path / "whole", *SEARCH)
    assert code == 0, err
    wanted = ends(tmp_path / "whole")
    assert {epochs for _, _, _, metrics, _ in wanted for epochs in [len(metrics)]} >= {1, 4}
    home = tmp_path / "killed"
    with (tmp_path / "log").open("ab") as log:
        for attempt in range(6):
            arguments = SEARCH if attempt == 0 else ("resume", "s")
            process = subprocess.Popen(
                [sys.executable, "-m", "search", *arguments],
                env=environment(home),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            time.sleep(14 + 3 * attempt)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    code, _, err = command(home, "resume", "s")
    assert code == 0, err
    assert ends(home) == wanted
    for each in (tmp_path / "whole", home):
        assert command(each, "reconcile", "s")[:2] == (0, "s: 0 mended\n")
