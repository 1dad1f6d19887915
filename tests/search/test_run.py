"""The main job, for real: processes, Optuna in SQLite, MLflow in SQLite, Keras training on digits."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
from support import environment

from search.trial import checkpoints

FAST = ("filters=8,16", "conv_layers=1", "--epochs", "3")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One finished study of five trials on two slots, and its home."""
    folder = tmp_path_factory.mktemp("main-job")
    ran = search(folder, "run", "cnn_digits", *FAST, "--trials", "5", "--slots", "2", "--keep", "2", "--study", "first")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return folder, ran


def search(folder, *arguments, **extra):
    return subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        cwd=folder,
        env=environment(folder / "home", **extra),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def start(folder, *arguments):
    """The same, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "search", *arguments],
        cwd=folder,
        env=environment(folder / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def client(folder):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/home/mlflow.db")


def runs(folder, study):
    """(the study's run, its children by trial number)."""
    mlflow = client(folder)
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    found = [r for r in mlflow.search_runs(experiments) if r.data.tags.get("search.study") == study]
    parents = [r for r in found if r.data.tags["search.kind"] == "study"]
    children = {int(r.data.tags["search.trial.number"]): r for r in found if r.data.tags["search.kind"] == "trial"}
    assert len(parents) == 1
    assert len(found) == 1 + len(children), "one run a trial"
    assert all(r.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for r in children.values())
    return parents[0], children


def trials(folder, study):
    return json.loads(search(folder, "show", study, "--json").stdout)


MIRROR = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def test_a_study_ends_with_its_trials_in_both_stores_in_the_same_states(done):
    folder, _ = done
    parent, children = runs(folder, "first")
    listed = trials(folder, "first")
    assert len(listed) == len(children) == 5
    assert len({t["config_hash"] for t in listed}) == 5
    assert parent.info.status == "FINISHED"
    for t in listed:
        assert children[t["trial"]].info.status == MIRROR[t["state"]]
        assert children[t["trial"]].info.run_id == t["run_id"]


def test_every_epoch_is_logged_once_with_all_its_metrics(done):
    folder, _ = done
    _, children = runs(folder, "first")
    for t in trials(folder, "first"):
        history = client(folder).get_metric_history(t["run_id"], "val_accuracy")
        assert [m.step for m in history] == list(range(t["epochs"]))
        names = set(children[t["trial"]].data.metrics)
        assert {
            "loss",
            "accuracy",
            "val_loss",
            "val_accuracy",
            "learning_rate",
            "seconds",
            "images_per_second",
            "system/process_memory_usage_megabytes",
        } <= names


def test_a_trial_carries_its_parameters_data_provenance_and_pictures(done):
    folder, _ = done
    _, children = runs(folder, "first")
    best = json.loads(search(folder, "best", "first", "--json").stdout)[0]
    run = children[best["trial"]]
    assert {k: str(v) for k, v in best["config"].items()}.items() <= run.data.params.items()
    assert run.data.params["parameters"] == str(best["parameters"])
    assert run.data.tags["search.config.hash"] == best["config_hash"]
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    artifacts = {a.path for a in client(folder).list_artifacts(run.info.run_id)}
    assert {"config.json", "model_summary.txt", "learning_curves.png", "provenance.json"} <= artifacts
    facts = json.loads(Path(client(folder).download_artifacts(run.info.run_id, "provenance.json")).read_text())
    assert facts["seeds"]["trial"] == int(run.data.params["seed"])
    assert {"keras", "tensorflow", "optuna", "mlflow"} <= set(facts["versions"])


def test_the_study_carries_its_pictures_table_and_note(done):
    folder, _ = done
    parent, children = runs(folder, "first")
    mlflow = client(folder)
    pictures = {a.path for a in mlflow.list_artifacts(parent.info.run_id, "figures")}
    for name in ("optimisation_history", "parallel_coordinates", "slices", "importances"):
        assert {f"figures/{name}.html", f"figures/{name}.png"} <= pictures
    assert {"trials.csv", "explain.md"} <= {a.path for a in mlflow.list_artifacts(parent.info.run_id)}
    seen = {a.path for a in mlflow.list_artifacts(parent.info.run_id, "data")}
    changed = {run.data.params["augmentation"] for run in children.values()} - {"none"}
    drawn = {"data/images_per_class.csv", "data/images_per_class.png", "data/samples.png"}
    assert seen == drawn | {f"data/augmented_{name}.png" for name in changed}
    assert "Best: trial" in parent.data.tags["mlflow.note.content"]


def test_tables_count_epochs_from_one_and_say_what_differs_though_they_do_not_show_it(done):
    folder, _ = done
    shown = search(folder, "show", "first").stdout
    drawn = [t["config"] for t in trials(folder, "first")]
    differing = {n for c in drawn for n in c if len({str(d.get(n)) for d in drawn}) > 1}
    for name in differing:
        assert name in shown
    epochs = [line.split()[0] for line in search(folder, "show", "first", "--trial", "0").stdout.splitlines()[-3:]]
    assert epochs == ["1", "2", "3"]


def test_the_weights_of_the_best_are_kept_and_load_and_the_rest_are_removed(done):
    import mlflow
    import numpy as np

    folder, _ = done
    kept = [t for t in trials(folder, "first") if t["model_id"]]
    assert len(kept) == 2
    files = list((folder / "home" / "artifacts").rglob("*.keras"))
    assert len(files) == 2
    assert not list((folder / "home" / "studies").rglob("*.npz")), "checkpoints of finished trials are gone"
    mlflow.set_tracking_uri(f"sqlite:///{folder}/home/mlflow.db")
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{kept[0]['model_id']}")
    finally:
        mlflow.set_tracking_uri(None)
    out = np.asarray(loaded.predict(np.zeros((3, 8, 8, 1), np.uint8)))
    assert out.shape == (3, 10)
    assert out.dtype == np.float32
    noted = loaded.metadata.metadata
    assert (noted["backend"], noted["dataset"], noted["class_names"]) == ("tensorflow", "digits", list("0123456789"))


def test_the_run_ends_with_a_table_and_the_next_two_commands(done):
    _folder, ran = done
    assert "python -m search ui --study first" in ran.stdout
    assert "python -m search promote first" in ran.stdout
    assert "trial 0 starts:" in ran.stderr and "5 of 5 done" in ran.stderr


def test_the_baseline_is_the_first_trial_and_is_never_pruned(done):
    folder, _ = done
    first = trials(folder, "first")[0]
    assert (first["baseline"], first["state"], first["epochs"]) == ("plain", "COMPLETE", 3)


def test_the_same_command_with_a_higher_total_goes_on(done):
    folder, _ = done
    ran = search(folder, "run", "cnn_digits", *FAST, "--trials", "6", "--keep", "2", "--study", "first")
    assert ran.returncode == 0, ran.stderr
    parent, children = runs(folder, "first")
    assert len(children) == 6
    assert parent.info.status == "FINISHED"
    changed = search(folder, "run", "cnn_digits", "filters=16", "--study", "first")
    assert changed.returncode == 2
    assert "cannot change" in changed.stderr


@pytest.mark.long
def test_promote_makes_the_best_champion_also_without_a_server(done):
    folder, _ = done
    best = json.loads(search(folder, "best", "first", "--json").stdout)[0]
    ran = search(folder, "promote", "first", "--baseline", "none", "--json")
    assert ran.returncode == 0, ran.stderr
    first = json.loads(ran.stdout)
    assert (first["trial"], first["alias"], first["previous"]) == (best["trial"], "champion", None)
    assert client(folder).get_model_version_by_alias("cnn_digits", "champion").run_id == best["run_id"]
    again = json.loads(search(folder, "promote", "first", "--json").stdout)
    assert (again["version"], again["already"]) == (first["version"], True)


def test_compare_shows_what_differs_between_two_trials_and_draws_their_curves(done):
    folder, _ = done
    ran = search(folder, "compare", "first:0", "first:1", "--curves", str(folder / "curves.png"))
    assert ran.returncode == 0, ran.stderr
    assert "learning_rate" in ran.stdout
    assert "loss" in ran.stdout
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_status_list_and_best_speak_of_the_study(done):
    folder, _ = done
    assert "first" in search(folder, "list").stdout
    assert "trials done" in search(folder, "status").stdout
    assert "optimizer=" in search(folder, "best", "first").stdout
    assert "hyperparameter" in search(folder, "show", "first", "--trial", "0").stdout
    assert search(folder, "status", "frist").returncode == 2


def test_ctrl_c_checkpoints_stops_and_resume_goes_on_as_the_same_trials(tmp_path):
    slow = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "40", "--pruner", "none")
    process = start(tmp_path, "run", "cnn_digits", *slow, "--trials", "3", "--slots", "2", "--study", "s")
    wait_for(tmp_path / "home" / "studies" / "s", epochs=3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "python -m search resume s" in out
    parent, children = runs(tmp_path, "s")
    paused = {n: r for n, r in children.items() if r.info.status == "SCHEDULED"}
    assert paused
    assert parent.info.status == "KILLED"
    assert "RUNNING" not in {r.info.status for r in children.values()}
    before = {t["trial"]: t for t in trials(tmp_path, "s")}

    ran = search(tmp_path, "resume", "s")
    assert ran.returncode == 0, ran.stderr
    assert "goes on from its checkpoint" in ran.stderr
    parent, children = runs(tmp_path, "s")
    assert (len(children), parent.info.status) == (3, "FINISHED")
    for t in trials(tmp_path, "s"):
        assert children[t["trial"]].info.status == MIRROR[t["state"]]
        if t["trial"] in before:
            assert t["run_id"] == before[t["trial"]]["run_id"]
        steps = [m.step for m in client(tmp_path).get_metric_history(t["run_id"], "loss")]
        assert steps == list(range(t["epochs"]))
        assert len(children[t["trial"]].inputs.dataset_inputs) == 1
    less = search(tmp_path, "resume", "s", "--trials", "2")
    assert less.returncode == 2
    assert "has 3 trials already" in less.stderr


DAMAGES = ("none", "checkpoint ahead", "no checkpoint", "torn checkpoint")


@pytest.mark.parametrize(
    "damage",
    [
        "torn events",
        *(pytest.param(d, marks=pytest.mark.long) for d in DAMAGES),
    ],
)
def test_a_killed_coordinator_loses_and_doubles_no_epoch(tmp_path, damage):
    slow = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "12", "--pruner", "none")
    process = start(tmp_path, "run", "cnn_digits", *slow, "--trials", "1", "--slots", "1", "--study", "c")
    folder = tmp_path / "home" / "studies" / "c"
    wait_for(folder, epochs=4)
    process.kill()
    process.communicate()
    time.sleep(2)  # the worker notices and ends
    events = folder / "trial-0000" / "events.jsonl"
    kept = checkpoints.files(folder / "trial-0000")
    if damage == "torn events":
        events.write_bytes(events.read_bytes()[:-30])
    elif damage == "no checkpoint":
        for checkpoint in kept:
            checkpoint.unlink()
    elif damage == "torn checkpoint":
        kept[0].write_bytes(kept[0].read_bytes()[:-500])
    elif damage == "checkpoint ahead":
        events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:2]))
    ran = search(tmp_path, "resume", "c")
    assert ran.returncode == 0, ran.stderr
    assert ("1 damaged line of its record left out" in ran.stdout + ran.stderr) == (damage == "torn events")
    (trial,) = trials(tmp_path, "c")
    assert trial["state"] == "COMPLETE"
    steps = [m.step for m in client(tmp_path).get_metric_history(trial["run_id"], "loss")]
    assert steps == list(range(trial["epochs"]))
    parent, children = runs(tmp_path, "c")
    assert (parent.info.status, children[0].info.status) == ("FINISHED", "FINISHED")


