"""Searches whose trials are computed by a formula instead of trained: the whole of a command but Keras, in a second.

A user's space is written to a file and edited between commands; a command can be made to die at any call.
"""

from __future__ import annotations

import contextlib
import math
import os
import pkgutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from support import apart, environment

SPACE = '''
"""A space on digits of which nothing is ever built."""
from spaces import Baseline, Recipe, Space

def sample(hp):
{draws}
    return dict(hp.values)

def build(config, data):
    raise NotImplementedError

def params(config, data):
    return {params}

def recipe(config):
    return Recipe(batch_size=32, optimizer="adam", learning_rate=0.001, patience=None)

SPACE = Space(name="mine", summary="mine", dataset="digits", sample=sample, build=build, recipe=recipe, params=params,
              multiply_adds=lambda config, data: 1000, activations=lambda config, data: 1000, epochs=4, trials=8{more})
'''
DRAWS = (
    'hp.Choice("filters", [4, 8])',
    'hp.Choice("optimizer", ["adam", "adamax"])',
    'hp.Float("rate", 1e-4, 1e-1, sampling="log", default=1e-3)',
    'hp.Int("units", 8, 32, step=8)',
)


def write(path: Path, *draws: str, params: str = '100 * config["filters"]', more: str = "") -> Path:
    """Write a space that draws so."""
    path.write_text(SPACE.format(draws="\n".join(f"    {draw}" for draw in draws), params=params, more=more))
    return path


def accuracy(config: Mapping[str, Any], epoch: int) -> float:
    """What a configuration reaches in an epoch, from 0."""
    rate = config.get("rate", 1e-3)
    best = 0.9 - 0.1 * (math.log10(rate) + 2.5) ** 2 + 0.002 * config.get("filters", 4)
    best -= 0.2 * (config.get("optimizer") == "adamax") + 0.3 * config.get("dropout", 0.0)
    return max(0.05, best) * (1 - 0.4 / (epoch + 1))


@dataclass
class Formula:
    """Stands for the executor: each trial answers at once with what the formula says."""

    slots: tuple[Any, ...]
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    def __init__(self, slots: tuple[Any, ...], folder: Path, **options: Any) -> None:
        self.slots, self.folder, self.options = slots, folder, options
        self.said: dict[int, Iterator[dict[str, Any]]] = {}
        self.specs: dict[int, Any] = {}
        self.verdicts: dict[int, str] = {}

    def __enter__(self) -> Formula:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def free(self) -> list[Any]:
        return [slot for slot in self.slots if slot.index not in self.said]

    def submit(self, slot: Any, spec: Any) -> None:
        self.specs[slot.index], self.verdicts[slot.index] = spec, "go"
        self.said[slot.index] = self._train(slot, spec)

    def _train(self, slot: Any, spec: Any) -> Iterator[dict[str, Any]]:
        from spaces import find
        from spaces.datasets import describe

        space = find(spec.space)
        count = space.params(spec.config, describe(space.dataset))
        yield {"event": "started", "notes": [], "summary": "a formula", "parameters": count, "data_digest": "split"}
        values: list[float] = []
        state = "complete"
        for epoch in range(spec.epochs):
            values.append(accuracy(spec.config, epoch))
            if (spec.number, epoch) == tuple(map(int, os.environ.get("DIES", "-1:0").split(":"))):
                os.kill(os.getpid(), signal.SIGKILL)
            seen = {"val_accuracy": values[-1], "accuracy": values[-1], "loss": 1 - values[-1]}
            yield {"event": "epoch", "epoch": epoch, "metrics": {**seen, "seconds": 0.1, "images_per_second": 100.0}}
            if self.verdicts[slot.index] != "go":
                state = {"prune": "pruned", "stop": "stopped"}[self.verdicts[slot.index]]
                break
        best = max(range(len(values)), key=values.__getitem__)
        yield {"event": "done", "state": state, "value": values[best], "early": False, "best_epoch": best}

    def answer(self, slot: Any, message: Mapping[str, Any]) -> None:
        if message.get("do") in ("go", "prune", "stop"):
            self.verdicts[slot.index] = message["do"]

    def events(self, timeout: float) -> Iterator[tuple[Any, int, dict[str, Any]]]:
        for slot in [s for s in self.slots if s.index in self.said]:
            message, number = next(self.said[slot.index]), self.specs[slot.index].number
            if message["event"] == "done":
                del self.said[slot.index]
            yield slot, number, message

    def stop(self, slot: Any, grace: float) -> None:
        self.verdicts[slot.index] = "stop"

    def silent(self, slot: Any) -> float:
        return 0.0

    def close(self, *, kill: bool = False) -> None:
        self.said.clear()


