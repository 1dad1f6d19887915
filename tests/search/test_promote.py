"""From trial to champion on a real MLflow server: promoted, refused, rolled back, reproduced, killed at every step."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from serving import asked, free_port, serving
from sklearn.datasets import load_digits
from support import environment

from bench.places import Server, patient
from bench.proxy import Proxy, Trap
from search.reproduce import curve_difference
from tracking import history, registry, registry_lock

WEAK = ("filters=8", "optimizer=adam", "learning_rate=0.0005..0.0006", "--epochs", "1", "--trials", "1")
STRONG = ("filters=32", "optimizer=adam", "learning_rate=0.003..0.004", "--epochs", "6", "--trials", "1")
FAST = ("conv_layers=1", "batch_size=16", "augmentation=none", "weight_decay=0.0", "--slots", "1", "--pruner", "none")


@dataclass(frozen=True)
class Place:
    """A folder with a home, and the server that its studies are on."""

    folder: Path
    server: Server

    def __call__(self, *arguments, uri=None, code=0, home="home", **more):
        """Run a command; what it printed, as JSON where that was asked for."""
        ran = subprocess.run(
            [sys.executable, "-m", "search", *arguments],
            cwd=self.folder,
            env=environment(self.folder / home, MLFLOW_TRACKING_URI=uri or self.server.uri, **more),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert ran.returncode == code, (
            f"{arguments} ended with {ran.returncode}: {ran.stdout[-800:]} {ran.stderr[-800:]}"
        )
        assert "Traceback" not in ran.stderr
        return json.loads(ran.stdout) if "--json" in arguments and code != 2 else ran.stdout + ran.stderr

    @property
    def client(self):
        return MlflowClient(self.server.uri)

    def aliases(self, model):
        return history.aliases(self.client, model)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two studies of one trial each, `weak` and `strong`, on a server of their own."""
    folder = tmp_path_factory.mktemp("promote")
    server = Server(folder)
    server.start()
    made = Place(folder, server)
    for name, space in (("weak", WEAK), ("strong", STRONG)):
        made("run", "cnn_digits", *FAST, *space, "--study", name)
    with patient():
        yield made
    server.kill()


def kinds(place, model):
    told = place("history", model, "--json")
    return [(event["kind"], event["version"]) for event in told["events"]]


