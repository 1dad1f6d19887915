"""`compare` shows what differs between trials and versions, and says when their figures cannot be compared."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import apart, command, environment, settings_of

from search.comparable import remarks
from search.compared import Compared
from search.comparison import best_of
from search.differing import ABSENT, differing, same, words
from tracking import quiet

SMALL = ("filters=8,16", "conv_layers=1", "--pruner", "none", "--slots", "1", "--keep", "1")
AWAY = ("--tracking-uri", "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home of the studies `one` and `two`, the second on fewer images, and of a version made of the best of `one`.

    What the command imports is imported here once, before it is forked off.
    """
    quiet.prepare()
    import mlflow  # noqa: F401

    import search.report  # noqa: F401

    folder = tmp_path_factory.mktemp("compare")
    for options in (
        ("--epochs", "2", "--trials", "4", "--study", "one"),
        ("--epochs", "1", "--trials", "2", "--study", "two", "--train-images", "300", "--seed", "5"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "search", "run", "cnn_digits", *SMALL, *options],
            cwd=folder,
            env=environment(folder / "home"),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
    apart(lambda: register(folder / "home"))
    return folder / "home"


def register(home):
    """What a promotion leaves of the best of `one`: a version with its test figures, champion of `digits`."""
    from mlflow import MlflowClient

    from search import figures, links, report, weights
    from tracking import registry

    settings = settings_of(home)
    study = report.load("one", settings)
    best = figures.ranked(study)[0]
    version = registry.register(
        settings.tracking_uri,
        model_name="digits",
        model_id=weights.model_id(study, best.number),
        run_id=links.run_id(study, best),
        tags={"search.test.accuracy": "0.8125", "search.test.accuracy.interval": "0.77 to 0.85"},
        description="",
    )
    uri = settings.tracking_uri
    MlflowClient(uri, uri).set_registered_model_alias("digits", "champion", version.version)


def compared(home, *arguments):
    code, out, err = command(home, "compare", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def table(home, *arguments):
    code, out, err = command(home, "compare", *arguments)
    assert code == 0, err
    return out.splitlines()


def refused(home, *arguments):
    code, out, err = command(home, "compare", *arguments)
    assert (code, out) == (2, "")
    assert all(line.startswith("error: ") for line in err.splitlines())
    return err.splitlines()


def rows(lines, title):
    """The first words of the rows below a heading of the table."""
    start = next(i for i, line in enumerate(lines) if line.strip() == title) + 1
    block = lines[start:]
    end = next((i for i, line in enumerate(block) if not line.startswith("  ") or not line.strip()), len(block))
    return {line.split("  ")[1] for line in block[:end]}


@pytest.mark.long
def test_only_hyperparameters_that_differ_are_shown_and_all_where_asked(home):
    first, second = (thing["config"] for thing in compared(home, "one:0", "one:1")["compared"])
    wanted = {name for name in first | second if first.get(name) != second.get(name)}
    assert wanted, "the study drew something else than its baseline"
    lines = table(home, "one:0", "one:1")
    assert rows(lines, "hyperparameters") == wanted
    assert rows(table(home, "one:0", "one:1", "--all"), "hyperparameters") == set(first | second)
    assert max(map(len, lines)) <= 100


@pytest.mark.long
def test_figures_are_those_on_record(home):
    for thing in compared(home, "one:0", "two:1")["compared"]:
        path = home / "studies" / thing["study"] / f"trial-{thing['trial']:04}" / "events.jsonl"
        epochs = [json.loads(line) for line in path.read_text().splitlines() if '"event": "epoch"' in line]
        metrics = [epoch["metrics"] for epoch in epochs]
        assert thing["history"] == metrics
        best = max(metrics, key=lambda m: m["val_accuracy"])
        figures = thing["figures"]
        assert figures["epochs"] == len(metrics)
        assert figures["objective"] == figures["val_accuracy"] == best["val_accuracy"]
        assert figures["val_loss"] == best["val_loss"]
        assert figures["accuracy_last"] == metrics[-1]["accuracy"]
        assert figures["loss_best"] == min(m["loss"] for m in metrics)
        assert figures["seconds"] == pytest.approx(sum(m["seconds"] for m in metrics))


@pytest.mark.long
def test_a_study_is_its_best_trial_and_with_a_star_all_complete_ones(home):
    _, best, _ = command(home, "best", "one", "--json")
    number = json.loads(best)[0]["trial"]
    assert [t["reference"] for t in compared(home, "one", "two:1")["compared"]] == [f"one:{number}", "two:1"]
    every = [t["reference"] for t in compared(home, "one:*", "one")["compared"]]
    assert every == ["one:0", "one:1", "one:2", "one:3"]


@pytest.mark.long
def test_a_version_is_the_trial_it_was_made_of_with_its_test_figures(home):
    version, trial = compared(home, "digits@champion", "one")["compared"]
    assert (version["reference"], version["study"], version["trial"]) == ("digits/1", "one", trial["trial"])
    assert version["config"] == trial["config"]
    assert version["setup"] == trial["setup"]
    assert version["data"] == trial["data"]
    assert version["figures"] == trial["figures"] | {"test_accuracy": 0.8125, "test_interval": [0.77, 0.85]}
    for reference in ("digits/1", "models:/digits@champion", "models:/digits/1"):
        lines = table(home, reference, "one")
        assert "no hyperparameter differs" in lines
        assert any("0.7700 to 0.8500" in line for line in lines)
        assert not any(line.startswith("note:") for line in lines)


@pytest.mark.long
def test_other_numbers_of_images_are_noted_and_training_figures_are_not_ranked(home):
    lines = table(home, "one", "two")
    assert any("different numbers of training images: 1,150 (one:" in line for line in lines)
    assert not any("*" in line for line in lines if line.strip().startswith("training"))
    assert sum("*" in line for line in lines if line.strip().startswith("validation")) > 0


@pytest.mark.long
def test_many_things_have_a_row_each_and_no_line_is_cut(home):
    lines = table(home, "one:*", "two:*", "digits/1")
    assert max(map(len, lines)) <= 200
    for label in ("one:1", "two:1", "digits/1 (champion)"):
        assert sum(line.startswith(label + " ") for line in lines) >= 3, "how trained, hyperparameters, figures"


@pytest.mark.long
def test_every_problem_is_named_at_once(home, tmp_path):
    problems = refused(
        home, "one:9", "three", "one:x", "digits@old", "digits/7", "other@champion", "--curves", "curves.pdf"
    )
    for piece in (
        "curves.pdf: give a file that ends in .png or .html",
        "one:9: study 'one' has trials 0 to 3",
        "no study 'three'",
        "'one:x': give STUDY",
        "digits has no alias 'old'; there: champion (version 1)",
        "digits has no version 7; there: 1",
        "no model 'other'",
    ):
        assert sum(piece in line for line in problems) == 1, problems
    assert len(problems) == 7


@pytest.mark.long
@pytest.mark.parametrize("named", [[], ["one"], ["one:0", "one:0"], ["digits/1", "digits@champion"]])
def test_fewer_than_two_different_things_are_refused(home, named):
    assert "give two or more different things" in refused(home, *named)[0]


@pytest.mark.long
def test_a_study_without_a_complete_trial_is_refused(home, tmp_path):
    def hide():
        import sqlite3

        with sqlite3.connect(tmp_path / "home" / "study.db") as database:
            database.execute("update trials set state = 'RUNNING'")

    (tmp_path / "home").mkdir()
    shutil.copy(home / "study.db", tmp_path / "home")
    hide()
    assert refused(tmp_path / "home", "one", "two:0", "two:*") == [
        f"error: study '{name}' has no complete trial yet; go on: python -m search resume {name}"
        for name in ("one", "two")
    ]


def test_an_empty_home_stays_empty(tmp_path):
    problems = refused(tmp_path / "home", "one", "two", "digits@champion", "digits/2")
    assert len(problems) == 2
    assert "no study yet" in problems[0]
    assert "no MLflow database yet" in problems[1]
    assert not (tmp_path / "home").exists()


@pytest.mark.long
def test_mlflow_away_matters_to_versions_alone(home):
    assert compared(home, "one", "two", *AWAY)["notes"] == compared(home, "one", "two")["notes"]
    problems = refused(home, "one", "digits@champion", "digits/1", *AWAY)
    assert len(problems) == 1
    assert "does not answer" in problems[0]


@pytest.mark.long
def test_epochs_come_from_mlflow_where_the_folder_is_gone(home, tmp_path):
    whole = compared(home, "one:0", "one:1")
    shutil.copytree(home, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "studies")
    left = compared(tmp_path / "home", "one:0", "one:1")
    for before, after in zip(whole["compared"], left["compared"], strict=True):
        assert after["history"] == before["history"]
        assert after["figures"] == before["figures"]
        assert after["config"] == before["config"]
    away = compared(tmp_path / "home", "one:0", "one:1", *AWAY)
    assert any("neither in the trial's folder nor" in note and "one:0, one:1" in note for note in away["notes"])
    assert [t["figures"]["objective"] for t in away["compared"]] == [
        t["figures"]["objective"] for t in whole["compared"]
    ]


@pytest.mark.long
def test_curves_are_drawn_and_one_training_is_drawn_once(home, tmp_path):
    picture, page = tmp_path / "curves.png", tmp_path / "curves.html"
    assert f"curves: {picture}" in table(home, "one", "two", "--curves", str(picture))
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert compared(home, "one", "digits/1", "two:1", "--curves", str(page))["curves"] == str(page)
    text = page.read_text().replace("\\u002f", "/")
    assert " = digits/1 (champion)" in text
    assert "two:1" in text
    assert "no folder" in refused(home, "one", "two", "--curves", str(tmp_path / "nowhere" / "c.png"))[0]
    assert "is a folder" in refused(home, "one", "two", "--curves", f"{folder(tmp_path)}")[0]


def folder(place):
    made = place / "folder.png"
    made.mkdir()
    return made


# ---- without a study

VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-1e3, 1e3),
    st.none(),
    st.sampled_from(["1", "yes", "-", "None", "adam"]),
)
CONFIGS = st.lists(st.dictionaries(st.sampled_from("abcdef"), VALUES), min_size=1, max_size=5)


