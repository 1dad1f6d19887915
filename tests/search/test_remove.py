"""`delete`, `gc`, and what `doctor` says of studies: the command line over real ones, forked off to save its start."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from support import afresh, apart, command, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def home(damageable):
    return afresh(damageable)


def client(home):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{home}/mlflow.db")


def runs(home, study):
    """Run id by trial number (None: the study's own) of the active runs of a study."""

    def look():
        mlflow = client(home)
        found = mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()])
        mine = [r for r in found if r.data.tags.get("search.study") == study]
        return {
            int(r.data.tags["search.trial.number"]) if r.data.tags["search.kind"] == "trial" else None: r.info.run_id
            for r in mine
        }

    return apart(look)


def models(home):
    """Model id to whether its files are there, of every logged model."""

    def look():
        mlflow = client(home)
        found = mlflow.search_logged_models([e.experiment_id for e in mlflow.search_experiments()])
        places = {m.model_id: Path(m.artifact_location.removeprefix("file://")) for m in found}
        return {model_id: (place / "data" / "model.keras").is_file() for model_id, place in places.items()}

    return apart(look)


def kept(home, study):
    """Model id by trial number, the best first."""

    def look():
        from search import report, weights

        return {k.number: k.model_id for k in weights.kept(report.load(study, settings_of(home)))}

    return apart(look)


def files(home, run_ids):
    return [p for run_id in run_ids for p in (home / "artifacts").rglob(f"{run_id}/**/*") if p.is_file()]


def tree(home):
    """Every file but logs of MLflow and locks, with its content."""
    skipped = ("owner", "mlflow.db", "study.db")
    return {str(p): p.read_bytes() for p in home.rglob("*") if p.is_file() and p.name not in skipped}


def change(home, study, key, value):
    """Set a study's attribute in the store."""

    def work():
        from search import report

        report.load(study, settings_of(home)).set_user_attr(key, value)

    apart(work)


def test_delete_asks_first_and_does_nothing_without_a_yes(home):
    before = tree(home), runs(home, "done")
    code, _, err = command(home, "delete", "done", typed="n\n")
    assert code != 0
    assert "delete study done: 4 trial runs" in err or "trial runs" in err
    assert (tree(home), runs(home, "done")) == before
    code, _, err = command(home, "delete", "done")
    assert code == 2, "nobody there to answer is no yes"
    assert err.splitlines()[-1] == "error: nobody is there to answer; nothing was deleted: delete done --yes"
    assert runs(home, "done") == before[1]


def test_delete_removes_runs_children_files_and_weights_and_nothing_of_another_study(home):
    mine, others, weights = runs(home, "done"), runs(home, "paused"), kept(home, "done")
    theirs = files(home, others.values())
    assert files(home, mine.values())
    assert len(weights) == 2
    code, out, _ = command(home, "delete", "done", typed="y\n")
    assert (code, "done is deleted" in out) == (0, True)
    assert runs(home, "done") == {}
    assert files(home, mine.values()) == []
    assert not set(weights.values()) & set(models(home))
    assert not list((home / "artifacts").rglob("*.keras")), "only this study kept weights"
    assert not (home / "studies" / "done").exists()
    assert runs(home, "paused") == others
    assert files(home, others.values()) == theirs
    listed = json.loads(command(home, "list", "--json")[1])
    assert [study["study"] for study in listed] == ["paused"]
    code, _, err = command(home, "delete", "done", "--yes")
    assert (code, "no study 'done'" in err) == (2, True)
    assert command(home, "reconcile", "paused")[1] == "paused: 0 mended\n"


def test_delete_leaves_a_run_that_a_registered_version_came_from_and_names_it(home):
    best, second = kept(home, "done").items()
    assert command(home, "promote", "done")[0] in (0, 3), "registered, whether or not it is champion"
    mine = runs(home, "done")
    code, out, _ = command(home, "delete", "done", "--yes", "--json")
    said = json.loads(out)
    assert code == 0
    assert set(said["kept"]) == {mine[best[0]], mine[None]}
    assert said["kept"][mine[best[0]]] == ["cnn_digits version 1"]
    assert set(runs(home, "done").values()) == {mine[best[0]], mine[None]}
    assert models(home)[best[1]], "the champion still loads"
    assert second[1] not in models(home)
    assert not (home / "studies" / "done").exists()


def test_delete_refuses_a_running_study_and_takes_that_of_a_dead_coordinator(home, monkeypatch):
    from search import lease
    from search.lease import owned

    before = runs(home, "paused")
    with owned(home / "studies" / "paused", "paused"):
        code, _, err = command(home, "delete", "paused", "--yes")
    assert (code, "is run by process" in err) == (1, True)
    change(home, "paused", "lease", lease._claim("from another home"))
    code, _, err = command(home, "delete", "paused", "--yes")
    assert (code, f"is run by process {os.getpid()}" in err) == (1, True)
    assert runs(home, "paused") == before
    change(home, "paused", "lease", lease._claim("theirs") | {"host": "another"})
    monkeypatch.setattr(lease, "EXPIRES", 0.5)
    assert command(home, "delete", "paused", "--yes")[0] == 0
    assert runs(home, "paused") == {}


