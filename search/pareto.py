"""The Pareto front of a study with several objectives: its trials as CSV, and the pictures of it."""

from __future__ import annotations

import csv
import io
from typing import Any

import optuna

from search import links
from search.goals import Goals
from search.ranking import epochs, figures_of, front

FILE = "pareto_front.csv"
MOST = 3  # objectives that a picture has room for

__all__ = ["FILE", "front", "pictures", "table"]


def table(study: optuna.Study, goals: Goals) -> str:
    """The trials on the front as CSV, the best in the first objective first: figures, then hyperparameters."""
    leading = front(study)
    keys = list(dict.fromkeys(k for t in leading for k in t.user_attrs.get("config", {})))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for name in goals.shown if name != "params"]  # which has a column in any case
    writer.writerow(["number", *names, "parameters", "epochs", "baseline", "config_hash", "run_id", *keys])
    for t in leading:
        figures, attrs = goals.values_of(t.values, figures_of(t)), t.user_attrs
        writer.writerow(
            [
                t.number,
                *(figures.get(name, "") for name in names),
                attrs.get("parameters", ""),
                epochs(t),
                attrs.get("baseline", ""),
                attrs.get("config.hash", ""),
                links.run_id(study, t),
                *(attrs.get("config", {}).get(key, "") for key in keys),
            ]
        )
    return out.getvalue()


def pictures(goals: Goals) -> tuple[list[tuple[str, str, dict[str, Any]]], list[str]]:
    """(what to draw of a front: name, Optuna's function, its options; a line for each picture that is not drawn)."""
    names = [objective.name for objective in goals.objectives]
    if len(names) <= MOST:
        return [("pareto_front", "plot_pareto_front", {"target_names": names})], []
    line = f"{len(names)} objectives are more than a picture has axes: pareto_front shows parallel coordinates"
    # Without hyperparameters: every objective is an axis, and every trial a line.
    return [("pareto_front", "plot_parallel_coordinate", {"params": []})], [line]