@pytest.mark.long
def test_a_worker_killed_in_the_middle_costs_nothing(tmp_path):
    slow = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "30", "--pruner", "none")
    process = start(tmp_path, "run", "cnn_digits", *slow, "--trials", "1", "--slots", "1", "--study", "k")
    wait_for(tmp_path / "home" / "studies" / "k", epochs=2)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "search.trial.worker"], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    _out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "the worker died (signal SIGKILL)" in err
    (trial,) = trials(tmp_path, "k")
    assert (trial["state"], trial["attempts"]) == ("COMPLETE", 2)
    steps = [m.step for m in client(tmp_path).get_metric_history(trial["run_id"], "loss")]
    assert steps == list(range(trial["epochs"]))


FAULTS = """\
def build(config, data):
    import ctypes, os, signal, subprocess, sys, time
    fault = {(16, 16): "child", (32, 16): "exception", (48, 16): "exit", (48, 32): "memory", (64, 16): "hang"}.get(
        (config["dense_units"], config["batch_size"])
    )
    if fault == "exception":
        raise RuntimeError("no such width today")
    if fault == "exit":
        os._exit(7)
    if fault == "memory":
        raise MemoryError("9 GB")
    if fault == "child":
        ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
        subprocess.Popen([sys.executable, "-c", ignoring], start_new_session=True)
    if fault == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        ctypes.PyDLL(None).sleep(1000)  # holds the interpreter: no thread of it runs
    return stack.build(network(config), data, name="cnn")


def draw(hp):
    config = sample(hp)
    if (config["dense_units"], config["batch_size"]) == (64, 32):
        raise KeyError("no such pair")
    return config


"""


