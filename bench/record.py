"""Records a table for the simulator: every point of a grid really trained to its end, with what each epoch cost.

python -m bench.record fashion            (or cifar, or the .py file of any space all of whose values have a step)
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click

from bench import recording, training
from bench.grid import grid_of
from bench.places import ROOT
from bench.recording import Job, Lines
from search.errors import INTERRUPTED, SearchError
from search.executors import table
from search.executors.devices import Slot
from search.executors.environment import importable, keras_environment
from search.settings import resolve
from spaces import Space, find
from spaces.datasets import prepare
from spaces.errors import SpaceError
from tracking.provenance import collect

RENEWED = 100  # trainings after which a process gives way to a fresh one: TensorFlow grows from one to the next
TRIES = 3  # of a training whose process dies


@dataclass
class Trainer:
    """A process on its core and what it trains; `index` tells it from the others."""

    index: int
    core: int
    process: BaseProcess
    pipe: Connection
    job: Job | None = None
    trained: int = 0


def record(space: Space, lines: Lines, data_folder: Path, *, cores: list[int], limit: int | None = None) -> None:
    """Train what is not recorded yet, at most `limit` of it, a process on each of `cores`.

    Raises SearchError where a training's process dies again and again.
    """
    wanted = recording.jobs(space)
    recording.begin(lines, space, wanted, _made())
    done = {recording.key((line["config"], line["seed"])) for line in recording.recorded(lines)}
    left = [job for job in wanted if recording.key(job) not in done][:limit]
    click.echo(f"{space.name}: {len(done)} of {len(wanted)} trainings are recorded in {lines.path}; {len(left)} to go")
    started, told, deaths = time.monotonic(), 0, dict[tuple[str, int], int]()
    with _environment(cores[0]):
        trainers = {i: _start(space, data_folder, i, core) for i, core in enumerate(cores[: len(left)])}
        try:
            while left or any(t.job for t in trainers.values()):
                for trainer in trainers.values():
                    if trainer.job is None and left:
                        trainer.job = left.pop(0)
                        trainer.pipe.send(trainer.job)
                busy = {t.pipe: t for t in trainers.values() if t.job}
                for pipe in wait(list(busy)):
                    trainer = busy[pipe]  # type: ignore[index]
                    assert trainer.job is not None
                    try:
                        line = trainer.pipe.recv()
                    except (EOFError, OSError) as error:
                        key = recording.key(trainer.job)
                        deaths[key] = deaths.get(key, 0) + 1
                        if deaths[key] == TRIES:
                            raise SearchError(f"the process that trains {trainer.job} died {TRIES} times") from error
                        left.insert(0, trainer.job)
                        trainers[trainer.index] = _renewed(trainer, space, data_folder)
                        continue
                    lines.add(line)
                    trainer.job, told = None, told + 1
                    _say(line, told, len(left) + len(busy) - 1, time.monotonic() - started)
                    trainer.trained += 1
                    if trainer.trained >= RENEWED and left:
                        trainers[trainer.index] = _renewed(trainer, space, data_folder)
        finally:
            for trainer in trainers.values():
                trainer.process.kill()
                trainer.process.join()


def _start(space: Space, data_folder: Path, index: int, core: int) -> Trainer:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, str(space.path), str(data_folder), core)
    process = context.Process(target=training.serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    return Trainer(index, core, process, ours)


def _renewed(trainer: Trainer, space: Space, data_folder: Path) -> Trainer:
    with suppress(OSError):
        trainer.pipe.send(None)
    trainer.process.join(10)
    trainer.process.kill()
    trainer.process.join()
    trainer.pipe.close()
    return _start(space, data_folder, trainer.index, trainer.core)


@contextmanager
def _environment(core: int) -> Iterator[None]:
    """What the processes inherit: Keras on TensorFlow, on one thread."""
    before = dict(os.environ)
    os.environ.update(importable(keras_environment(Slot(0, (core,)), "tensorflow")))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _say(line: dict[str, Any], told: int, left: int, seconds: float) -> None:
    values = line["metrics"]["val_accuracy"]
    result = line["failed"] or f"val_accuracy {values[-1]:.4f}, best {max(values):.4f}"
    took = sum(epoch[0] for epoch in line["epochs"]) + line["start"][0]
    minutes = seconds / told * left / 60
    click.echo(f"{told}: {result}, {took:.1f} core-s; {left} to go, about {minutes:.0f} min")


def _made() -> dict[str, Any]:
    """By what command, where, when and with which versions."""
    facts = collect(ROOT)
    return {
        "command": " ".join(["python", "-m", "bench.record", *sys.argv[1:]]),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": facts.commit + (" with changes" if facts.dirty else ""),
        "versions": facts.versions,
        "hardware": facts.hardware,
    }


@click.command()
@click.argument("grid")
@click.option("--lines", "kept", type=click.Path(path_type=Path), help="The file that it is kept in while it is made.")
@click.option("--out", type=click.Path(path_type=Path), help="The table (default: bench/tables/GRID.json.xz).")
@click.option("--limit", type=click.IntRange(1), help="Train at most so many now.")
@click.option("--cores", default="0,1", show_default=True, help="The cores to use, a process on each.")
@click.option("--home", help="Where data is kept (default: SEARCH_HOME).")
@click.option("--pack", is_flag=True, help="Train nothing; write the table of what is recorded.")
def main(
    grid: str, kept: Path | None, out: Path | None, limit: int | None, cores: str, home: str | None, pack: bool
) -> None:
    """Record every point of GRID; typed again, it goes on where it was."""
    try:
        settings = resolve(home=home)
        space = find(grid_of(grid))
        stem = Path(grid).stem
        lines = Lines(kept or settings.home / "recordings" / f"{stem}.jsonl")
        try:
            if not pack:
                folder = prepare(space.dataset, cache=settings.cache, data=settings.data, say=click.echo)
                record(space, lines, folder, cores=[int(core) for core in cores.split(",")], limit=limit)
        finally:
            made = recording.table(space, lines)
            if made.curves:
                path = out or ROOT / "bench" / "tables" / f"{stem}.json.xz"
                table.write(path, made)
                size = path.stat().st_size / 1e6
                click.echo(f"{path}: {len(made.curves)} configurations, {len(made.everything())} curves, {size:.2f} MB")
    except (SearchError, SpaceError) as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code if isinstance(error, SearchError) else 2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