def test_the_whole_life_of_a_champion(place):
    shown = place("promote", "weak", "--dry-run", "--json")
    assert shown["passed"]
    assert shown["version"] is None
    assert shown["openings"] == 1
    assert place.client.search_registered_models() == [], "a dry run registers nothing"

    first = place("promote", "weak", "--json")
    assert (first["version"], first["alias"], first["openings"]) == ("1", "champion", 1), "what was measured is kept"
    better = place("promote", "strong", "--json")
    assert (better["version"], better["alias"], better["previous"], better["openings"]) == ("2", "champion", "1", 2)
    assert better["comparisons"][0]["paired"]["p"] < 0.05
    again = place("promote", "strong", "--json")
    assert again["already"]
    worse = place("promote", "weak", "--json", code=3)
    assert (worse["version"], worse["alias"]) == ("1", "challenger")
    assert place.aliases("cnn_digits") == {"champion": "2", "previous": "1", "challenger": "1"}
    assert "version 2 stays champion" in place("promote", "weak", code=3)

    version = place.client.get_model_version("cnn_digits", "2")
    assert float(version.tags["search.test.accuracy"]) == pytest.approx(better["test"]["accuracy"], abs=1e-5)
    for name in (
        "study",
        "trial.number",
        "config.hash",
        "data.digest",
        "parameters",
        "model.sha256",
        "backend",
        "seed",
    ):
        assert version.tags[f"search.{name}"]
    assert " to " in version.tags["search.test.accuracy.interval"]
    assert "Test accuracy" in version.description
    page = registry.read_file(place.server.uri, better["model_id"], "evaluation/cnn_digits/report.html").decode()
    assert "<html" in page
    assert "script" not in page.lower().split("<body")[1]
    for word in ("Robust", "Accepted", "data:image/png;base64", better["test"]["class_names"][3]):
        assert word in page

    place("promote", "strong", "--model", "another")
    other = registry.read_file(place.server.uri, better["model_id"], "evaluation/another/report.html").decode()
    kept = registry.read_file(place.server.uri, better["model_id"], "evaluation/cnn_digits/report.html").decode()
    assert kept == page, "under another name the model has another report"
    assert "First champion" in other

    repeated = place("repeat", "strong", "--top", "1", "--seeds", "2", "--json")
    (one,) = repeated["repeats"]
    assert len(one["values"]) == 2
    assert one["values"][0] != one["values"][1], "each has a seed of its own"
    assert one["flattery"] == pytest.approx(one["first"] - sum(one["values"]) / 2)
    chosen = place("promote", "strong-repeat", "--model", "repeated", "--json")
    assert "best mean" in chosen["chosen"]
    assert chosen["alias"] == "champion"

    assert place("rollback", "cnn_digits", "--json") == {"model": "cnn_digits", "champion": "1", "before": "2"}
    place.server.kill()
    assert "does not answer" in place("history", "cnn_digits", code=2)
    place.server.start()
    assert kinds(place, "cnn_digits") == [
        *(("promoted", "1"), ("promoted", "2"), ("refused", "1"), ("refused", "1"), ("rolled back", "1"))
    ]
    assert place.aliases("cnn_digits")["champion"] == "1"

    images = (load_digits().images[:7] * 15).astype(np.uint8)[..., None]
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(place.folder / f"{number}.png")
    files = [f"{number}.png" for number in range(len(images))]
    seen = place("predict", "cnn_digits@champion", *files, "--top", "10", "--json")
    shares = [{guess["class"]: guess["probability"] for guess in one["top"]} for one in seen["images"]]
    port = free_port()
    with serving("cnn_digits@champion", port, environment(place.folder / "home", MLFLOW_TRACKING_URI=place.server.uri)):
        served = asked(port, {"inputs": images.tolist()})
    np.testing.assert_allclose(served, [[row[name] for name in range(10)] for row in shares], atol=1e-5)

    same = place("reproduce", "cnn_digits/2", "--json")
    assert same["reproduced"]
    assert same["exact"], "on this processor it comes out bit for bit"
    log = (place.folder / "home" / "test-openings.jsonl").read_text().splitlines()
    assert len(log) == 3, "one line a model that was measured"


@pytest.mark.long
def test_training_on_all_data_leaves_nothing_to_validate_on_and_can_be_promoted(place):
    made = place("repeat", "weak", "--top", "1", "--seeds", "1", "--all-data", "--json")
    assert made["study"] == "weak-repeat-all"
    assert made["metric"] == "accuracy"
    (epoch,) = place("show", "weak-repeat-all", "--trial", "0", "--json")["history"]
    assert "loss" in epoch
    assert not [name for name in epoch if name.startswith("val_")]
    (trial,) = place("show", "weak-repeat-all", "--json")
    run = place.client.get_run(trial["run_id"])
    assert (run.data.params["train_images"], run.data.params["validation_images"]) == ("1438", "0")
    promoted = place("promote", "weak-repeat-all", "--model", "all", "--json")
    assert "first seed" in promoted["chosen"]
    assert place("reconcile", "weak-repeat-all") == "weak-repeat-all: 0 mended\n"


def test_what_cannot_be_promoted_is_one_line(place):
    for arguments, words in (
        (("promote", "stong"), "Did you mean 'strong'?"),
        (("promote", "weak", "--trial", "7"), "not a complete trial"),
        (("promote", "weak", "--baseline", "plain"), "--baseline plain: not a complete baseline"),
        (("promote", "weak", "--min-gain", "2"), "--min-gain 2"),
        (("promote", "weak", "--model", "a/b"), "--model a/b"),
        (("promote", "weak", "--model", "a "), "--model a"),
        (("promote", "weak", "--baseline", ""), "--baseline '': not a complete baseline"),
        (("rollback", "cnn_digits/1"), "this is about the model: give cnn_digits"),
        (("repeat", "nothing"), "no study 'nothing'"),
        (("reproduce", "a/b/c"), "is no model"),
        (("reproduce", "nothing@champion", "--tolerance", "nan"), "--tolerance nan: give a number from 0 on"),
        (("reproduce", "nothing@champion", "--tolerance", "-1"), "--tolerance -1: give a number from 0 on"),
    ):
        said = place(*arguments, code=2)
        assert words in said
        assert len(said.splitlines()) == 1, said
    for arguments, words in (
        (("rollback", "nothing"), "no model 'nothing'"),
        (("history", "nothing"), "no model 'nothing'"),
        (("reproduce", "nothing@champion"), "no model 'nothing'"),
    ):
        assert words in place(*arguments, code=2)
    assert "does not answer" in place("promote", "weak", uri="http://127.0.0.1:9", code=2)


