"""What the coordinator tells the tracker is what MLflow shows, in a database and behind a server alike."""

import json
import math
from pathlib import Path

import pytest
from support import begin, begin_trial

from tracking.errors import TrackingAway, TrackingError
from tracking.runs import DatasetInfo, Run, Tracker

DIGITS = DatasetInfo("digits", "d" * 64, "scikit-learn", {"input_shape": [8, 8, 1], "classes": 10, "train_images": 1})


def run_of(tracker, run):
    assert tracker.flush(30), tracker.outbox.failures
    return tracker._client.get_run(run.run_id)


def history(tracker, run, metric):
    assert tracker.flush(30)
    return [(m.step, m.value, m.timestamp) for m in tracker._client.get_metric_history(run.run_id, metric)]


def test_a_study_is_a_run_with_its_name_parameters_tags_and_note(tracker):
    study = tracker.start_study("nice name", identity="n", tags={"search.x": 1}, note="# Note")
    tracker.set_params(study, {"trials": 12, "full": False})
    run = run_of(tracker, study)
    assert run.info.run_name == "nice name"
    assert run.info.status == "RUNNING"
    assert run.data.params == {"trials": "12", "full": "False"}
    assert run.data.tags["mlflow.note.content"] == "# Note"
    assert run.data.tags["search.x"] == "1"
    assert run.data.tags["mlflow.user"]


def test_a_trial_is_a_child_with_its_parameters_tags_and_dataset(tracker, study):
    trial = begin_trial(tracker, study, 7, tags={"mlflow.source.name": "python -m search"})
    tracker.log_dataset(trial, DIGITS)
    run = run_of(tracker, trial)
    assert run.data.tags["mlflow.parentRunId"] == study.run_id
    assert run.data.tags["search.trial.number"] == "7"
    assert run.data.tags["mlflow.runName"] == run.info.run_name == "trial 7"
    assert (run.data.tags["mlflow.source.name"], run.data.tags["mlflow.source.type"]) == ("python -m search", "LOCAL")
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("digits", "d" * 36)
    assert json.loads(logged.dataset.profile)["classes"] == 10
    assert {t.key: t.value for t in logged.tags} == {"mlflow.data.context": "training", "search.data.digest": "d" * 64}


def test_a_trial_is_found_again_by_its_number_in_its_own_study_only(tracker, study, trial):
    made = []
    assert begin_trial(tracker, study, 3, fresh=False, on_made=made.append).run_id == trial.run_id
    assert begin_trial(tracker, study, 3, known=trial.run_id, on_made=made.append).run_id == trial.run_id
    assert made == [trial.run_id], "a known id is not told again"
    others = [begin_trial(tracker, study, 4, fresh=False), begin_trial(tracker, begin(tracker, "b"), 3, fresh=False)]
    assert trial.run_id not in {other.run_id for other in others}


def test_a_run_that_somebody_deleted_is_brought_back_and_one_that_is_gone_is_made_anew(tracker, study, trial):
    tracker._client.delete_run(trial.run_id)
    again = begin_trial(tracker, study, 3, known=trial.run_id)
    assert run_of(tracker, again).info.lifecycle_stage == "active"
    made = []
    anew = begin_trial(tracker, study, 9, known="0" * 32, on_made=made.append)
    assert made == [anew.run_id]
    assert run_of(tracker, anew).info.status == "RUNNING"


def test_a_resumed_run_takes_only_the_steps_it_has_not(tracker, study, trial):
    tracker.log_epoch(trial, 0, {"loss": 1.0}, 1000)
    assert tracker.flush(30)
    again = begin_trial(tracker, study, 3, known=trial.run_id, fresh=False)
    for step in (0, 1, 1):
        tracker.log_epoch(again, step, {"loss": 1.0}, 2000 + step)
    assert history(tracker, again, "loss") == [(0, 1.0, 1000), (1, 1.0, 2001)]