@given(CONFIGS)
def test_a_row_is_there_exactly_where_two_configurations_differ(configs):
    found, every = differing(configs), differing(configs, everything=True)
    assert set(every) == {name for config in configs for name in config}
    for name, values in every.items():
        assert values == [config.get(name, ABSENT) for config in configs]
        differ = any(not same(a, b) for a in values for b in values)
        assert (name in found) == differ


@given(st.lists(st.one_of(VALUES, st.just(ABSENT)), min_size=1, max_size=6))
def test_different_values_never_look_alike_and_the_same_always_do(values):
    shown = words(values)
    for a, written in zip(values, shown, strict=True):
        for b, other in zip(values, shown, strict=True):
            assert (written == other) == same(a, b)


def test_a_hyperparameter_of_a_later_configuration_stands_beside_its_neighbour():
    first, second = {"optimizer": "adam", "batch_size": 32}, {"optimizer": "sgd", "momentum": 0.9, "batch_size": 64}
    assert list(differing([first, second])) == ["optimizer", "momentum", "batch_size"]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), min_size=2, max_size=6))
def test_the_best_is_marked_with_all_that_read_the_same_and_not_where_all_do(values):
    texts = ["-" if value is None else f"{value:.2f}" for value in values]
    best = best_of(values, texts, max)
    finite = [v for v in values if v is not None and abs(v) != float("inf") and v == v]
    if len({f"{v:.2f}" for v in finite}) < 2:
        assert best == frozenset()
    else:
        assert best == {i for i, v in enumerate(values) if v in finite and texts[i] == f"{max(finite):.2f}"}


