"""Real workers with trials that hang, crash, eat memory or leave things behind: each costs itself alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict

import psutil
import pytest
from support import environment, trial_spec

from search.executors import local
from search.executors.devices import Slot, cores
from search.executors.local import Died, LocalExecutor
from search.trial import checkpoints
from spaces import find
from spaces.datasets import prepare

FAULTS = """
import ctypes, signal, subprocess, sys, time
import numpy as np
from spaces import find
from spaces._space import Space
from dataclasses import replace

plain = find("cnn_digits")

def build(config, data):
    fault = config.get("fault")
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(10_000)  # in C, without letting go of the interpreter
    if fault == "sleep":
        time.sleep(10_000)
    if fault == "hog":
        held = [np.ones(10**7) for _ in range(40) if not time.sleep(0.05)]
        time.sleep(10_000)
    if fault == "numpy":
        np.ones(10**14)
    if fault == "exit":
        sys.exit("enough")
    if fault == "child":
        subprocess.Popen(["sleep", "1000"], start_new_session=True,
                         preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    return plain.build(config, data)

SPACE = replace(plain, name="faults", build=build, baselines=())
"""
LIMIT = 2500.0  # MB, more than a worker needs for digits


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    (folder / "faults.py").write_text(FAULTS)
    prepare("digits", cache=folder / "data")
    return folder


def spec(home, number, *, fault=None, attempt=1, recorded=0, epochs=2, rungs=(), **config):
    plain = dict(find("cnn_digits").baselines[0].config) | {"filters": 8, "batch_size": 64}
    made = trial_spec(
        home / f"trial-{number:04}",
        number=number,
        attempt=attempt,
        space=str(home / "faults.py"),
        config=plain | {"fault": fault, **config},
        data_folder=str(prepare("digits", cache=home / "data")),
        epochs=epochs,
        recorded=recorded,
        rungs=rungs,
    )
    made.path.mkdir(exist_ok=True)
    return made


LONG = {"filters": 64, "conv_layers": 2, "batch_size": 2, "epochs": 50}  # seconds an epoch
CASES = {
    "child": {"fault": "child", "rungs": (1,)},
    "hang": {"fault": "hang"},
    "stopped": LONG,
    "killed": LONG,
    "kill -9": LONG,
    "segfault": {"fault": "segfault"},
    "hog": {"fault": "hog"},
    "numpy": {"fault": "numpy"},
    "sleep": {"fault": "sleep"},
    "exit": {"fault": "exit"},
    "kernel": LONG,
}
NUMBERS = {name: number for number, name in enumerate(CASES)}
KERNEL = [0]  # stands for the kernel's count of processes it killed for memory
NAMES = {number: name for name, number in NUMBERS.items()}


def drive(executor, waiting):
    """Run these trials; what each of them sent, in order. What is done to one is done when it gets that far."""
    sent, running, deadline = defaultdict(list), set(), time.monotonic() + 400
    while waiting or running:
        assert time.monotonic() < deadline, (running, dict(sent))
        for slot in executor.free():
            if waiting:
                made = waiting.pop(0)
                running.add(made.number)
                executor.submit(slot, made)
                if made.number == NUMBERS["hang"]:
                    hanging = slot
        if NUMBERS["hang"] in running and sent["hang"] and executor.silent(hanging) > 3:
            executor.stop(hanging, grace=0.0)
        for slot, number, message in executor.events(0.1):
            sent[NAMES[number]].append(message)
            if isinstance(message, Died) or message["event"] in ("done", "failed"):
                running.discard(number)
            else:
                react(executor, slot, NAMES[number], message)
    return sent


def react(executor, slot, name, message):
    match message:
        case {"event": "epoch", "epoch": epoch}:
            if name == "stopped" and epoch == 1:
                executor.answer(slot, {"do": "checkpoint"})
            executor.answer(slot, {"do": "go"})
            if name == "stopped" and epoch == 1:
                time.sleep(0.5)  # the next epoch is under way
                executor.stop(slot, grace=0.0)
            if name == "killed" and epoch == 1:
                executor.kill(slot)
            KERNEL[0] += name == "kernel" and epoch == 0
            if name in ("kill -9", "kernel") and epoch == 0:
                os.kill(executor._workers[slot.index].process.pid, signal.SIGKILL)
        case {"event": "trained"}:
            executor.answer(slot, {"package": False})
        case {"event": "alive", "phase": "building"} if name == "sleep":
            executor.stop(slot, grace=0.0)


@pytest.fixture(scope="module")
def sent(home):
    """What the trials of all cases sent, three at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "AFTER_GRACE", 5.0)
        patch.setattr(local, "AFTER_TERM", 1.0)
        patch.setattr(local, "kernel_kills", lambda: KERNEL[0])
        slots = tuple(Slot(i, cores()) for i in range(3))
        with LocalExecutor(slots, home, backend="tensorflow", trial_memory=LIMIT) as executor:
            yield drive(executor, [spec(home, NUMBERS[name], **case) for name, case in CASES.items()])


