"""A study that learns from earlier ones: from what fits, once and for all, and without counting it as its own."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import optuna
import pytest
from formula import DRAWS, ready, rows, runs, typed, write
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from support import afresh, apart, command

from search import warm
from search.engines import optuna as engine
from search.engines.known import known
from search.errors import SearchError
from search.fits import Misfit, fit
from spaces import RandomDraws, config_hash, find

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder whose `pristine` home has the study `old` of five trials; the space then lost adamax."""
    folder = tmp_path_factory.mktemp("warm")
    ready(folder)
    old = write(folder / "mine.py", *DRAWS)
    code, said = typed(
        folder / "home", "run", str(old), "--study", "old", "--trials", "5", "--slots", "1", "--sampler", "tpe"
    )
    assert code == 0, said
    shutil.copytree(folder / "home", folder / "pristine")
    write(
        folder / "mine.py", DRAWS[0], 'hp.Choice("optimizer", ["adam", "sgd"])', *DRAWS[2:], 'hp.Float("new", 0.0, 1.0)'
    )
    return folder


def begin(made, study, *arguments, **more):
    space = str(made / "mine.py")
    return typed(
        made / "home",
        "run",
        space,
        "--study",
        study,
        "--trials",
        "3",
        "--slots",
        "1",
        "--sampler",
        "tpe",
        *arguments,
        **more,
    )


def configs(home, study):
    return [row["attributes"]["config"] for row in rows(home, study).values()]


def test_a_study_proposes_by_what_it_learnt_also_after_a_kill_and_when_the_earlier_study_is_deleted(made):
    home = afresh(made)
    code, said = begin(made, "whole", "--warm-start", "old")
    assert code == 0, said
    (line,) = [each for each in said.splitlines() if "learns from" in each]
    left_out = "(2 left out: optimizer=adamax is not in this space)"
    assert line.startswith(f"learns from study old: 3 of 5 trials fit {left_out}")
    assert "new was not there and is taken to be 0.0" in line
    assert begin(made, "cut", "--warm-start", "old", DIES="1:1")[0] == -9
    shutil.rmtree(home / "studies" / "old")
    apart(lambda: optuna.delete_study(study_name="old", storage=f"sqlite:///{home}/study.db"))
    code, said = typed(home, "resume", "cut", "--slots", "1")
    assert code == 0, said
    assert line in said
    assert configs(home, "cut") == configs(home, "whole")
    parent, children = runs(home, "whole")
    assert parent.data.params["warm_start"] == "old"
    assert set(children) == set(range(3)), "what it learns from gets no run"
    code, said = begin(made, "cut")
    assert (code, "was made with warm_start=old, not none named" in said) == (2, True), said
    path = home / "studies" / "whole" / warm.FILE
    before = path.read_text()
    path.write_text(before.replace("COMPLETE", "PRUNED"))
    code, said = typed(home, "resume", "whole", "--trials", "5")
    assert (code, "python -m search reconcile whole" in said) == (1, True), said
    code, said, _ = command(home, "reconcile", "whole")
    assert (code, "warm.json (what it learns from) was gone or damaged; made again from MLflow" in said) == (0, True)
    assert path.read_text() == before


def test_what_a_study_learnt_from_and_is_gone_from_everywhere_is_said(tmp_path):
    study = optuna.create_study()
    study.set_user_attr(warm.WARM, warm.keep(tmp_path, {"lines": ["learns from A"], "lessons": [], "first": []}))
    assert warm.mend(study, tmp_path, None) is None
    (tmp_path / warm.FILE).unlink()
    for copy in (None, "torn", '{"lines": []}'):
        with pytest.raises(SearchError, match=r"learnt from \(learns from A\), is gone from everywhere"):
            warm.mend(study, tmp_path, copy)


def test_where_epochs_differ_the_best_run_first_and_their_values_are_left_out(made):
    home = afresh(made)
    code, said = begin(made, "shorter", "--warm-start", "old", "--epochs", "3")
    assert code == 0, said
    old = [
        (n, r["attributes"]["config"], r["values"]) for n, r in rows(home, "old").items() if r["state"] == "COMPLETE"
    ]
    good = sorted((each for each in old if each[1]["optimizer"] == "adam"), key=lambda each: -each[2][0])
    numbers = ", ".join(str(number) for number, _, _ in good)
    assert "trained on 4 epochs (3 here): its results cannot be compared; its best that fit run first" in said
    assert f"by themselves: trials {numbers}" in said
    found = rows(home, "shorter")
    for number, (theirs, config, _) in enumerate(good):
        assert found[number]["attributes"]["config"] == config | {"new": 0.0}
        assert found[number]["attributes"][warm.FROM] == f"old:{theirs}"
    assert len(good) == 2 and warm.FROM not in found[2]["attributes"]
    assert runs(home, "shorter")[1][0].data.tags["search.warm.from"] == f"old:{good[0][0]}"