def test_one_trials_faults_are_its_own(tmp_path):
    from spaces import find

    text = find("cnn_digits").path.read_text()
    text = text.replace("sample=sample", "sample=draw").replace('"cnn"),', '"cnn") | {"build": build},')
    (tmp_path / "faulty.py").write_text(text.replace("SPACE = Space(", FAULTS + "SPACE = Space("))
    ran = search(
        tmp_path,
        "run",
        "faulty.py",
        "conv_layers=1",
        "--epochs",
        "3",
        "filters=16",
        "dense_units=16,32,48,64",
        "batch_size=16,32",
        "optimizer=adam",
        "learning_rate=0.001",
        "dropout=0",
        "weight_decay=0",
        "schedule=constant",
        "augmentation=none",
        "--trials",
        "9",
        "--slots",
        "1",
        "--study",
        "f",
        "--stall-timeout",
        "12s",
        "--keep",
        "0",
    )
    assert ran.returncode == 0, ran.stderr
    assert "exhausted" in ran.stdout
    listed = {(t["config"]["dense_units"], t["config"]["batch_size"]): t for t in trials(tmp_path, "f")}
    assert len(listed) == 7
    assert {listed[pair]["state"] for pair in ((16, 16), (16, 32), (32, 32))} <= {"COMPLETE", "PRUNED"}
    ends = {pair: (t["state"], t["reason"], t["attempts"]) for pair, t in listed.items()}
    assert ends[32, 16] == ("FAIL", "error", 1)
    assert "no such width today" in listed[32, 16]["error"]
    assert ends[48, 16] == ("FAIL", "crash", 3)
    assert ends[48, 32] == ("PRUNED", "oom", 1)
    assert ends[64, 16] == ("FAIL", "stalled", 1)
    assert "passed over: " in ran.stderr and "no such pair" in ran.stderr
    assert "trial" in ran.stderr and "left processes behind, which were ended: python" in ran.stderr
    _, children = runs(tmp_path, "f")
    assert {r.info.status for r in children.values()} <= {"FINISHED", "FAILED", "KILLED"}
    assert children[listed[48, 32]["trial"]].data.tags["search.trial.reason"] == "oom"
    nothing_runs(tmp_path)


