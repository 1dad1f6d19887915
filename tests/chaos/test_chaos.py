"""A study whose processes are killed at aimed and at random instants ends as if nobody had touched it."""

import random
import subprocess
import sys
import threading

import numpy as np
import pytest

from bench import audit, processes
from bench.audit import StudyLeft, TrialLeft
from bench.chaos import Options, bombard
from bench.instants import BY_VICTIM, SHARES, Behind, Deck, Watch, behind
from bench.places import environment
from bench.proxy import Trap
from bench.siege import Snare
from search import store
from search.trial import checkpoints
from search.trial.checkpoints import Snapshot


def test_a_study_killed_four_times_ends_as_if_nobody_had_touched_it(tmp_path):
    victims = {"coordinator": 1, "both": 1, "worker": 1, "server": 1}
    result = bombard(Options(kills=4, seed=5, trials=4, epochs=6, seeds=1, victims=victims), tmp_path)
    assert len(result.kills) == 4
    assert result.harms == []
    assert result.equal == result.compared > 0
    assert result.asked == result.done == result.runs


@pytest.mark.long
def test_forty_kills_of_every_kind_harm_nothing(tmp_path):
    result = bombard(Options(kills=40, seed=6), tmp_path)
    assert len(result.kills) == 40
    assert result.harms == []
    assert result.equal == result.compared > 0


def test_the_same_seed_aims_at_the_same_instants_and_every_victim_has_its_turn():
    def aims(seed):
        deck = Deck(random.Random(seed), dict(SHARES))
        return [deck.draw(fresh=False, begins=number % 2 == 0, left=5) for number in range(60)]

    assert aims(1) == aims(1) != aims(2)
    assert {aim.victim for aim in aims(1)} == set(SHARES)
    assert all(aim.instant in BY_VICTIM[aim.victim] for aim in aims(1))
    assert "shut-down" not in {aim.instant for aim in aims(1)}, "it is far off"


def test_the_watch_sees_what_happens_in_a_trials_folder(tmp_path):
    watch = Watch(tmp_path / "study", tmp_path / "study.db")
    assert set(watch.look().values()) == {0}
    trial = tmp_path / "study" / "trial-0000"
    store.append(trial, {"event": "attempt", "attempt": 1, "slot": "cpu"})
    (trial / "attempt-1.json").write_text("{}")
    for epoch in range(3):
        store.append(trial, {"event": "epoch", "epoch": epoch, "metrics": {"loss": 1.0}})
    large = Snapshot("h", [np.zeros(2**22)], [], ({"loss": 1.0}, {"loss": 1.0}))
    writer = threading.Thread(target=checkpoints.write, args=(trial, large))
    writer.start()
    while writer.is_alive():
        watch.look()
    assert behind(tmp_path / "study") == [Behind("trial-0000", 3, 2)]
    store.append(trial, {"event": "finished", "state": "COMPLETE", "reason": ""})
    (trial / "model").mkdir()
    seen = watch.look()
    assert seen["epoch line"] == 3
    assert {name for name, count in seen.items() if count == 1} == {
        "attempt file",
        "checkpoint write",
        "checkpoint whole",
        "trial told",
        "model packaged",
    }
    assert behind(tmp_path / "study") == [], "it is told"


def test_a_trap_springs_once_at_the_request_it_was_set_for():
    killed = []
    trap = Trap("runs/create", 2, True, lambda: killed.append("coordinator"))
    snare = Snare(trap)
    requests = ["POST /runs/create", "GET /runs/create", "POST /runs/update", "POST /runs/create", "POST /runs/create"]
    assert not any(snare.loses(request, False) for request in requests), "it waits for an answer"
    assert [snare.loses(request, True) for request in requests] == [False, False, False, True, False]
    assert trap.sprung.is_set()
    assert killed == ["coordinator"]


def test_a_process_without_its_coordinator_is_an_orphan(tmp_path):
    sleeping = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    process = subprocess.Popen(sleeping, env=environment(tmp_path), stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        (orphan,) = processes.orphans(tmp_path, None)
        assert orphan.pid == process.pid
        assert processes.alive(orphan)
        assert processes.orphans(tmp_path, process.pid) == []
        assert processes.orphans(tmp_path / "other", None) == []
    finally:
        process.kill()
        process.communicate()
    assert not processes.alive(orphan)


def test_the_audit_names_what_is_lost_doubled_wrong_or_left_behind(tmp_path):
    folder = tmp_path / "trial-0000"
    times = [1_700_000_000.0, 1_700_000_001.0]
    for epoch in range(2):
        store.append(folder, {"event": "epoch", "epoch": epoch, "metrics": {"val_accuracy": 0.5, "loss": 1.0}})
    events = [e | {"time": time} for e, time in zip(store.events(folder), times, strict=True)]
    (folder / "checkpoint-00002.npz").write_bytes(b"")
    good = {"val_accuracy": [(n, 0.5, int(t * 1000)) for n, t in enumerate(times)]}
    trial = TrialLeft(0, "RUNNING", "h", {"state": "paused"}, {0: 0.5}, events, folder)
    trial.metrics = good | {"loss": [(0, 1.0, int(times[0] * 1000)), (0, 1.0, 7)], "extra": [(5, 1.0, 1)]}
    study = StudyLeft(
        "s", "val_accuracy", "maximize", 1, 2, "p", [], {"best": [(1, 0.5, 1), (1, 0.5, 2)]}, ["x"], [], {}
    )
    study.trials = [trial]
    reference = TrialLeft(0, "COMPLETE", "h", {}, {}, events, folder)
    found = audit.harms(study, StudyLeft(**(vars(study) | {"trials": [reference]})))
    assert {harm.kind for harm in found} == {
        audit.STUCK,
        audit.DUPLICATED,
        audit.LOST,
        audit.DOUBLED,
        audit.WRONG,
        audit.MISSING,
        audit.LEFT_OVER,
        audit.DIFFERS,
    }
    texts = "\n".join(map(str, found))
    for words in (
        "loss lacks steps [1] of 2",
        "loss has steps [0] more than once",
        "the study's best has step 1 2 times",
    ):
        assert words in texts
    assert "val_accuracy has" not in texts
