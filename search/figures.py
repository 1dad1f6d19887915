"""Optuna's pictures of a study, interactive and as PNG, its table of trials and its summary in words."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import auditing, dressing, links, pareto, versions
from search.engines import optuna as engine
from search.goals import Goals
from search.objectives import written
from search.plan import Plan
from search.ranking import epochs, figures_of, front, ranked, value_of
from spaces import Space
from spaces._hp import show

Pictures = dict[str, bytes]

MOST_AXES = 7  # more cannot be read
MOST_CROSSED = 3  # each with each
MOST_ROWS, MOST_FRONT = 5, 50  # of a table of the best trials, and of those on a front


__all__ = ["Pictures", "pictures", "ranked", "summary", "table", "value_of"]


def pictures(
    study: optuna.Study, goals: Goals, first: Sequence[str], contoured: Mapping[str, Sequence[str]] | None = None
) -> tuple[Pictures, list[str]]:
    """File name to content of every picture that can be drawn, and a line for each that cannot.

    `first` are the hyperparameters that matter most: pictures with an axis each show these before others. Of several
    objectives each has pictures of its own where one picture cannot show them all. `contoured` are by objective the
    hyperparameters of its contours, which are left out where there are none.
    """
    import matplotlib

    matplotlib.use("Agg")
    import optuna.visualization as interactive
    import optuna.visualization.matplotlib as still

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shared = _shared(complete)
    shared = [n for n in first if n in shared] + [n for n in shared if n not in first]
    axes = {"params": shared[:MOST_AXES]}
    parallel, slices = axes if len(shared) > 1 else {}, axes if shared else {}
    wanted: list[tuple[str, str, dict[str, Any]]] = []
    for ending, named in _targets(goals):
        wanted += [
            (f"optimisation_history{ending}", "plot_optimization_history", named),
            (f"importances{ending}", "plot_param_importances", named),
            (f"slices{ending}", "plot_slice", named | slices),
        ]
        crossed = [n for n in (contoured or {}).get(named["target_name"], ()) if n in shared][:MOST_CROSSED]
        wanted += [(f"contours{ending}", "plot_contour", named | {"params": crossed})] if len(crossed) > 1 else []
    together = {} if goals.several else _targets(goals)[0][1]
    wanted.append(("parallel_coordinates", "plot_parallel_coordinate", together | parallel))
    wanted += [("intermediate_values", "plot_intermediate_values", {})] if goals.by_epoch else []
    fronts, skipped = pareto.pictures(goals) if goals.several else ([], [])
    wanted += fronts
    drawn_of = _named(study, goals) if goals.several else study
    found: Pictures = {}
    for name, function, options in wanted:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = dressing.interactive(function, getattr(interactive, function)(drawn_of, **options))
                found[f"{name}.html"] = drawn.to_html(include_plotlyjs=True).encode()
                found[f"{name}.png"] = _png(
                    lambda f=function, o=options: dressing.still(f, getattr(still, f)(drawn_of, **o))  # type: ignore[misc]
                )
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            skipped.append(f"no picture of {name.replace('_', ' ')}: {reason.splitlines()[0]}")
    return found, skipped


def _targets(goals: Goals) -> list[tuple[str, dict[str, Any]]]:
    """For each objective what its pictures' names end in, and how Optuna is told of it."""
    if not goals.several:
        return [("", {"target_name": goals.objectives[0].name})]
    return [
        (f"_{objective.name}", {"target_name": objective.name, "target": lambda t, at=i: t.values[at]})
        for i, objective in enumerate(goals.objectives)
    ]


def _named(study: optuna.Study, goals: Goals) -> optuna.Study:
    """A copy in memory that has the objectives' names, which pictures of all of them show."""
    copy = optuna.create_study(directions=study.directions)
    copy.add_trials(study.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        copy.set_metric_names([objective.name for objective in goals.objectives])
    return copy


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


def table(study: optuna.Study, goals: Goals) -> str:
    """Every trial as CSV: number, state, reason, value, epochs, seconds, configuration hash, each hyperparameter.

    Where there are several objectives or limits each of their figures has a column too.
    """
    judged = () if goals.plain else goals.shown
    leading = {t.number for t in front(study)} if goals.several else set()
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
            *judged,
            *(["front"] if goals.several else []),
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
                *(figures_of(t).get(name, "") for name in judged),
                *([int(t.number in leading)] if goals.several else []),
                epochs(t),
                seconds,
                attrs.get("baseline", ""),
                attrs.get("parameters", ""),
                attrs.get("config.hash"),
                links.run_id(study, t),
                *(attrs.get("config", {}).get(k, "") for k in keys),
            ]
        )
    return out.getvalue()


def _versions(study: optuna.Study, behind: int) -> list[str]:
    """What a study's run says of its versions; nothing where there is only one."""
    newest = versions.noted(study.user_attrs)[-1]
    if newest["version"] == 1:
        return []
    stay = f"; {behind} of earlier versions do not fit it and are not counted" if behind else ""
    return [f"version {newest['version']} of its space: {'; '.join(newest['change'])}{stay}"]


def summary(study: optuna.Study, space: Space, plan: Plan, goals: Goals, notes: Sequence[str]) -> str:
    """The study in Markdown, for the note of its run."""
    trials = engine.counted(study.get_trials(deepcopy=False))
    states = {state.name: sum(t.state == state for t in trials) for state in TrialState}
    counts = ", ".join(f"{count} {name}" for name, count in states.items() if count)
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
    if not goals.plain:
        lines += [_goals_in_words(study, goals), ""]
    lines += _leading(study, space, goals)
    found = auditing.audit(study)
    if found is not None:
        lines += [f"Audit: {found}.", ""]
    for title, items in (
        ("Chosen because nobody said otherwise", plan.why),
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


def _goals_in_words(study: optuna.Study, goals: Goals) -> str:
    named = ", ".join(objective.words for objective in goals.objectives)
    words = f"Objective{'s' if goals.several else ''}: {named}."
    if goals.limits:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        over = len(complete) - len(ranked(study))
        words += (
            f" Limits: {', '.join(map(str, goals.limits))}; {over} of {len(complete)} complete trials are over one."
        )
    return words


def _leading(study: optuna.Study, space: Space, goals: Goals) -> list[str]:
    """The best trials, or those on the front, as a table with a line above it."""
    best = front(study) if goals.several else ranked(study)[:MOST_ROWS]
    if not best:
        return []
    names = [name for name in goals.shown if name != "params"]  # which has a column in any case
    if goals.several:
        head = f"On the front: {len(best)} of {len(ranked(study))} trials, the best {goals.objectives[0].name} first."
    else:
        name = goals.objectives[0].name
        head = f"Best: trial {best[0].number}, {name} {written(name, best[0].values[0])}."
    lines = [head, "", "| trial | " + " | ".join([*names, *space.columns]) + " | parameters |"]
    lines.append("|" + " --- |" * (len(names) + len(space.columns) + 2))
    for t in best[:MOST_FRONT]:
        figures, config = goals.values_of(t.values, figures_of(t)), t.user_attrs.get("config", {})
        cells = [written(name, figures.get(name)) for name in names] + [show(config.get(c, "")) for c in space.columns]
        lines.append(f"| {t.number} | {' | '.join(cells)} | {t.user_attrs.get('parameters', '')} |")
    more = [f"and {len(best) - MOST_FRONT} more in {pareto.FILE}"] if len(best) > MOST_FRONT else []
    return [*lines, *more, ""]
