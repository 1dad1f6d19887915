"""A table made up by a formula, for developing and testing: what comes out of it proves nothing and is never reported.

python -m bench.synthetic fashion --out /tmp/synthetic.json.xz
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import numpy as np

from bench.grid import grid_of
from bench.recording import jobs
from search.executors.table import Curve, Table, grouped, write
from spaces import Parameter, Space, declared, find
from spaces._space import Config

BEST, CHANCE = 0.85, 0.10


def table(space: Space, seed: int = 0) -> Table:
    """Curves of every point of `space`, some with three seeds, by a formula whose constants `seed` draws."""
    rng = np.random.default_rng(seed)
    parameters = declared(space)
    weights = {name: float(rng.gamma(2.0, 0.06)) for name in parameters}
    tops = {name: float(rng.uniform(0.2, 0.8)) for name in parameters}
    effects = {name: rng.uniform(0, 1, 16) for name in parameters}

    def curve(config: Config, trial: int, noise: np.random.Generator) -> Curve:
        away = slow = work = 0.0
        for name, value in config.items():
            place = _place(parameters[name], value)
            if isinstance(value, (int, float)):
                away += weights[name] * 4 * (place - tops[name]) ** 2
                slow += abs(place - tops[name])
                work += place
            else:
                away += weights[name] * effects[name][_index(parameters[name], value)]
        final = CHANCE + (BEST - CHANCE) * math.exp(-away) + noise.normal(0, 0.006)
        rate = 0.9 / (1 + slow)
        epochs = np.arange(1, space.epochs + 1)
        accuracy = final - (final - CHANCE) * np.exp(-rate * epochs**0.8) + noise.normal(0, 0.008, space.epochs)
        accuracy = np.round(np.clip(accuracy, 0, 1), 4)
        cost = np.round((0.15 + 0.1 * work) * noise.uniform(0.97, 1.06, space.epochs), 4)
        loss = np.round(-np.log(np.clip(accuracy, 1e-3, 1)), 4)
        values = {"loss": loss, "accuracy": accuracy, "val_loss": loss, "val_accuracy": accuracy}
        costs = tuple(cost.tolist())
        return Curve(
            config=config,
            seed=trial,
            parameters=1000,
            metrics={name: tuple(v.tolist()) for name, v in values.items()},
            cpu=costs,
            seconds=costs,
            start_cpu=1.0,
            start_seconds=1.0,
        )

    wanted = jobs(space)
    noises = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(len(wanted)))
    return Table(
        space=space.name,
        dataset=space.dataset,
        split="synthetic",
        epochs=space.epochs,
        train_images=space.train_images or 0,
        validation_images=space.validation_images or 0,
        curves=grouped(curve(*job, noise) for job, noise in zip(wanted, noises, strict=True)),
        synthetic=True,
    )


def _index(parameter: Parameter, value: object) -> int:
    options = parameter.choices or parameter.grid() or (value,)
    return min(range(len(options)), key=lambda i: options[i] != value)


def _place(parameter: Parameter, value: object) -> float:
    """Where among its values a hyperparameter's value stands, from 0 to 1."""
    options = parameter.choices or parameter.grid() or (value,)
    return _index(parameter, value) / max(1, len(options) - 1)


@click.command()
@click.argument("grid")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The table.")
@click.option("--seed", default=0, show_default=True, help="Of the formula's constants.")
def main(grid: str, out: Path, seed: int) -> None:
    """Make up a table for GRID."""
    made = table(find(grid_of(grid)), seed)
    write(out, made)
    click.echo(f"{out}: {len(made.curves)} configurations, made up by a formula")


if __name__ == "__main__":
    main()