def nothing_runs(folder):
    """Asserts that no process that was started for a home under `folder` is left."""
    home = str(folder / "home")
    found = []
    for process in psutil.process_iter(["pid", "environ", "cmdline"]):
        if (process.info["environ"] or {}).get("SEARCH_HOME") == home and process.pid != os.getpid():
            found.append((process.pid, process.info["cmdline"]))
    assert not found


def test_a_nan_ends_its_trial_with_that_reason(tmp_path):
    from spaces import find

    text = (
        find("cnn_digits")
        .path.read_text()
        .replace('"cnn"),', '"cnn") | {"build": build},')
        .replace(
            "SPACE = Space(",
            "def build(config, data):\n"
            "    import keras\n"
            "    model = stack.build(network(config), data, 'cnn')\n"
            "    return keras.Model(model.input, keras.ops.log(model.output - 2.0))\n\n\nSPACE = Space(",
        )
    )
    (tmp_path / "nan.py").write_text(text)
    limits = ("--trials", "9", "--slots", "1", "--max-failures", "2")
    ran = search(tmp_path, "run", "nan.py", *FAST, *limits, "--study", "n")
    assert ran.returncode == 1
    assert "2 trials in a row failed (--max-failures), the last with: the loss of epoch 0 is nan" in ran.stdout
    assert [(t["state"], t["reason"]) for t in trials(tmp_path, "n")] == [("FAIL", "nan")] * 2
    parent, _ = runs(tmp_path, "n")
    assert parent.info.status == "FAILED"