def test_a_parameter_too_long_for_mlflow_is_cut_and_a_tag_says_so(tracker, trial):
    tracker.set_params(trial, {"long": "x" * 7000, "exact": "y" * 6000})
    run = run_of(tracker, trial)
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["exact"] == "y" * 6000
    assert run.data.tags["search.cut"] == "long"


def test_a_tag_too_long_for_mlflow_is_cut_and_the_last_value_wins(tracker, trial):
    tracker.set_tags(trial, {"note": "first"})
    tracker.set_tags(trial, {"note": "é" * 9000})
    assert run_of(tracker, trial).data.tags["note"] == "é" * 7999 + "…"


def test_more_than_one_batch_of_everything_arrives(tracker, trial):
    tracker.set_params(trial, {f"p{i}": i for i in range(250)})
    tracker.set_tags(trial, {f"t{i}": i for i in range(250)})
    tracker.log_epoch(trial, 0, {f"m{i}": i for i in range(1500)}, 1)
    run = run_of(tracker, trial)
    assert len(run.data.params) == 251
    assert len([t for t in run.data.tags if t.startswith("t")]) == 250
    assert len(run.data.metrics) == 1500


def test_epochs_keep_their_steps_and_times_and_are_never_doubled(tracker, trial):
    for _ in range(2):
        for step in range(3):
            tracker.log_epoch(trial, step, {"loss": 1 / (step + 1), "nan": math.nan}, 1_700_000_000_000 + step)
        assert tracker.flush(30)
    assert history(tracker, trial, "loss") == [(s, 1 / (s + 1), 1_700_000_000_000 + s) for s in range(3)]
    assert len(history(tracker, trial, "nan")) == 3


def test_a_nan_is_kept_and_an_infinity_is_left_out_and_named(tracker, trial):
    tracker.log_epoch(trial, 4, {"loss": math.nan, "val_loss": math.inf, "accuracy": 0.1}, 1)
    run = run_of(tracker, trial)
    assert math.isnan(run.data.metrics["loss"])
    assert "val_loss" not in run.data.metrics
    assert run.data.tags["search.metrics.infinite"] == "val_loss at step 4"


def test_a_paused_trial_has_no_end_and_a_resumed_one_runs_again(tracker, trial):
    for status, ended in (("FINISHED", True), ("SCHEDULED", False), ("KILLED", True), ("FAILED", True)):
        tracker.finish(trial, status, {"search.trial.state": status.lower()})
        info = run_of(tracker, trial).info
        assert (info.status, bool(info.end_time)) == (status, ended)
    tracker.reopen(trial)
    info = run_of(tracker, trial).info
    assert (info.status, bool(info.end_time)) == ("RUNNING", False)
    tracker.finish(trial, "FINISHED", end_time_ms=1_700_000_000_000)
    assert run_of(tracker, trial).info.end_time == 1_700_000_000_000


def test_an_unknown_status_is_refused_at_once(tracker, trial):
    with pytest.raises(ValueError, match="PRUNED.*SCHEDULED, RUNNING, FINISHED, KILLED, FAILED"):
        tracker.finish(trial, "PRUNED")


def test_texts_bytes_and_files_are_stored_under_their_paths_and_replaced(tracker, trial, tmp_path):
    local = tmp_path / "space.py"
    local.write_text("# a space\n")
    tracker.log_text(trial, "config.json", "{}")
    tracker.log_text(trial, "config.json", '{"é": 1}')
    tracker.log_bytes(trial, "figures/deep/curves.png", b"\x89PNG")
    tracker.log_bytes(trial, "empty", b"")
    tracker.log_file(trial, local, "space")
    assert tracker.flush(30), tracker.outbox.failures
    got = Path(tracker._client.download_artifacts(trial.run_id, "", str(tmp_path)))
    assert (got / "config.json").read_text() == '{"é": 1}'
    assert (got / "figures/deep/curves.png").read_bytes() == b"\x89PNG"
    assert (got / "empty").read_bytes() == b""
    assert (got / "space/space.py").read_text() == "# a space\n"


