"""The menu of samplers and pruners: read from text, wrong ones said in a line each, others' found as entry points."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.choosing import Choice, choose
from search.engines import menu, pruners, samplers
from search.engines import optuna as engine
from search.engines.menu import Chosen
from search.reader import Reader
from spaces import find

KINDS = ("sampler", "pruner")


@st.composite
def asked(draw: Any) -> tuple[str, Chosen]:
    kind = draw(st.sampled_from(KINDS))
    name = draw(st.sampled_from(sorted(menu.TABLES[kind][0])))
    said = {}
    for key, option in menu.member(kind, name).options.items():
        low, high = int(option.least or 0), int(option.most if option.most is not None else 50)
        value = {
            bool: st.booleans(),
            str: st.sampled_from(option.words or ("",)),
            int: st.integers(max(low, 1), high),
            float: st.integers(low * 4, high * 4).map(lambda n: n / 4),
        }[option.kind]
        if draw(st.booleans()):
            said[key] = draw(value)
    return kind, Chosen(name, said)


@given(wanted=asked())
@settings(deadline=None)
def test_what_was_asked_for_is_read_again_from_its_text(wanted):
    kind, chosen = wanted
    assert menu.read(kind, str(chosen)) == chosen


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("sampler", "tpee", "Did you mean 'tpe'?"),
        ("sampler", "tpe:group=yes", "group=yes: give true or false"),
        ("sampler", "tpe:groups=true", "groups=true: tpe has no such option; it has: n_startup_trials"),
        ("sampler", "tpe:n_startup_trials=-1", "n_startup_trials=-1: give a whole number, 0 or more"),
        ("sampler", "nsga2:crossover_prob=2", "crossover_prob=2: give a number, 0 or more and 1 or less"),
        ("sampler", "qmc:qmc_type=sobel", "qmc_type=sobel: choose one of sobol, halton"),
        ("sampler", "random:seed=1", "seed=1: random has no such option; it has: none"),
        ("sampler", "tpe:group", "group: tpe has no such option"),
        ("sampler", "tpe:group=true,group=false", "group is said twice; keep one"),
        ("pruner", "percentile:percentile=nan", "percentile=nan: give a number"),
    ],
)
def test_what_is_wrong_with_a_name_or_an_option_is_said(kind, text, says):
    with pytest.raises(ValueError) as raised:
        menu.read(kind, text)
    assert says in str(raised.value)


def chosen_for(
    space: str = "cnn_digits", narrow: dict[str, str] | None = None, **said: Any
) -> tuple[Choice, list[str]]:
    read = Reader()
    asked = {"sampler": None, "pruner": None, "trials": 20, "epochs": 9, "slots": 1}
    return choose(find(space), narrow or {}, read, **(asked | said)), read.problems


SMALL = {
    **{"conv_layers": "1", "filters": "8", "dense_units": "16", "dropout": "0", "optimizer": "adam,adamw"},
    **{"learning_rate": "0.001,0.01", "weight_decay": "0", "batch_size": "16", "schedule": "constant"},
    **{"augmentation": "none"},
}


@pytest.mark.parametrize(
    ("said", "sampler", "pruner", "why"),
    [
        ({"narrow": SMALL}, "brute", None, "all 4 configurations can be tried"),
        ({"trials": 8, "slots": 4}, "qmc", None, "8 trials on 4 slots"),
        ({"epochs": 2}, None, "none", "2 epochs are too few"),
        ({"only_known": True}, None, "none", "known settings"),
        ({"sampler": "kt-hyperband"}, "kt-hyperband", "none", "kt-hyperband stops trials by itself"),
        ({"objectives": 2}, "tpe", "none", "of several objectives"),
        ({"objectives": 2, "pruner": "asha"}, "tpe", "none", "pruner none, not asha"),
    ],
)
def test_auto_chooses_by_space_budget_and_slots_and_says_why(said, sampler, pruner, why):
    choice, problems = chosen_for(**said)
    assert problems == []
    assert sampler in (None, choice.sampler)
    assert pruner in (None, choice.pruner)
    assert any(why in line for line in choice.why)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"sampler": "grid"}, "--sampler grid: learning_rate is 0.0001..0.1 log, without a step; name values"),
        (
            {"sampler": "grid", "narrow": {"learning_rate": "0.01,0.1", "momentum": "0,0.9"}, "space": "cnn_mnist"},
            "points",
        ),
        ({"sampler": "kt-hyperband", "pruner": "asha"}, "--pruner asha: kt-hyperband stops trials by itself"),
        ({"pruner": "wilcoxon"}, "use it to repeat: python -m search repeat STUDY --pruner wilcoxon"),
        ({"sampler": "cmaes", "objectives": 2}, "--sampler cmaes: it pursues one objective, here are 2"),
        ({"sampler": "kt-grid", "objectives": 2}, "--sampler kt-grid: it pursues one objective"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_line(said, says):
    _, problems = chosen_for(**said)
    assert any(says in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


THEIRS = """
import optuna

def steady(ask, offset=0):
    return optuna.samplers.RandomSampler(seed=ask.study_seed + offset)

def harsh(epochs, share=0.5):
    return optuna.pruners.PercentilePruner(100 * share, n_startup_trials=1, n_warmup_steps=epochs // 3)
"""


def test_another_packages_sampler_and_pruner_are_asked_for_by_name(tmp_path: Path, monkeypatch, cli):
    site = tmp_path / "site"
    (site / "theirs-1.0.dist-info").mkdir(parents=True)
    (site / "theirs.py").write_text(THEIRS)
    (site / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{menu.SAMPLER_GROUP}]\nsteady = theirs:steady\n[{menu.PRUNER_GROUP}]\nharsh = theirs:harsh\n"
    )
    monkeypatch.syspath_prepend(site)
    assert menu.names("sampler")[-1] == "steady"
    chosen = menu.read("sampler", "steady:offset=3")
    assert chosen.options == {"offset": 3}
    study = optuna.create_study(study_name="s", pruner=pruners.make(menu.read("pruner", "harsh:share=0.2"), 9))
    first, again = (
        engine.propose(study, find("cnn_digits"), {}, sampler=text, seed=1, refuse=lambda c: None)
        for text in ("steady:offset=3", "steady:offset=3")
    )
    assert first == again
    assert isinstance(study.pruner, optuna.pruners.PercentilePruner)
    assert isinstance(
        samplers.make(chosen, samplers.Ask(1, 1, 0, lambda: {}, chosen.options)), optuna.samplers.RandomSampler
    )
    listed = cli("samplers", PYTHONPATH=os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
    assert "theirs:steady, of theirs" in listed.stdout, listed.stderr
