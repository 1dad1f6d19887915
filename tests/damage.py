"""Damages a home's studies at random in all three places, and checks what `reconcile` makes of them."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from support import afresh, apart, settings_of

MIRROR = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "RUNNING": "SCHEDULED"}
UNKNOWN = re.compile(r"^trial \d+: gone from everywhere: ")  # what a trial was judged by
RUN_TABLES = ("metrics", "latest_metrics", "params", "tags")
TRIAL_TABLES = (
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)


# ---- what the stores hold


def facts(home, name):
    """All that section 4 of the design speaks of, read from the stores themselves."""
    import optuna
    from mlflow import MlflowClient

    study = optuna.load_study(study_name=name, storage=f"sqlite:///{home}/study.db")
    trials = {}
    frozen = study.get_trials(deepcopy=False)
    assert [t.number for t in frozen] == list(range(len(frozen))), "numbers are unique and in order"
    for t in frozen:
        attributes = {k: v for k, v in t.user_attrs.items() if k not in ("state", "mlflow.run_id")}
        trials[t.number] = {
            "state": t.state.name,
            "values": t.values,
            "params": dict(t.params),
            "distributions": {k: repr(v) for k, v in t.distributions.items()},
            "attributes": attributes,
            "epochs": dict(t.intermediate_values),
            "notes": {k: v for k, v in t.system_attrs.items() if k.startswith("completed_rung")},
            "constraints": dict(t.constraints),
            "counts": "search.refused" not in t.user_attrs,
        }
    mlflow = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    runs, parent = {}, None
    for run in mlflow.search_runs(experiments, f"tags.`search.study` = '{name}'"):
        tags = run.data.tags
        if tags.get("search.kind") == "study":
            assert parent is None, "one run a study"
            parent = run
            continue
        number = int(tags["search.trial.number"])
        assert number not in runs, f"one run a trial, {number} has two"
        metrics = {}
        for key in run.data.metrics:
            for m in mlflow.get_metric_history(run.info.run_id, key):
                assert (key, m.step) not in metrics, f"trial {number}: {key} at {m.step} is there twice"
                metrics[key, m.step] = (m.timestamp, m.value)
        wanted = ("search.trial.state", "search.config.hash", "search.trial.reason", "search.seed", "search.space")
        runs[number] = {
            "id": run.info.run_id,
            "under": tags.get("mlflow.parentRunId"),
            "status": run.info.status,
            "metrics": metrics,
            "params": dict(run.data.params),
            "tags": {k: tags[k] for k in wanted if k in tags},
            "files": sorted(f.path for f in mlflow.list_artifacts(run.info.run_id)),
            "datasets": len(run.inputs.dataset_inputs),
        }
    models = {}
    for number, (_value, model_id) in study.user_attrs.get("weights", {}).items():
        model = mlflow.get_logged_model(model_id)
        assert model.source_run_id == runs[int(number)]["id"]
        files = Path(model.artifact_location.removeprefix("file://"))
        models[int(number)] = (files / "data" / "model.keras").read_bytes()
    assert parent is not None, "the study has a run"
    for number, run in runs.items():
        assert run["under"] == parent.info.run_id, f"trial {number} is under its study"
        assert run["status"] == MIRROR[trials[number]["state"]], f"trial {number}"
    own = {"status": parent.info.status, "params": dict(parent.data.params)}
    own["files"] = sorted(f.path for f in mlflow.list_artifacts(parent.info.run_id))
    return {"trials": trials, "runs": runs, "models": models, "own": own}


# ---- damages: each changes a home and says what it took, as (place, trial or None for all) pairs


class Damage:
    """Damages one study of a home, at random; `taken` says which copies of what are not whole any more."""

    def __init__(self, home, name, dice):
        self.home, self.name, self.dice = home, name, dice
        self.folder = home / "studies" / name
        self.taken = set()
        self.did = []

    def take(self, place, number="all"):
        self.taken.add((place, number))

    def took(self, place, number):
        return {(place, number), (place, "all")} & self.taken

    def one(self):
        kinds = [getattr(self, k) for k in sorted(dir(self)) if k.startswith("hurt_")]
        weights = [0.3 if "database" in k.__name__ else 1.0 for k in kinds]
        kind = self.dice.choices(kinds, weights)[0]
        with contextlib.suppress(sqlite3.OperationalError, FileNotFoundError, IndexError, ValueError):  # gone already
            self.did.append(f"{kind.__name__[5:]} {kind() or ''}")

    def sql(self, database, text, *values):
        path = self.home / database
        if not path.is_file():
            raise FileNotFoundError(path)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(text, values).fetchall()

    def trial(self):
        """(number, its id in the study store) of a trial that counts."""
        refused = "SELECT trial_id FROM trial_user_attributes WHERE key = 'search.refused'"
        rows = self.sql(
            "study.db",
            "SELECT number, trial_id FROM trials JOIN studies ON trials.study_id = studies.study_id "
            f"WHERE study_name = ? AND trial_id NOT IN ({refused})",
            self.name,
        )
        return self.dice.choice(rows)

    def run(self, kind="trial"):
        """(number, run id) of a run."""
        rows = self.sql(
            "mlflow.db",
            "SELECT n.value, k.run_uuid FROM tags k JOIN tags s ON s.run_uuid = k.run_uuid LEFT JOIN tags n ON "
            "n.run_uuid = k.run_uuid AND n.key = 'search.trial.number' WHERE k.key = 'search.kind' AND k.value = ? "
            "AND s.key = 'search.study' AND s.value = ?",
            kind,
            self.name,
        )
        number, run_id = self.dice.choice(sorted(rows, key=str))
        return (None if number is None else int(number)), run_id

    def a_folder(self):
        path = self.dice.choice(sorted(self.folder.glob("trial-*")))
        return int(path.name[6:]), path

    # the study store

    def hurt_row(self):
        number, trial_id = self.trial()
        for table in (*TRIAL_TABLES, "trials"):
            self.sql("study.db", f"DELETE FROM {table} WHERE trial_id = ?", trial_id)
        self.take("row", number)
        return number

    def hurt_part_of_a_row(self):
        number, trial_id = self.trial()
        table = self.dice.choice(TRIAL_TABLES)
        self.sql("study.db", f"DELETE FROM {table} WHERE trial_id = ?", trial_id)
        self.take("row", number)
        return number, table

    def hurt_state_of_a_row(self):
        number, trial_id = self.trial()
        self.sql(
            "study.db", "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id = ?", trial_id
        )
        self.take("state", number)
        return number

    def hurt_study_in_the_store(self):
        import optuna

        if (self.home / "study.db").is_file():
            with contextlib.suppress(KeyError):
                optuna.delete_study(study_name=self.name, storage=f"sqlite:///{self.home}/study.db")
        self.take("row")
        self.take("study row")

    def hurt_study_database(self):
        (self.home / "study.db").unlink()
        self.take("row")
        self.take("study row")

    # MLflow

    def hurt_run_softly(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        from mlflow import MlflowClient

        with contextlib.suppress(Exception):  # deleted before
            MlflowClient(f"sqlite:///{self.home}/mlflow.db").delete_run(run_id)
        return number

    def hurt_run(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        for table in (*RUN_TABLES, "runs"):
            self.sql("mlflow.db", f"DELETE FROM {table} WHERE run_uuid = ?", run_id)
        if number is None:
            self.take("own run")
        else:
            self.take("run", number)
        return number

    def hurt_metrics(self):
        number, run_id = self.run()
        keys = [k for (k,) in self.sql("mlflow.db", "SELECT DISTINCT key FROM metrics WHERE run_uuid = ?", run_id)]
        for key in self.dice.sample(sorted(keys), self.dice.randint(1, len(keys))):
            steps = self.dice.choice(["step >= 0", "step = 0", "step > 0"])
            for table in ("metrics", "latest_metrics"):
                self.sql("mlflow.db", f"DELETE FROM {table} WHERE run_uuid = ? AND key = ? AND {steps}", run_id, key)
            left = "SELECT 1 FROM metrics WHERE run_uuid = ? AND key = ?"
            if self.sql("mlflow.db", left, run_id, key):  # the client takes the names of metrics from latest_metrics
                self.sql(
                    "mlflow.db",
                    "INSERT OR REPLACE INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) SELECT key, "
                    "value, timestamp, step, is_nan, run_uuid FROM metrics WHERE run_uuid = ? AND key = ? "
                    "ORDER BY step DESC LIMIT 1",
                    run_id,
                    key,
                )
        self.take("metrics", number)
        return number

    def hurt_metric_doubled(self):
        number, run_id = self.run()
        self.sql(
            "mlflow.db",
            "INSERT OR IGNORE INTO metrics (key, value, timestamp, run_uuid, step, is_nan) SELECT key, value, "
            "timestamp + 7, run_uuid, step, is_nan FROM metrics WHERE run_uuid = ? LIMIT ?",
            run_id,
            self.dice.randint(1, 5),
        )
        return number

    def hurt_params_or_tags(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        table = self.dice.choice(["params", "tags"])
        keys = [k for (k,) in self.sql("mlflow.db", f"SELECT key FROM {table} WHERE run_uuid = ?", run_id)]
        gone = self.dice.sample(sorted(keys), self.dice.randint(1, len(keys)))
        for key in gone:
            self.sql("mlflow.db", f"DELETE FROM {table} WHERE run_uuid = ? AND key = ?", run_id, key)
        if number is not None:
            self.take("tags", number)
        return number, gone

    def hurt_status(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        status = self.dice.choice(["RUNNING", "FINISHED", "FAILED", "SCHEDULED"])
        self.sql("mlflow.db", "UPDATE runs SET status = ? WHERE run_uuid = ?", status, run_id)
        self.take("tags", number)
        return number, status

    def hurt_by_a_second_run(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.home}/mlflow.db")
        first = client.get_run(run_id)
        client.create_run(first.info.experiment_id, tags=first.data.tags, start_time=first.info.start_time + 5)
        return number

    def hurt_artifacts(self):
        number, run_id = self.run(self.dice.choice(["trial", "trial", "study"]))
        ((uri,),) = self.sql("mlflow.db", "SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        paths = sorted(Path(uri.removeprefix("file://")).iterdir())
        gone = self.dice.sample(paths, self.dice.randint(1, len(paths)))
        for path in gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if number is not None:
            self.take("artifacts", number)
        return number, [p.name for p in gone]

    def hurt_model(self):
        mine = "SELECT run_uuid FROM tags WHERE key = 'search.study' AND value = ?"
        models = "SELECT model_id, source_run_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
        kept = self.sql("mlflow.db", f"{models} AND source_run_id IN ({mine})", self.name)
        model_id, run_id, place = self.dice.choice(sorted(kept))
        said = self.sql(
            "mlflow.db", "SELECT value FROM tags WHERE run_uuid = ? AND key = 'search.trial.number'", run_id
        )
        number = int(said[0][0]) if said else "all"
        files = Path(place.removeprefix("file://"))
        how = self.dice.choice(["record", "files", "cut"])
        if how == "record":
            from mlflow import MlflowClient

            with contextlib.suppress(Exception):  # deleted before
                MlflowClient(f"sqlite:///{self.home}/mlflow.db").delete_logged_model(model_id)
            self.take("model record", number)
            return number, how
        if how == "files":
            shutil.rmtree(files)
        else:
            model = files / "data" / "model.keras"
            model.write_bytes(model.read_bytes()[:-1000])
        self.take("model files", number)
        return number, how

    def hurt_mlflow_database(self):
        (self.home / "mlflow.db").unlink()
        self.take("run")
        self.take("own run")
        self.take("model record")

    # folders

    def hurt_events(self):
        number, folder = self.a_folder()
        path = folder / "events.jsonl"
        whole = path.read_bytes()
        how = self.dice.choice(["gone", "cut", "garbled", "changed"])
        if how == "gone":
            path.unlink()
        elif how == "changed":
            self.flip(path)
        elif how == "cut":
            path.write_bytes(whole[: self.dice.randint(0, len(whole))])
        else:
            lines = whole.splitlines(keepends=True)
            lines[self.dice.randrange(len(lines))] = b"\xff\x00{garbled\n"
            path.write_bytes(b"".join(lines))
        self.take("events", number)
        return number, how

    def hurt_record(self):
        number, folder = self.a_folder()
        name = self.dice.choice(["trial.json", "attempt-1.json", "weights.json"])
        path = folder / name
        how = self.dice.choice(["gone", "cut", "changed"])
        if how == "gone":
            path.unlink()
        elif how == "changed":
            self.flip(path)
        else:
            path.write_bytes(path.read_bytes()[: self.dice.randint(0, 100)])
        self.take(name, number)
        return number, name, how

    def flip(self, path):
        """One bit of a file."""
        content = bytearray(path.read_bytes())
        content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(content)

    def hurt_folder(self):
        number, folder = self.a_folder()
        shutil.rmtree(folder)
        for place in ("events", "trial.json", "attempt-1.json", "weights.json"):
            self.take(place, number)
        return number

    def hurt_study_json(self):
        path = self.folder / "study.json"
        if self.dice.random() < 0.5:
            path.unlink()
        else:
            path.write_text('{"study": "do')
        self.take("study.json")

    def hurt_by_leftovers(self):
        _, folder = self.a_folder()
        (folder / "events.jsonl.part").write_text("half")
        (self.folder / "study.json.part").write_text("half")

    def hurt_by_a_checkpoint(self):
        number, folder = self.a_folder()
        (folder / "checkpoint-00009.npz").write_bytes(b"old")
        return number


# ---- what must hold afterwards


def check(before, after, lost, damage):
    """The promises hold for all that is not named as lost, and what is named is really gone everywhere."""
    for line in lost:
        assert is_really_lost(line, before, damage), f"{line}: it could be restored"
    for number, trial in before["trials"].items():
        lines = [line for line in lost if line.startswith(f"trial {number}:")]
        if not trial["counts"]:
            assert not after["trials"][number]["counts"]
            if not damage.took("row", number):
                assert after["trials"][number] == trial
            continue
        if number not in after["trials"]:
            assert all(damage.took(p, number) for p in ("row", "run", "events", "trial.json")), f"{number} vanished"
            continue
        now = after["trials"][number]
        if any("configuration is gone" in line for line in lines):
            assert not now["counts"]
            continue
        check_row(number, trial, now, lines)
        check_run(before["runs"][number], after["runs"][number], lines, number)
        unknown = all(damage.took(p, number) for p in ("study row", "model record", "weights.json"))
        if number in before["models"] and not any("weights" in line for line in lines) and not unknown:
            assert after["models"][number] == before["models"][number], f"trial {number}: its weights"
    assert after["own"]["status"] == before["own"]["status"] or damage.took("study row", None)
    assert set(after["own"]["params"].items()) >= set(before["own"]["params"].items())
    assert set(after["own"]["files"]) >= set(before["own"]["files"])


def check_row(number, trial, now, lines):
    epochs = any("epoch" in line for line in lines)
    end = any("its end" in line or UNKNOWN.search(line) for line in lines)
    assert now["params"].keys() == trial["params"].keys()
    for name, value in trial["params"].items():
        assert now["params"][name] == (pytest.approx(value) if isinstance(value, float) else value)
    assert now["distributions"] == trial["distributions"]
    if not end:
        assert now["state"] == trial["state"], number
    if not end and not epochs:
        assert now["values"] == trial["values"], number
        assert now["epochs"] == trial["epochs"], number
        assert now["constraints"] == trial["constraints"], number
        assert now["attributes"].get("figures") == trial["attributes"].get("figures"), number
    for name in ("config", "config.hash", "seed", "epochs", "parameters", "baseline", "milestones"):
        assert now["attributes"].get(name) == trial["attributes"].get(name), (number, name)


def check_run(run, now, lines, number):
    for name, value in run["params"].items():
        assert now["params"].get(name) == value, (number, name)
    if any("epoch" in line or UNKNOWN.search(line) for line in lines):
        return
    assert {k: v for k, v in now["metrics"].items()} == run["metrics"], f"trial {number}: its metrics"
    for name in ("search.config.hash", "search.seed", "search.space", "search.trial.state"):
        assert now["tags"].get(name) == run["tags"].get(name), (number, name)
    assert now["datasets"] == 1
    needed = {"config.json", "learning_curves.png", "provenance.json"} & set(run["files"])
    assert needed <= set(now["files"]), number


def is_really_lost(line, before, damage):
    found = re.match(r"trial (\d+):", line)
    number = int(found[1]) if found else None
    if "weights" in line:
        return damage.took("model files", number)
    events, metrics = damage.took("events", number), damage.took("metrics", number) or damage.took("run", number)
    if "epoch" in line:
        return events and metrics
    if UNKNOWN.search(line):
        return events and metrics and damage.took("row", number)
    if "configuration is gone" in line and not before["trials"][number]["counts"]:
        return damage.took("row", number)  # nothing but its row says what was refused
    if "configuration is gone" in line:
        run = damage.took("run", number) or damage.took("artifacts", number)
        return all(damage.took(p, number) for p in ("row", "trial.json", "attempt-1.json")) and run
    return False


def mended(home, name):
    """(lines mended, lines lost) of one reconcile."""
    from search.reconcile import mend

    done = mend(name, settings_of(home), lambda line: None)
    return done.mended, done.lost


def one_example(folder, before, seed, names=("done", "done", "paused")):
    """Damage one study of a home by a seed, and hold what `reconcile` makes of it against what there was `before`."""
    dice = random.Random(seed)
    name = dice.choice(names)
    home = afresh(folder)
    damage = Damage(home, name, dice)

    def hurt():
        for _ in range(dice.randint(1, 4)):
            damage.one()
        return damage

    damage = apart(hurt)
    if damage.took("study row", None) and damage.took("study.json", None):
        with pytest.raises(AssertionError, match="SearchError|InputError"):
            apart(lambda: mended(home, name))
        return
    told = f"seed {seed}, {name}: {damage.did}"
    try:
        first, lost = apart(lambda: mended(home, name))
        check(before[name], apart(lambda: facts(home, name)), lost, damage)
        again, still = apart(lambda: mended(home, name))
    except AssertionError as error:
        raise AssertionError(f"{told}\n{error}") from error
    assert again == [], f"{told}\n{first}\nthen {again}"
    assert set(still) <= set(lost), told
    for other in set(names) - {name}:
        if not any("database" in did for did in damage.did):
            assert apart(lambda name=other: facts(home, name)) == before[other], f"{told}: {other} was touched"
