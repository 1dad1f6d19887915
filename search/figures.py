"""Optuna's pictures of a study, interactive and as PNG, its table of trials and its summary in words."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import dressing, links, versions
from search.engines import optuna as engine
from search.plan import Plan
from spaces import Space
from spaces._hp import show

Pictures = dict[str, bytes]

MOST_AXES = 7  # more cannot be read
MOST_CROSSED = 3  # each with each


def pictures(
    study: optuna.Study, metric: str, first: Sequence[str], contoured: Sequence[str] = ()
) -> tuple[Pictures, list[str]]:
    """File name to content of every picture that can be drawn, and a line for each that cannot.

    `first` are the hyperparameters that matter most: pictures with an axis each show these before others. `contoured`
    are those of the contours, which are left out where there are none.
    """
    import matplotlib

    matplotlib.use("Agg")
    import optuna.visualization as interactive
    import optuna.visualization.matplotlib as still

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shared = _shared(complete)
    shared = [n for n in first if n in shared] + [n for n in shared if n not in first]
    named = {"target_name": metric}
    axes = {"params": shared[:MOST_AXES]}
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("optimisation_history", "plot_optimization_history", named),
        ("importances", "plot_param_importances", named),
        (
            "parallel_coordinates",
            "plot_parallel_coordinate",
            named | (axes if len(shared) > 1 else {}),
        ),
        ("slices", "plot_slice", named | (axes if shared else {})),
        ("intermediate_values", "plot_intermediate_values", {}),
    ]
    crossed = [n for n in contoured if n in shared][:MOST_CROSSED]
    if len(crossed) > 1:
        wanted.append(("contours", "plot_contour", named | {"params": crossed}))
    found: Pictures = {}
    skipped: list[str] = []
    for name, function, options in wanted:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = dressing.interactive(name, getattr(interactive, function)(study, **options))
                found[f"{name}.html"] = drawn.to_html(include_plotlyjs=True).encode()
                found[f"{name}.png"] = _png(
                    lambda n=name, f=function, o=options: dressing.still(n, getattr(still, f)(study, **o))  # type: ignore[misc]
                )
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            skipped.append(f"no picture of {name.replace('_', ' ')}: {reason.splitlines()[0]}")
    return found, skipped


def _shared(trials: Sequence[FrozenTrial]) -> list[str]:
    """The parameters that every complete trial has, with more than one value among them."""
    if not trials:
        return []
    names = set.intersection(*(set(t.params) for t in trials))
    return sorted(n for n in names if len({repr(t.params[n]) for t in trials}) > 1)


def _png(draw: Callable[[], Any]) -> bytes:
    from matplotlib import pyplot

    axes = draw()
    figure = axes.ravel()[0].figure if hasattr(axes, "ravel") else axes.figure
    width, height = figure.get_size_inches()
    figure.set_size_inches(max(width, 13), max(height, 5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return buffer.getvalue()


def table(study: optuna.Study) -> str:
    """Every trial as CSV: number, state, reason, value, epochs, seconds, configuration hash, each hyperparameter."""
    trials = engine.counted(study.get_trials(deepcopy=False))
    keys = list(dict.fromkeys(k for t in trials for k in t.user_attrs.get("config", {})))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "number",
            "state",
            "reason",
            "value",
            "epochs",
            "seconds",
            "baseline",
            "parameters",
            "config_hash",
            "run_id",
            *keys,
        ]
    )
    for t in trials:
        seconds = (
            (t.datetime_complete - t.datetime_start).total_seconds() if t.datetime_complete and t.datetime_start else ""
        )
        attrs = t.user_attrs
        writer.writerow(
            [
                t.number,
                t.state.name,
                attrs.get("reason", ""),
                value_of(t, study),
                len(t.intermediate_values),
                seconds,
                attrs.get("baseline", ""),
                attrs.get("parameters", ""),
                attrs.get("config.hash"),
                links.run_id(study, t),
                *(attrs.get("config", {}).get(k, "") for k in keys),
            ]
        )
    return out.getvalue()


def value_of(trial: FrozenTrial, study: optuna.Study) -> float | None:
    """A trial's best value so far: its own when complete, else the best of its epochs."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    seen = [v for v in trial.intermediate_values.values() if v == v]
    if not seen:
        return None
    return max(seen) if study.direction == optuna.study.StudyDirection.MAXIMIZE else min(seen)


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, the best first; the earlier of equals first."""
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    complete = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.value is not None]
    return sorted(complete, key=lambda t: (sign * (t.value or 0.0), t.number))


def _versions(study: optuna.Study, behind: int) -> list[str]:
    """What a study's run says of its versions; nothing where there is only one."""
    newest = versions.noted(study.user_attrs)[-1]
    if newest["version"] == 1:
        return []
    stay = f"; {behind} of earlier versions do not fit it and are not counted" if behind else ""
    return [f"version {newest['version']} of its space: {'; '.join(newest['change'])}{stay}"]


def summary(study: optuna.Study, space: Space, plan: Plan, notes: Sequence[str]) -> str:
    """The study in Markdown, for the note of its run."""
    trials = engine.counted(study.get_trials(deepcopy=False))
    states = {state.name: sum(t.state == state for t in trials) for state in TrialState}
    counts = ", ".join(f"{count} {name}" for name, count in states.items() if count)
    best = ranked(study)[:5]
    everything = study.get_trials(deepcopy=False)
    refused = versions.refused(everything)
    behind = versions.left(everything)
    notes = [*(study.user_attrs.get("warm") or {}).get("lines", ()), *_versions(study, len(behind)), *notes]
    lines = [
        f"# {plan.study}",
        "",
        f"{space.summary}. {len(trials)} of {plan.trials} trials ({counts}), sampler {plan.sampler}, "
        f"pruner {plan.pruner}, seed {plan.seed}, at most {plan.epochs} epochs a trial."
        + (f" {refused} configurations were refused beforehand." if refused else ""),
        "",
    ]
    if best:
        lines += [f"Best: trial {best[0].number}, {space.metric} {best[0].value:.4f}.", ""]
        lines += [
            "| trial | " + space.metric + " | " + " | ".join(space.columns) + " | parameters |",
            "|" + " --- |" * (len(space.columns) + 3),
        ]
        for t in best:
            config = t.user_attrs.get("config", {})
            cells = " | ".join(show(config.get(c, "")) for c in space.columns)
            lines.append(f"| {t.number} | {t.value:.4f} | {cells} | {t.user_attrs.get('parameters', '')} |")
        lines.append("")
    for title, items in (
        ("Cut because there is no GPU (--full turns it off)", plan.cuts),
        ("Left out", plan.left_out),
        ("Notes", notes),
    ):
        if items:
            lines += [f"{title}:", "", *(f"- {item}" for item in items), ""]
    lines += [
        f"Go on: `python -m search resume {plan.study}`. Promote the best: `python -m search promote {plan.study}`."
    ]
    return "\n".join(lines)
