"""Pictures of one trial."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINING, VALIDATION, RATE, GRID, INK, FAINT = "#2a6fbb", "#d1495b", "#3f8f5f", "#e4e7eb", "#1f2933", "#52606d"
EDGE = "#c3cad3"
RATE_NAMES = ("learning_rate", "lr")
NOT_CURVES = ("seconds", "images_per_second", "data_wait", "epoch")

History = Sequence[Mapping[str, float]]


def learning_curves(history: History, title: str) -> bytes:
    """A PNG of what each epoch brought: loss, the other metrics that have a validation twin, the learning rate.

    `history` holds one mapping of metrics an epoch, in order; epochs are counted from 1 in the picture. The best epoch
    is that of the highest validation accuracy (among the likeliest five, where that is measured), else of the lowest
    validation loss. Safe in any thread.
    """
    # Not pyplot: its figures belong to the process, and live until somebody closes them.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = _panels(history)
    rate = next((name for name in RATE_NAMES if any(name in epoch for epoch in history)), None)
    rows = 2 if rate else 1
    figure = Figure(figsize=(5.2 * max(len(names), 1), 3.7 + (1.1 if rate else 0.0)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, max(len(names), 1), height_ratios=[3.6, 1.0][:rows])
    figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha="left", fontweight="bold")
    best = _best(history)
    for column, name in enumerate(names):
        _curves(figure.add_subplot(grid[0, column]), history, name, best)
    if rate:
        _rate(figure.add_subplot(grid[1, :]), history, rate, best)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _panels(history: History) -> list[str]:
    """Metric names, loss and accuracy first; those with a validation twin, or loss and accuracy alone."""
    keys = list(dict.fromkeys(key for epoch in history for key in epoch))
    found = [k for k in keys if f"val_{k}" in keys and k not in NOT_CURVES]
    found += [k for k in ("loss", "accuracy") if k in keys and k not in found]
    order = {"loss": 0, "accuracy": 1}
    return sorted(found, key=lambda name: order.get(name, 2))[:4]


def _best(history: History) -> int | None:
    """Index of the best epoch, None without validation values."""
    # A share among the likeliest is only measured where it is the objective.
    top = sorted({key for epoch in history for key in epoch if key.startswith("val_top_")})
    for name, sign in (*((key, 1.0) for key in top), ("val_accuracy", 1.0), ("val_loss", -1.0)):
        values = sign * _values(history, name)
        if np.isfinite(values).any():
            return int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
    return None


def _values(history: History, name: str) -> np.ndarray:
    values = np.array([float(epoch.get(name, np.nan)) for epoch in history], dtype=float)
    values[~np.isfinite(values)] = np.nan
    return values


def _curves(axes: Axes, history: History, name: str, best: int | None) -> None:
    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) <= 30 else None
    curves = ((name, "training", TRAINING), (f"val_{name}", "validation", VALIDATION))
    for key, label, colour in curves:
        values = _values(history, key)
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, label=label, lw=1.8, marker=marker, ms=3)
    _mark_broken(axes, history, name)
    _dress(axes, history, best)
    axes.set_title(name.replace("_", " "), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=9, color=FAINT)
    best_value = _values(history, f"val_{name}")[best] if best is not None else np.nan
    if best is not None and np.isfinite(best_value):
        axes.plot(best + 1, best_value, "o", ms=8, mfc="none", mec=VALIDATION, mew=1.8, zorder=5,
                  label=f"best epoch {best + 1}: {best_value:.4g}")  # fmt: skip
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _mark_broken(axes: Axes, history: History, name: str) -> None:
    """Shade the epochs whose training or validation value is not a number, or infinite."""
    label: str | None = "not a number"
    for index, epoch in enumerate(history):
        if any(key in epoch and not np.isfinite(epoch[key]) for key in (name, f"val_{name}")):
            axes.axvspan(index + 0.5, index + 1.5, color=VALIDATION, alpha=0.12, lw=0, label=label)
            label = None


def _rate(axes: Axes, history: History, name: str, best: int | None) -> None:
    values = _values(history, name)
    axes.step(np.arange(1, len(history) + 1), values, where="mid", color=RATE, lw=1.6)
    _dress(axes, history, best)
    axes.set_title("learning rate", fontsize=9, color=INK, loc="left")
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 3 * known.min():
        axes.set_yscale("log")
        axes.minorticks_off()
    elif known.size:
        # The values themselves: matplotlib would write a constant 0.001 as 1.00 and an exponent elsewhere.
        levels = np.unique(known)
        ticks = levels if len(levels) <= 3 else levels[[0, -1]]
        axes.set_yticks(ticks, [f"{level:.3g}" for level in ticks])
        axes.set_ylim(min(0.0, 1.3 * known.min()), 1.3 * known.max() or 1.0)


def _dress(axes: Axes, history: History, best: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if best is not None:
        axes.axvline(best + 1, color=FAINT, lw=0.9, ls=(0, (3, 3)), zorder=0)
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    frame(axes)


def frame(axes: Axes, lines: Literal["x", "y", "both"] = "both") -> None:
    """A faint grid behind what is drawn, an edge left and below, small ticks: the same for every picture."""
    axes.grid(axis=lines, color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(EDGE)
    axes.tick_params(labelsize=8, colors=FAINT, length=3)
