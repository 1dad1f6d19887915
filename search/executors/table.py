"""A table of recorded trainings: each configuration's learning curves, and what every epoch of them cost."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import InputError
from spaces import config_hash

FORMAT = 1
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One training of one configuration with one seed: what each epoch measured and cost.

    `metrics` has a value an epoch of each of METRICS; `cpu` and `seconds` are what an epoch took, of a core and of the
    clock, `start_cpu` and `start_seconds` what came before (building, compiling). `failed` says why training broke
    off; `cpu` then has one entry more, that of the epoch in which it did.
    """

    config: Mapping[str, Any]
    seed: int
    parameters: int
    metrics: Mapping[str, tuple[float, ...]]
    cpu: tuple[float, ...]
    seconds: tuple[float, ...]
    start_cpu: float
    start_seconds: float
    failed: str = ""

    @property
    def epochs(self) -> int:
        """How many epochs were measured."""
        return len(self.metrics["val_loss"])

    def epoch(self, number: int) -> dict[str, float]:
        """What the epoch `number`, from 0, measured."""
        return {name: values[number] for name, values in self.metrics.items()}

    def cost(self, epochs: int | None = None) -> float:
        """Seconds of a core for its start and first epochs; for None all of them, the one it failed in too."""
        return self.start_cpu + sum(self.cpu[:epochs])


@dataclass(frozen=True, kw_only=True)
class Table:
    """All that was recorded of one space, trained for `epochs` on `train_images`.

    `split` is the digest of the images. `made` says by what command, where, when and with which versions, session by
    session. A table that is `synthetic` was made up by a formula and proves nothing.
    """

    space: str
    dataset: str
    split: str
    epochs: int
    train_images: int
    validation_images: int
    curves: Mapping[str, tuple[Curve, ...]]  # of a config.hash, by seed
    made: tuple[Mapping[str, Any], ...] = ()
    synthetic: bool = False

    def curve(self, config_hash: str, seed: int) -> Curve | None:
        """The curve of a configuration for a trial's seed, one of those recorded; None where there is none."""
        found = self.curves.get(config_hash)
        return found[seed % len(found)] if found else None

    def everything(self) -> list[Curve]:
        """Every curve."""
        return [curve for group in self.curves.values() for curve in group]


def grouped(curves: Iterable[Curve]) -> dict[str, tuple[Curve, ...]]:
    """Curves by their configuration's hash, in the order first met, each group by its seeds."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(config_hash(curve.config), []).append(curve)
    return {name: tuple(sorted(group, key=lambda c: c.seed)) for name, group in groups.items()}


def write(path: Path, table: Table) -> None:
    """Write a table as compressed JSON, whole or not at all."""
    facts = {name: value for name, value in vars(table).items() if name != "curves"}
    said = {"format": FORMAT, **facts, "curves": [vars(curve) for curve in table.everything()]}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(lzma.compress(json.dumps(said, separators=(",", ":")).encode()))
    aside.replace(path)


def read(path: Path) -> Table:
    """The table in a file. Raises InputError, in one line, where there is none that can be read."""
    try:
        said = json.loads(lzma.decompress(path.read_bytes()))
    except OSError as error:
        raise InputError(f"--table {path}: {error.strerror or error}; make one: python -m bench.record") from error
    except (lzma.LZMAError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"--table {path}: no table of recorded trainings; make one: python -m bench.record") from error
    if not isinstance(said, dict) or said.pop("format", None) != FORMAT:
        raise InputError(f"--table {path}: not written by this version's python -m bench.record; record it again")
    curves = grouped(_curve(each) for each in said.pop("curves"))
    return Table(**said | {"curves": curves, "made": tuple(said["made"])})


def _curve(said: Mapping[str, Any]) -> Curve:
    metrics = {name: tuple(values) for name, values in said["metrics"].items()}
    return Curve(**{**said, "metrics": metrics, "cpu": tuple(said["cpu"]), "seconds": tuple(said["seconds"])})