def ready(folder: Path) -> None:
    """Import, in the process that commands are forked off, what they would each import; `folder` is for rubbish."""
    import optuna
    import scipy.stats  # noqa: F401

    from tracking import quiet

    quiet.prepare()
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    from mlflow import MlflowClient

    import search.compare
    import search.reconcile
    import search.remove
    import search.study  # noqa: F401

    study = optuna.create_study(storage=f"sqlite:///{folder}/rubbish.db", sampler=optuna.samplers.TPESampler())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    MlflowClient(f"sqlite:///{folder}/rubbish-mlflow.db").search_experiments()


def dying(where: str, call: int, when: str) -> Any:
    """A patch under which the process is killed before or after the `call`th call of the function at `where`."""
    module, _, name = where.rpartition(".")
    holder = pkgutil.resolve_name(module)
    original, calls = getattr(holder, name), []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if when == "before" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if when == "after" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return mock.patch.object(holder, name, counted)


def typed(home: Path, *arguments: str, dies: tuple[str, int, str] | None = None, **extra: str) -> tuple[int, str]:
    """(exit code, all that was printed) of a command with `Formula` in the place of workers, in a forked process.

    The code is -9 where it died.
    """
    log = home.parent / "typed.log"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with (
                log.open("w", buffering=1) as out,
                mock.patch.dict("os.environ", environment(home, **extra), clear=True),
                mock.patch.object(sys, "argv", ["search", *arguments]),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(out),
                mock.patch("search.study.LocalExecutor", Formula),
                mock.patch("search.explain.figures.pictures", lambda *_: ({"a.png": b"a"}, [])),  # they take seconds
                dying(*dies) if dies else contextlib.nullcontext(),
            ):
                from search.cli import main

                try:
                    main()
                    code = 0
                except SystemExit as ended:
                    code = int(ended.code or 0)
                except BaseException:
                    traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


def names(home: Path) -> list[str]:
    """Every study in the study store, drafts included."""
    with contextlib.closing(sqlite3.connect(home / "study.db")) as database:
        return sorted(name for (name,) in database.execute("SELECT study_name FROM studies"))


def runs(home: Path, study: str) -> tuple[Any, dict[int, Any]]:
    """(the study's run, its trials' by number), each once."""
    found: tuple[Any, dict[int, Any]] = apart(lambda: _runs(home, study))
    return found


def _runs(home: Path, study: str) -> tuple[Any, dict[int, Any]]:
    from mlflow import MlflowClient

    mlflow = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    found = [r for r in mlflow.search_runs(experiments) if r.data.tags.get("search.study") == study]
    parents = [r for r in found if r.data.tags["search.kind"] == "study"]
    children = {int(r.data.tags["search.trial.number"]): r for r in found if r.data.tags["search.kind"] == "trial"}
    assert len(parents) == 1, "one run a study"
    assert len(found) == 1 + len(children), "one run a trial"
    assert all(r.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for r in children.values())
    for run in children.values():
        steps = [m.step for m in mlflow.get_metric_history(run.info.run_id, "val_accuracy")]
        assert len(steps) == len(set(steps)), "each epoch once"
    return parents[0], children


def rows(home: Path, study: str) -> dict[int, dict[str, Any]]:
    """What the study store has of each trial, but for times."""
    read: dict[int, dict[str, Any]] = apart(lambda: _rows(home, study))
    return read


def _rows(home: Path, study: str) -> dict[int, dict[str, Any]]:
    import optuna

    found = optuna.load_study(study_name=study, storage=f"sqlite:///{home}/study.db").get_trials(deepcopy=False)
    assert [t.number for t in found] == list(range(len(found)))
    return {
        t.number: {
            "state": t.state.name,
            "values": t.values,
            "params": dict(t.params),
            "distributions": {name: repr(d) for name, d in t.distributions.items()},
            "epochs": dict(t.intermediate_values),
            "attributes": {k: v for k, v in t.user_attrs.items() if k not in ("mlflow.run_id", "state", "search.was")},
        }
        for t in found
    }
