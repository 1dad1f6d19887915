"""One attempt at one trial, top to bottom: build, train epoch by epoch, ask leave to go on, leave the model."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from search.trial import checkpoints, portrait
from search.trial.checkpoints import Unusable
from search.trial.control import Control, Stopped
from search.trial.faults import MACHINE, of_machine
from search.trial.memory import Peak, chain, is_out_of_memory
from search.trial.meter import Meter
from search.trial.schedule import best_epoch
from search.trial.spec import TrialSpec
from spaces import Space, _contract, find
from spaces.datasets import DataSpec, TrainingData, describe, load, merged

EXAMPLES = 4


def run_trial(control: Control, meter: Meter, *, gpu: bool = False) -> bool:
    """Train the trial of `control`, telling of every step; ends with a `done` or `failed` message.

    Returns whether this process is fit for another trial: after an error or where training was broken off it is not.
    """
    from search.trial.train import NotANumber

    control.peak = Peak(gpu=gpu)
    fit = True
    try:
        last = _attempt(control, meter)
        control.caught()
    except Stopped:
        control.caught()
        control.keeper.write()  # or wait for the reading thread to have written it
        last, fit = {"event": "done", "state": "stopped"}, False
    except NotANumber as error:
        control.caught()
        last = {"event": "failed", "reason": "nan", "error": str(error)}
    except BaseException as error:  # a space's sys.exit() is an error of its trial
        control.caught()
        took = control.memory()
        last, fit = _failure(error) | took, False
        if any(isinstance(each, Stopped) for each in chain(error)):
            last = {"event": "done", "state": "stopped"}
        elif last["reason"] == MACHINE:  # it will go on; what can be kept is kept
            control.keeper.write()
    control.close()
    if last.get("state") == "stopped":
        last |= {"epoch": control.keeper.on_disk}
    control.tell(control.memory() | last)
    return fit


def _attempt(control: Control, meter: Meter) -> dict[str, Any]:
    """The last message of a trial that ends without an error."""
    from search.trial.hypermodel import HyperTraining
    from search.trial.raw import NotServable
    from search.trial.train import Training

    spec = control.spec
    control.enter("loading")
    space = find(spec.space, spec.dataset, alone=True)
    data = describe(space.dataset, Path(spec.data_folder))
    recipe = space.recipe(spec.config)
    arrays = _arrays(space, spec, _least(spec.train_limit, recipe.train_size, data))
    undrawn = portrait.drawn(spec, recipe, data, lambda: _arrays(space, spec, spec.train_limit))
    control.enter("building")
    training = (HyperTraining if space.reference else Training)(space, spec, data, arrays)
    notes = undrawn + training.notes + _unsafe(training.network) + _restored(training, control)
    control.tell(
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
    verdict = _epochs(training, control, meter)
    if verdict == "stop":
        return {"event": "done", "state": "stopped"}
    best = best_epoch(training.history, spec.metric, spec.direction)
    done = {
        "state": "pruned" if verdict == "prune" else "complete",
        "best_epoch": best,
        "value": training.history[best][spec.metric],
        "early": verdict == "early",
    }
    figures = _measured(training, control, arrays) if done["state"] == "complete" else {}
    if control.ask({"event": "trained", **done, "figures": figures}).get("package"):
        control.enter("packaging")
        try:
            done["model"] = _package(training, control, data, np.asarray(arrays.x[_shown(arrays)]))
        except NotServable as error:
            done["unkept"] = str(error)
    return {"event": "done", **done}


def _measured(training: Any, control: Control, arrays: TrainingData) -> dict[str, float]:
    """What is asked for of a trained network that its epochs do not say."""
    if "latency_ms" not in control.spec.measures:
        return {}
    from search.trial.latency import latency_ms

    control.enter("measuring")
    image = np.asarray(arrays.x[_shown(arrays)[0]])
    return {"latency_ms": latency_ms(training.best_network(), image, control.beat)}


def _arrays(space: Space, spec: TrialSpec, train_limit: int | None) -> TrainingData:
    found = load(
        space.dataset,
        Path(spec.data_folder),
        seed=spec.data_seed,
        train_limit=train_limit,
        validation_limit=spec.validation_limit,
    )
    return merged(found) if spec.merged else found


def _least(limit: int | None, own: int | None, data: DataSpec) -> int | None:
    """How many images to train on: the study's limit or the configuration's own, whichever is less; None for all."""
    fewer = min(limit or data.fitting_size, own or data.fitting_size)
    return None if fewer >= data.fitting_size else fewer


def _shown(arrays: TrainingData) -> Any:
    """Indices of the images that show how the model is fed: of the validation part, where there is one."""
    return (arrays.validation if len(arrays.validation) else arrays.train)[:EXAMPLES]


def _unsafe(network: Any) -> list[str]:
    found = _contract.foreign(network)
    if not found:
        return []
    return [
        f"{', '.join(found[:3])}: no layer of Keras' own; the model trains and its weights are kept, but it cannot be "
        "promoted or served, since loading it would run code"
    ]


def _failure(error: BaseException) -> dict[str, Any]:
    # The model hangs on the frames; without them there is memory to say what happened.
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
    gc.collect()
    text = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        reason, words = "oom", _first_words(error)
    else:
        broken = of_machine(error)
        reason, words = (MACHINE, broken) if broken else ("error", _first_words(error))
    return {"event": "failed", "reason": reason, "error": words, "traceback": text}


def _first_words(error: BaseException) -> str:
    """The first line of an error that says something: TensorFlow's first says only that there was one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3]) if lines and lines[0].endswith(":") else (lines[0] if lines else "")
    return f"{type(error).__name__}: {text}"[:500]