def test_delete_goes_on_where_one_before_was_killed(home):
    def half():
        import optuna

        optuna.delete_study(study_name="done", storage=f"sqlite:///{home}/study.db")

    apart(half)
    assert command(home, "delete", "done", "--yes")[0] == 0
    assert runs(home, "done") == {}
    assert not (home / "studies" / "done").exists()


def test_delete_goes_on_where_one_before_was_killed_while_it_removed_the_folder(home):
    import search.remove

    real, left = os.unlink, [20]  # files that are removed before

    def unlink(*arguments, **options):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*arguments, **options)

    def rmtree(path, *arguments, **options):
        if "studies" in Path(path).parts:
            os.unlink = unlink
        remove(path, *arguments, **options)

    remove = shutil.rmtree
    child = os.fork()
    if child == 0:
        try:
            shutil.rmtree = rmtree
            search.remove.delete("done", settings_of(home), yes=True, as_json=False)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    code, out, err = command(home, "delete", "done", "--yes")
    assert (code, "done is deleted" in out) == (0, True), err
    assert [p.name for p in (home / "studies").iterdir()] == ["paused"]
    assert (runs(home, "done"), command(home, "delete", "done", "--yes")[0]) == ({}, 2)
    assert json.loads(command(home, "reconcile", "--json")[1]) == [{"study": "paused", "mended": [], "lost": []}]


def test_gc_lowers_how_many_weights_are_kept_and_a_dry_run_changes_nothing(home):
    best, second = kept(home, "done").items()
    before = tree(home)
    code, out, _ = command(home, "gc", "--keep", "1", "--dry-run")
    assert (code, f"would remove: done: weights {second[1]}" in out) == (0, True)
    assert (tree(home), kept(home, "done")) == (before, dict([best, second]))
    assert command(home, "gc", "done")[1] == "0 things, 0.0 MB\n"
    code, out, _ = command(home, "gc", "--keep", "1", "--json")
    assert [second[1] in what for what in json.loads(out)["removed"]] == [True]
    assert kept(home, "done") == dict([best])
    assert models(home) == {best[1]: True}
    assert command(home, "reconcile", "done")[1] == "done: 0 mended\n"
    assert command(home, "gc", "nobody")[0] == 2


def test_gc_never_removes_a_registered_version(home):
    best, second = kept(home, "done").items()
    assert command(home, "promote", "done", "--trial", str(second[0]))[0] in (0, 3)
    assert command(home, "gc", "--keep", "0")[0] == 0
    assert models(home) == {second[1]: True}
    assert best[1] not in models(home)


def test_gc_keeps_the_best_also_where_the_store_forgot_which_they_are(home):
    best, _second = kept(home, "done").items()
    change(home, "done", "weights", {})
    assert command(home, "gc", "--keep", "1")[0] == 0
    assert models(home) == {best[1]: True}


def test_gc_removes_what_our_kills_left_and_nothing_that_is_not_ours(home):
    folder = home / "studies" / "done"
    ours = [folder / "trial-0000" / "checkpoint-00003.npz", folder / "trial-0003" / "events.jsonl.part"]
    foreign = [folder / "trial-0000" / "notes.part", folder / "mine.txt", home / "artifacts" / "cnn_digits" / "x"]
    waits = sorted((home / "studies" / "paused").rglob("checkpoint-*.npz"))
    assert waits, "a paused trial has a checkpoint"
    for path in (*ours, *foreign):
        path.write_text("x")
    code, out, _ = command(home, "gc")
    assert (code, out.count("removed: ")) == (0, 2)
    assert [p.exists() for p in ours] == [False, False]
    assert all(p.exists() for p in (*foreign, *waits))
    assert command(home, "gc")[1] == "0 things, 0.0 MB\n"


def test_gc_passes_over_a_running_study_unless_it_is_named(home):
    from search.lease import owned

    with owned(home / "studies" / "paused", "paused"):
        code, _, err = command(home, "gc")
        assert (code, "passed over: study 'paused' is run by" in err) == (0, True)
        assert command(home, "gc", "paused")[0] == 1


def checks(home):
    """What `doctor` says of each study."""

    def look():
        from search.doctor import _studies

        return [(c.what, c.state, c.found) for c in _studies(settings_of(home))]

    return apart(look)


def test_doctor_points_at_resume_reconcile_and_gc_when_each_is_needed(home):
    ((what, state, found),) = checks(home)
    assert (what, state) == ("study paused", "note")
    assert found.endswith("python -m search resume paused")
    (home / "studies" / "done" / "trial-0000" / "checkpoint-00003.npz").write_text("x")
    assert ("study done", "note", "files nobody needs any more: python -m search gc done") in checks(home)
    assert command(home, "gc")[0] == 0
    change(home, "done", "mirrored", [0])
    (line,) = [c for c in checks(home) if c[0] == "study done"]
    assert line[2].endswith("python -m search reconcile done")
    assert command(home, "reconcile", "done")[0] == 0
    (home / "study.db").unlink()
    assert [c[1] for c in checks(home)] == ["problem", "problem"]
    assert all("python -m search reconcile" in c[2] for c in checks(home))
    assert command(home, "reconcile")[0] == 1, "what was refused beforehand stood only in the study store"
    assert [c[0] for c in checks(home)] == ["study paused"]