@pytest.fixture(scope="module")
def ended(sent):
    """How each case ended."""
    return {
        name: next(m for m in messages if isinstance(m, Died) or m["event"] in ("done", "failed"))
        for name, messages in sent.items()
    }


def test_a_crash_in_c_is_told_by_its_signal_and_place(ended):
    died = ended["segfault"]
    assert (died.exit_code, died.told, died.oom) == (-signal.SIGSEGV, False, False)
    assert str(died).startswith("the worker died (signal SIGSEGV): Fatal Python error: Segmentation fault, File ")
    assert "\n" not in str(died)


def test_a_worker_that_holds_the_interpreter_and_ignores_sigterm_is_killed(ended):
    died = ended["hang"]
    assert (died.exit_code, died.told, died.oom) == (-signal.SIGKILL, True, False)
    assert str(died).startswith("the worker was ended (signal SIGKILL)")


def test_a_build_that_sleeps_is_broken_off(ended):
    assert (ended["sleep"]["event"], ended["sleep"]["state"], ended["sleep"]["epoch"]) == ("done", "stopped", 0)


def test_a_stop_breaks_off_the_running_epoch_and_keeps_those_before(home, sent, ended):
    kept = ended["stopped"]["epoch"]
    assert (ended["stopped"]["state"], kept) in (("stopped", 1), ("stopped", 2))  # 1 where copies cost too much
    assert checkpoints.read(checkpoints.files(home / "trial-0002")[0]).epochs == kept
    assert next(m["epoch"] for m in sent["stopped"] if m["event"] == "saved") <= kept
    assert [m["epoch"] for m in sent["stopped"] if m["event"] == "epoch"] == [0, 1]


def test_sigterm_writes_what_there_is(home, ended):
    died = ended["killed"]
    assert (died.exit_code, died.told, died.oom) == (128 + signal.SIGTERM, True, False)
    assert checkpoints.read(checkpoints.files(home / "trial-0003")[0]).epochs >= 1


def test_an_ordinary_kill_is_a_crash_and_not_a_lack_of_memory(ended):
    died = ended["kill -9"]
    assert (died.exit_code, died.told, died.oom) == (-signal.SIGKILL, False, False)
    assert str(died).startswith("the worker died (signal SIGKILL)")
    assert died.peak_memory > 100


def test_a_kill_that_the_kernel_counted_is_a_lack_of_memory(ended):
    died = ended["kernel"]
    assert (died.exit_code, died.told, died.oom) == (-signal.SIGKILL, False, True)
    assert "the kernel ran out of memory" in str(died)


def test_a_checkpoint_is_written_at_a_rung(home, ended):
    assert ended["child"]["state"] == "complete"
    assert 1 in [checkpoints.epochs_of(p) for p in checkpoints.files(home / "trial-0000")]


def test_a_trial_above_its_memory_limit_is_killed_for_it(ended):
    died = ended["hog"]
    assert (died.exit_code, died.told, died.oom) == (-signal.SIGKILL, False, True)
    assert died.peak_memory > LIMIT
    assert f"MB of memory, the limit is {LIMIT:,.0f} MB" in str(died)


