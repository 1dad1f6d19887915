"""Compares trials and model versions: what differs in configuration and figures, and their learning curves."""

from __future__ import annotations

import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.compared import KINDS, Compared, is_number, read
from search.errors import OK, InputError
from search.report import emit
from search.settings import Settings
from spaces._hp import show
from tracking import comparison_figures
from tracking.comparison_figures import Training

WIDTH = 100  # characters within which a table on a pipe has one column a thing; wider ones have one row a thing
PIPE = 200  # characters a line may have on a pipe
COLUMN = 18  # characters of a heading, where each thing is a column, before it is wrapped
HEADING = 12  # characters of a heading, where each thing is a row, before it is wrapped
MARK = " *"
SUFFIXES = (".png", ".html")
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
IMAGES = {"training": "train_images", "validation": "validation_images"}
ALWAYS_DIFFERENT = ("seed",)  # told by --all alone


class _Absent:
    """The value of a hyperparameter that a configuration does not have."""

    def __repr__(self) -> str:
        return "-"


ABSENT = _Absent()


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


def compare(
    references: Sequence[str], settings: Settings, *, everything: bool, curves: str | None, as_json: bool
) -> int:
    """Print what differs between studies' best trials, trials and versions; draw their curves where asked.

    Raises InputError with every problem, TrackingError where MLflow goes away.
    """
    problems: list[str] = []
    place = Path(curves).expanduser() if curves else None
    if place and (problem := _place_problem(place)):
        problems.append(problem)
    things: list[Compared] = []
    notes: list[str] = []
    try:
        things, notes = read(references, settings)
        if len(things) < 2:
            named = f"{things[0].reference} alone" if things else "nothing"
            problems.append(f"{named} is named; give two or more different things to compare: {KINDS}")
    except InputError as error:
        problems += error.problems
    if place and things and not any(thing.history for thing in things):
        problems.append(f"--curves {place}: none of these has a recorded epoch")
    if problems:
        raise InputError(problems)
    notes = remarks(things) + notes
    if place:
        notes += _draw(things, place)
    if as_json:
        emit(_told(things, notes, place))
    else:
        _print(things, notes, everything)
        if place:
            print(f"curves: {place}")
    return OK


# ---- what differs


def differing(configs: Sequence[Mapping[str, Any]], everything: bool = False) -> dict[str, list[Any]]:
    """The values of each name that is not the same in all (with `everything` of every name), ABSENT where one has none.

    Names stand in the order of the configurations, one that only a later one has after its neighbour there.
    """
    order: list[str] = []
    for config in configs:
        at = 0
        for name in config:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    rows = {name: [config.get(name, ABSENT) for config in configs] for name in order}
    return {name: row for name, row in rows.items() if everything or any(not same(row[0], v) for v in row[1:])}


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same to a person: 1 and 1.0 are, 1 and true are not."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def words(values: Sequence[Any]) -> list[str]:
    """How the values of a row are written: briefly, unless different ones would look alike."""
    brief = [_brief(value) for value in values]
    alike = any(a == b and not same(v, w) for a, v in zip(brief, values, strict=True)
                for b, w in zip(brief, values, strict=True))  # fmt: skip
    return [_exact(value) for value in values] if alike else brief


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(ABSENT) if value is ABSENT or value is None else show(value)


def _exact(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return repr(int(value))
    return repr(value)


# ---- figures


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
    ]


def _share(value: float) -> str:
    return f"{value:.4f}"


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _figure_rows(things: Sequence[Compared]) -> list[Row]:
    found, rows = [figures_of(thing) for thing in things], []
    for figure in _figures(things):
        values = [f[figure.key] for f in found]
        if all(value is None for value in values):
            continue
        texts = ["-" if value is None else figure.write(value) for value in values]
        comparable = not _split_by(things, figure.on)
        rows.append(Row(figure.title, texts, best_of(values, texts, figure.better) if comparable else frozenset()))
    return rows


def best_of(values: Sequence[Any], texts: Sequence[str], better: Callable[..., Any] | None) -> frozenset[int]:
    """The indexes of the best finite value, with those that read the same; none where all read the same."""
    known = [value for value in values if is_number(value)]
    if better is None or len({text for text, v in zip(texts, values, strict=True) if is_number(v)}) < 2:
        return frozenset()
    best = texts[list(values).index(better(known))]
    return frozenset(i for i, text in enumerate(texts) if text == best and is_number(values[i]))


# ---- whether they can be compared


def _split_by(things: Sequence[Compared], on: str) -> bool:
    """Whether figures on the training, validation or test images are not of the same images."""
    if not on:
        return False
    if _unknown(things) or _varies(t.digest for t in things) or _varies(t.setup.get("dataset") for t in things):
        return True
    if on == "test":
        return False
    return _varies(t.setup.get(IMAGES[on]) for t in things) or _other_split(things)