def _restored(training: Any, control: Control) -> list[str]:
    """Restore the newest checkpoint that is exactly of this trial; what to tell people of it."""
    notes = []
    for path in checkpoints.files(control.spec.path):
        try:
            training.restore(checkpoints.read(path), most_epochs=control.spec.recorded)
        except Unusable as error:
            notes.append(f"{path.name} is passed over: {error}")
            continue
        control.keeper.on_disk = control.epoch = len(training.history)
        return [*notes, f"goes on from its checkpoint after {len(training.history)} epochs"]
    return [*notes, "no checkpoint can be used; trained from the start"] if notes else []


def _epochs(training: Any, control: Control, meter: Meter) -> str:
    """Why training ended: all, early, prune or stop."""
    spec, keeper = control.spec, control.keeper
    while len(training.history) < training.most:
        if len(training.history) == spec.pruned_at:
            return "prune"
        if training.stops():
            training.finish()
            return "early"
        if control.stopping:
            keeper.save(training)
            return "stop"
        number = control.epoch = len(training.history)
        record = training.epoch(control.beat)
        told = {"event": "epoch", "epoch": number, "metrics": record | meter.read(), **control.memory()}
        verdict = control.ask(told)["do"]
        # Only now: a checkpoint must never be ahead of what the coordinator has on disk.
        if verdict == "prune":
            return "prune"
        ending = verdict == "stop" or control.stopping
        keeper.acknowledged(training, record["seconds"], must=ending or number + 1 in spec.rungs)
        if ending:
            return "stop"
    training.finish()
    return "all"


def _package(training: Any, control: Control, data: DataSpec, example: Any) -> str:
    import keras

    from tracking import packaging

    spec = control.spec
    folder = spec.path / "model"
    packaging.save(
        training.best_network(),
        folder,
        example=example,
        requirements=packaging.environment_versions(),
        config=spec.config,
        metadata={
            "study": spec.study,
            "trial": spec.number,
            "config.hash": spec.config_hash,
            "backend": keras.backend.backend(),
            "dataset": data.name,
            "class_names": list(data.class_names),
        },
    )
    return str(folder)


def _summary(network: Any) -> str:
    lines: list[str] = []
    network.summary(print_fn=lambda line, **_: lines.append(line), line_length=100)
    return "\n".join(lines)
