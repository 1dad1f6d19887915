"""A trained model becomes a logged model of its run, loads as what it was, and goes away for good."""

import json

import pytest
from support import begin

from tracking import registry
from tracking.errors import TrackingError
from tracking.runs import Tracker

LOAD = """
import json, os, sys
import keras, mlflow, mlflow.keras, mlflow.pyfunc
import numpy as np

keras.utils.disable_interactive_logging()
expected = np.load(sys.argv[1])
for uri, model in json.loads(sys.argv[2]):
    os.environ["MLFLOW_TRACKING_URI"] = uri
    by_keras = mlflow.keras.load_model(model).predict(expected["images"], verbose=0)
    served = mlflow.pyfunc.load_model(model)
    by_pyfunc = served.predict(expected["images"])
    assert by_keras.dtype == by_pyfunc.dtype == np.float32
    np.testing.assert_allclose(by_keras, expected["probabilities"], atol=1e-6)
    np.testing.assert_allclose(by_pyfunc, expected["probabilities"], atol=1e-6)
    assert served.metadata.metadata["trial"] == 7
    print(served.metadata.model_id, served.metadata.run_id)
"""


def upload(tracker, run, folder, step=0, **metrics):
    done = []
    tracker.upload_model(run, folder, name="model", step=step, metrics=metrics, params={"lr": 0.1}, on_done=done.append)
    assert tracker.flush(60)
    assert tracker.outbox.failures == []
    (model_id,) = done
    return model_id


def files_of(place, model_id):
    return [p for p in place.files.rglob("*") if p.is_file() and model_id in p.parts]


def test_a_packaged_model_loads_from_either_store_by_its_id_and_as_champion(sqlite, server, packaged, python):
    asked, expected = [], []
    for uri, root in ((sqlite.uri, sqlite.artifact_root), (server.uri, None)):
        tracker = Tracker(uri, "loading", root)
        run = begin(tracker, "s")
        model_id = upload(tracker, run, packaged)
        registry.register(uri, model_name="loaded", model_id=model_id, run_id=run.run_id, tags={}, description="")
        registry.promote(uri, "loaded", "1", expected=None, facts={}, tags={})
        tracker.close(10)
        asked += [(uri, f"models:/{model_id}"), (uri, "models:/loaded@champion")]
        expected += [f"{model_id} {run.run_id}"] * 2
    printed = python(LOAD, str(packaged.parent / "expected.npz"), json.dumps(asked), KERAS_BACKEND="tensorflow")
    assert printed.splitlines()[-4:] == expected


def test_an_uploaded_model_is_an_output_of_its_run_with_the_metrics_of_its_epoch(tracker, trial, model):
    for step in range(3):
        tracker.log_epoch(trial, step, {"val_accuracy": 0.1 * step, "loss": float("nan")}, 1_000 + step)
    model_id = upload(tracker, trial, model, step=1, val_accuracy=0.1, loss=float("nan"))
    (output,) = tracker._client.get_run(trial.run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model_id, 1)
    logged = tracker._client.get_logged_model(model_id)
    assert (logged.name, str(logged.status), logged.source_run_id) == ("model", "READY", trial.run_id)
    assert logged.params == {"lr": "0.1"}
    assert [(m.key, m.value, m.step) for m in logged.metrics] == [("val_accuracy", 0.1, 1)]
    points = tracker._client.get_metric_history(trial.run_id, "val_accuracy")
    assert [(p.step, p.timestamp) for p in points] == [(0, 1000), (1, 1001), (2, 1002)], "no point of the run doubled"


def test_an_upload_repeated_after_a_crash_is_the_same_model(tracker, trial, model):
    first = upload(tracker, trial, model, step=2, loss=1.0)
    assert upload(tracker, trial, model, step=2, loss=1.0) == first
    assert len(tracker._client.get_run(trial.run_id).outputs.model_outputs) == 1


@pytest.mark.parametrize("linked", [False, True])
def test_an_upload_cut_off_in_the_middle_is_taken_up_again(tracker, place, trial, model, linked):
    from mlflow.entities import LoggedModelOutput

    begun = tracker._client.create_logged_model(
        tracker.experiment_id, name="model", source_run_id=trial.run_id, tags={"search.step": "5"}
    )
    if linked:
        tracker._client.log_outputs(trial.run_id, [LoggedModelOutput(begun.model_id, 5)])
    assert upload(tracker, trial, model, step=5, loss=1.0) == begun.model_id
    assert str(tracker._client.get_logged_model(begun.model_id).status) == "READY"
    assert {p.name for p in files_of(place, begun.model_id)} == {"MLmodel", "weights"}
    assert len(tracker._client.get_run(trial.run_id).outputs.model_outputs) == 1


