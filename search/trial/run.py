"""One attempt at one trial, top to bottom: build, train epoch by epoch, ask leave to go on, leave the model."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.trial.meter import Meter
from search.trial.schedule import best_epoch, stops_early
from search.trial.spec import TrialSpec
from spaces import find
from spaces.datasets import describe, load

# A message and, where the coordinator must decide, its answer.
Tell = Callable[[dict[str, Any]], None]
Ask = Callable[[dict[str, Any]], dict[str, Any]]

CHECKPOINT_SHARE = 0.02  # of training time
EXAMPLES = 4


def run_trial(spec: TrialSpec, tell: Tell, ask: Ask, meter: Meter) -> None:
    """Train `spec`, telling of every step; ends with a `done` or `failed` message, never with an exception.

    `ask` sends an epoch's record and waits: only once the coordinator has it on disk does training go on.
    """
    from search.trial.train import NotANumber, Training

    try:
        space = find(spec.space)
        data = describe(space.dataset)
        arrays = load(
            space.dataset,
            Path(spec.data_folder),
            seed=spec.data_seed,
            train_limit=spec.train_limit,
            validation_limit=spec.validation_limit,
        )
        training = Training(space, spec, data, arrays)
        notes = _restored(training, spec)
        tell(
            {
                "event": "started",
                "epoch": len(training.history),
                "parameters": training.network.count_params(),
                "summary": _summary(training.network),
                "notes": notes,
                "train": len(arrays.train),
                "validation": len(arrays.validation),
                "data_digest": arrays.digest,
            }
        )
        verdict = _epochs(training, spec, ask, meter)
        if verdict == "stop":
            return tell({"event": "done", "state": "stopped"})
        best = best_epoch(training.history, spec.metric, spec.direction)
        done = {
            "state": "pruned" if verdict == "prune" else "complete",
            "best_epoch": best,
            "value": training.history[best][spec.metric],
            "early": verdict == "early",
        }
        if ask({"event": "trained", **done}).get("package"):
            done["model"] = _package(training, spec, arrays.validation_arrays()[0][:EXAMPLES])
        tell({"event": "done", **done})
    except NotANumber as error:
        tell({"event": "failed", "reason": "nan", "error": str(error)})
    except Exception as error:
        tell({"event": "failed", "reason": "error", "error": _first_words(error), "traceback": traceback.format_exc()})


def _first_words(error: Exception) -> str:
    """The first line of an error that says something: TensorFlow's first says only that there was one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) if lines and lines[0].endswith(":") else (lines[0] if lines else "")
    return f"{type(error).__name__}: {text}"[:500]


def _restored(training: Any, spec: TrialSpec) -> list[str]:
    checkpoint = spec.path / "checkpoint.npz"
    if not checkpoint.is_file():
        return []
    try:
        training.restore(checkpoint, most_epochs=spec.recorded)
    except Exception as error:
        return [f"the checkpoint cannot be used ({error}); trained from the start"]
    return [f"goes on from its checkpoint after {len(training.history)} epochs"]


def _epochs(training: Any, spec: TrialSpec, ask: Ask, meter: Meter) -> str:
    """Why training ended: all, early, prune or stop."""
    patience = training.recipe.patience if spec.patience is None else spec.patience
    checkpoint, saved_at, cost = spec.path / "checkpoint.npz", time.perf_counter(), 0.0
    while len(training.history) < spec.epochs:
        if stops_early(training.history, patience):
            return "early"
        number = len(training.history)
        record = training.epoch() | meter.read()
        verdict = ask({"event": "epoch", "epoch": number, "metrics": record})["do"]
        # Only now: a checkpoint must never be ahead of what the coordinator has on disk.
        now = time.perf_counter()
        if verdict == "stop" or (verdict == "go" and cost <= CHECKPOINT_SHARE * (now - saved_at)):
            training.save(checkpoint)
            saved_at = time.perf_counter()
            cost = saved_at - now
        if verdict != "go":
            return str(verdict)
    return "all"


def _package(training: Any, spec: TrialSpec, example: Any) -> str:
    from tracking import packaging

    folder = spec.path / "model"
    packaging.save(
        training.best_network(),
        folder,
        example=example,
        requirements=packaging.environment_versions(),
        config=spec.config,
        metadata={"study": spec.study, "trial": spec.number, "config.hash": spec.config_hash},
    )
    return str(folder)


def _summary(network: Any) -> str:
    lines: list[str] = []
    network.summary(print_fn=lambda line, **_: lines.append(line), line_length=100)
    return "\n".join(lines)
