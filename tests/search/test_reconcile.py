"""A finished and an interrupted study, damaged at random in all three places, and what `reconcile` makes of them."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys

import pytest
from damage import Damage, facts, mended, one_example
from support import afresh, apart, command, environment

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def made(damageable):
    """A folder whose home holds the studies `done` and `paused`, and what is in them."""
    home = afresh(damageable)
    before = apart(lambda: {name: facts(home, name) for name in ("done", "paused")})
    states = [t["state"] for t in before["done"]["trials"].values()]
    assert {"COMPLETE", "PRUNED"} <= set(states)
    assert len(before["done"]["models"]) == 2
    assert "RUNNING" in [t["state"] for t in before["paused"]["trials"].values()]
    return damageable, before


@pytest.mark.parametrize("seed", range(8))
def test_what_is_damaged_at_random_is_restored_or_named(made, seed):
    one_example(*made, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8, 120))
def test_what_is_damaged_at_random_is_restored_or_named_many_times(made, seed):
    one_example(*made, seed)


def test_nothing_is_mended_where_nothing_is_wrong(made):
    folder, before = made
    home = afresh(folder)
    for name in ("done", "paused"):
        assert apart(lambda name=name: mended(home, name)) == ([], [])
        assert apart(lambda name=name: facts(home, name)) == before[name]


def changed(path, old, new):
    """Put `new` for the first `old` of a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def without_checksums(folder):
    """As an older version wrote it."""
    for path in folder.glob("trial-*/events.jsonl"):
        path.write_text(re.sub(r', "crc": \d+}', "}", path.read_text()))
    for path in folder.glob("trial-*/trial.json"):
        path.write_text(re.sub(r'"crc": \d+,', "", path.read_text()))


@pytest.mark.parametrize("version", ["this", "an older"])
def test_a_line_that_lost_a_key_and_a_record_optuna_cannot_read_are_restored_and_said(made, version):
    folder, before = made
    home = afresh(folder)
    study = home / "studies" / "done"
    if version == "an older":
        without_checksums(study)
    one, other = sorted(study.glob("trial-*"))[:2]
    number = int(other.name[6:])
    changed(one / "events.jsonl", '"epoch": 1', '"eroch": 1')
    changed(other / "events.jsonl", '"time"', '"tame"')
    changed(one / "trial.json", "FloatDistribution", "FloatDistributiom")
    fixed, lost = apart(lambda: mended(home, "done"))
    assert [line for line in fixed if "its run" not in line] == [
        "trial 0: trial.json was gone or damaged; made again from MLflow",
        "trial 0: events.jsonl had 1 damaged line; removed",
        "trial 0: events.jsonl had lost epochs 1; read back from the stores",
        f"trial {number}: events.jsonl had 1 damaged line; removed",
        f"trial {number}: events.jsonl had lost attempt; read back from the stores",
    ]
    assert lost == []
    assert apart(lambda: facts(home, "done")) == before["done"]
    assert apart(lambda: mended(home, "done")) == ([], [])


def test_a_changed_figure_in_a_folder_is_not_believed_over_mlflow(made):
    folder, before = made
    home = afresh(folder)
    path = home / "studies" / "done" / "trial-0000" / "events.jsonl"
    line = next(line for line in path.read_text().splitlines() if '"epoch": 1' in line)
    value = json.loads(line)["metrics"]["loss"]
    changed(path, line, line.replace(f'"loss": {value}', f'"loss": {value + 1}', 1))
    fixed, lost = apart(lambda: mended(home, "done"))
    assert (len(fixed), lost) == (2, [])
    assert "epochs 1; read back" in fixed[1]
    assert apart(lambda: facts(home, "done")) == before["done"], "the same runs, with what they had"


