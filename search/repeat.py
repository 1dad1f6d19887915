"""`repeat`: the best of a study trained again over seeds, and what their first figures were worth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from search import repeats, report, simulated
from search.errors import InputError
from search.fitting import images_there
from search.objectives import written
from search.plan import SPACE_IN_NAME, Request, check_data, noted_data
from search.plan import resume as resumed_plan
from search.repeats import Repeated
from search.settings import Settings
from search.specs import space_of, stored_space
from search.statistics import Interval


@dataclass(frozen=True)
class Wanted:
    """What to repeat: the `top` best of a study, `seeds` times each; `name` is the new study's, or None.

    `pruner` stops repeating what is surely worse; None stops nothing.
    """

    study: str
    top: int
    seeds: int
    epochs: int | None
    full: bool
    all_data: bool
    name: str | None
    pruner: str | None = None


def repeat(wanted: Wanted, asked: Request, settings: Settings, *, offline: bool, as_json: bool) -> int:
    """Run, or go on with, the study of repeats and print what it found; returns its exit code.

    Raises InputError with one line for each problem.
    """
    from search.study import run

    study = report.load(wanted.study, settings)
    stored = study.user_attrs["plan"]
    simulated.refuse(stored, wanted.study, "train again")
    name = wanted.name or f"{wanted.study}{repeats.SUFFIX}{'-all' if wanted.all_data else ''}"
    if not SPACE_IN_NAME.fullmatch(name):
        raise InputError(f"--name {name}: use letters, digits, dots, dashes and underscores, at most 100")
    if stored.get("repeats"):
        raise InputError(f"study {wanted.study!r} is one of repeats; repeat {stored['repeats'][0]['study']!r} instead")
    space = stored_space(stored)
    check_data(wanted.study, space, noted_data(study.user_attrs))
    epochs = wanted.epochs or (space.epochs if wanted.full else None)
    chosen = repeats.sources(study, wanted.top, epochs=epochs, to_best=wanted.all_data)
    plan = resumed_plan(stored, replace(asked, space=stored["space"], study=wanted.study, trials=None))
    if wanted.full:
        train, validation = images_there(space, space.images)
        plan = replace(plan, train_limit=train, validation_limit=validation, full=True, cuts=())
    stopping = repeats.read_pruner(wanted.pruner)
    plan = repeats.planned(plan, name, chosen, wanted.seeds, stopping)
    plan = repeats.on_all_data(plan) if wanted.all_data else plan
    if name in report.names(settings):
        before = report.load(name, settings).user_attrs["plan"]
        repeats.check_same(before, chosen, name)
        plan = replace(plan, trials=max(plan.trials, before["trials"]))
    ended = run(plan, settings, quiet=as_json, offline=offline)
    found = repeats.measured(report.load(name, settings))
    if as_json:
        told = [] if wanted.all_data else [asdict(r) for r in found]
        report.emit(
            {
                "study": name,
                "of": wanted.study,
                "metric": space_of(plan).metric,
                "repeats": told,
                "counts": ended.counts,
                "exit_code": ended.exit_code,
            }
        )
        return ended.exit_code
    report.outcome(ended, settings, False)
    if wanted.all_data:
        print(
            "\ntrained on training and validation data together: nothing is left to validate on; what promote measures "
            "on the test split is the first figure that counts"
        )
    else:
        for name in dict.fromkeys(r.objective for r in found):
            _print([r for r in found if r.objective == name], name)
    return ended.exit_code


def _print(found: list[Repeated], metric: str) -> None:
    """A table of what the first figures were worth."""
    print()
    report.print_table(
        ("trial", "first", "repeats", "mean", "spread", "95 % interval of the mean", "first was better by"),
        [
            (
                str(r.trial),
                _figure(metric, r.first),
                str(len(r.values)) + (f" ({r.failed} failed)" if r.failed else ""),
                _figure(metric, r.mean),
                _figure(metric, r.spread),
                _span(metric, r.interval),
                _figure(metric, r.flattery, "+"),
            )
            for r in found
        ],
        title=f"{metric} over seeds (weights, order, dropout, augmentation; the split stays the same)",
    )


def _span(metric: str, interval: Interval) -> str:
    """An interval, that of a share within 0 and 1, where Student's knows no bounds."""
    low, high = (min(max(end, 0.0), 1.0) for end in interval) if "accuracy" in metric else interval
    return f"{written(metric, low)} to {written(metric, high)}" if math.isfinite(interval[0]) else "-"


def _figure(metric: str, value: float, sign: str = "") -> str:
    """A figure; a dash where there were too few to have one."""
    above = "+" if sign and value >= 0 else ""
    return above + written(metric, value) if math.isfinite(value) else "-"
