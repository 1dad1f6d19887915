"""MLflow away, a full disk, a damaged store: a clear line, and nothing that was recorded is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from support import environment, killed_in_a_write

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
    mounted = folder / "small"
    mounted.mkdir(exist_ok=True)
    home = folder / "home"
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {mounted} && cp -a {home}/. {mounted}/ && "
        f"SEARCH_HOME={mounted} {' '.join(command(*arguments))}; code=$?; "
        f"cp -a {mounted}/. {home}/; umount {mounted}; exit $code"
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
    return folder


def test_a_damaged_study_store_is_one_line_and_is_made_again_from_the_folders(finished, tmp_path):
    shutil.copytree(finished / "home", tmp_path / "home")
    store = tmp_path / "home" / "study.db"
    content = bytearray(store.read_bytes())
    content[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    store.write_bytes(bytes(content))
    ran = search(tmp_path, "resume", "f", "--trials", "3")
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert "reconcile" in ran.stderr, "it says how to go on"
    store.rename(tmp_path / "damaged.db")
    mended = search(tmp_path, "reconcile", "f")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    assert "made again from its folder" in mended.stdout
    before = json.loads(search(finished, "show", "f", "--json").stdout)
    assert json.loads(search(tmp_path, "show", "f", "--json").stdout) == before


def test_stores_whose_writer_was_killed_in_a_write_are_rolled_back(finished, tmp_path):
    shutil.copytree(finished / "home", tmp_path / "home")
    for store, table in (("study.db", "trials"), ("mlflow.db", "metrics")):
        killed_in_a_write(tmp_path / "home" / store, f"new_{table}")
        assert (tmp_path / "home" / f"{store}-journal").stat().st_size > 0, "nothing is left to roll back"
    ran = search(tmp_path, "resume", "f", "--json")
    assert ran.returncode == 0, ran.stderr
    before = json.loads(search(finished, "show", "f", "--json").stdout)
    assert json.loads(search(tmp_path, "show", "f", "--json").stdout) == before


@pytest.mark.long
def test_a_locked_study_store_is_waited_for_and_then_one_line(finished, tmp_path):
    shutil.copytree(finished / "home", tmp_path / "home")
    with sqlite3.connect(tmp_path / "home" / "study.db") as other:
        other.execute("begin exclusive")
        ran = search(tmp_path, "resume", "f", "--trials", "3")
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
        "def build(config, data):\n    import keras\n    model = cnn.build(config, data)\n"
        "    def wait(x):\n        import time\n        time.sleep(2)\n        return x\n"
        "    import tensorflow as tf\n"
        "    slowed = keras.layers.Lambda(lambda x: tf.ensure_shape(tf.py_function(wait, [x], tf.float32), x.shape))\n"
        "    return keras.Model(model.input, slowed(model.output))\n\n\nSPACE = Space("
    )
    (tmp_path / "slow.py").write_text(text.replace("build=cnn.build", "build=build").replace("SPACE = Space(", slow))
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
