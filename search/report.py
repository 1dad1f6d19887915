"""What the reading commands print: spaces, studies, trials, the best, how a run ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

import spaces as catalogue
from search import shown, simulated, store
from search.budget import TIME_LIMIT, USED_UP
from search.differing import differing
from search.errors import InputError
from search.objectives import written
from search.settings import Settings, masked, problems
from search.specs import stored_space
from spaces import find
from spaces._hp import show as show_value
from spaces.errors import SpaceError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from search.goals import Goals
    from search.study import Outcome


MOST_SHOWN = 20  # trials on a front, when a run ends
PIPE = 200, 400  # columns of a table that goes to a pipe: at least, and at most before its cells are folded


def emit(value: Any) -> None:
    """One JSON document on standard output; NaN becomes null."""
    print(json.dumps(_finite(value), indent=2, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A plain table on standard output, never cut to the width of a pipe."""
    console = Console(highlight=False, **({} if sys.stdout.isatty() else {"width": PIPE[0]}))  # type: ignore[arg-type]
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if not sys.stdout.isatty():
        console.width = max(PIPE[0], min(PIPE[1], unfolded(console, table)))
    console.print(table)


def unfolded(console: Console, table: Table) -> int:
    """How many columns a table would take with no cell folded."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def spaces(as_json: bool) -> None:
    """List the spaces that come with the project."""
    found = [find(name) for name in catalogue.names()]
    if as_json:
        return emit(
            [
                {
                    "name": s.name,
                    "dataset": s.dataset,
                    "metric": s.metric,
                    "summary": s.summary,
                    "trials": s.trials,
                    "epochs": s.epochs,
                    "baselines": [b.name for b in s.baselines],
                }
                for s in found
            ]
        )
    print_table(
        ("space", "dataset", "baselines", "what it is"),
        [(s.name, s.dataset, ", ".join(b.name for b in s.baselines), s.summary) for s in found],
    )


def members(as_json: bool) -> None:
    """List the samplers and pruners that can be asked for, with their options and defaults."""
    from search.engines import menu

    kinds: tuple[menu.Kind, ...] = ("sampler", "pruner")
    found = [
        (kind, name, menu.member(kind, name), menu.missing(kind, name)) for kind in kinds for name in menu.names(kind)
    ]
    if as_json:
        return emit(
            [
                {
                    "kind": kind,
                    "name": name,
                    "says": member.says,
                    "options": {key: option.default for key, option in member.options.items()},
                    "missing": missing,
                }
                for kind, name, member, missing in found
            ]
        )
    for each in kinds:
        rows = []
        for kind, name, member, missing in found:
            options = {k: "auto" if o.default is None else show_value(o.default) for k, o in member.options.items()}
            says = member.says + (f" ({missing})" if missing else "")
            rows += [(name, says, ", ".join(f"{k}={v}" for k, v in options.items()))] if kind == each else []
        print_table((f"--{each}", "what it does", "options"), rows)
        print()
    return None


def _store(settings: Settings) -> Any:
    """The study store, which must be there: reading commands make none. Raises InputError."""
    from search.engines.optuna import storage

    found = problems(settings)
    if found:
        raise InputError(found)
    if _is_missing(settings):
        raise InputError(f"no study yet in {masked(settings.storage)}; start one: python -m search run cnn_digits")
    return storage(settings.storage)


def names(settings: Settings) -> list[str]:
    """Every study of this program in the store; none where there is no store yet. Raises InputError, StoreError."""
    from search.engines import optuna as engine

    found = problems(settings)
    if found:
        raise InputError(found)
    if _is_missing(settings):
        return []
    return [s.study_name for s in engine.studies(engine.storage(settings.storage)) if "plan" in s.user_attrs]


def _is_missing(settings: Settings) -> bool:
    from pathlib import Path

    from sqlalchemy.engine import make_url

    url = make_url(settings.storage)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()


def load(study: str, settings: Settings) -> optuna.Study:
    """A study of this program by name. Raises InputError, with the nearest name, where there is none."""
    import difflib

    import optuna

    from search.engines import optuna as engine

    opened = _store(settings)
    known = [s.study_name for s in engine.studies(opened)]
    if study not in known:
        near = difflib.get_close_matches(study, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"no study {study!r} in {masked(settings.storage)}.{hint} List them: python -m search list")
    loaded = optuna.load_study(study_name=study, storage=opened, sampler=optuna.samplers.RandomSampler(seed=0))
    if "plan" not in loaded.user_attrs:
        if not loaded.get_trials(deepcopy=False):
            raise InputError(
                f"study {study!r} was cut off while it was made, before its first trial; make it again: "
                f"python -m search run SPACE --study {study}"
            )
        raise InputError(f"study {study!r} was not made by this program")
    return loaded


def stored_plan(study: str, settings: Settings) -> dict[str, Any]:
    """The plan of a study as it was stored; of one that was cut off while it was made, as its folder has it.

    Raises InputError where there is none.
    """
    try:
        return dict(load(study, settings).user_attrs["plan"])
    except InputError:
        folder = settings.study_folder(study)
        written = store.read_json(folder / "study.json") or {}
        plan = (written.get("attributes") or {}).get("plan")
        if plan and not store.trial_folders(folder):
            return dict(plan)
        raise


def studies(settings: Settings, as_json: bool) -> None:
    """List every study of the store."""
    from search.engines import optuna as engine

    rows, words = [], []
    for summary in engine.studies(_store(settings)):
        plan = summary.user_attrs.get("plan")
        if plan is None:
            continue
        study = load(summary.study_name, settings)
        rows.append(_standing(study, settings))
        words.append(shown.best(study, shown.goals_of(study)))
    if as_json:
        return emit(rows)
    print_table(
        ("study", "space", "started", "trials", "best"),
        [
            (
                r["study"],
                r["space"],
                r["started"] or "-",
                f"{r['done']}/{r['total']}",
                best or "-",
            )
            for r, best in zip(rows, words, strict=True)
        ],
    )


def _standing(study: optuna.Study, settings: Settings) -> dict[str, Any]:
    from search import ranking, versions
    from search.engines import optuna as engine

    owner = owner_of(study, settings)
    trials = engine.counted(study.get_trials(deepcopy=False))
    plan, best, goals = study.user_attrs["plan"], ranking.front(study), shown.goals_of(study)
    states: dict[str, int] = {}
    for t in trials:
        state = _state(t, owner)
        states[state] = states.get(state, 0) + 1
    started = trials[0].datetime_start if trials else None
    return {
        "study": study.study_name,
        "space": plan["space"],
        "started": started.strftime("%Y-%m-%d %H:%M") if started else None,
        "done": sum(t.state.is_finished() for t in trials),
        "total": plan["trials"],
        "states": states,
        "refused": versions.refused(study.get_trials(deepcopy=False)),
        "version": versions.current(study.user_attrs),
        "left_behind": len(versions.left(study.get_trials(deepcopy=False))),
        "objectives": shown.objectives(goals),
        "limits": [str(limit) for limit in goals.limits],
        "best": _brief(study, best[0], goals) if best else None,
        "front": [_brief(study, t, goals) for t in best] if goals.several else None,
        "run_id": study.user_attrs.get("mlflow.run_id"),
        "owner": owner,
    }


def _state(trial: FrozenTrial, owner: str | None) -> str:
    """A trial's state in words; one that is unfinished while nobody runs its study, or waits in it, is paused.

    One that rests was compared at a rung, and goes on where it turns out to be among the best.
    """
    from search.engines.scheduler import resting

    if resting(trial) is not None:
        return "resting"
    if not trial.state.is_finished() and (owner is None or trial.user_attrs.get("state") == "paused"):
        return "paused"
    return trial.state.name.lower()


def _brief(study: optuna.Study, trial: FrozenTrial, goals: Goals) -> dict[str, Any]:
    from search import links, ranking, weights

    attrs = trial.user_attrs
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "reason": attrs.get("reason"),
        "error": attrs.get("error"),
        **shown.brief(trial, goals),
        "epochs": ranking.epochs(trial),
        "attempts": attrs.get("attempts"),
        "baseline": attrs.get("baseline"),
        "parameters": attrs.get("parameters"),
        "peak_memory": (attrs.get("memory") or {}).get("peak"),
        "config": attrs.get("config"),
        "config_hash": attrs.get("config.hash"),
        "run_id": links.run_id(study, trial) or None,
        "model_id": weights.model_id(study, trial.number),
    }


def status(name: str | None, settings: Settings, as_json: bool) -> None:
    """How one study stands."""
    from search import auditing, ranking
    from search.engines import optuna as engine

    if name is None:
        mine = [s for s in engine.studies(_store(settings)) if "plan" in s.user_attrs]
        if not mine:
            raise InputError("no study yet; start one: python -m search run cnn_digits")
        name = mine[-1].study_name
    study = load(name, settings)
    standing, goals, found = _standing(study, settings), shown.goals_of(study), auditing.audit(study)
    if as_json:
        return emit(standing | ({} if found is None else {"audit": found.to_json()}))
    states = ", ".join(f"{count} {state}" for state, count in standing["states"].items()) or "no trials"
    print(
        f"{name}: {standing['done']} of {standing['total']} trials done ({states})"
        + (f", {standing['refused']} refused" if standing["refused"] else "")
        + (f"; version {standing['version']} of its space" if standing["version"] > 1 else "")
        + (f", {standing['left_behind']} trials of earlier ones left behind" if standing["left_behind"] else "")
    )
    if standing["best"]:
        what = f"best {goals.objectives[0].name}" if goals.several else "best"
        print(f"{what}: trial {standing['best']['trial']}, {shown.best(study, goals)}")
    over = sum(bool(ranking.over(t)) for t in study.get_trials(deepcopy=False))
    if over:
        print(f"over a limit ({', '.join(standing['limits'])}): {over} complete trial{'s' if over > 1 else ''}")
    if found is not None:
        print(f"audit: {found}")
    if standing["owner"]:
        print(f"run by {standing['owner']}")
    elif standing["done"] < standing["total"]:
        print(f"not running; go on: python -m search resume {name}")


def owner_of(study: optuna.Study, settings: Settings) -> str | None:
    """Who runs a study now, here or elsewhere; None where nobody does."""
    from search import lease, store

    return store.owner(settings.study_folder(study.study_name)) or lease.holder(study)


def show(name: str, number: int | None, settings: Settings, as_json: bool) -> None:
    """The trials of a study, or one of them with its epochs."""
    from search import ranking, store, versions
    from search.engines import optuna as engine

    study = load(name, settings)
    space, goals = _space(study), shown.goals_of(study)
    behind = versions.left(study.get_trials(deepcopy=False))
    trials = engine.counted(study.get_trials(deepcopy=False))
    if number is not None:
        trial = _trial(study, number)
        epochs = [e["metrics"] for e in store.epochs(store.trial_folder(settings.study_folder(name), number))]
        if as_json:
            return emit(_brief(study, trial, goals) | {"history": epochs})
        print(
            f"trial {number} of {name}: {trial.state.name.lower()}"
            + (f", {trial.user_attrs['reason']}" if trial.user_attrs.get("reason") else "")
            + "".join(f"; of version {of}: {why}" for t, of, why in behind if t.number == number)
        )
        print_table(
            ("hyperparameter", "value"), [(k, show_value(v)) for k, v in trial.user_attrs.get("config", {}).items()]
        )
        if not goals.plain and (figures := shown.figures(trial, goals)):
            print_table(("figure", "value"), [(n, written(n, v)) for n, v in figures.items()])
        keys = [k for k in (epochs[0] if epochs else {}) if not k.startswith("system/")]
        print_table(("epoch", *keys), [(str(i), *(f"{e[k]:.4g}" for k in keys)) for i, e in enumerate(epochs, 1)])
        return None
    if as_json:
        found = [_brief(study, t, goals) for t in trials]
        found += [_brief(study, t, goals) | {"version": of, "left_behind": why} for t, of, why in behind]
        return emit(sorted(found, key=lambda each: int(each["trial"])))
    owner = owner_of(study, settings)
    rows = []
    for t, cells in zip(trials, shown.progress_cells(study, trials, goals), strict=True):
        config = t.user_attrs.get("config", {})
        rows.append(
            (
                str(t.number),
                _state(t, owner),
                *cells,
                str(ranking.epochs(t)),
                *(show_value(config.get(c, "-")) for c in space),
                t.user_attrs.get("reason", ""),
            )
        )
    stood = shown.progress_cells(study, [t for t, _, _ in behind], goals)
    for (t, of, why), cells in zip(behind, stood, strict=True):
        said = f"of version {of}: {why}" + (f" ({t.user_attrs['reason']})" if t.user_attrs.get("reason") else "")
        config = [show_value(t.user_attrs.get("config", {}).get(c, "-")) for c in space]
        rows.append((str(t.number), t.state.name.lower(), *cells, str(ranking.epochs(t)), *config, said))
    print_table(("trial", "state", *shown.progress(goals), "epochs", *space, "reason"), rows)
    _print_unshown(space, trials)
    if behind:
        print(f"trials of earlier versions of the space do not count: {', '.join(str(t.number) for t, _, _ in behind)}")
    return None


def _trial(study: optuna.Study, number: int) -> FrozenTrial:
    from search import versions

    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise InputError(f"--trial {number}: study {study.study_name!r} has trials 0 to {len(trials) - 1}")
    return versions.thawed(trials[number])


def _space(study: optuna.Study) -> tuple[str, ...]:
    """The columns of the study's space; none where the space is gone."""
    try:
        return stored_space(study.user_attrs["plan"]).columns
    except SpaceError:
        return ()