def test_every_earlier_study_that_cannot_be_learnt_from_is_named_at_once(made):
    home = afresh(made)
    (made / "other.py").write_text(
        (made / "mine.py").read_text().replace("epochs=4", 'epochs=4, metric="val_loss", direction="minimize"')
    )
    asked = ("--warm-start", "old", "--warm-start", "odl", "--warm-start", "new")
    code, said = typed(home, "run", str(made / "other.py"), "--study", "new", *asked)
    assert code == 2
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    assert "--warm-start old: it was to maximize val_accuracy, this study is to minimize val_loss" in lines[0]
    assert "--warm-start odl: no study 'odl'" in lines[1] and "Did you mean 'old'?" in lines[1]
    assert "--warm-start new: a study learns from its own trials anyway" in lines[2]
    assert len(lines) == 3
    np.savez(made / "images.npz", x=np.zeros((100, 8, 8), np.uint8), y=np.arange(100) % 10)
    asked = ("--dataset", f"path:{made}/images.npz", "--study", "new", "--warm-start", "old")
    code, said = typed(home, "run", str(made / "mine.py"), *asked)
    assert (code, "--warm-start old: it was searched on digits" in said) == (2, True), said


# ---- what fits


def odd(hp):
    hp.Int("width", 8, 64, step=2, sampling="log")
    hp.Float("keep", 0.1, 0.9, sampling="reverse_log")
    hp.Float("rate", 0.5, 1.0, step=0.05)
    if hp.Choice("kind", ["a", "b"]) == "b":
        hp.Boolean("deep")
    return dict(hp.values)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_configuration_of_a_space_fits_it_unchanged_and_is_known_to_optuna_as_drawn(seed):
    for space in (find("cnn_digits"), replace(find("cnn_digits"), sample=odd)):
        hp = RandomDraws(seed)
        config = space.sample(hp)
        found = fit(space, hp.values, {})
        assert (found.config, found.assumed, found.aside) == (config, {}, {})
        proposal = known(space, hp.values, {})
        assert config_hash(proposal.config) == config_hash(config)
        again = engine.OptunaDraws(optuna.trial.FixedTrial(proposal.params), {})
        for name, value in space.sample(again).items():
            assert value == config[name] or math.isclose(value, config[name], rel_tol=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_configuration_fits_a_narrower_space_just_where_each_value_lies_in_it(seed):
    space, narrowings = (
        find("cnn_digits"),
        {"optimizer": "adam,sgd", "learning_rate": "0.001..0.01", "dropout": "0..0.2"},
    )
    config = space.sample(RandomDraws(seed))
    inside = (
        config["optimizer"] in ("adam", "sgd") and 1e-3 <= config["learning_rate"] <= 1e-2 and config["dropout"] <= 0.2
    )
    try:
        assert fit(space, config, narrowings).config == config
        assert inside
    except Misfit as why:
        assert not inside
        assert str(why).split("=")[0].split(" ")[0] in narrowings


def test_what_is_known_from_elsewhere_is_not_proposed_again_and_teaches_the_sampler():
    space = find("cnn_digits")
    narrow = {name: text for name, text in (
        ("optimizer", "adam"), ("weight_decay", "0"), ("batch_size", "32"), ("schedule", "constant"), ("dropout", "0"),
        ("augmentation", "none"), ("filters", "8"), ("conv_layers", "1"), ("learning_rate", "0.001"),
    )}  # fmt: skip
    lessons = []
    for units in (16, 32, 48):
        proposal = known(space, {"dense_units": units, **_rest()}, narrow)
        lessons.append(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                value=0.5,
                params=proposal.params,
                distributions=proposal.distributions,
                user_attrs={"config.hash": config_hash(proposal.config)},
            )
        )
    study = optuna.create_study(direction="maximize")
    draw = {"sampler": "random", "seed": 0, "refuse": lambda config: None, "lessons": lessons}
    proposal = engine.propose(study, space, narrow, **draw)
    assert proposal.config["dense_units"] == 64
    engine.accept(study, proposal, {})
    with pytest.raises(engine.Exhausted):
        engine.propose(study, space, narrow, **draw)
    assert len(study.get_trials()) == 1


def _rest():
    return {name: value for name, value in find("cnn_digits").baselines[0].config.items() if name != "dense_units"}