def test_an_allocation_that_fails_is_told_as_a_lack_of_memory(ended):
    failed = ended["numpy"]
    assert (failed["event"], failed["reason"], failed["memory_of"]) == ("failed", "oom", "cpu")
    assert "Unable to allocate" in failed["error"]
    assert "in build" in failed["traceback"]
    assert failed["peak_memory"] > 100


def test_a_space_that_exits_fails_its_trial_alone(ended):
    assert (ended["exit"]["reason"], ended["exit"]["error"]) == ("error", "SystemExit: enough")


def test_what_a_trial_leaves_running_is_ended_and_named(sent, ended):
    assert [m["names"] for m in sent["child"] if m["event"] == "leftovers"] == [["sleep"]]
    assert (ended["child"]["state"], ended["child"]["memory_of"]) == ("complete", "cpu")
    assert ended["child"]["peak_memory"] > 100


def test_a_trial_says_that_it_is_alive_in_each_phase(sent):
    phases = [m["phase"] for m in sent["stopped"] if m["event"] == "alive"]
    assert phases[:2] == ["loading", "building"]
    assert set(phases[2:]) <= {"training", "validation"} and phases[2:]


@pytest.mark.long
def test_training_is_broken_off_on_jax_as_well(home):
    slots = (Slot(0, cores()),)
    with LocalExecutor(slots, home, backend="jax") as executor:
        made = [spec(home, NUMBERS[name], attempt=2, **CASES[name]) for name in ("sleep", "stopped", "numpy")]
        checkpoints.remove(made[1].path)
        sent = drive(executor, list(made))
    assert [m["state"] for m in sent["sleep"] if m["event"] == "done"] == ["stopped"]
    kept = [m["epoch"] for m in sent["stopped"] if m["event"] == "done"]
    assert len(kept) == 1 and 1 <= kept[0] < 40, "broken off, with what it had"
    assert checkpoints.read(checkpoints.files(made[1].path)[0]).epochs == kept[0]
    assert [m["reason"] for m in sent["numpy"] if m["event"] == "failed"] == ["oom"]


COORDINATOR = """
import sys, time
from pathlib import Path
from search.executors.devices import Slot, cores
from search.executors.local import LocalExecutor
from search.trial.spec import TrialSpec
import json
specs = [TrialSpec.from_json(s) for s in json.loads(sys.argv[2])]
slots = tuple(Slot(i, cores()) for i in range(len(specs)))
with LocalExecutor(slots, Path(sys.argv[1]), backend="tensorflow") as executor:
    while True:
        for slot in executor.free():
            executor.submit(slot, specs.pop())
        for slot, number, message in executor.events(0.1):
            if message["event"] == "epoch":
                executor.answer(slot, {"do": "go"})
            print(json.dumps([number, message]), flush=True)
"""


def test_a_killed_coordinator_leaves_no_process_and_its_trials_checkpoints(home):
    (home / "gone").mkdir()
    made = [spec(home, 20, fault="child", **LONG), spec(home, 21, fault="hang")]
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(home / "gone"), json.dumps([m.to_json() for m in made])],
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    )
    hanging = False
    for line in process.stdout:
        number, message = json.loads(line)
        hanging = hanging or (number == 21 and message.get("phase") == "building")
        if hanging and message["event"] == "epoch" and message["epoch"] >= 1:
            break
    family = psutil.Process(process.pid).children(recursive=True)
    sessions = {os.getsid(p.pid) for p in family}
    left = [p for p in psutil.process_iter() if p in family or token(p) in {token(f) for f in family} - {None}]
    assert {"sleep"} <= {p.name() for p in left} and len(sessions) >= 3
    (warden,) = [p for p in family if "search.executors.warden" in p.cmdline()]
    warden.kill()  # the coordinator starts another
    while not any(
        "search.executors.warden" in c.cmdline() for c in psutil.Process(process.pid).children() if c != warden
    ):
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(left, timeout=30)[1]
    assert checkpoints.read(checkpoints.files(home / "trial-0020")[0]).epochs >= 1


def token(process):
    try:
        return process.environ().get("SEARCH_WORKER")
    except psutil.Error:
        return None
