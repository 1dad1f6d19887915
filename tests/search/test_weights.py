"""Weights that fall from the best are noted until MLflow has really let go of them."""

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from support import begin, begin_trial

from search import weights
from search.weights import Kept, Shelf
from spaces import find
from tracking.runs import Tracker


def logged(server, tracker, run):
    """A logged model of a run, ready."""
    client = MlflowClient(server.uri)
    made = client.create_logged_model(tracker.experiment_id, name="model", source_run_id=run.run_id)
    client.finalize_logged_model(made.model_id, "READY")
    return made.model_id


@pytest.fixture
def shelf(own_server, tmp_path):
    """A shelf with room for one, and two trials' weights on it."""
    own_server.start()
    tracker = Tracker(own_server.uri, "cnn_digits")
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize")
    parent = begin(tracker, "s")
    runs = [begin_trial(tracker, parent, number) for number in range(2)]
    made = Shelf(study, tmp_path / "study", find("cnn_digits"), tracker, 1)
    for number, run in enumerate(runs):
        kept = Kept(number, 0.5 + number / 10, logged(own_server, tracker, run))
        weights.note(made.folder, kept)
        weights.remember(study, kept)
    yield made, runs
    tracker.close(0.1)


def test_weights_that_fall_are_noted_until_they_are_gone(shelf, own_server):
    made, _ = shelf
    fallen = weights.kept(made.study)[1]
    own_server.kill()
    made.drop_fallen()
    assert not made.tracker.flush(3)
    made.settle()
    assert fallen in weights.kept(made.study), "a process killed now must know that they are still there"
    assert fallen in weights.noted(made.folder)
    own_server.start()
    assert made.tracker.flush(60)
    made.settle()
    assert [k.number for k in weights.kept(made.study)] == [1]
    assert [k.number for k in weights.noted(made.folder)] == [1]
    with pytest.raises(MlflowException):
        MlflowClient(own_server.uri).get_logged_model(fallen.model_id)


def test_what_a_killed_process_uploaded_and_did_not_note_is_removed_where_it_has_no_room(shelf, own_server):
    made, runs = shelf
    weights.forget(made.study, 0)
    extra = logged(own_server, made.tracker, runs[0])
    trial = optuna.trial.create_trial(value=0.5, user_attrs={"config": {}})
    trial.number = 0
    assert not made.offer(runs[0], trial, again=True)
    assert made.tracker.flush(60)
    with pytest.raises(MlflowException):
        MlflowClient(own_server.uri).get_logged_model(extra)
