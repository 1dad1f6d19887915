"""A server that is killed in the middle of a study costs no metric, and doubles none."""

import threading
import time

import pytest

from bench.proxy import Proxy
from tracking import outbox
from tracking.errors import TrackingAway
from tracking.runs import DatasetInfo, Tracker


def test_a_server_killed_and_started_again_gets_every_epoch_once(server, tmp_path):
    tracker = Tracker(server.uri, "outage", None)
    study = tracker.start_study("s", params={}, tags={}, note="")
    trials = [
        tracker.start_trial(study, name=f"t{n}", params={}, tags={"search.trial.number": str(n)}, dataset=None)
        for n in range(2)
    ]
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
    with pytest.raises(TrackingAway, match="does not answer"):
        tracker._ask(lambda: tracker._client.get_run(study), patience=1.0)

    starting = threading.Thread(target=server.start)
    starting.start()
    # A call that needs an answer waits for the server instead of failing its trial.
    late = tracker.start_trial(study, name="t2", params={}, tags={"search.trial.number": "2"}, dataset=None)
    starting.join()
    assert tracker.flush(60)
    assert tracker.outbox.failures == []
    assert tracker.outbox.waiting_since is None
    for trial in trials:
        for metric in ("loss", "val_loss"):
            points = tracker._client.get_metric_history(trial, metric)
            assert [p.step for p in sorted(points, key=lambda p: p.step)] == list(epochs)
            assert all(p.timestamp == 1_700_000_000_000 + p.step for p in points)
    assert tracker.status(trials[0]) == "FINISHED"
    assert [f.path for f in tracker._client.list_artifacts(trials[0])] == ["after.txt"]
    assert tracker.find_trial(study, 2) == late
    found = tracker._client.search_runs([tracker.experiment_id], f"tags.`mlflow.parentRunId` = '{study}'")
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
        study = tracker.start_study("it's a study", params={"a": 1}, tags={}, note="")
        lost.discard("POST /api/2.0/mlflow/runs/create")
        tags = {"search.trial.number": "0"}
        info = DatasetInfo("digits", "d", "x", {})
        trial = tracker.start_trial(study, name="t", params={"lr": 1}, tags=tags, dataset=info)
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
    assert {run.info.run_id for run in client.search_runs([plain.experiment_id])} == {study, trial}
    run = client.get_run(trial)
    assert (run.info.status, run.data.params, run.data.tags["x"]) == ("FINISHED", {"lr": "1"}, "y")
    assert len(run.inputs.dataset_inputs) == 1
    assert [(m.step, m.timestamp) for m in client.get_metric_history(trial, "loss")] == [
        (0, 1000),
        (1, 1001),
        (2, 1002),
    ]
    assert len(set(uploaded)) == 2
    assert sorted(m.model_id for m in run.outputs.model_outputs) == sorted(uploaded)
    kept = client.search_logged_models([plain.experiment_id])
    assert [(m.model_id, str(m.status)) for m in kept] == [(uploaded[0], "READY")]
    assert plain.close(5) == 0
