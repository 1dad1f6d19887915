"""A comparison on the terminal: as wide as it is, and plain text on a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.compared import Compared
from search.comparison import Row, config_rows, figure_rows, setup_rows
from search.report import unfolded

WIDTH = 100  # characters within which a table on a pipe has one column a thing; wider ones have one row a thing
PIPE = 200  # characters a line may have on a pipe
COLUMN = 18  # characters of a heading, where each thing is a column, before it is wrapped
HEADING = 12  # characters of a heading, where each thing is a row, before it is wrapped
MARK = " *"


def show(things: Sequence[Compared], notes: Sequence[str], everything: bool) -> None:
    """Print the rows as one table, one column a thing, or one row a thing where that is too wide, and the notes."""
    groups = {
        "how it was trained": setup_rows(things, everything),
        "hyperparameters": config_rows(things, everything),
        "figures": figure_rows(things),
    }
    is_terminal = sys.stdout.isatty()
    console = Console(highlight=False, **({} if is_terminal else {"width": PIPE}))  # type: ignore[arg-type]
    shared = len({(thing.kind, thing.name) for thing in things}) == 1
    if shared:
        kind = "model" if things[0].kind == "version" else "study"
        console.print(Text(f"{kind} {things[0].name}", style="bold"))
    columns = _by_columns(things, groups, shared)
    limit = console.width if is_terminal else WIDTH
    if unfolded(console, columns) <= limit:
        console.print(columns)
    else:
        for title, rows in groups.items():
            for table in _by_rows(console, things, title, rows, shared):
                console.print(table)
    if not groups["hyperparameters"]:
        print("no hyperparameter differs")
    elif not everything and (left := len(config_rows(things, True)) - len(groups["hyperparameters"])):
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
            and unfolded(console, _rows_table(things, title, left[: taken + 1], shared)) <= console.width
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


def _cell(row: Row, index: int) -> Text:
    is_best = index in row.best
    return Text(row.texts[index] + (MARK if is_best else ""), style="bold" if is_best else "")