def test_deleting_a_model_removes_its_files_and_its_record_and_no_other(tracker, place, trial, model):
    kept, gone = upload(tracker, trial, model, step=0), upload(tracker, trial, model, step=1)
    tracker.log_text(trial, "config.json", "{}")
    tracker.delete_model(gone)
    tracker.delete_model(gone)
    assert tracker.flush(30)
    assert tracker.outbox.failures == []
    assert files_of(place, gone) == []
    assert len(files_of(place, kept)) == 2
    found = tracker._client.search_logged_models([tracker.experiment_id], f"source_run_id = '{trial.run_id}'")
    assert [m.model_id for m in found] == [kept]
    assert tracker._client.get_run(trial.run_id).info.run_id == trial.run_id


def test_a_registered_model_is_not_deleted(tracker, place, trial, model):
    model_id = upload(tracker, trial, model)
    registry.register(place.uri, model_name="kept", model_id=model_id, run_id=trial.run_id, tags={}, description="")
    tracker.delete_model(model_id)
    assert tracker.flush(30)
    assert len(files_of(place, model_id)) == 2
    assert str(tracker._client.get_logged_model(model_id).status) == "READY"


def test_a_model_folder_that_is_gone_is_a_failure_and_no_ready_model(tracker, trial, tmp_path):
    tracker.upload_model(trial, tmp_path / "no", name="model", step=0, metrics={}, params={}, on_done=None)
    assert tracker.flush(30)
    assert len(tracker.outbox.failures) == 1
    assert "model 'model'" in tracker.outbox.failures[0]
    found = tracker._client.search_logged_models([tracker.experiment_id], f"source_run_id = '{trial.run_id}'")
    assert [str(m.status) for m in found] != ["READY"]


def test_versions_are_numbered_and_named_on_their_model(tracker, place, trial, model):
    name = f"net {place.name}"
    versions = [
        registry.register(
            place.uri,
            model_name=name,
            model_id=upload(tracker, trial, model, step=step),
            run_id=trial.run_id,
            tags={"search.trial.number": "3"},
            description="Trial 3",
        )
        for step in range(3)
    ]
    assert [v.version for v in versions] == ["1", "2", "3"]
    assert versions[0].tags == {"search.trial.number": "3"}
    assert versions[0].run_id == trial.run_id
    assert versions[0].source == f"models:/{versions[0].model_id}"
    logged = tracker._client.get_logged_model(versions[0].model_id)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": name, "version": 1}]


def test_a_promotion_repeated_after_a_crash_makes_no_second_version(tracker, place, trial, model):
    model_id = upload(tracker, trial, model)
    asked = {"model_name": f"once {place.name}", "model_id": model_id, "run_id": trial.run_id, "description": ""}
    assert registry.register(place.uri, tags={"a": "1"}, **asked).version == "1"
    again = registry.register(place.uri, tags={"a": "2"}, **asked)
    assert (again.version, again.tags, again.model_id) == ("1", {"a": "2"}, model_id)


def test_registering_what_is_not_there_or_a_champion_that_is_not_there_changes_nothing(tracker, place, trial, model):
    name = f"careful {place.name}"
    asked = {"model_name": name, "run_id": trial.run_id, "tags": {}, "description": ""}
    with pytest.raises(TrackingError, match="not found"):
        registry.register(place.uri, model_id="m-" + "0" * 32, **asked)
    registry.register(place.uri, model_id=upload(tracker, trial, model), **asked)
    registry.promote(place.uri, name, "1", expected=None, facts={}, tags={})
    with pytest.raises(TrackingError, match="not found"):
        registry.promote(place.uri, name, "9", expected="1", facts={}, tags={})
    assert {a: str(v) for a, v in tracker._client.get_registered_model(name).aliases.items()} == {"champion": "1"}


def test_the_users_own_tracking_address_survives_a_registration(sqlite, model, monkeypatch):
    import os

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracker = Tracker(sqlite.uri, "environment", sqlite.artifact_root)
    run = begin(tracker, "s")
    model_id = upload(tracker, run, model)
    tracker.close(5)
    registry.register(sqlite.uri, model_name="env", model_id=model_id, run_id=run.run_id, tags={}, description="")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"


def test_an_address_set_in_the_process_neither_misleads_a_registration_nor_is_lost(sqlite, model, tmp_path):
    import mlflow

    tracker = Tracker(sqlite.uri, "process", sqlite.artifact_root)
    run = begin(tracker, "s")
    model_id = upload(tracker, run, model)
    tracker.close(5)
    other = f"sqlite:///{tmp_path}/other.db"
    mlflow.set_tracking_uri(other)
    try:
        registry.register(
            sqlite.uri, model_name="process", model_id=model_id, run_id=run.run_id, tags={}, description=""
        )
        assert mlflow.get_tracking_uri() == other
    finally:
        mlflow.set_tracking_uri(None)