def test_what_mlflow_refuses_is_named_and_holds_up_nothing_else(tracker, trial):
    tracker.set_params(trial, {"lr": 0.2, "new": 1})
    tracker.log_epoch(trial, 0, {"bad;name": 1.0, "loss": 2.0}, 1)
    tracker.log_file(trial, Path("/nowhere/at/all"))
    nowhere = Run("nowhere", "0" * 32)
    tracker._runs["nowhere"] = nowhere
    tracker.set_tags(nowhere, {"a": "b"})
    tracker.finish(trial, "FINISHED")
    run = run_of(tracker, trial)
    assert run.data.params == {"lr": "0.1", "new": "1"}
    assert run.data.metrics == {"loss": 2.0}
    assert run.info.status == "FINISHED"
    failures = "\n".join(tracker.outbox.failures)
    assert len(tracker.outbox.failures) == 4
    for part in ("parameter 'lr'", "metric 'bad;name'", "artifact all", "0" * 32):
        assert part in failures


def test_a_second_tracker_opens_the_same_experiment(tracker, place):
    again = Tracker(place.uri, "an experiment", place.artifact_root)
    assert again.experiment_id == tracker.experiment_id
    assert again.close(5) == 0


def test_a_deleted_experiment_is_named_with_the_way_to_restore_it(tracker, place):
    gone = Tracker(place.uri, f"deleted {place.name}", place.artifact_root)
    gone.close(5)
    tracker._client.delete_experiment(gone.experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {gone.experiment_id}"):
        Tracker(place.uri, f"deleted {place.name}", place.artifact_root)


def test_files_of_a_database_store_lie_under_the_experiments_name(sqlite):
    opened = Tracker(sqlite.uri, "named", sqlite.artifact_root)
    run = begin(opened, "s")
    opened.log_text(run, "a.txt", "a")
    assert opened.close(10) == 0
    assert (sqlite.files / "named" / run.run_id / "artifacts" / "a.txt").read_text() == "a"


def test_a_trial_costs_few_requests_and_an_epoch_one(server):
    opened = Tracker(server.uri, "requests", None)
    study = begin(opened, "s")
    before = len(server.requests())
    trial = begin_trial(opened, study, 0)
    opened.set_params(trial, {"lr": 1})
    opened.log_dataset(trial, DIGITS)
    assert opened.flush(10)
    assert [r.rpartition("/")[2] for r in server.requests()[before:]] == ["create", "log-batch", "log-inputs"]
    for epoch in range(5):
        opened.log_epoch(trial, epoch, {"loss": 1.0, "system/cpu": 50.0}, epoch)
        opened.flush(10)
    assert len(server.requests()) - before - 3 == 5
    opened.finish(trial, "FINISHED", {"search.trial.state": "COMPLETE"})
    assert opened.close(10) == 0
    assert len(server.requests()) - before - 3 - 5 == 2


def test_an_address_where_nothing_answers_is_an_error_of_one_line():
    with pytest.raises(TrackingAway, match=r"^MLflow at http://127.0.0.1:9: the server does not answer") as caught:
        Tracker("http://127.0.0.1:9", "e", None)
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrackingError, match=r"tracking database .*/file/mlflow.db: ") as caught:
        Tracker(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "e", tmp_path)
    assert "\n" not in str(caught.value)


def test_processes_that_make_the_same_database_at_once_do_not_ruin_it(tmp_path, python):
    code = """
import subprocess, sys
one = '''
import sys
from pathlib import Path
from tracking.runs import Tracker
t = Tracker(sys.argv[1], "e", Path(sys.argv[2]))
run = t.start_study("s", identity="s", tags={}, note="")
t.log_epoch(run, 0, {"loss": 1.0}, 1)
print(t.experiment_id, t.close(20))
'''
started = [subprocess.Popen([sys.executable, "-c", one, *sys.argv[1:]], stdout=-1, stderr=-1, text=True)
           for _ in range(2)]
print([p.communicate() for p in started])
"""
    assert eval(python(code, f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", str(tmp_path))) == [("1 0\n", "")] * 2
