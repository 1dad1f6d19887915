"""A space edited between runs: the study goes on as a new version; no run is made twice, whatever is killed or lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from formula import DRAWS, names, ready, rows, runs, typed, write
from optuna.distributions import IntDistribution
from optuna.trial import create_trial
from support import afresh, apart, command, environment, settings_of

from search import versions
from search.errors import InputError
from spaces import find

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

WIDER = 'hp.Choice("filters", [4, 8, 16])'
NO_ADAMAX = 'hp.Choice("optimizer", ["adam", "sgd"])'
DROPOUT = 'hp.Float("dropout", 0.0, 0.5, step=0.1)'
EDITED = (WIDER, NO_ADAMAX, *DRAWS[2:], DROPOUT)
FITS, LEFT = {1, 2, 3}, {0, 4}  # of the five finished trials; trial 5 was running when its coordinator was killed
WHY = "optimizer=adamax is not in this space"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder whose `pristine` home has a study of five finished trials and one that was killed after two epochs."""
    folder = tmp_path_factory.mktemp("versions")
    ready(folder)
    space = write(folder / "mine.py", *DRAWS)
    begin = ("run", str(space), "--study", "s", "--trials", "6", "--slots", "1", "--pruner", "none", "--sampler", "tpe")
    code, said = typed(folder / "home", *begin, DIES="5:2")
    assert code == -9, said
    shutil.copytree(folder / "home", folder / "pristine")
    return folder


def edited(made: Path, *draws: str, **more: str) -> Path:
    """The untouched home, and the space's file with these hyperparameters."""
    home = afresh(made)
    write(made / "mine.py", *draws, **more)
    return home


def renewed(home: Path, dies: tuple[str, int, str] | None = None) -> tuple[int, str]:
    """What opening the study does before anything else, in a forked process: (exit code, what it said)."""
    return typed(
        home, "resume", "s", "--slots", "1", "--trials", "6", dies=dies or ("search.study.open_study", 1, "before")
    )


def record(home: Path, number: int) -> dict:
    return json.loads((home / "studies" / "s" / f"trial-{number:04}" / "trial.json").read_text())


def states(home: Path) -> dict[int, str]:
    return {number: row["state"] for number, row in rows(home, "s").items()}


# ---- the change


def test_old_trials_that_fit_stay_under_their_numbers_and_the_others_stay_behind(made):
    home = edited(made, *EDITED)
    before = rows(home, "s")
    code, said = renewed(home)
    assert code == -9
    (line,) = [each for each in said.splitlines() if "has changed" in each]
    for words in ("filters was 4,8 and is 4,8,16", "optimizer was adam,adamax and is adam,sgd", "dropout is new"):
        assert words in line
    assert f"version 2: 4 of 6 trials fit and stay its own, 2 stay behind ({WHY})" in line
    after = rows(home, "s")
    for number in FITS:
        config = before[number]["attributes"]["config"] | {"dropout": 0.0}
        assert after[number]["attributes"]["config"] == config == record(home, number)["attributes"]["config"]
        assert after[number]["attributes"]["assumed"] == {"dropout": 0.0}
        assert after[number]["params"] == before[number]["params"] | {"dropout": 0.0}
        assert "(4, 8, 16)" in after[number]["distributions"]["filters"]
        for same in ("state", "values", "epochs"):
            assert after[number][same] == before[number][same]
    for number in LEFT:
        assert (after[number]["state"], after[number]["params"]) == ("FAIL", {})
        assert after[number]["attributes"]["search.left"] == {"version": 1, "why": WHY}
    assert after[5]["state"] == "RUNNING"
    written = json.loads((home / "studies" / "s" / "study.json").read_text())["attributes"]["versions"]
    assert [each["version"] for each in written] == [1, 2]
    assert written[0]["space"]["filters"]["choices"] == [4, 8]
    assert written[1]["change"] and set(written[1]["left"]) == {str(number) for number in LEFT}
    assert names(home) == ["s"]


