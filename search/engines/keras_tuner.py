"""KerasTuner's home: its own oracle, in a process of its own, makes each proposal and knows only the trials.

Nothing of the oracle is kept. Each trial has what the oracle was told before it was asked for that trial, so that one
that starts again, after a kill or on another day, is told and asked the same and stands where the last one stood.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.engines import menu
from search.engines import optuna as engine
from search.engines.scheduler import resting
from search.errors import EngineError
from spaces import Space, config_hash

PREFIX = "kt-"
ASKED, MORE = "oracle", "oracle.more"  # of a trial: its first ask, and those that went on with it
ROOT = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class Answer:
    """What the oracle proposes: a configuration, or to go on with a trial that rests, until so many epochs.

    `entry` is what to keep with the trial. `waits` says that there is nothing now, `stopped` that there never will be.
    """

    config: Mapping[str, Any] | None = None
    number: int | None = None
    until: int | None = None
    entry: Mapping[str, Any] | None = None
    waits: bool = False
    stopped: bool = False


class Oracle:
    """KerasTuner's oracle for one study over `space`; `found_by` and `dataset` are what that is found by."""

    def __init__(
        self,
        study: optuna.Study,
        sampler: str,
        space: Space,
        *,
        found_by: str,
        dataset: str | None,
        narrowings: Mapping[str, str],
        metric: str,
        epochs: int,
        seed: int,
    ) -> None:
        chosen = menu.read("sampler", sampler)
        self.study, self.space, self.narrowings = study, space, dict(narrowings)
        self.maximize = study.direction == StudyDirection.MAXIMIZE
        self.order = {
            "name": chosen.name,
            "options": menu.defaults("sampler", chosen),
            "space": found_by,
            "dataset": dataset,
            "narrowings": self.narrowings,
            "metric": metric,
            "direction": "maximize" if self.maximize else "minimize",
            "epochs": epochs,
            "seed": seed or engine.derive(seed, "keras-tuner"),  # zero is chance to KerasTuner
        }
        self.goes_on = menu.member("sampler", chosen.name).whole  # with trials that rest, also once the study is full
        self._process: subprocess.Popen[bytes] | None = None
        self._since: list[dict[str, Any]] = []  # asks since the last that gave a trial
        self._dropped: list[str] = []  # what it proposed and was not taken
        self._last = Answer()

    def ask(self, *, full: bool = False) -> Answer:
        """The next proposal; in a `full` study only to go on with a trial. Raises EngineError.

        It is not asked again in vain: only once something has happened.
        """
        trials = self.study.get_trials(deepcopy=False)
        entries = _entries(trials)
        if self._process is None:
            self._since.clear()
            for _, entry in entries:
                for step in entry["steps"]:
                    answer = self._say(step)
                if answer.get("id") != entry["id"]:
                    raise EngineError(
                        f"{self.order['name']} does not propose again what it did (trial {entry['id']} there): "
                        "KerasTuner or the space is another than when the study began; put them back as they were"
                    )
        known = {t.user_attrs["config.hash"]: t for t in trials if "config.hash" in t.user_attrs}
        by_id = {entry["id"]: number for number, entry in entries}
        for steps in (*(entry["steps"] for _, entry in entries), self._since):
            by_id |= {oracle_id: number for step in steps for oracle_id, number in step.get("same", {}).items()}
        told = {each[0] for _, entry in entries for step in entry["steps"] for each in step["told"]}
        told |= {each[0] for step in self._since for each in step["told"]}
        news = [self._ended(trials[number], entry) for number, entry in entries if entry["id"] not in told]
        now = [each for each in news if each is not None]
        if (self._last.waits or self._last.stopped) and not now:
            return self._last
        now += [[oracle_id, "FAILED", None] for oracle_id in self._dropped]
        self._dropped.clear()
        self._last = self._asked(now, trials, entries, known, by_id, full)
        return self._last

    def _asked(
        self,
        now: list[Any],
        trials: Sequence[FrozenTrial],
        entries: Sequence[tuple[int, Mapping[str, Any]]],
        known: Mapping[str, FrozenTrial],
        by_id: dict[str, int],
        full: bool,
    ) -> Answer:
        same: dict[str, int] = {}  # trials of ours that the oracle has under another id too
        while True:
            asked = sum(len(entry["steps"]) for _, entry in entries) + len(self._since)
            step = {"told": now, "tuner": f"ask {asked}", "same": same}
            answer = self._say(step)
            self._since.append(step)
            if answer["status"] != "RUNNING":
                return Answer(waits=answer["status"] == "IDLE", stopped=answer["status"] == "STOPPED")
            entry = {"id": answer["id"], "steps": list(self._since), "n": asked}
            until = answer.get("until")
            entry |= {} if until is None else {"until": until}
            if answer.get("from") is not None:
                number = by_id[answer["from"]]
                if resting(trials[number]) is not None:
                    self._since.clear()
                    return Answer(number=number, until=until, entry=entry | {"from": resting(trials[number])})
                now = [self._as_it_is(answer["id"], trials[number])]  # it ended before its round did
                by_id[answer["id"]], same = number, {answer["id"]: number}
                continue
            config = engine.replay(self.space, answer["config"], self.narrowings).config
            twin = known.get(config_hash(config))
            if twin is None and full:
                self._dropped.append(answer["id"])
                return Answer(waits=True)
            if twin is None:
                self._since.clear()
                return Answer(config=config, until=until, entry=entry)
            now, same = [self._as_it_is(answer["id"], twin)], {answer["id"]: twin.number}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    # ---- inside

    def _ended(self, trial: FrozenTrial, entry: Mapping[str, Any]) -> list[Any] | None:
        """What the oracle is to be told of a trial's ask; None where it is not over."""
        rests = resting(trial)
        if not trial.state.is_finished() and (rests is None or rests < entry.get("until", math.inf)):
            return None
        return self._as_it_is(entry["id"], trial, entry.get("from", 0), entry.get("until", math.inf))

    def _as_it_is(self, oracle_id: str, trial: FrozenTrial, after: float = 0, until: float = math.inf) -> list[Any]:
        failed = trial.state == TrialState.FAIL or any(c > 0 for c in trial.constraints.values())
        there = {e: v for e, v in trial.intermediate_values.items() if math.isfinite(v)}
        seen = [v for e, v in there.items() if after < e <= until] or list(there.values())
        seen = seen or list(trial.values or ())  # of an objective that is no figure of an epoch
        if failed or not seen:
            return [oracle_id, "FAILED", None]
        return [oracle_id, "COMPLETED", max(seen) if self.maximize else min(seen)]

    def _say(self, step: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(step).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # a question without its answer: the next one would get it
            self.close()
            raise
        answer: dict[str, Any] = json.loads(line) if line else {"status": "ERROR", "error": "its process ended"}
        if answer["status"] == "ERROR":
            self.close()
            raise EngineError(f"KerasTuner's {self.order['name']} failed: {answer['error']}")
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH")))),
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # A session of its own: Ctrl-C is for the search. The end of its standard input ends it, however we end.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "search.engines.oracle", json.dumps(self.order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        return self._process


def _entries(trials: Sequence[FrozenTrial]) -> list[tuple[int, Mapping[str, Any]]]:
    """(trial number, ask) of every ask that gave a trial or went on with one, in their order."""
    found = [
        (trial.number, entry)
        for trial in trials
        for entry in ([trial.user_attrs[ASKED]] if ASKED in trial.user_attrs else []) + trial.user_attrs.get(MORE, [])
    ]
    return sorted(found, key=lambda each: each[1]["n"])