def best(name: str, top: int | None, settings: Settings, as_json: bool) -> None:
    """The `top` best complete trials of a study; None is the best, or of several objectives all on the front."""
    from search import ranking

    study = load(name, settings)
    goals = shown.goals_of(study)
    leading = ranking.front(study) if top is None else ranking.ranked(study)[:top]
    if not leading:
        raise InputError(shown.none_within(name, ranking.complete(study), goals))
    if as_json:
        return emit([_brief(study, t, goals) for t in leading])
    if goals.several:
        print(shown.head(study, goals))
    _print_best(study, leading, goals)
    for t in leading:
        print(f"trial {t.number}: {' '.join(f'{k}={show_value(v)}' for k, v in t.user_attrs['config'].items())}")


def _print_best(study: optuna.Study, trials: Sequence[FrozenTrial], goals: Goals) -> None:
    from search import ranking

    columns = _space(study)
    rows = [
        (
            str(t.number),
            *shown.cells(t, goals),
            *(show_value(t.user_attrs["config"].get(c, "-")) for c in columns),
            f"{t.user_attrs.get('parameters', 0):,}",
            str(ranking.epochs(t)),
            t.user_attrs.get("baseline", ""),
        )
        for t in trials
    ]
    print_table(("trial", *shown.columns(goals), *columns, "parameters", "epochs", "baseline"), rows)
    _print_unshown(columns, trials)