def _unknown(things: Sequence[Compared]) -> list[str]:
    """Those of which nobody noted the data; none where all are of one study, which has one data set."""
    studies = {thing.study for thing in things}
    return [] if len(studies) == 1 and None not in studies else [t.reference for t in things if t.digest is None]


def _other_split(things: Sequence[Compared]) -> bool:
    """Whether as many images were drawn otherwise; a split's digest differs also where only its size does."""
    sizes = any(_varies(t.setup.get(key) for t in things) for key in IMAGES.values())
    return not sizes and _varies(t.split for t in things)


def _varies(values: Iterable[Any]) -> bool:
    return len({value for value in values if value is not None}) > 1


def remarks(things: Sequence[Compared]) -> list[str]:
    """Why figures of these may not be comparable, one line each."""
    found = []
    for title, values, why in (
        ("datasets", [t.setup.get("dataset") for t in things], "no accuracy or loss is comparable"),
        ("objectives", [t.metric for t in things], "the objective is not comparable"),
    ):
        if _varies(values):
            found.append(f"different {title}: {_who(things, values)}; {why}")
    if not _varies(t.setup.get("dataset") for t in things) and _varies(t.digest for t in things):
        digests = [t.digest[:12] if t.digest else None for t in things]
        found.append(
            f"different data of one name, by digest: {_who(things, digests)}; no accuracy or loss is comparable"
        )
    if unknown := _unknown(things):
        found.append(f"on which data is not known, so no accuracy or loss is compared: {', '.join(unknown)}")
    more = "training figures are not comparable, and more images alone make a better model"
    for key, title, why in (
        (IMAGES["training"], "numbers of training images", more),
        (IMAGES["validation"], "numbers of validation images", "validation figures are not comparable"),
    ):
        values = [t.setup.get(key) for t in things]
        if _varies(values):
            found.append(f"different {title}: {_who(things, [_thousands(v, key) for v in values])}; {why}")
    if _other_split(things) and not _varies(t.digest for t in things):
        found.append(
            f"different splits of the data: {_who(things, [t.split[:12] if t.split else None for t in things])}"
        )
    unfinished = [f"{t.reference} {t.state.lower()}" for t in things if t.state != "COMPLETE"]
    if unfinished:
        found.append(f"not trained to its end: {', '.join(unfinished)}")
    return found


def _thousands(value: Any, name: str) -> Any:
    """Counts of images as people write them, anything else as it is."""
    return f"{value:,}" if name in IMAGES.values() and isinstance(value, int) else value


def _who(things: Sequence[Compared], values: Sequence[Any]) -> str:
    """Each value with those that have it."""
    groups: dict[str, list[str]] = {}
    for thing, value in zip(things, values, strict=True):
        groups.setdefault("unknown" if value is None else str(value), []).append(thing.reference)
    return ", ".join(f"{value} ({', '.join(who[:3])}{', …' if len(who) > 3 else ''})" for value, who in groups.items())


# ---- output


def _setup_rows(things: Sequence[Compared], everything: bool) -> list[Row]:
    setups = [{SETUP[name]: _thousands(thing.setup.get(name), name) for name in SETUP} for thing in things]
    rows = differing(setups, everything)
    hidden = () if everything else tuple(SETUP[name] for name in ALWAYS_DIFFERENT)
    shown = {n: v for n, v in rows.items() if n not in hidden and any(x is not None for x in v)}
    return [Row(name, words(values)) for name, values in shown.items()]


def _config_rows(things: Sequence[Compared], everything: bool) -> list[Row]:
    rows = differing([thing.config for thing in things], everything)
    return [Row(name, words(values)) for name, values in rows.items()]


def _print(things: Sequence[Compared], notes: Sequence[str], everything: bool) -> None:
    groups = {
        "how it was trained": _setup_rows(things, everything),
        "hyperparameters": _config_rows(things, everything),
        "figures": _figure_rows(things),
    }
    is_terminal = sys.stdout.isatty()
    console = Console(highlight=False, **({} if is_terminal else {"width": PIPE}))  # type: ignore[arg-type]
    shared = len({(thing.kind, thing.name) for thing in things}) == 1
    if shared:
        kind = "model" if things[0].kind == "version" else "study"
        console.print(Text(f"{kind} {things[0].name}", style="bold"))
    columns = _by_columns(things, groups, shared)
    limit = console.width if is_terminal else WIDTH
    if _width(console, columns) <= limit:
        console.print(columns)
    else:
        for title, rows in groups.items():
            for table in _by_rows(console, things, title, rows, shared):
                console.print(table)
    if not groups["hyperparameters"]:
        print("no hyperparameter differs")
    elif not everything and (left := len(_config_rows(things, True)) - len(groups["hyperparameters"])):
        print(f"{left} more hyperparameter{'s are' if left > 1 else ' is'} the same in all (--all)")
    if any(row.best for row in groups["figures"]):
        print("* the best")
    for note in notes:
        print(f"note: {note}")