@pytest.mark.long
def test_max_params_refuses_before_training_and_gives_no_run(tmp_path):
    ran = search(
        tmp_path,
        "run",
        "cnn_digits",
        "--trials",
        "3",
        "--epochs",
        "1",
        "--max-params",
        "6000",
        "--study",
        "m",
        "--slots",
        "1",
        "--sampler",
        "random",
    )
    assert ran.returncode == 0, ran.stderr
    assert "refused beforehand" in ran.stderr
    listed = trials(tmp_path, "m")
    assert len(listed) == 3
    assert all(t["parameters"] <= 6000 for t in listed)
    _, children = runs(tmp_path, "m")
    assert len(children) == 3


def test_hopeless_trials_are_stopped_early_and_are_killed_in_mlflow(tmp_path):
    ran = search(
        tmp_path,
        "run",
        "cnn_digits",
        "--epochs",
        "5",
        "--trials",
        "8",
        "--sampler",
        "random",
        "--study",
        "p",
        "--slots",
        "1",
    )
    assert ran.returncode == 0, ran.stderr
    _, children = runs(tmp_path, "p")
    pruned = [t for t in trials(tmp_path, "p") if t["state"] == "PRUNED"]
    assert pruned
    for t in pruned:
        assert 2 <= t["epochs"] < 5
        assert children[t["trial"]].info.status == "KILLED"
        assert children[t["trial"]].data.tags["search.trial.reason"] == "pruned"


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_study_stopped_half_way_and_resumed_equals_one_in_one_go(tmp_path, sampler):
    """Configurations, prunings, epochs and values, with real training; one slot."""
    flags = ("--epochs", "5", "--slots", "1", "--keep", "0", "--sampler", sampler, "--train-images", "400")
    whole = search(tmp_path, "run", "cnn_digits", *flags, "--trials", "30", "--study", "whole")
    assert whole.returncode == 0, whole.stderr
    search(tmp_path, "run", "cnn_digits", *flags, "--trials", "15", "--study", "parts")
    parts = search(tmp_path, "resume", "parts", "--trials", "30")
    assert parts.returncode == 0, parts.stderr
    same = ("trial", "state", "reason", "value", "epochs", "config_hash")
    one, other = ([{k: t[k] for k in same} for t in trials(tmp_path, study)] for study in ("whole", "parts"))
    assert one == other
    assert {t["state"] for t in one} == {"COMPLETE", "PRUNED"}


@pytest.mark.long
def test_a_worker_is_replaced_after_its_trials(tmp_path):
    ran = search(
        tmp_path,
        "run",
        "cnn_digits",
        *FAST,
        "--trials",
        "3",
        "--slots",
        "1",
        "--worker-trials",
        "1",
        "--study",
        "w",
        "--precision",
        "mixed_bfloat16",
    )
    assert ran.returncode == 0, ran.stderr
    assert len(trials(tmp_path, "w")) == 3