def test_reconcile_says_what_it_mended_and_goes_on_past_a_study_it_cannot_mend(made):
    folder, before = made
    home = afresh(folder)
    for path in (home / "studies" / "done" / "trial-0000").glob("*.json"):
        path.unlink()
    (home / "studies" / "paused" / "study.json").unlink()

    def forget():
        import optuna

        study = optuna.load_study(study_name="paused", storage=f"sqlite:///{home}/study.db")
        study.set_user_attr("plan", None)
        study.set_user_attr("plan.first", None)

    apart(forget)
    code, out, err = command(home, "reconcile", "--json")
    said = {entry["study"]: entry for entry in json.loads(out)}
    assert code == 1
    assert "error: paused: " in err and "Traceback" not in err
    assert any(line.startswith("trial 0: trial.json was gone") for line in said["done"]["mended"])
    code, out, _ = command(home, "reconcile", "done")
    assert (code, out) == (0, "done: 0 mended\n")
    assert apart(lambda: facts(home, "done")) == before["done"]


def test_reconcile_refuses_in_one_line_what_it_cannot_do_now(made):
    from search.lease import owned

    folder, _ = made
    home = afresh(folder)
    with owned(home / "studies" / "done", "done"):
        code, _, err = command(home, "reconcile", "done")
    assert (code, err.count("\n"), "is run by process" in err) == (1, 1, True)
    code, _, err = command(home, "reconcile", "nobody")
    assert (code, err.count("\n"), "no study 'nobody'" in err) == (2, 1, True)
    code, _, err = command(home, "reconcile", "done", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert code != 0
    assert (err.count("\n"), "127.0.0.1:9" in err) == (1, True)

    def away():
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{home}/mlflow.db")
        client.delete_experiment(client.get_experiment_by_name("cnn_digits").experiment_id)

    apart(away)
    code, _, err = command(home, "reconcile", "done")
    assert (code, err.count("\n"), "mlflow experiments restore" in err) == (1, 1, True)


def test_files_that_are_only_away_are_waited_for_and_lost_ones_are_named_where_a_person_says_so(made):
    folder, before = made
    home = afresh(folder)
    (home / "artifacts").rename(home / "elsewhere")
    code, out, err = command(home, "reconcile", "done")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"not one of their files in file://{home}/artifacts" in err
    (home / "artifacts").unlink(missing_ok=True)
    (home / "elsewhere").rename(home / "artifacts")
    assert apart(lambda: mended(home, "done")) == ([], [])
    assert apart(lambda: facts(home, "done")) == before["done"]
    shutil.rmtree(home / "artifacts")
    code, out, _ = command(home, "reconcile", "done", "--files-are-lost")
    assert code == 1
    assert out.count("are gone from MLflow") == len(before["done"]["models"])
    assert apart(lambda: mended(home, "done")) == ([], [])


def test_a_run_that_a_copy_of_the_study_trained_is_not_removed(made):
    folder, _ = made
    home = afresh(folder)

    def second():
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{home}/mlflow.db")
        damage = Damage(home, "done", random.Random(3))
        _, run_id = damage.run("trial")
        first = client.get_run(run_id)
        made = client.create_run(first.info.experiment_id, tags=first.data.tags)
        client.log_metric(made.info.run_id, "val_accuracy", 0.9, step=0)
        client.set_terminated(made.info.run_id)
        return made.info.run_id

    other = apart(second)
    for _ in range(2):
        first, lost = apart(lambda: mended(home, "done"))
        assert first == []
        (line,) = lost
        assert "two runs with epochs of their own" in line and other in line


@pytest.mark.long
@pytest.mark.parametrize("lost", ["row", "study_database", "metric_doubled", "folder"])
def test_a_mended_study_goes_on_and_proposes_as_it_would_have(made, lost):
    folder, _ = made

    def proposed(home):
        code, _, err = command_apart(home, "resume", "done", "--trials", "7", "--slots", "1")
        assert code == 0, err
        after = apart(lambda: facts(home, "done"))["trials"]
        counted = [n for n, t in after.items() if t["counts"]]
        return after[counted[-1]]["params"]

    wanted = proposed(afresh(folder))
    home = afresh(folder)
    damage = Damage(home, "done", random.Random(1))
    apart(getattr(damage, f"hurt_{lost}"))
    assert apart(lambda: mended(home, "done"))[0]
    found = proposed(home)
    if lost != "study_database":  # what was refused beforehand stood only there, and has taught the sampler
        assert found == wanted


def command_apart(home, *arguments):
    """The command line in a new process, since it starts workers."""
    ran = subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        cwd=home.parent,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr
