"""A server that is killed in the middle of a study costs no metric, and doubles none."""

import subprocess
import sys
import time

from support import begin, begin_trial

from bench.proxy import Proxy
from tracking import outbox
from tracking.runs import DatasetInfo, Tracker


def test_a_server_killed_and_started_again_gets_every_epoch_once(server, tmp_path):
    tracker = Tracker(server.uri, "outage", None)
    study = begin(tracker, "s")
    trials = [begin_trial(tracker, study, number) for number in range(2)]
    epochs = range(300)
    for epoch in epochs:
        for trial in trials:
            tracker.log_epoch(trial, epoch, {"loss": 1.0 / (epoch + 1), "val_loss": 2.0}, 1_700_000_000_000 + epoch)
        if epoch == 100:
            time.sleep(0.2)  # some are through, one is perhaps in the middle
            server.kill()
    tracker.log_text(trials[0], "after.txt", "after")
    tracker.finish(trials[0], "FINISHED")
    assert tracker.flush(1) is False
    assert tracker.outbox.waiting_since is not None
    # The run of a trial that starts meanwhile is made once the server is back, and nobody waits for it.
    made = []
    late = tracker.start_trial(study, 2, identity="x", name="t2", tags={}, on_made=made.append)
    tracker.log_epoch(late, 0, {"loss": 3.0}, 1_700_000_000_000)
    # Its worker dies and it goes on, all while the server is away: what waits already must still find its run.
    again = tracker.start_trial(study, 2, identity="x", name="t2", tags={}, on_made=made.append)
    tracker.log_epoch(again, 1, {"loss": 2.0}, 1_700_000_000_001)
    assert tracker.settle(away=0.1, at_most=30) is False
    assert (late.run_id, made) == ("", [])
    server.start()
    assert tracker.flush(60)
    assert tracker.outbox.failures == []
    assert tracker.outbox.waiting_since is None
    for trial in trials:
        for metric in ("loss", "val_loss"):
            points = tracker._client.get_metric_history(trial.run_id, metric)
            assert [p.step for p in sorted(points, key=lambda p: p.step)] == list(epochs)
            assert all(p.timestamp == 1_700_000_000_000 + p.step for p in points)
    assert tracker._client.get_run(trials[0].run_id).info.status == "FINISHED"
    assert [f.path for f in tracker._client.list_artifacts(trials[0].run_id)] == ["after.txt"]
    assert made[0] == late.run_id == again.run_id
    assert [m.step for m in tracker._client.get_metric_history(late.run_id, "loss")] == [0, 1]
    found = tracker._client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{study.run_id}'")
    assert len(found) == 3, "no run was made twice"
    assert tracker.close(5) == 0


def test_answers_that_get_lost_on_the_way_double_nothing(server, model, monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(outbox, "LAST_DELAY", 0.1)
    lost = {"GET /api/2.0/mlflow/experiments/get-by-name"}  # opening is not patient

    def loses(kind, accepted):
        """The answer to the first request of each kind."""
        first = accepted and kind not in lost
        if accepted:
            lost.add(kind)
        return first

    Tracker(server.uri, "lossy", None).close(5)
    with Proxy(server.uri, loses) as proxy:
        tracker = Tracker(proxy.uri, "lossy", None)
        study = tracker.start_study("it's a study", identity="its", tags={}, note="")
        assert tracker.flush(60)
        lost.discard("POST /api/2.0/mlflow/runs/create")
        trial = tracker.start_trial(study, 0, identity="its", name="t", tags={}, fresh=True)
        tracker.set_params(trial, {"lr": 1})
        tracker.log_dataset(trial, DatasetInfo("digits", "d", "x", {}))
        for epoch in range(3):
            tracker.log_epoch(trial, epoch, {"loss": 1.0 - epoch}, 1000 + epoch)
        tracker.log_text(trial, "a.txt", "a")
        uploaded = []
        for step in (1, 2):
            tracker.upload_model(
                trial, model, name="model", step=step, metrics={"loss": 1.0 - step}, params={}, on_done=uploaded.append
            )
        assert tracker.flush(60)
        tracker.delete_model(uploaded[1])
        tracker.finish(trial, "FINISHED", {"x": "y"})
        assert tracker.close(60) == 0
    assert tracker.outbox.failures == []
    assert len(lost) >= 15, lost

    plain = Tracker(server.uri, "lossy", None)
    client = plain._client
    assert {run.info.run_id for run in client.search_runs([plain.experiment_id])} == {study.run_id, trial.run_id}
    run = client.get_run(trial.run_id)
    assert (run.info.status, run.data.params, run.data.tags["x"]) == ("FINISHED", {"lr": "1"}, "y")
    assert len(run.inputs.dataset_inputs) == 1
    assert [(m.step, m.timestamp) for m in client.get_metric_history(trial.run_id, "loss")] == [
        (0, 1000),
        (1, 1001),
        (2, 1002),
    ]
    assert len(set(uploaded)) == 2
    assert sorted(m.model_id for m in run.outputs.model_outputs) == sorted(uploaded)
    kept = client.search_logged_models([plain.experiment_id])
    assert [(m.model_id, str(m.status)) for m in kept] == [(uploaded[0], "READY")]
    assert plain.close(5) == 0


def test_a_tracker_that_begins_offline_has_loaded_mlflow_before_a_second_thread_does():
    code = (
        "import os, sys; from tracking.runs import Tracker;"
        "tracker = Tracker('http://127.0.0.1:9', 'an experiment', offline=True);"
        "assert 'mlflow.entities' in sys.modules; tracker.close(0.1); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