def _print_unshown(columns: Sequence[str], trials: Sequence[FrozenTrial]) -> None:
    """Which hyperparameters differ among the trials of a table that has no room for them."""
    found = [n for n in differing([t.user_attrs.get("config", {}) for t in trials]) if n not in columns]
    if found:
        print(f"not shown, though they differ: {', '.join(found)} (all of them: --json, or trials.csv in MLflow)")


def outcome(ended: Outcome, settings: Settings, as_json: bool) -> int:
    """How a run ended: the best trials and the two commands a person wants next. Returns the exit code."""
    from search import auditing, ranking

    study = load(ended.study, settings)
    goals = shown.goals_of(study)
    if as_json:
        emit(
            _standing(study, settings)
            | {
                "reason": ended.reason,
                "exit_code": ended.exit_code,
                "counts": ended.counts,
                "finished": datetime.now().isoformat(timespec="seconds"),
            }
        )
        return ended.exit_code
    counts = ", ".join(f"{count} {state}" for state, count in ended.counts.items()) or "no trials"
    print(f"\n{ended.study}: {counts}" + (f"; ended: {ended.reason}" if ended.reason else ""))
    leading = ranking.front(study) if goals.several else ranking.ranked(study)[:5]
    if leading and goals.several:
        more = f", the first {MOST_SHOWN}" if len(leading) > MOST_SHOWN else ""
        print(shown.head(study, goals) + more)
    if leading:
        _print_best(study, leading[:MOST_SHOWN], goals)
    elif complete := ranking.complete(study):
        print(shown.none_within(ended.study, complete, goals))
    found = auditing.audit(study)
    if found is not None:
        print(f"audit: {found}")
    print()
    if ended.reason.startswith(USED_UP):
        print(f"go on:    python -m search resume {ended.study} --budget MORE")
    elif ended.reason in ("interrupted", TIME_LIMIT) or "paused" in ended.counts or ended.exit_code:
        print(f"go on:    python -m search resume {ended.study}")
    print(f"browse:   python -m search ui --study {ended.study}")
    if leading and study.user_attrs["plan"].get("executor") != simulated.SIMULATE:
        print(f"promote:  python -m search promote {ended.study}")
    return ended.exit_code
