"""The file of lines that a recording is kept in while it is made, and the table that it becomes."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.grid import points
from search.errors import InputError
from search.executors.table import Curve, Table, grouped
from spaces import Space, canonical, config_hash
from spaces._space import Config

Job = tuple[Config, int]  # a configuration and its seed
REPEATED, SEEDS = 10, 3  # one configuration in ten is trained with three seeds
ORDER = 20261101  # the seed of the order, and of which are repeated


class Lines:
    """A file of one JSON object a line, each on disk when `add` returns; a line torn by a kill is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("rb+") as file:
                file.truncate(len(whole))
        self.read = [json.loads(line) for line in whole.splitlines()]

    def add(self, value: dict[str, Any]) -> None:
        """Append one."""
        self.read.append(value)
        with self.path.open("ab") as file:
            file.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def jobs(space: Space) -> list[Job]:
    """Every training of a table in the order in which they are recorded: a seeded one, first every point once."""
    order = random.Random(ORDER)
    everything = list(points(space))
    order.shuffle(everything)
    again = [(config, seed) for seed in range(1, SEEDS) for config in everything[: len(everything) // REPEATED]]
    order.shuffle(again)
    return [(config, 0) for config in everything] + again


def key(job: Job) -> tuple[str, int]:
    """What tells one training from another."""
    return config_hash(job[0]), job[1]


def recorded(lines: Lines) -> list[dict[str, Any]]:
    """The trainings among the lines."""
    return [line for line in lines.read if "config" in line]


def identity(space: Space, wanted: Sequence[Job]) -> dict[str, Any]:
    """What must be the same when a recording is gone on with."""
    return {
        "space": space.name,
        "dataset": space.dataset,
        "epochs": space.epochs,
        "train_images": space.train_images,
        "validation_images": space.validation_images,
        "points": config_hash({"all": [canonical(config) for config, _ in wanted]}),
    }


def begin(lines: Lines, space: Space, wanted: Sequence[Job], made: dict[str, Any]) -> None:
    """Note that a session begins. Raises InputError where the file is the recording of another grid."""
    mine = identity(space, wanted)
    for line in lines.read:
        if (other := line.get("grid")) is not None and other != mine:
            differing = ", ".join(name for name in mine if other.get(name) != mine[name])
            raise InputError(f"{lines.path}: begun with another grid ({differing}); move it away, or give another file")
    lines.add({"grid": mine, "made": made})


def table(space: Space, lines: Lines) -> Table:
    """The table of what is recorded so far."""
    done = recorded(lines)
    return Table(
        space=space.name,
        dataset=space.dataset,
        split=done[0]["split"] if done else "",
        epochs=space.epochs,
        train_images=space.train_images or 0,
        validation_images=space.validation_images or 0,
        curves=grouped(_curve(line) for line in done),
        made=tuple(line["made"] for line in lines.read if "made" in line),
    )


def _curve(line: dict[str, Any]) -> Curve:
    """A training as the table has it; what its first epoch took beyond a usual one was compiling, part of its start."""
    cpu, seconds = ([epoch[i] for epoch in line["epochs"]] for i in (0, 1))
    starts = []
    for start, took in zip(line["start"], (cpu, seconds), strict=True):
        usual = median(took[1:]) if len(took) > 1 else took[0]
        starts.append(round(start + max(0.0, took[0] - usual), 4))
        took[0] = min(took[0], usual)
    return Curve(
        config=line["config"],
        seed=line["seed"],
        parameters=line["parameters"],
        metrics=line["metrics"],
        cpu=tuple(round(value, 4) for value in cpu),
        seconds=tuple(round(value, 4) for value in seconds),
        start_cpu=starts[0],
        start_seconds=starts[1],
        failed=line["failed"],
    )