def test_where_the_trials_folder_is_on_another_machine_its_training_is_read_from_mlflow(place):
    store = f"sqlite:///{place.folder / 'home' / 'study.db'}"
    made = place("promote", "strong", "--model", "elsewhere", "--json", home="other", SEARCH_STORAGE=store)
    at_home = place("promote", "strong", "--model", "at-home", "--json")
    spec = {
        name: json.loads(registry.read_file(place.server.uri, made["model_id"], f"evaluation/{name}/spec.json"))
        for name in ("elsewhere", "at-home")
    }
    assert made["model_id"] == at_home["model_id"]
    assert len(spec["elsewhere"]["history"]) == 6
    assert curve_difference(spec["elsewhere"]["history"], spec["at-home"]["history"]) == 0
    for name in ("device", "backend", "slots"):
        assert spec["elsewhere"][name] == spec["at-home"][name]
    run = place.client.get_run(made["run_id"])
    assert spec["elsewhere"]["space"]["sha256"] == run.data.tags["search.space.hash"], "of the file it was trained with"
    for name in ("commit", "versions", "hardware"):
        assert spec["elsewhere"]["provenance"][name] == spec["at-home"]["provenance"][name]


def test_a_server_that_goes_away_in_the_middle_is_one_line_without_its_password(place):
    asked = []

    def loses(kind, done):  # from the last request before it is measured on, as if the server were stopped there
        asked.append(kind)
        return len(asked) > told

    told = 1000
    with Proxy(place.server.uri, loses) as proxy:
        place("promote", "weak", "--model", "there", "--dry-run", uri=proxy.uri)
        told, _ = len(asked) - 1, asked.clear()
        said = place("promote", "weak", "--model", "away", uri=proxy.uri.replace("//", "//me:secret@"), code=1)
    assert "secret" not in said
    assert said.splitlines()[-1].startswith("error: MLflow at http://me:***@127.0.0.1")
    assert "the server does not answer" in said


@pytest.mark.long
def test_a_study_of_repeats_outlives_the_study_it_repeats(place):
    place("run", "cnn_digits", *FAST, *WEAK, "--study", "short-lived")
    place("repeat", "short-lived", "--top", "1", "--seeds", "1")
    place("delete", "short-lived", "--yes")
    said = place("promote", "short-lived-repeat", "--model", "orphan", code=2)
    assert "study 'short-lived', whose baseline a first champion has to beat, is gone; --baseline none" in said
    assert place("promote", "short-lived-repeat", "--model", "orphan", "--baseline", "none", "--json")["passed"]
    assert place("promote", "short-lived-repeat", "--model", "orphan", "--json")["already"]


@pytest.mark.long
@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: b""])
def test_figures_whose_file_was_damaged_are_measured_again(place, damage):
    before = place("promote", "weak", "--model", "damaged", "--dry-run", "--json")
    for path in (place.folder / "home" / "measured").glob("*.npz"):
        path.write_bytes(damage(path.read_bytes()))
    again = place("promote", "weak", "--model", "damaged", "--dry-run", "--json")
    assert again["test"] == before["test"]
    assert again["openings"] == before["openings"] + 1