STEPS = [
    ("search.renewal.store.write_json", 1, "after"),  # the new version is written down
    ("search.carried.row", 3, "before"),  # the draft in the study store
    ("search.renewal.rows.take_over", 1, "after"),
    ("search.renewal._follow", 2, "after"),  # trial.json of each
    ("search.renewal.store.write_json", 6, "before"),  # study.json
]


def test_a_kill_between_any_two_steps_is_finished_by_the_next_command(made):
    home = edited(made, *EDITED)
    before = rows(home, "s")
    renewed(home)
    whole, records = rows(home, "s"), [record(home, number) for number in range(6)]
    for step in STEPS:
        home = afresh(made)
        assert renewed(home, step)[0] == -9, step
        assert rows(home, "s") in (before, whole), f"{step}: the store has one version or the other"
        renewed(home)
        assert rows(home, "s") == whole, step
        assert [record(home, number) for number in range(6)] == records, step
        assert names(home) == ["s"], step


def test_a_kill_after_the_new_version_is_written_down_is_finished_even_where_the_space_was_put_back(made):
    home = edited(made, *EDITED)
    renewed(home, ("search.renewal.rows.take_over", 1, "before"))
    before = rows(afresh(made), "s")
    home = edited(made, *EDITED)
    renewed(home, ("search.renewal.rows.take_over", 1, "before"))
    write(made / "mine.py", *DRAWS)
    said = renewed(home)[1]
    assert "version 3: 6 of 6 trials fit" in said
    after = rows(home, "s")
    for number, row in before.items():
        for same in ("state", "values", "params", "distributions", "epochs"):
            assert after[number][same] == row[same], number
        assert after[number]["attributes"]["config"] == row["attributes"]["config"]


