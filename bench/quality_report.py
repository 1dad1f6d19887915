"""What bench.quality says: tables of regret with ranks and intervals, whether the targets are met, and the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import regret, report
from bench.peers import entry
from bench.regret import Steps
from search.executors.table import Table

Runs = Mapping[int, Mapping[str, Mapping[int, Steps]]]  # by slots, method, seed
OURS, CHANCE = "auto", "random"
THIRD = 1 / 3  # of the time of random search, in which ours must be where that ends
COLOURS = (
    *("#d62728", "#7f7f7f", "#1f77b4", "#aec7e8", "#ff7f0e", "#ffbb78", "#c49c94", "#2ca02c", "#9467bd"),
    *("#8c564b", "#e377c2", "#17becf", "#bcbd22"),
)


def lines(runs: Runs, best: float, budgets: np.ndarray, marks: Sequence[int]) -> tuple[list[str], dict[str, Any]]:
    """The result as markdown, and the same as plain values."""
    text, facts = list[str](), dict[str, Any]()
    for slots, methods in sorted(runs.items()):
        curves = regret.curves(methods, budgets, best)
        means = {name: values.mean(axis=0) for name, values in curves.items()}
        wanted = float(means[CHANCE][-1]) if CHANCE in means else None
        stood = {mark: {s.method: s for s in regret.standings(methods, mark, best)} for mark in marks}
        times = {n: None if wanted is None else regret.reached(mean, budgets, wanted) for n, mean in means.items()}
        rows = []
        for name in stood[marks[-1]]:
            cells = [f"{stood[m][name].mean:.4f} ({stood[m][name].low:.4f}-{stood[m][name].high:.4f})" for m in marks]
            ranks = " / ".join(f"{stood[m][name].rank:.1f}" for m in marks)
            after = "-" if times[name] is None else f"{times[name]:.1f}"
            rows.append((entry(name).title, len(methods[name]), *cells, ranks, after))
        columns = ("method", "seeds", *(f"regret at {m}" for m in marks), "mean rank", "at random's end after")
        text += [f"## {slots} slot{'s' if slots > 1 else ''}", "", *report.table(columns, rows), ""]
        text += [*_targets(stood, times, marks), ""]
        facts[str(slots)] = {
            name: {str(m): vars(stood[m][name]) for m in marks} | {"at random's end after": times[name]}
            for name in stood[marks[-1]]
        }
    return text, facts


def _targets(
    stood: Mapping[int, Mapping[str, regret.Standing]], times: Mapping[str, float | None], marks: Sequence[int]
) -> list[str]:
    """Whether ours is the best at each budget, and at random search's end in a third of its time."""
    found = []
    for mark in marks:
        by_mean = list(stood[mark].values())
        if OURS not in stood[mark] or len(by_mean) < 2:
            return []
        first = by_mean[0]
        if first.method == OURS:
            found.append(f"- lowest mean regret at {mark}: yes, next is {entry(by_mean[1].method).title}")
        else:
            found.append(f"- lowest mean regret at {mark}: no, {entry(first.method).title} is lower")
    time = times[OURS]
    if CHANCE in stood[marks[-1]]:
        met = time is not None and time <= THIRD * marks[-1]
        after = "never" if time is None else f"after {time:.1f} of {marks[-1]}"
        found.append(f"- where random search ends in a third of its time: {'yes' if met else 'no'}, {after}")
    return found


def write(page: Path, values: Path, path: Path, table: Table, text: Sequence[str], facts: Mapping[str, Any]) -> None:
    """The result as a page and as values, each with how it was made."""
    about = [
        f"- table: {path.name}, {len(table.curves)} configurations of {table.space} on {table.dataset}, "
        f"{table.epochs} epochs" + (", MADE UP BY A FORMULA" if table.synthetic else ""),
        "- budgets in full trainings, all slots together; intervals of the mean over seeds (bootstrap, 95 %)",
    ]
    report.write(page, "Which way of searching finds good models soonest", "bench.quality", [*about, "", *text])
    made = report.heading("bench.quality")
    values.write_text(json.dumps({"made": made, "table": path.name, "slots": facts}, indent=1) + "\n")


def draw(path: Path, runs: Runs, best: float, budgets: np.ndarray, table: Table) -> None:
    """Mean regret over budgets with its interval, a panel for each number of slots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(runs), figsize=(7.5 * len(runs), 5.5), sharey=True, squeeze=False)
    names = sorted({name for methods in runs.values() for name in methods}, key=lambda name: (name != OURS, name))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    shown = budgets[:: max(1, len(budgets) // 60)]
    for axis, (slots, methods) in zip(axes[0], sorted(runs.items()), strict=True):
        for name, values in regret.curves(methods, shown, best).items():
            wide = 2.6 if name == OURS else 1.3
            axis.plot(shown, values.mean(axis=0), color=colours[name], linewidth=wide, label=entry(name).title)
            bounds = np.array([regret.interval(column) for column in values.T])
            axis.fill_between(shown, bounds[:, 0], bounds[:, 1], color=colours[name], alpha=0.12, linewidth=0)
        axis.set(xscale="log", yscale="log", xlabel="full trainings spent", title=f"{slots} slot{'s' * (slots > 1)}")
        axis.grid(True, which="both", alpha=0.2)
    axes[0][0].set_ylabel("regret in validation accuracy, mean over seeds")
    axes[0][-1].legend(fontsize=8)
    kind = " (made up by a formula)" if table.synthetic else ""
    figure.suptitle(f"{table.space}: {len(table.curves)} configurations on {table.dataset}{kind}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
