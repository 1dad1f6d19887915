"""A study with two objectives and limits, run for real, killed in the middle, gone on with, damaged and looked at."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from damage import facts, mended, one_example
from support import afresh, apart, command, environment

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

LEAST = 0.4  # accuracy: of the trials some are above and some below
ASKED = (
    *("filters=8,16", "conv_layers=1", "dropout=0", "--trials", "5", "--epochs", "2", "--keep", "3", "--slots", "1"),
    *("--objective", "val_accuracy", "--objective", "params:min", "--pruner", "median"),
    *("--limit", "params<=10000", "--limit", f"val_accuracy>={LEAST}", "--limit", "latency_ms<=60000"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(a folder whose home holds the study `front`, what the run printed, what is in its stores)."""
    import search.reconcile
    import search.remove  # noqa: F401  # once, before commands are forked off

    folder = tmp_path_factory.mktemp("goals")
    begin, env = [sys.executable, "-m", "search"], environment(folder / "home")
    with (folder / "first.log").open("wb") as log:
        process = subprocess.Popen(
            [*begin, "run", "cnn_digits", *ASKED, "--study", "front"], cwd=folder, env=env, stdout=log, stderr=log
        )
    trials = folder / "home" / "studies" / "front"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if sum('"measured"' in path.read_text() for path in trials.glob("trial-*/events.jsonl")) >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    ran = subprocess.run(
        [*begin, "resume", "front"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    said = (folder / "first.log").read_text()
    assert ran.returncode == 0, said + ran.stderr
    shutil.copytree(folder / "home", folder / "pristine")
    return folder, said, ran.stdout, apart(lambda: facts(folder / "home", "front"))


def asked(folder, *arguments):
    code, out, err = command(folder / "home", *arguments)
    assert code == 0, err
    return out


def trials(folder):
    return json.loads(asked(folder, "show", "front", "--json"))


def expected(everything):
    """The numbers of trials on the front by its definition, the most accurate first."""
    able = [t for t in everything if t["figures"]["val_accuracy"] >= LEAST]
    points = {t["trial"]: (t["figures"]["val_accuracy"], -t["parameters"]) for t in able}
    found = [
        n
        for n, (accuracy, size) in points.items()
        if not any(a >= accuracy and s >= size and (a, s) != (accuracy, size) for a, s in points.values())
    ]
    return sorted(found, key=lambda n: (-points[n][0], n))


def test_a_study_with_a_front_is_never_pruned_and_what_is_known_is_refused_beforehand(made):
    _folder, said, _, before = made
    assert "objectives: val_accuracy (max), params (min); several objectives: nothing is pruned" in said
    assert "refused beforehand: params" in said
    counted = [t for t in before["trials"].values() if t["counts"]]
    assert [t["state"] for t in counted] == ["COMPLETE"] * 5
    refused = [t for t in before["trials"].values() if not t["counts"]]
    assert refused
    assert all(t["constraints"]["refused"] > 0 for t in refused)
    assert all(t["attributes"]["parameters"] <= 10_000 for t in counted)
    assert all(t["attributes"]["trained"] == 2 and t["epochs"] == {} for t in counted)


def test_every_trial_has_its_figures_in_both_stores_and_a_constraint_for_each_limit(made):
    _folder, _, _, before = made
    for number, trial in before["trials"].items():
        if not trial["counts"]:
            continue
        figures, metrics = trial["attributes"]["figures"], before["runs"][number]["metrics"]
        assert trial["values"] == [figures["val_accuracy"], figures["params"]]
        assert set(trial["constraints"]) == {"latency_ms<=60000", "params<=10000", f"val_accuracy>={LEAST}"}
        over = trial["constraints"][f"val_accuracy>={LEAST}"] > 0
        assert over == (figures["val_accuracy"] < LEAST)
        assert figures["latency_ms"] > 0
        step = trial["attributes"]["best_epoch"]
        logged = {key: metrics[key, step][1] for key in ("best_val_accuracy", "params", "latency_ms")}
        assert logged == {("best_" if k == "val_accuracy" else "") + k: v for k, v in figures.items()}
        accuracies = [metrics["val_accuracy", epoch][1] for epoch in range(2)]
        assert accuracies[step] == max(accuracies) == figures["val_accuracy"]


def test_the_front_is_shown_by_every_command_and_what_is_over_a_limit_never_leads(made):
    folder, _, said, _ = made
    everything = trials(folder)
    front, over = expected(everything), [t["trial"] for t in everything if t["over_limit"]]
    assert over
    assert front
    assert {t["trial"] for t in everything if t["figures"]["val_accuracy"] < LEAST} == set(over)
    assert [t["trial"] for t in json.loads(asked(folder, "best", "front", "--json"))] == front
    more = [t["trial"] for t in json.loads(asked(folder, "best", "front", "--top", "9", "--json"))]
    assert more[: len(front)] == front
    assert not set(more) & set(over)
    standing = json.loads(asked(folder, "status", "front", "--json"))
    assert [t["trial"] for t in standing["front"]] == front
    assert standing["best"]["trial"] == front[0]
    assert f"(front of {len(front)})" in asked(folder, "status", "front")
    assert f"(front of {len(front)})" in asked(folder, "list")
    assert f"front: {len(front)} of {5 - len(over)} trials" in said
    shown = asked(folder, "show", "front")
    assert shown.count(" yes ") == len(front)
    assert shown.count("over limit: val_accuracy ") == len(over)
    assert "latency_ms" in asked(folder, "show", "front", "--trial", str(front[0]))
    compared = asked(folder, "compare", "front", f"front:{over[0]}")
    assert f"front: of {len(front)} trials on its front the best val_accuracy, trial {front[0]}" in compared
    assert f"front:{over[0]} is over limit: val_accuracy" in compared
    assert "latency (ms an image)" in compared


def test_mlflow_has_the_front_as_table_pictures_metrics_tags_and_note(made):
    from mlflow import MlflowClient

    folder, _, _, before = made
    everything = {t["trial"]: t for t in trials(folder)}
    front = expected(everything.values())
    client = MlflowClient(f"sqlite:///{folder}/home/mlflow.db")
    run = client.get_run(json.loads(asked(folder, "status", "front", "--json"))["run_id"])
    best = everything[front[0]]["figures"]
    assert {k: v for k, v in run.data.metrics.items() if k.startswith("best_")} == {
        f"best_{name}": value for name, value in best.items()
    }
    assert run.data.tags["search.front"] == ", ".join(map(str, front))
    assert run.data.tags["search.objectives"] == "val_accuracy:max, params:min"
    assert run.data.params["limits"] == f"latency_ms<=60000,params<=10000,val_accuracy>={LEAST}"
    assert f"On the front: {len(front)} of" in run.data.tags["mlflow.note.content"]
    pictures = {a.path for a in client.list_artifacts(run.info.run_id, "figures")}
    for name in ("pareto_front", "parallel_coordinates", "importances_val_accuracy", "optimisation_history_params"):
        assert {f"figures/{name}.html", f"figures/{name}.png"} <= pictures
    where = Path(run.info.artifact_uri.removeprefix("file://"))
    rows = list(csv.DictReader(io.StringIO((where / "pareto_front.csv").read_text())))
    assert [int(row["number"]) for row in rows] == front
    assert [float(row["val_accuracy"]) for row in rows] == [everything[n]["figures"]["val_accuracy"] for n in front]
    table = list(csv.DictReader(io.StringIO((where / "trials.csv").read_text())))
    assert [int(row["number"]) for row in table if row["front"] == "1"] == front
    assert set(before["models"]) >= set(front[:3])


def test_a_promotion_takes_the_front_s_first_and_what_is_over_a_limit_only_by_name(made):
    from search import candidate, report
    from search.settings import resolve

    folder, _, _, _ = made
    everything = trials(folder)
    front, over = expected(everything), [t for t in everything if t["over_limit"]]

    def chosen(number=None):
        study = report.load("front", resolve(environment={"SEARCH_HOME": str(folder / "home")}))
        found = candidate.choose(study, number)
        return found.trial.number, found.why, found.value

    number, why, value = apart(chosen)
    assert (number, value) == (front[0], max(t["figures"]["val_accuracy"] for t in everything if t["trial"] in front))
    assert f"best by val_accuracy of the {len(front)} on the front" in why
    kept = [t["trial"] for t in over if t["model_id"]]
    if kept:
        assert "named by --trial; over limit: val_accuracy" in apart(lambda: chosen(kept[0]))[1]


def test_nothing_is_mended_where_nothing_is_wrong(made):
    folder, _, _, before = made
    home = afresh(folder)
    assert apart(lambda: mended(home, "front")) == ([], [])
    assert apart(lambda: facts(home, "front")) == before


@pytest.mark.parametrize("lost", [("study.db",), ("events", "mlflow.db")])
def test_values_and_limits_come_back_from_wherever_they_are_left(made, lost):
    folder, _, _, before = made
    home = afresh(folder)
    if "study.db" in lost:
        (home / "study.db").unlink()
    if "events" in lost:
        for path in (home / "studies" / "front").glob("trial-*/events.jsonl"):
            path.unlink()
    if "mlflow.db" in lost:
        (home / "mlflow.db").unlink()
    apart(lambda: mended(home, "front"))
    after = apart(lambda: facts(home, "front"))
    for number, trial in before["trials"].items():
        if trial["counts"]:
            for name in ("state", "values", "constraints"):
                assert after["trials"][number][name] == trial[name], (number, name)
            assert after["trials"][number]["attributes"]["figures"] == trial["attributes"]["figures"]


@pytest.mark.parametrize("seed", (1, 2))
def test_what_is_damaged_at_random_is_restored_or_named(made, seed):
    one_example(made[0], {"front": made[3]}, seed, names=("front",))


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, *range(3, 100)])
def test_what_is_damaged_at_random_is_restored_or_named_many_times(made, seed):
    one_example(made[0], {"front": made[3]}, seed, names=("front",))


@pytest.mark.long
def test_repeats_of_a_front_tell_each_objective_that_can_vary(made):
    folder, _, _, _ = made
    front = expected(trials(afresh(folder).parent))
    done = subprocess.run(
        [sys.executable, "-m", "search", "repeat", "front", "--top", "1", "--seeds", "2", "--json"],
        cwd=folder,
        env=environment(folder / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["repeats"]
    assert (told["objective"], told["trial"], len(told["values"])) == ("val_accuracy", front[0], 2)