def _by_columns(things: Sequence[Compared], groups: Mapping[str, Sequence[Row]], shared: bool) -> Table:
    """One column a thing; the name of its study or model stands above it where it is not `shared`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    is_any_known = any(thing.known for thing in things)
    for thing in things:
        lines = ([] if shared else textwrap.wrap(thing.name, COLUMN)) + [thing.part]
        lines += [f"({thing.known})" if thing.known else ""] if is_any_known else []
        table.add_column(Text("\n".join(lines)), overflow="fold")
    for title, rows in groups.items():
        if rows:
            table.add_row(*(Text("") for _ in range(len(things) + 1)))
            table.add_row(Text(title, style="bold"), *(Text("") for _ in things))
        for row in rows:
            table.add_row(Text(f"  {row.title}"), *(_cell(row, i) for i in range(len(things))))
    return table


def _by_rows(
    console: Console, things: Sequence[Compared], title: str, rows: Sequence[Row], shared: bool
) -> Iterator[Table]:
    """One row a thing for a group of what is told of it, in as many tables as the width demands."""
    left = list(rows)
    while left:
        taken = 1
        while (
            taken < len(left)
            and _width(console, _rows_table(things, title, left[: taken + 1], shared)) <= console.width
        ):
            taken += 1
        yield _rows_table(things, title if len(left) == len(rows) else "", left[:taken], shared)
        left = left[taken:]


def _rows_table(things: Sequence[Compared], title: str, rows: Sequence[Row], shared: bool) -> Table:
    above = Text(f"\n{title}" if title else " ")
    table = Table(box=None, pad_edge=False, header_style="bold", title=above, title_justify="left")
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_column(Text("\n".join(textwrap.wrap(row.title, HEADING, break_long_words=False))), overflow="fold")
    for i, thing in enumerate(things):
        known = f" ({thing.known})" if thing.known else ""
        table.add_row(Text(thing.part + known if shared else thing.label), *(_cell(row, i) for row in rows))
    return table


def _width(console: Console, table: Table) -> int:
    """How wide a table would be with no cell folded."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _cell(row: Row, index: int) -> Text:
    is_best = index in row.best
    return Text(row.texts[index] + (MARK if is_best else ""), style="bold" if is_best else "")


def _told(things: Sequence[Compared], notes: Sequence[str], place: Path | None) -> dict[str, Any]:
    """Everything, for --json; a hyperparameter that a configuration does not have is not in it."""
    return {
        "compared": [
            {
                "reference": t.reference,
                "kind": t.kind,
                "name": t.name,
                "study": t.study,
                "trial": t.trial,
                "state": t.state,
                "run_id": t.run_id,
                "config": dict(t.config),
                "setup": dict(t.setup),
                "data": {"digest": t.digest, "split": t.split},
                "metric": t.metric,
                "direction": t.direction,
                "figures": figures_of(t),
                "history": list(t.history),
                "tags": dict(t.tags),
            }
            for t in things
        ],
        "differ": list(differing([t.config for t in things])),
        "notes": list(notes),
        "curves": str(place) if place else None,
    }


def _draw(things: Sequence[Compared], place: Path) -> list[str]:
    """Write the curves; gives a line where not all are drawn. Raises InputError where the file cannot be written."""
    drawn: dict[str, list[Compared]] = {}  # a version and the trial it was made of are one training
    for thing in things:
        if thing.history:
            drawn.setdefault(thing.run_id or thing.reference, []).append(thing)
    trainings = [Training(" = ".join(t.label for t in one), one[0].history, one[0].best) for one in drawn.values()]
    metrics = list(dict.fromkeys(one[0].metric for one in drawn.values()))
    names = list(dict.fromkeys(thing.name for one in drawn.values() for thing in one))
    title = f"Learning curves of {', '.join(names) if len(names) <= 3 else f'{len(trainings)} trainings'}"
    draw = comparison_figures.still if place.suffix.lower() == ".png" else comparison_figures.interactive
    try:
        place.write_bytes(draw(trainings, metrics, title))
    except OSError as error:
        raise InputError(f"--curves {place}: cannot be written ({error.strerror or error})") from error
    most = comparison_figures.MOST
    notes = [f"no curves of {t.reference}: it has no recorded epoch" for t in things if not t.history]
    if len(trainings) > most:
        notes.append(f"{place.name} shows the first {most} of {len(trainings)}: more cannot be told apart")
    return notes


def _place_problem(place: Path) -> str | None:
    """Why curves cannot be written to a file; None where they can."""
    if place.suffix.lower() not in SUFFIXES:
        return f"--curves {place}: give a file that ends in .png or .html"
    if place.is_dir():
        return f"--curves {place}: is a folder; give a file"
    folder = place.absolute().parent
    return None if folder.is_dir() else f"--curves {place}: no folder {folder}"
