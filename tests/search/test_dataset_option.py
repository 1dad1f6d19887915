"""`--dataset`: a space over other images than its own, from the plan to the promoted model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import environment, trial_spec

from search.errors import InputError
from search.plan import Plan, Request, check_identity, make, resume
from search.settings import resolve
from search.specs import space_of, stored_space
from search.trial.spec import TrialSpec
from spaces.datasets import prepare

ONE = ("filters=8", "conv_layers=1", "--epochs", "1", "--slots", "1", "--keep", "all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as class folders of 8x8 images, 40 of each."""
    made = tmp_path_factory.mktemp("images")
    digits = prepare("digits", cache=made / "cache")
    x, y = np.load(digits / "x_train.npy"), np.load(digits / "y_train.npy")
    for label in range(10):
        (made / "digits" / f"digit-{label}").mkdir(parents=True)
        for i in np.flatnonzero(y == label)[:40]:
            Image.fromarray(x[i, ..., 0]).save(made / "digits" / f"digit-{label}" / f"{i}.png")
    return made / "digits"


def plan(home: Path, **asked: Any) -> Plan:
    settings = resolve(environment={"SEARCH_HOME": str(home)})
    return make(Request(**({"space": "cnn_digits"} | asked)), settings, check_places=False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def test_the_dataset_asked_for_is_part_of_the_plan_and_of_its_space(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    made = plan(home, dataset="path:digits")
    assert made.dataset == f"path:{folder}", "wherever the study goes on from"
    stored = json.loads(json.dumps(made.to_json()))
    assert space_of(made).dataset == stored_space(stored).dataset == made.dataset
    assert resume(stored, Request(space="cnn_digits")).dataset == made.dataset


def test_the_spaces_own_dataset_is_no_other_one(home: Path) -> None:
    made = plan(home, dataset="digits")
    assert made.dataset is None
    assert space_of(made).dataset == "digits"


def test_a_study_cannot_go_on_with_another_dataset(home: Path, folder: Path) -> None:
    stored = json.loads(json.dumps(plan(home, study="s").to_json()))
    with pytest.raises(InputError, match=f"was made with dataset=None, not path:{folder}"):
        check_identity(plan(home, study="s", dataset=f"path:{folder}"), stored)


def test_studies_and_trials_of_an_older_program_have_their_spaces_own(home: Path) -> None:
    made = plan(home, study="s")
    stored = {k: v for k, v in json.loads(json.dumps(made.to_json())).items() if k != "dataset"}
    check_identity(made, stored)
    assert stored_space(stored).dataset == space_of(resume(stored, Request(space="cnn_digits"))).dataset == "digits"
    noted = {k: v for k, v in trial_spec(home).to_json().items() if k != "dataset"}
    spec = TrialSpec.from_json(noted)
    assert spec.dataset is None


def test_image_counts_of_the_space_are_cut_to_what_is_there(home: Path, folder: Path) -> None:
    made = plan(home, space="densenet_cifar10", dataset=f"path:{folder}", gpus="none")
    assert (made.train_limit, made.validation_limit) == (None, None), "all 288 and 32, fewer than the space's cut"
    assert not [line for line in made.cuts if "images" in line]
    with pytest.raises(InputError, match=r"--train-images 5000: path:.* has 288; give 10 to 288, or all"):
        plan(home, dataset=f"path:{folder}", train_images="5000")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("diggits", "unknown dataset 'diggits'. Did you mean 'digits'?"),
        ("path:/no/such/folder", "/no/such/folder is not there"),
    ],
)
def test_a_dataset_that_is_not_there_is_one_line_beside_the_other_problems(
    home: Path, dataset: str, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        plan(home, dataset=dataset, epochs="0")
    lines = str(raised.value).splitlines()
    assert len(lines) == 2, lines
    assert any(message in line for line in lines)


def search(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        cwd=place,
        env=environment(place / "home", XDG_CACHE_HOME=str(place / "xdg")),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one trial of one epoch over the folder of images, and then gone on with to a second trial."""
    place = tmp_path_factory.mktemp("study")
    ran = search(place, "run", "cnn_digits", *ONE, "--dataset", f"path:{folder}", "--study", "own", "--trials", "1")
    assert ran.returncode == 0, ran.stderr
    assert "a fifth of each class (80 of 400 images) is the sealed test part" in ran.stderr
    again = search(place, "resume", "own", "--trials", "2")
    assert again.returncode == 0, again.stderr
    return place


def test_a_study_over_a_folder_of_images_trains_resumes_and_says_what_on(done: Path, folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{done}/home/mlflow.db")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(found) == 3
    assert {run.data.tags["search.dataset"] for run in found} == {f"path:{folder}"}
    [study] = [run for run in found if run.data.tags["search.kind"] == "study"]
    assert study.data.params["dataset"] == f"path:{folder}"
    [trial, _] = [run for run in found if run.data.tags["search.kind"] == "trial"]
    assert trial.inputs.dataset_inputs[0].dataset.name == f"path:{folder}"
    shown = json.loads(search(done, "show", "own", "--json").stdout)
    assert [t["state"] for t in shown].count("COMPLETE") >= 1, shown


@pytest.mark.long
def test_a_model_of_a_folder_of_images_is_promoted_on_its_sealed_part(done: Path, folder: Path) -> None:
    promoted = search(done, "promote", "own", "--json")
    assert promoted.returncode == 0, promoted.stderr
    told = json.loads(promoted.stdout)
    assert told["passed"], told
    assert "(80 images, opened 1 time in all)" in promoted.stderr + promoted.stdout or told["version"]


def test_images_that_changed_end_the_study_with_one_line_and_its_figures_stay_those_of_the_old(
    done: Path, folder: Path
) -> None:
    noted = json.loads(search(done, "compare", "own:0", "own:1", "--json").stdout)
    added = folder / "digit-3" / "new.png"
    Image.new("L", (8, 8), 9).save(added)
    try:
        ran = search(done, "run", "cnn_digits", *ONE, "--dataset", f"path:{folder}", "--study", "own", "--trials", "3")
        again = search(done, "repeat", "own", "--top", "1", "--seeds", "1")
        now = json.loads(search(done, "compare", "own:0", "own:1", "--json").stdout)
    finally:
        added.unlink()
    for refused in (ran, again):
        assert refused.returncode == 2, refused.stderr
        assert f"the images of path:{folder} have changed since study 'own' began" in " ".join(refused.stderr.split())

    def digests(compared: Any) -> Any:
        return re.findall(r'"digest": "(\w+)"', json.dumps(compared))

    assert digests(now) == digests(noted) != []