def test_an_unfinished_trial_that_does_not_fit_any_more_ends_pruned_with_the_reason(made):
    running = rows(afresh(made), "s")[5]["attributes"]["config"]
    other = 16 if running["filters"] == 4 else 4
    home = edited(made, f'hp.Choice("filters", [{12 - running["filters"]}, {other + 20}])', *DRAWS[1:])
    renewed(home)
    placeholder = rows(home, "s")[5]
    assert placeholder["attributes"]["search.left"]["why"] == f"filters={running['filters']} is not in this space"
    was = apart(lambda: _thawed(home, 5))
    assert was == ("PRUNED", "left the space", 2)
    events = (home / "studies" / "s" / "trial-0005" / "events.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["state"] == "PRUNED"


def _thawed(home: Path, number: int) -> tuple[str, str, int]:
    import optuna

    study = optuna.load_study(study_name="s", storage=f"sqlite:///{home}/study.db")
    trial = versions.thawed(study.get_trials(deepcopy=False)[number])
    return trial.state.name, trial.user_attrs["reason"], len(trial.intermediate_values)


@pytest.mark.parametrize(
    ("draws", "more", "why"),
    [
        ((*DRAWS[:3], 'hp.Float("units", 8, 32, step=8)'), {}, ""),  # written alike, and another kind to Optuna
        ((DRAWS[0], DRAWS[1], 'hp.Float("rate", 1e-4, 1e-1)', DRAWS[3]), {}, ""),  # no longer by orders of magnitude
        (DRAWS[:3], {}, "units is not drawn any more, only its default 8 goes on"),
        ((*DRAWS, DROPOUT), {"params": "101 * config['filters']"}, "its network has another number of parameters now"),
        ((DRAWS[0], 'hp.Fixed("optimizer", "adamax")', *DRAWS[2:]), {}, "optimizer=adam is not in this space"),
        (('hp.Int("filters", 4, 9)', *DRAWS[1:]), {}, ""),
        (("hp.Choice('filters', [8, 4])", *DRAWS[1:]), {}, ""),  # only in another order
    ],
)
def test_whatever_is_edited_what_fits_goes_on(made, draws, more, why):
    home = edited(made, *draws, **more)
    said = renewed(home)[1]
    assert "goes on as version 2" in said, said
    assert (why in said) if why else ("6 of 6 trials fit and stay its own" in said), said
    assert "Traceback" not in said


def test_what_cannot_go_on_is_refused_with_one_line_and_nothing_is_changed(made):
    home = edited(made, *EDITED, more=', metric="val_loss", direction="minimize"')
    before = rows(home, "s")
    code, said = typed(home, "resume", "s")
    assert code == 2
    assert "was searched to maximize val_accuracy; its space now says to minimize val_loss" in said
    space = write(made / "mine.py", *EDITED)
    code, said = typed(home, "run", str(space), "--study", "s", "--seed", "5")
    assert (code, "a study's seed cannot change" in said) == (2, True)
    assert rows(home, "s") == before
    assert not list((home / "studies" / "s").glob("version-*"))


def test_narrowings_that_the_edited_space_no_longer_allows_are_named():
    from search.renewal import _check_narrowed

    space = find("cnn_digits")
    with pytest.raises(InputError, match=r"has changed \(filters was 8,16,32.*narrowed to: filters=64"):
        _check_narrowed(replace_plan(), space, ["filters was 8,16,32,64 and is 8,16,32"])


def test_a_sampler_that_goes_on_with_trials_by_what_it_was_told_stays_in_its_space():
    from search.renewal import _check_sampler

    _check_sampler(replace(replace_plan(), sampler="kt-bayesian"), ["a is gone"])
    with pytest.raises(
        InputError, match=r"sampler kt-hyperband goes on in the one that it began with alone.*--warm-start"
    ):
        _check_sampler(replace(replace_plan(), sampler="kt-hyperband"), ["a is gone"])


def replace_plan():
    from search.plan import Request, make

    plan = make(Request(space="cnn_digits", narrow=("filters=8",)), settings_of(Path("/tmp/none")), check_places=False)
    return replace(plan, narrowings={"filters": "64"})


def test_a_study_of_repeats_needs_its_space_as_it_was(made):
    edited(made, *EDITED)
    line = apart(lambda: _refused(made))
    assert line.startswith("the space mine (") and "which repeats trials: filters was 4,8 and is 4,8,16" in line


def _refused(made: Path) -> str:
    from search import renewal, report
    from search.plan import Request, resume

    settings = settings_of(made / "home")
    plan = resume(report.stored_plan("s", settings), Request(space="", study="s"))
    with pytest.raises(InputError) as refused:
        renewal.renew(replace(plan, repeats=({"study": "s"},)), find(plan.space), settings, print)
    return str(refused.value)


# ---- all of it, in MLflow


def test_no_run_is_made_twice_and_each_says_to_which_version_it_belongs(made):
    home = edited(made, *EDITED)
    _, before = runs(home, "s")
    assert renewed(home, ("search.mirror.Mirror.replay", 2, "after"))[0] == -9  # in the middle of telling MLflow
    code, said = typed(home, "resume", "s", "--slots", "1", "--trials", "7")
    assert code == 0, said
    assert "goes on: 3 of 7 trials are done, 1 unfinished" in said
    assert "trial 5 epoch 3/4" in said and "trial 5 epoch 1/4" not in said, "it goes on where it stopped"
    parent, after = runs(home, "s")
    assert set(after) == set(range(9))
    for number, run in before.items():
        assert after[number].info.run_id == run.info.run_id
    for number in LEFT:
        tags = after[number].data.tags
        assert (tags["search.version"], tags["search.trial.left"]) == ("1", WHY)
        assert after[number].info.status == "FINISHED", "as it ended in version 1"
    for number in set(range(9)) - LEFT:
        assert after[number].data.tags["search.version"] == "2"
        assert after[number].data.params["dropout"]
    best = max((n for n in after if n not in LEFT), key=lambda n: after[n].data.metrics["best_val_accuracy"])
    assert parent.data.tags["search.version"] == "2"
    assert parent.data.tags["search.best.trial"] == str(best)
    assert parent.data.metrics["best_val_accuracy"] == after[best].data.metrics["best_val_accuracy"]
    code, said, _ = command(home, "reconcile", "s")
    assert (code, said) == (0, "s: 0 mended\n"), said
    shown = command(home, "show", "s")[1]
    assert f"of version 1: {WHY}" in shown
    standing = json.loads(command(home, "status", "s", "--json")[1])
    assert (standing["version"], standing["left_behind"], standing["done"], standing["refused"]) == (2, 2, 7, 0)
    assert [each["study"] for each in json.loads(command(home, "list", "--json")[1])] == ["s"]
    code, _, said = command(home, "promote", "s", "--trial", "0")
    assert (code, "belongs to version 1 of the space" in said) == (2, True)
    shutil.rmtree(made / "version-2", ignore_errors=True)
    shutil.copytree(home, made / "version-2")


def test_reconcile_restores_either_version_from_what_is_left(made):
    """After the test above: the study store gone, then a trial's folder and runs of both versions gone."""
    shutil.rmtree(made / "home")
    shutil.copytree(made / "version-2", made / "home")
    home = made / "home"
    before = rows(home, "s")
    (home / "study.db").unlink()
    code, said, _ = command(home, "reconcile", "s")
    assert code == 0, said
    after = rows(home, "s")
    for number, row in before.items():
        for same in ("state", "values", "params", "distributions", "epochs"):
            assert after[number][same] == row[same], (number, same)
        assert after[number]["attributes"].get("search.left") == row["attributes"].get("search.left")
    for number in (0, 1):
        shutil.rmtree(home / "studies" / "s" / f"trial-{number:04}")
    _, children = runs(home, "s")
    apart(lambda: _remove(home, [children[n].info.run_id for n in (4, 3)]))
    code, said, _ = command(home, "reconcile", "s")
    assert code == 0, said
    assert set(runs(home, "s")[1]) == set(range(9))
    assert rows(home, "s") == after
    assert command(home, "reconcile", "s")[1] == "s: 0 mended\n"
    assert command(home, "delete", "s", "--yes")[0] == 0
    assert names(home) == []
    assert not (home / "studies" / "s").exists()


@pytest.mark.long
def test_a_search_with_real_training_that_is_killed_and_edited_again_and_again_makes_no_run_twice(tmp_path):
    space = tmp_path / "mine.py"
    shutil.copy(find("cnn_digits").path, space)
    begin = [sys.executable, "-m", "search", "run", str(space), "filters=8", "--study", "s", "--epochs", "4"]
    edits = [("16, 64, step=16", "16, 80, step=16"), ('hp.Float("dropout", 0.0, 0.5', 'hp.Float("dropout", 0.0, 0.3')]
    total = 3
    for edit in (None, *edits):
        if edit:
            space.write_text(space.read_text().replace(*edit))
            total += 2
        for _ in range(2):
            process = subprocess.Popen(
                [*begin, "--trials", str(total), "--slots", "1", "--pruner", "none"],
                cwd=tmp_path,
                env=environment(tmp_path / "home"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout is not None
            seen = 0
            for line in process.stdout:
                seen += " epoch " in line
                if seen == 5:
                    process.kill()
            process.wait()
    assert subprocess.run(process.args, env=environment(tmp_path / "home"), cwd=tmp_path, check=False).returncode == 0
    _, children = runs(tmp_path / "home", "s")
    found = rows(tmp_path / "home", "s")
    assert set(children) == set(found)
    assert sum(row["state"] == "COMPLETE" for row in found.values()) == total
    hashes = [run.data.tags["search.config.hash"] for run in children.values()]
    assert len(hashes) == len(set(hashes)), "no configuration was trained twice"
    for number, row in found.items():
        assert set(row["epochs"]) in ({1, 2, 3, 4}, set()), number


def _remove(home: Path, ids: list[str]) -> None:
    from mlflow import MlflowClient

    for run_id in ids:
        MlflowClient(f"sqlite:///{home}/mlflow.db").delete_run(run_id)


def test_a_hyperparameter_that_is_drawn_again_has_the_value_it_had_before_it_was_taken_away():
    said = {"config": {"filters": 8}, versions.ASIDE: {"dropout": 0.3}}
    distributions = {"filters": IntDistribution(4, 16), "rate#index": IntDistribution(0, 4)}
    trial = create_trial(
        value=0.5, params={"filters": 8, "rate#index": 2}, distributions=distributions, user_attrs=said
    )
    assert versions.values(trial) == {"filters": 8, "dropout": 0.3}