@pytest.mark.long
def test_jax_trains_the_same_study(tmp_path):
    ran = search(
        tmp_path, "run", "cnn_digits", *FAST, "--trials", "2", "--slots", "1", "--backend", "jax", "--study", "j"
    )
    assert ran.returncode == 0, ran.stderr
    assert {t["state"] for t in trials(tmp_path, "j")} <= {"COMPLETE", "PRUNED"}
    _, children = runs(tmp_path, "j")
    assert {r.data.tags["search.backend"] for r in children.values()} == {"jax"}


def test_a_second_coordinator_is_refused_with_the_owner(tmp_path):
    slow = ("filters=32", "conv_layers=2", "batch_size=16", "--epochs", "300", "--pruner", "none")
    first = start(tmp_path, "run", "cnn_digits", *slow, "--slots", "1", "--trials", "3", "--study", "o")
    wait_for(tmp_path / "home" / "studies" / "o", epochs=1)
    second = search(tmp_path, "resume", "o")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    third = search(elsewhere, "resume", "o", "--storage", f"sqlite:///{tmp_path}/home/study.db")
    first.send_signal(signal.SIGTERM)
    _out, err = first.communicate(timeout=60)
    assert first.returncode == 143, err
    nothing_runs(tmp_path)
    for refused in (second, third):
        assert refused.returncode == 1
        assert f"process {first.pid} on" in refused.stderr
    assert "last heard of" in third.stderr, "from another home it is the lease that tells"


def test_the_command_line_writes_one_json_document(tmp_path):
    ran = search(tmp_path, "run", "cnn_digits", *FAST, "--trials", "1", "--slots", "1", "--json", "--study", "q")
    report = json.loads(ran.stdout)
    assert (report["study"], report["exit_code"], report["done"]) == ("q", 0, 1)


def wait_for(folder, epochs):
    """Until a trial of the study has recorded that many epochs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [p.read_text().count('"event": "epoch"') for p in folder.glob("trial-*/events.jsonl")]
        if lines and max(lines) >= epochs:
            return
        time.sleep(0.1)
    raise AssertionError("no epochs were recorded")


def test_the_study_store_is_plain_sqlite(done):
    folder, _ = done
    with sqlite3.connect(folder / "home" / "study.db") as connection:
        assert connection.execute("select count(*) from trials").fetchone()[0] >= 5


def test_a_terminal_sees_a_live_table(tmp_path):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "run", "cnn_digits", *FAST, "--trials", "1", "--slots", "1", "--study", "t"],
        cwd=tmp_path,
        env=environment(tmp_path / "home", TERM="xterm", COLUMNS="140", LINES="40"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait(60) == 0
    text = shown.decode()
    assert "━" in text and "3/3" in text
    assert "t: 1/1 trials, best" in text
    assert "about" in text and "left" in text


@pytest.mark.long
def test_a_study_that_was_cut_off_while_it_was_made_is_made_again_or_goes_on(cli, home, tmp_path):
    first = tmp_path / "first"
    few = ("--trials", "1", "--epochs", "1", "--study", "s")
    for place in (first, home):
        place.mkdir()
        optuna.create_study(study_name="s", storage=f"sqlite:///{place / 'study.db'}", direction="maximize")
    refused = cli("resume", "s", "--home", str(first))
    assert refused.returncode == 2
    assert "cut off while it was made, before its first trial; make it again: python -m search run" in refused.stderr
    assert cli("run", "cnn_digits", *few, "--home", str(first)).returncode == 0
    (home / "studies" / "s").mkdir(parents=True)
    shutil.copy(first / "studies" / "s" / "study.json", home / "studies" / "s")
    resumed = cli("resume", "s")
    assert resumed.returncode == 0, resumed.stderr
    assert "s: 1 complete" in resumed.stdout
