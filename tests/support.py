"""What several test modules import: a clean environment for a process, runs to log to, a network's true sizes."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any

from bench.places import environment

if TYPE_CHECKING:
    from tracking.runs import Run, Tracker

__all__ = ["begin", "begin_trial", "environment", "layer_outputs"]


def begin(tracker: Tracker, name: str) -> Run:
    """The run of a new study, made in the store."""
    run = tracker.start_study(name, identity=uuid.uuid4().hex, tags={}, note="")
    assert tracker.flush(30), tracker.outbox.failures
    return run


def begin_trial(tracker: Tracker, study: Run, number: int, **options: Any) -> Run:
    """The run of a study's trial, made in the store."""
    identity = study.lane.removeprefix("study ")
    said = {"identity": identity, "name": f"trial {number}", "tags": {}, "fresh": True} | options
    run = tracker.start_trial(study, number, **said)
    assert tracker.flush(30), tracker.outbox.failures
    return run


def layer_outputs(model: Any) -> int:
    """The sizes of the outputs of all layers of a Keras model for one image, added up."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
