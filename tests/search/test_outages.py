"""MLflow away, a full disk, a damaged store: a clear line, and nothing that was recorded is lost."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from support import afresh, environment, killed_in_a_write

from bench.proxy import Proxy

FAST = ("filters=8,16", "conv_layers=1", "--slots", "1")


def command(*arguments):
    return [sys.executable, "-m", "search", *arguments]


def search(folder, *arguments, **extra):
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder / "home", **extra),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def start(folder, *arguments, **extra):
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(folder / "home", **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder, text, seconds=120):
    """Until some trial's record holds `text`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(text in path.read_text() for path in folder.glob("trial-*/events.jsonl")):
            return
        time.sleep(0.05)
    raise AssertionError(f"no trial recorded {text}")


def whole(uri, folder, study):
    """That every trial has its one run, in its state, with every recorded epoch once at its first time."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    mine = [r for r in found if r.data.tags.get("search.study") == study]
    children = {int(r.data.tags["search.trial.number"]): r for r in mine if r.data.tags["search.kind"] == "trial"}
    trials = json.loads(search(folder, "show", study, "--json", MLFLOW_TRACKING_URI=uri).stdout)
    assert len(mine) == 1 + len(children) == 1 + len(trials)
    for trial in trials:
        run = children[trial["trial"]]
        assert run.info.status == {"COMPLETE": "FINISHED", "PRUNED": "KILLED"}[trial["state"]]
        assert run.info.run_id == trial["run_id"]
        lines = (folder / "home" / "studies" / study / f"trial-{trial['trial']:04}" / "events.jsonl").read_text()
        recorded = [json.loads(line) for line in lines.splitlines()]
        for metric in ("loss", "val_accuracy", "seconds"):
            wanted = [
                (e["epoch"], e["metrics"][metric], int(e["time"] * 1000)) for e in recorded if e["event"] == "epoch"
            ]
            points = [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, metric)]
            assert sorted(points) == wanted
    return trials


def test_a_server_that_goes_away_costs_nothing_and_is_brought_up_to_date_later(tmp_path, own_server):
    uri = {"MLFLOW_TRACKING_URI": own_server.uri}
    refused = search(tmp_path, "run", "cnn_digits", *FAST, "--study", "s", **uri)
    assert refused.returncode == 2
    assert "does not answer" in refused.stderr
    assert not (tmp_path / "home").exists(), "refused before anything is touched"

    own_server.start()
    running = start(tmp_path, "run", "cnn_digits", *FAST, "--epochs", "4", "--trials", "4", "--study", "s", **uri)
    wait_for(tmp_path / "home" / "studies" / "s", '"epoch": 2')
    own_server.kill()
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert "nothing is lost: once it is back, python -m search reconcile s" in err
    assert "promote" in out

    own_server.start()
    doctor = search(tmp_path, "doctor", **uri)
    assert "python -m search reconcile s" in doctor.stdout
    mended = search(tmp_path, "reconcile", "s", **uri)
    assert mended.returncode == 0, mended.stderr
    assert "mended: trial" in mended.stdout
    assert len(whole(own_server.uri, tmp_path, "s")) == 4
    assert search(tmp_path, "reconcile", "s", **uri).stdout == "s: 0 mended\n"


@pytest.mark.long
@pytest.mark.parametrize("hurried", [False, True], ids=["left alone", "Ctrl-C"])
def test_a_server_that_only_fails_holds_up_the_end_no_longer_than_one_that_is_silent(tmp_path, own_server, hurried):
    own_server.start()
    with Proxy(own_server.uri, lambda kind, accepted: False) as proxy:
        uri = {"MLFLOW_TRACKING_URI": proxy.uri}
        few = ("--epochs", "2", "--trials", "6", "--study", "e")
        running = start(tmp_path, "run", "cnn_digits", *FAST, *few, **uri)
        wait_for(tmp_path / "home" / "studies" / "e", '"epoch": 1')
        proxy.fails.set()
        said = []
        with running:
            for line in running.stderr:
                said.append(line)
                if "Ctrl-C ends the wait" in line:
                    assert "does not answer or only fails" in line
                    if hurried:
                        running.send_signal(signal.SIGINT)
        assert running.returncode == 0, said
        assert sum("Ctrl-C ends the wait" in line for line in said) == 1, said
        assert "python -m search reconcile e" in said[-1]
        proxy.fails.clear()
        mended = search(tmp_path, "reconcile", "e", **uri)
        assert mended.returncode == 0, mended.stderr
    assert len(whole(own_server.uri, tmp_path, "e")) == 6


def test_what_mlflow_refused_is_three_lines_and_how_to_mend_it():
    from search.study import untold

    many = untold(0, [f"trial {n}: metric 'loss': not found" for n in range(223)], "s")
    assert len(many) == 5
    assert many[2].startswith("MLflow refused: trial 2")
    assert many[3] == "and 220 more"
    assert "python -m search reconcile s" in many[4]
    assert "reconcile s" in untold(4, ["x"], "s")[-1]
    assert untold(0, [], "s") == []


@pytest.mark.long
def test_runs_deleted_while_a_study_runs_are_few_lines_and_reconcile_brings_them_back(tmp_path):
    from mlflow import MlflowClient

    few = ("--epochs", "4", "--trials", "4", "--pruner", "none", "--study", "w")
    running = start(tmp_path, "run", "cnn_digits", *FAST, *few)
    wait_for(tmp_path / "home" / "studies" / "w", '"epoch": 2')
    client = MlflowClient(f"sqlite:///{tmp_path}/home/mlflow.db")
    experiment = client.get_experiment_by_name("cnn_digits").experiment_id
    deadline = time.monotonic() + 60
    while not (found := client.search_runs([experiment])) and time.monotonic() < deadline:
        time.sleep(0.1)
    for run in found:
        client.delete_run(run.info.run_id)
    _out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    refused = [line for line in err.splitlines() if line.startswith("MLflow refused")]
    assert 0 < len(refused) <= 3, err
    assert "python -m search reconcile w" in err.splitlines()[-1]
    mended = search(tmp_path, "reconcile", "w")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    assert len(whole(f"sqlite:///{tmp_path}/home/mlflow.db", tmp_path, "w")) == 4


@pytest.mark.long
def test_a_search_may_begin_offline_and_end_online(tmp_path, own_server):
    uri = {"MLFLOW_TRACKING_URI": own_server.uri}
    long = ("--epochs", "40", "--pruner", "none", "--trials", "2", "--study", "o", "--offline")
    running = start(tmp_path, "run", "cnn_digits", "filters=32", "conv_layers=2", "batch_size=16", *long, **uri)
    wait_for(tmp_path / "home" / "studies" / "o", '"epoch": 2')
    own_server.start()
    _out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert len(whole(own_server.uri, tmp_path, "o")) == 2


def full_disk(folder, *arguments, size="6m", **extra):
    """The command with its home on a disk of `size`, kept afterwards in `folder`/home."""
    home, aside = folder / "home", folder / "aside"
    home.mkdir(exist_ok=True)
    script = (  # mounted over the home, whose place MLflow notes
        f"cp -a {home} {aside} && mount -t tmpfs -o size={size} tmpfs {home} && cp -a {aside}/. {home}/ && "
        f"{' '.join(command(*arguments))}; code=$?; rm -rf {aside}; "
        f"cp -a {home} {aside}; umount {home}; cp -a {aside}/. {home}/; rm -rf {aside}; exit $code"
    )
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=folder,
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.long
def test_a_disk_that_fills_up_is_one_line_and_a_resume_goes_on(tmp_path):
    first = search(tmp_path, "run", "cnn_digits", *FAST, "--epochs", "2", "--trials", "1", "--study", "d")
    assert first.returncode == 0, first.stderr
    pages = sum(1 + p.stat().st_size // 4096 for p in (tmp_path / "home").rglob("*"))
    full = full_disk(tmp_path, "resume", "d", "--trials", "6", size=f"{4 * pages + 120}k")
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    errors = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "disk" in errors[0].lower() or "space" in errors[0].lower()
    ran = search(tmp_path, "resume", "d", "--trials", "6")
    assert ran.returncode == 0, ran.stderr
    assert len(whole(f"sqlite:///{tmp_path}/home/mlflow.db", tmp_path, "d")) == 6


def recorded(folder, study):
    """How many epochs each trial's record holds, none of them twice."""
    found = {}
    for path in sorted((folder / "home" / "studies" / study).glob("trial-*/events.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        epochs = [e["epoch"] for e in events if e["event"] == "epoch"]
        assert len(epochs) == len(set(epochs))
        found[path.parent.name] = len(epochs)
    return found


def test_data_that_goes_away_costs_no_trial(tmp_path):
    few = ("--epochs", "2", "--trials", "3", "--pruner", "none", "--study", "g", "--keep", "0")
    running = start(tmp_path, "run", "cnn_digits", *FAST, *few)
    wait_for(tmp_path / "home" / "studies" / "g", '"epoch": 0')
    (tmp_path / "home" / "data" / "digits").rename(tmp_path / "digits")
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "is missing" in said[0]
    assert said[0].endswith("then go on: python -m search resume g")
    assert "1 complete, 1 paused" in out, "no trial is charged with it"
    assert "go on:    python -m search resume g" in out


@pytest.mark.long
def test_a_disk_that_is_full_when_a_worker_packages_costs_no_trial(tmp_path):
    (tmp_path / "home").mkdir()
    few = ("--epochs", "4", "--trials", "6", "--study", "p", "--keep", "all")
    full = full_disk(tmp_path, "run", "cnn_digits", *few, size="1500k")
    assert full.returncode == 1, full.stderr
    said = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, full.stderr
    assert "No space left on device" in said[0] or "disk is full" in said[0]  # whoever meets it first
    assert " failed" not in full.stderr
    before = recorded(tmp_path, "p")
    ran = search(tmp_path, "resume", "p")
    assert ran.returncode == 0, ran.stderr
    after = recorded(tmp_path, "p")
    assert all(after[trial] >= epochs for trial, epochs in before.items())
    assert len(whole(f"sqlite:///{tmp_path}/home/mlflow.db", tmp_path, "p")) == 6


def test_a_home_that_cannot_be_written_is_refused_at_once(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    script = f"mount --bind -o ro {home} {home} && {' '.join(command('run', 'cnn_digits', *FAST))}"
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert f"home {home}: cannot be written" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study of two trials."""
    folder = tmp_path_factory.mktemp("finished")
    ran = search(folder, "run", "cnn_digits", *FAST, "--epochs", "2", "--trials", "2", "--study", "f")
    assert ran.returncode == 0, ran.stderr
    shutil.copytree(folder / "home", folder / "pristine")
    return folder, json.loads(search(folder, "show", "f", "--json").stdout)


def test_a_damaged_study_store_is_one_line_and_is_made_again_from_the_folders(finished):
    folder, before = finished
    store = afresh(folder) / "study.db"
    content = bytearray(store.read_bytes())
    content[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    store.write_bytes(bytes(content))
    ran = search(folder, "resume", "f", "--trials", "3")
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert "reconcile" in ran.stderr, "it says how to go on"
    store.rename(folder / "damaged.db")
    mended = search(folder, "reconcile", "f")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    assert "made again from its folder" in mended.stdout
    assert json.loads(search(folder, "show", "f", "--json").stdout) == before


def test_stores_whose_writer_was_killed_in_a_write_are_rolled_back(finished):
    folder, before = finished
    home = afresh(folder)
    for store, table in (("study.db", "trials"), ("mlflow.db", "metrics")):
        killed_in_a_write(home / store, f"new_{table}")
        assert (home / f"{store}-journal").stat().st_size > 0, "nothing is left to roll back"
    ran = search(folder, "resume", "f", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(search(folder, "show", "f", "--json").stdout) == before


@pytest.mark.long
def test_a_locked_study_store_is_waited_for_and_then_one_line(finished):
    folder, _ = finished
    with sqlite3.connect(afresh(folder) / "study.db") as other:
        other.execute("begin exclusive")
        ran = search(folder, "resume", "f", "--trials", "3")
        other.rollback()
    assert ran.returncode in (1, 2)
    assert "locked" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.long
def test_limits_bind_inside_an_epoch(tmp_path):
    """One epoch takes minutes here; the trial is broken off, with its reason, and the time limit pauses the other."""
    from spaces import find

    text = find("cnn_digits").path.read_text()
    slow = (
        "def build(config, data):\n    import keras\n    model = stack.build(network(config), data, 'cnn')\n"
        "    def wait(x):\n        import time\n        time.sleep(2)\n        return x\n"
        "    import tensorflow as tf\n"
        "    slowed = keras.layers.Lambda(lambda x: tf.ensure_shape(tf.py_function(wait, [x], tf.float32), x.shape))\n"
        "    return keras.Model(model.input, slowed(model.output))\n\n\nSPACE = Space("
    )
    (tmp_path / "slow.py").write_text(
        text.replace('"cnn"),', '"cnn") | {"build": build},').replace("SPACE = Space(", slow)
    )
    ran = search(
        tmp_path,
        "run",
        "slow.py",
        *FAST,
        "--trials",
        "2",
        "--epochs",
        "2",
        "--study",
        "t",
        "--trial-timeout",
        "8s",
        "--timeout",
        "45s",
        "--keep",
        "0",
    )
    assert "Traceback" not in ran.stderr
    assert "time limit" in ran.stdout, ran.stdout + ran.stderr
    trials = json.loads(search(tmp_path, "show", "t", "--json").stdout)
    assert (trials[0]["state"], trials[0]["reason"]) == ("FAIL", "timeout")
    assert "longer than --trial-timeout 8 s" in trials[0]["error"]
