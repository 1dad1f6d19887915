"""Which way of searching finds good models soonest: ours against the peers' own, on a recorded table, at equal time.

python -m bench.quality                                          (the tuning table, everything; goes on where it was)
python -m bench.quality --table bench/tables/cifar.json.xz --report          (the table that is opened for the report)
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import multiprocessing
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from pathlib import Path

import click
import numpy as np

from bench import peers, quality_report
from bench.grid import grid_of_space
from bench.peers import METHODS
from bench.places import ROOT
from bench.recording import Lines
from bench.simulation import Truth, one_training_each, simulate
from search.errors import BAD_INPUT, InputError, SearchError
from search.executors.table import Table, read
from spaces import find

BUDGETS = (10, 30, 100)
REPORTED = ("cifar_grid",)  # the tables that nothing may be tuned on
QUICK_SEEDS = 5

Key = tuple[str, int, int]  # a method, slots, a seed


@lru_cache(maxsize=2)
def _truth(path: str) -> tuple[Truth, str]:
    table = read(Path(path))
    return Truth(one_training_each(table)), grid_of_space(table.space)


def run(path: str, key: Key) -> dict[str, object]:
    """One search to the largest budget; times are budgets, so that all slots together have spent them."""
    warnings.simplefilter("ignore")
    method, slots, seed = key
    truth, grid = _truth(path)
    search = peers.make(method, find(grid), seed, truth.table.epochs, slots)
    outcome = simulate(truth, search, slots=slots, seconds=max(BUDGETS) * truth.full / slots, seed=seed)
    scale = slots / truth.full
    return {
        "method": method,
        "slots": slots,
        "seed": seed,
        "trials": outcome.trials,
        "epochs": outcome.epochs,
        "spent": round(outcome.time * scale, 2),
        "steps": [(round(step.time * scale, 3), round(step.value, 5)) for step in outcome.steps],
    }


def fingerprint(method: str) -> str:
    """What a result depends on beside its table: the code that drives the method, and its package's version."""
    entry = peers.entry(method)
    here = ROOT / "bench"
    sources = [here / "simulation.py", here / "peers" / f"{entry.module}.py", here / "peers" / "settings.py"]
    if entry.module in ("ours", "plain_optuna"):
        sources += [ROOT / "search" / "choosing.py", *sorted((ROOT / "search" / "engines").glob("*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    distribution = {"keras_tuner": "keras-tuner", "syne_tune": "syne-tune"}.get(entry.package, entry.package)
    digest.update(importlib.metadata.version(distribution).encode())
    return digest.hexdigest()[:12]


def results(
    path: Path, table: Table, lines: Lines, methods: Sequence[str], slots: Sequence[int], seeds: int, jobs: int
) -> list[dict[str, object]]:
    """The result of every search asked for, what is in `lines` taken from there and the rest run and added."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    prints = {method: fingerprint(method) for method in methods}

    def wanted(line: dict[str, object]) -> bool:
        return line["table"] == digest and prints.get(str(line["method"])) == line["code"]

    done = {(line["method"], line["slots"], line["seed"]): line for line in lines.read if wanted(line)}
    keys = [(method, n, seed) for method in methods for n in slots for seed in range(seeds)]
    left = [key for key in keys if key not in done]
    click.echo(f"{len(keys) - len(left)} of {len(keys)} searches are in {lines.path}; {len(left)} to go")
    if left:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            open_runs: dict[Future[dict[str, object]], Key] = {pool.submit(run, str(path), key): key for key in left}
            while open_runs:
                for future in wait(open_runs, return_when=FIRST_COMPLETED).done:
                    key = open_runs.pop(future)
                    line = future.result() | {"table": digest, "code": prints[key[0]]}
                    lines.add(line)
                    done[key] = line
                    click.echo(f"{' '.join(map(str, key))}: {line['trials']} trials; {len(open_runs)} to go")
    return [done[key] for key in keys]


def grouped(found: Sequence[dict[str, object]]) -> dict[int, dict[str, dict[int, list[tuple[float, float]]]]]:
    """Results by slots, method and seed."""
    groups: dict[int, dict[str, dict[int, list[tuple[float, float]]]]] = defaultdict(lambda: defaultdict(dict))
    for line in found:
        steps = [tuple(step) for step in line["steps"]]  # type: ignore[attr-defined]
        groups[int(str(line["slots"]))][str(line["method"])][int(str(line["seed"]))] = steps
    return groups


def _numbers(text: str, flag: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{flag} {text}: give numbers like 1,8") from None


def _methods(text: str | None) -> list[str]:
    """Those asked for, or all that can be run here."""
    if text is None:
        for name in METHODS:
            if problem := peers.missing(name):
                click.echo(f"left out: {problem}")
        return [name for name in METHODS if peers.missing(name) is None]
    names = text.split(";" if ";" in text or "|" in text else ",")  # variants have commas in their names
    unknown = [name for name in names if name not in METHODS and "|" not in name]
    problems = [f"--methods {name}: unknown; there are: {', '.join(METHODS)}" for name in unknown]
    problems += [p for name in names if name not in unknown and (p := peers.missing(name))]
    if problems:
        raise InputError(problems)
    return names


@click.command()
@click.option("--table", "path", type=click.Path(path_type=Path), default=ROOT / "bench" / "tables" / "fashion.json.xz")
@click.option("--methods", "named", help="Some of them, like auto,random (default: all that are installed).")
@click.option("--seeds", default=100, show_default=True, help="Searches of each method.")
@click.option("--slots", "slotted", default="1,8", show_default=True, help="Trials at once.")
@click.option("--quick", is_flag=True, help=f"{QUICK_SEEDS} seeds on one slot.")
@click.option("--jobs", default=len(os.sched_getaffinity(0)), show_default=True, help="Searches at a time.")
@click.option("--report", is_flag=True, help="Open a table that is kept for the report.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results (default: bench/results).")
def main(
    path: Path, named: str | None, seeds: int, slotted: str, quick: bool, jobs: int, report: bool, out: Path | None
) -> None:
    """Compare ways of searching on a recorded table."""
    try:
        slots = [1] if quick else _numbers(slotted, "--slots")
        table, methods = read(path), _methods(named)
        if table.space in REPORTED and not report:
            raise InputError(f"{path} is kept for the report, so that nothing is tuned on it; open it with --report")
        if table.synthetic:
            click.echo("the table is made up by a formula: this tests the bench and proves nothing")
        stem = f"quality-{path.name.partition('.')[0]}"
        folder = out or ROOT / "bench" / "results"
        lines = Lines(folder / f"{stem}.jsonl")
        found = results(path, table, lines, methods, slots, QUICK_SEEDS if quick else seeds, jobs)
    except SearchError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(error.exit_code if isinstance(error, InputError) else BAD_INPUT)
    truth = Truth(one_training_each(table))
    budgets = np.unique(np.round(np.geomspace(1, max(BUDGETS), 400), 3))
    text, facts = quality_report.lines(grouped(found), truth.best, budgets, BUDGETS)
    click.echo("\n".join(text))
    quality_report.write(folder / f"{stem}.md", folder / f"{stem}.json", path, table, text, facts)
    quality_report.draw(folder / f"{stem}.png", grouped(found), truth.best, budgets, table)
    click.echo(f"\n{folder / stem}.md, .json, .png")


if __name__ == "__main__":
    main()
