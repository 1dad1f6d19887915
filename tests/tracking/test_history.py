"""Aliases and their history on both kinds of store: one champion always, every change noted, one writer at a time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from bench.places import ROOT
from tracking import history, openings, registry, registry_lock
from tracking.client import Connection, connect
from tracking.errors import NoSuchModel, TrackingError
from tracking.history import CHALLENGER, CHAMPION, PREVIOUS, ChampionChanged


@pytest.fixture
def client(place):
    return connect(place.uri)


LOGGED: dict[str, list[tuple[str, str]]] = {}  # by store: the runs and models that every test's versions are made of


@pytest.fixture
def model(place, client):
    """A registered model with four versions and no alias."""
    if place.uri not in LOGGED:
        experiment = client.create_experiment("versions")
        runs = [client.create_run(experiment).info.run_id for _ in range(4)]
        LOGGED[place.uri] = [(r, client.create_logged_model(experiment, source_run_id=r).model_id) for r in runs]
        for _, model_id in LOGGED[place.uri]:
            client.finalize_logged_model(model_id, "READY")
    name = f"net-{uuid.uuid4().hex[:8]}"
    for run_id, model_id in LOGGED[place.uri]:
        registry.register(place.uri, model_name=name, model_id=model_id, run_id=run_id, tags={}, description="")
    return name


def promote(client, model, version, expected):
    return history.make_champion(client, model, version, expected=expected, by="me", facts={"accuracy": 0.9})


def kinds(client, model):
    return [(e.kind, e.version, e.before, e.done) for e in history.events(client, model)]


def test_promotions_and_rollbacks_move_the_aliases_and_are_kept_in_order(client, model):
    assert promote(client, model, "1", None) is None
    assert promote(client, model, "2", "1") == "1"
    history.note_refusal(client, model, "3", "me", {})
    assert history.aliases(client, model) == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: "3"}
    assert promote(client, model, "3", "2") == "2"
    assert history.aliases(client, model) == {CHAMPION: "3", PREVIOUS: "2"}, "a champion is no challenger any more"
    assert history.roll_back(client, model, "me", {}) == ("3", "2")
    assert history.aliases(client, model) == {CHAMPION: "2", PREVIOUS: "1"}
    assert history.roll_back(client, model, "me", {}) == ("2", "1")
    assert history.aliases(client, model) == {CHAMPION: "1"}
    with pytest.raises(TrackingError, match="first champion"):
        history.roll_back(client, model, "me", {})
    assert [kind for kind, *_ in kinds(client, model)] == [
        *("promoted", "promoted", "refused", "promoted", "rolled back", "rolled back")
    ]
    assert all(done for *_, done in kinds(client, model))


def test_a_rollback_passes_over_a_deleted_version_and_comes_back_to_what_others_set(client, model):
    promote(client, model, "1", None)
    promote(client, model, "2", "1")
    client.set_registered_model_alias(model, CHAMPION, "4")  # by hand, in MLflow's pages
    promote(client, model, "3", "4")
    client.delete_model_version(model, "2")
    assert history.roll_back(client, model, "me", {}) == ("3", "4")
    assert history.roll_back(client, model, "me", {}) == ("4", "1")


def test_where_the_champions_before_are_deleted_that_is_the_reason(client, model):
    promote(client, model, "1", None)
    promote(client, model, "2", "1")
    client.delete_model_version(model, "1")
    with pytest.raises(TrackingError, match="none to go back to from version 2: those before it are deleted"):
        history.roll_back(client, model, "me", {})


@pytest.mark.parametrize(
    "change",
    [
        {"time": 1e40},
        {"time": "today"},
        {"facts": []},
        {"version": None},
        {"done": "no"},
        {"by": 3},
        {"kind": ["promoted"]},
        {"more": 1},
    ],
)
def test_a_tag_that_somebody_edited_is_no_event(client, model, change):
    promote(client, model, "1", None)
    (event,) = history.events(client, model)
    said = json.loads(client.get_registered_model(model).tags[event.key]) | change
    client.set_registered_model_tag(model, event.key, json.dumps(said))
    assert history.events(client, model) == []
    promote(client, model, "2", "1")
    assert kinds(client, model) == [("promoted", "2", "1", True)]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "no json", '{"time": "x", "digest": "d", "by": "b", "purpose": "p"}']
)
def test_an_opening_that_cannot_be_read_counts_as_one(place, text):
    connection = Connection(place.uri, f"openings-{uuid.uuid4().hex[:8]}", place.artifact_root)
    digest = uuid.uuid4().hex
    before = len(openings.of(connection, digest))
    openings.note(connection, digest, "me", "a test")
    connection.client.set_experiment_tag(connection.experiment_id, f"{openings.PREFIX}0", text)
    assert len(openings.of(connection, digest)) == before + 2


def test_a_champion_is_not_replaced_by_one_that_was_compared_with_another(client, model):
    promote(client, model, "1", None)
    with pytest.raises(ChampionChanged, match="version 1 by now"):
        promote(client, model, "2", None)
    assert history.aliases(client, model) == {CHAMPION: "1"}
    assert promote(client, model, "1", None) is None, "the same again changes nothing"
    assert len(kinds(client, model)) == 1


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_killed_promotion_left_is_finished_or_undone_by_the_next(client, model, moved, place):
    promote(client, model, "1", None)
    promote(client, model, "2", "1")
    event = history._event(history.PROMOTED, "3", "2", "1", "me", {})
    history._write(client, model, event)
    client.set_registered_model_alias(model, PREVIOUS, "2")
    if moved:
        client.set_registered_model_alias(model, CHAMPION, "3")
    found = registry.champion(place.uri, model)
    assert found is not None
    if moved:
        assert found.version == "3"
        assert history.aliases(client, model) == {CHAMPION: "3", PREVIOUS: "2"}
        assert kinds(client, model)[-1] == ("promoted", "3", "2", True)
    else:
        assert found.version == "2"
        assert history.aliases(client, model) == {CHAMPION: "2", PREVIOUS: "1"}
        assert [version for _, version, *_ in kinds(client, model)] == ["1", "2"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_rollback_that_was_cut_off_is_finished_by_asking_again_and_goes_no_further(client, model, moved, place):
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        promote(client, model, version, before)
    event = history._event(history.ROLLED_BACK, "2", "3", "2", "me", {})
    history._write(client, model, event)
    history._set_previous(client, model, "1")
    if moved:
        client.set_registered_model_alias(model, CHAMPION, "2")
    assert registry.roll_back(place.uri, model, {}) == ("3", "2")
    assert history.aliases(client, model) == {CHAMPION: "2", PREVIOUS: "1"}
    assert [event.done for event in history.events(client, model)] == [True] * 4
    assert registry.roll_back(place.uri, model, {}) == ("2", "1"), "asked for once more it goes further"


def test_whoever_reads_the_history_mends_what_was_cut_off(client, model, place):
    promote(client, model, "1", None)
    event = history._event(history.PROMOTED, "2", "1", None, "me", {})
    history._write(client, model, event)
    client.set_registered_model_alias(model, CHAMPION, "2")
    client.set_registered_model_tag(model, f"{registry_lock.PREFIX}dead", "{}")
    events, aliases, _ = registry.past(place.uri, model)
    assert [(e.version, e.done) for e in events] == [("1", True), ("2", True)]
    assert aliases[CHAMPION] == "2"
    assert not any(key.startswith(registry_lock.PREFIX) for key in client.get_registered_model(model).tags)


def test_where_the_champions_version_was_deleted_a_rollback_returns_to_the_one_before(client, model):
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        promote(client, model, version, before)
    client.delete_model_version(model, "3")
    assert history.aliases(client, model) == {PREVIOUS: "2"}
    assert history.roll_back(client, model, "me", {}) == (None, "2")
    assert history.aliases(client, model) == {CHAMPION: "2", PREVIOUS: "1"}
    assert history.roll_back(client, model, "me", {}) == ("2", "1")
    client.delete_model_version(model, "1")
    client.delete_model_version(model, "2")
    with pytest.raises(TrackingError, match="no champion to roll back from"):
        history.roll_back(client, model, "me", {})


@pytest.mark.parametrize("reference", ["net/3", "models:/net/3", "net@previous", "net@challenger"])
def test_what_is_about_a_whole_model_takes_no_single_version(reference):
    with pytest.raises(NoSuchModel, match="this is about the model: give net"):
        registry.model_name(reference)
    assert registry.model_name("models:/net@champion") == registry.model_name("net") == "net"


def _try(uri, model, version, go, results):
    go.wait()
    try:
        promote(connect(uri), model, version, None)
        results.put((version, "champion"))
    except ChampionChanged:
        results.put((version, "too late"))


def test_of_promotions_at_once_one_wins_and_nothing_is_half_done(client, model, place):
    context = multiprocessing.get_context("spawn")
    go, results = context.Event(), context.Queue()
    racers = [context.Process(target=_try, args=(place.uri, model, str(v), go, results)) for v in (1, 2, 3)]
    for racer in racers:
        racer.start()
    time.sleep(1)
    go.set()
    ends = dict(results.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join(60)
    winner = [version for version, end in ends.items() if end == "champion"]
    assert len(winner) == 1, ends
    assert history.aliases(client, model) == {CHAMPION: winner[0]}
    assert kinds(client, model) == [("promoted", winner[0], None, True)]
    assert not [key for key in client.get_registered_model(model).tags if key.startswith(registry_lock.PREFIX)]


HOLDING = """
import sys, time
from tracking.client import connect
from tracking.registry_lock import held
with held(connect(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_dead_owners_lock_is_taken_over_and_a_living_ones_is_named(client, model, place, monkeypatch):
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDING, place.uri, model],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout.readline().strip() == "held"
    monkeypatch.setattr(registry_lock, "PATIENCE", 0.5)
    with pytest.raises(TrackingError, match=f"process {owner.pid} on"):
        promote(client, model, "1", None)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert promote(client, model, "1", None) is None
    assert history.aliases(client, model) == {CHAMPION: "1"}


def test_a_lock_left_on_another_machine_is_taken_over_once_it_has_run_out(client, model):
    other = {"host": "elsewhere", "pid": 1, "born": 0.0, "until": time.time() + 1.5}
    client.set_registered_model_tag(model, f"{registry_lock.PREFIX}other", json.dumps(other))
    began = time.time()
    promote(client, model, "1", None)
    assert time.time() - began > 1, "it was waited for"


def test_what_is_not_there_is_said_in_one_line(client, model, place):
    promote(client, model, "1", None)
    assert registry.find(place.uri, model).version == "1"
    assert registry.find(place.uri, f"models:/{model}/2").version == "2"
    assert registry.find(place.uri, f"{model}@champion").version == "1"
    for reference, words in (
        (f"{model}@best", "has no alias 'best'; there: champion (version 1)"),
        (f"{model}/9", "has no version 9; there: 1, 2, 3, 4"),
        ("nothing@champion", "no model 'nothing'"),
        ("models:/a/b/c", "is no model"),
    ):
        with pytest.raises(TrackingError) as error:
            registry.find(place.uri, reference)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    client.delete_model_version(model, "1")
    assert registry.champion(place.uri, model) is None
    with pytest.raises(TrackingError, match="has no alias 'champion'"):
        registry.find(place.uri, model)