def test_a_model_whose_files_were_changed_is_not_promoted_and_not_loaded(place):
    model_id = place("promote", "weak", "--model", "tampered", "--json")["model_id"]
    (weights,) = (p for p in place.server.files.rglob("model.keras") if model_id in p.parts)
    content = weights.read_bytes()
    local = place.folder / "home" / "models" / model_id
    for path in sorted(local.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    local.rmdir()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        for arguments in (("promote", "weak", "--model", "other"), ("reproduce", "tampered@champion")):
            assert "is not what was registered" in place(*arguments, code=1)
        assert "other" not in [m.name for m in place.client.search_registered_models()]
    finally:
        weights.write_bytes(content)


def prepared(place, name):
    """A registered model whose champion is the weak trial, as `promote weak` makes it; both trials were measured."""
    for study in ("weak", "strong"):
        place("promote", study, "--dry-run")
    weak = place("best", "weak", "--json")[0]
    registry.register(
        place.server.uri,
        model_name=name,
        model_id=weak["model_id"],
        run_id=weak["run_id"],
        tags={"search.data.digest": digest(), "search.backend": "tensorflow"},
        description="",
    )
    history.make_champion(place.client, name, "1", expected=None, by="me", facts={})


def digest():
    from spaces.datasets import describe

    return describe("digits").digest


def killed(place, name, wanted, nth, accepted):
    """Kill `promote strong` at its `nth` request of that kind that changes something; which it was, "" where none."""
    traps: list[Trap] = []

    def loses(kind, done):
        if not traps or done != accepted or not traps[0].matches(kind):
            return False
        traps[0].spring(kind)
        return True

    with Proxy(place.server.uri, loses) as proxy:
        process = promoting(place, "strong", name, proxy.uri)
        traps.append(Trap(wanted, nth, accepted, process.kill))
        process.communicate(timeout=200)
    return traps[0].caught


def promoting(place, study, name, uri):
    return subprocess.Popen(
        [sys.executable, "-m", "search", "promote", study, "--model", name],
        cwd=place.folder,
        env=environment(place.folder / "home", MLFLOW_TRACKING_URI=uri),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def whole_again(place, name, caught):
    """That a promotion killed at `caught` left the old champion or the new one, and that the next one ends it."""
    champion = place.aliases(name).get("champion")
    assert champion in ("1", "2"), f"killed at {caught}: no champion"
    place("promote", "strong", "--model", name)
    assert place.aliases(name) == {"champion": "2", "previous": "1"}, caught
    events = history.events(place.client, name)
    assert [(e.kind, e.version, e.done) for e in events] == [("promoted", "1", True), ("promoted", "2", True)], caught
    assert len(place.client.search_model_versions(f"name = '{name}'")) == 2, caught
    tags = place.client.get_registered_model(name).tags
    assert not [key for key in tags if key.startswith(registry_lock.PREFIX)], caught


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        ("registered-models/alias", True),
        pytest.param("registered-models/set-tag", False, marks=pytest.mark.long),
        pytest.param("registered-models/delete-tag", False, marks=pytest.mark.long),
    ],
)
def test_a_promotion_killed_in_the_middle_leaves_a_champion_and_is_ended_by_the_next(place, wanted, accepted):
    """Two of the steps; all of them are below."""
    name = f"killed-{wanted.rpartition('/')[2]}"
    prepared(place, name)
    caught = killed(place, name, wanted, 1 if "delete" in wanted else 2, accepted)
    assert caught, "it ended before the kill"
    whole_again(place, name, caught)


@pytest.mark.long
@pytest.mark.parametrize("accepted", [True, False])
def test_a_promotion_killed_at_any_request_leaves_a_champion_and_is_ended_by_the_next(place, accepted):
    for nth in range(1, 100):
        name = f"every-{nth}-{accepted}"
        prepared(place, name)
        caught = killed(place, name, "", nth, accepted)
        if not caught:
            break
        print(f"{nth}: {caught}, {'answer' if accepted else 'request'} lost")
        whole_again(place, name, caught)
    assert nth > 8


@pytest.mark.long
def test_two_promotions_at_once_end_with_one_champion_and_a_whole_history(place):
    prepared(place, "race")
    place("run", "cnn_digits", *FAST, *STRONG, "--seed", "5", "--study", "other")
    place("promote", "other", "--dry-run")
    racers = [promoting(place, study, "race", place.server.uri) for study in ("strong", "other")]
    said = [racer.communicate(timeout=300)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) in ([0, 0], [0, 3]), said
    events = history.events(place.client, "race")
    assert all(event.done for event in events)
    assert [e.version for e in events if e.kind == "promoted"][-1] == place.aliases("race")["champion"] != "1"