def trial(number, **other):
    setup = {"dataset": "mnist", "train_images": 100, "validation_images": 50} | other.pop("setup", {})
    made = Compared(
        reference=f"s:{number}", name="s", part=f"trial {number}", known="", kind="trial", study="s", trial=number,
        state="COMPLETE", run_id="", config={}, setup=setup, digest="d", split="s", metric="val_accuracy",
        direction="maximize", value=0.5, parameters=1, history=[],
    )  # fmt: skip
    return replace(made, **other)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"setup": {"dataset": "digits"}, "digest": "e"}, "different datasets: mnist (s:0), digits (s:1)"),
        ({"digest": "e"}, "different data of one name"),
        ({"digest": None, "study": "r"}, "on which data is not known, so no accuracy or loss is compared: s:1"),
        ({"setup": {"validation_images": 40}, "split": "t"}, "different numbers of validation images: 50 (s:0)"),
        ({"setup": {"train_images": 1000}, "split": "t"}, "different numbers of training images: 100 (s:0), 1,000"),
        ({"split": "t"}, "different splits of the data"),
        ({"metric": "val_loss"}, "different objectives: val_accuracy (s:0), val_loss (s:1)"),
        ({"state": "PRUNED"}, "not trained to its end: s:1 pruned"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(other, says):
    found = remarks([trial(0), trial(1, **other)])
    assert len(found) == 1
    assert says in found[0]
    assert remarks([trial(0), trial(1)]) == []
    assert remarks([trial(0, digest=None), trial(1, digest=None)]) == [], "one study has one data set"
