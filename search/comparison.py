"""The rows of a comparison: how things were trained, their hyperparameters, their figures with the best marked."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.comparable import split_by, thousands
from search.compared import Compared, is_number
from search.differing import differing, words
from search.objectives import natural, written
from search.trial.spec import BESIDE

SETUP = {
    "space": "space",
    "dataset": "dataset",
    "train_images": "training images",
    "validation_images": "validation images",
    "epochs": "epochs at most",
    "milestone_epochs": "milestones (epochs)",
    "backend": "backend",
    "precision": "precision",
    "seed": "seed",
}
SHOWN = ("params", "val_accuracy", "val_loss", "accuracy", "loss", "train_seconds")  # figures that have a row anyway
TITLES = {
    "latency_ms": "latency (ms an image)",
    "model_mb": "size of the weights (MB)",
    "multiply_adds": "multiply-adds",
}
ALWAYS_DIFFERENT = ("seed",)  # told by --all alone


@dataclass(frozen=True)
class Figure:
    """One row of figures: `better` is max or min, None where neither is; `on` what has to be the same to compare."""

    key: str
    title: str
    write: Callable[[Any], str]
    better: Callable[..., Any] | None = None
    on: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table: a title and a text for each thing; `best` are the indexes of the best."""

    title: str
    texts: Sequence[str]
    best: frozenset[int] = frozenset()


def setup_rows(things: Sequence[Compared], everything: bool) -> list[Row]:
    setups = [{SETUP[name]: thousands(thing.setup.get(name), name) for name in SETUP} for thing in things]
    rows = differing(setups, everything)
    hidden = () if everything else tuple(SETUP[name] for name in ALWAYS_DIFFERENT)
    shown = {n: v for n, v in rows.items() if n not in hidden and any(x is not None for x in v)}
    return [Row(name, words(values)) for name, values in shown.items()]


def config_rows(things: Sequence[Compared], everything: bool) -> list[Row]:
    rows = differing([thing.config for thing in things], everything)
    return [Row(name, words(values)) for name, values in rows.items()]


def figures_of(thing: Compared) -> dict[str, Any]:
    """Every figure of a thing, None where it is not known. Seconds are of its epochs, images/s their median."""
    history, best = thing.history, thing.best
    at = history[best] if best is not None else {}
    return {
        "parameters": thing.parameters,
        "epochs": len(history) or None,
        "best_epoch": None if best is None else best + 1,
        "objective": thing.value,
        "accuracy_last": _last(history, "accuracy"),
        "accuracy_best": _over(max, history, "accuracy"),
        "loss_last": _last(history, "loss"),
        "loss_best": _over(min, history, "loss"),
        "val_accuracy": at.get("val_accuracy"),
        "val_loss": at.get("val_loss"),
        "test_accuracy": thing.test_accuracy,
        "test_interval": thing.test_interval,
        "seconds": _over(sum, history, "seconds"),
        "images_per_second": _over(statistics.median, history, "images_per_second"),
        **{name: value for name, value in thing.figures.items() if name not in SHOWN},
    }


def _over(what: Callable[[list[float]], float], history: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [epoch[key] for epoch in history if is_number(epoch.get(key))]
    return what(values) if values else None


def _last(history: Sequence[Mapping[str, float]], key: str) -> float | None:
    return history[-1].get(key) if history else None


def _figures(things: Sequence[Compared]) -> list[Figure]:
    """The rows of figures; the objective has one of its own where it is not a validation figure shown anyway."""
    metrics = {thing.metric for thing in things}
    kept = next(iter(metrics)) if len(metrics) == 1 else ""
    better = max if things[0].direction == "maximize" else min
    titles = {m: " (objective)" if m == kept else "" for m in ("val_accuracy", "val_loss")}
    alone = kept in titles
    objective = Figure("objective", kept or "objective", _share, better if kept else None, "validation")
    return [
        Figure("parameters", "parameters", "{:,}".format, min),
        Figure("epochs", "epochs", str),
        Figure("best_epoch", "best epoch", str),
        *([] if alone else [objective]),
        Figure("val_accuracy", f"validation accuracy{titles['val_accuracy']}", _share, max, "validation"),
        Figure("val_loss", f"validation loss{titles['val_loss']}", _loss, min, "validation"),
        Figure("accuracy_last", "training accuracy, last epoch", _share, max, "training"),
        Figure("accuracy_best", "training accuracy, best", _share, max, "training"),
        Figure("loss_last", "training loss, last epoch", _loss, min, "training"),
        Figure("loss_best", "training loss, best", _loss, min, "training"),
        Figure("test_accuracy", "test accuracy", _share, max, "test"),
        Figure("test_interval", "its 95 % interval", lambda ends: f"{ends[0]:.4f} to {ends[1]:.4f}"),
        Figure("seconds", "seconds, all epochs", "{:,.1f}".format, min),
        Figure("images_per_second", "images/s in training", "{:,.0f}".format, max),
        *(_judged(name) for name in dict.fromkeys(n for t in things for n in t.figures) if name not in (*SHOWN, kept)),
    ]


def _judged(name: str) -> Figure:
    """The row of a figure that a study was after or limited."""
    better = max if natural(name) == "maximize" else min
    on = "" if name in BESIDE else ("validation" if name.startswith("val_") else "training")
    return Figure(name, TITLES.get(name, name), lambda value: written(name, value), better, on)


def _share(value: float) -> str:
    return f"{value:.4f}"


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def figure_rows(things: Sequence[Compared]) -> list[Row]:
    found, rows = [figures_of(thing) for thing in things], []
    for figure in _figures(things):
        values = [f[figure.key] for f in found]
        if all(value is None for value in values):
            continue
        texts = ["-" if value is None else figure.write(value) for value in values]
        comparable = not split_by(things, figure.on)
        rows.append(Row(figure.title, texts, best_of(values, texts, figure.better) if comparable else frozenset()))
    return rows


def best_of(values: Sequence[Any], texts: Sequence[str], better: Callable[..., Any] | None) -> frozenset[int]:
    """The indexes of the best finite value, with those that read the same; none where all read the same."""
    known = [value for value in values if is_number(value)]
    if better is None or len({text for text, v in zip(texts, values, strict=True) if is_number(v)}) < 2:
        return frozenset()
    best = texts[list(values).index(better(known))]
    return frozenset(i for i, text in enumerate(texts) if text == best and is_number(values[i]))
