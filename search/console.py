"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spaces._hp import show

RECENT = 8
WIDE = 100  # characters, below which the table leaves the hyperparameters out


@dataclass
class Row:
    """One trial as the table shows it; seconds are of the last epoch."""

    number: int
    config: Mapping[str, Any]
    epochs: int
    state: str = "starting"
    epoch: int = 0
    value: float | None = None
    seconds: float = 0.0
    note: str = ""


@dataclass
class Progress:
    """The state of a running study, drawn by `Screen`."""

    study: str
    columns: tuple[str, ...]
    metric: str
    total: int
    better: Any = max
    rows: dict[int, Row] = field(default_factory=dict)
    finished: int = 0
    bests: dict[int, float] = field(default_factory=dict)  # of the trials within the limits, as far as is known
    several: bool = False  # objectives
    leading: frozenset[int] = frozenset()  # of several objectives, the trials on the front
    epochs_done: int = 0
    epoch_seconds: float = 0.0
    epochs_a_trial: float = 0.0
    slots: int = 1
    resting: set[int] = field(default_factory=set)  # trials that rest until it shows whether they may go on
    stopping: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def best(self) -> tuple[int, float] | None:
        """The trial with the best value of the metric, the earlier of equals."""
        if not self.bests:
            return None
        best = self.better(self.bests.values())
        return min(n for n, value in self.bests.items() if value == best), best

    def time_left(self) -> float | None:
        """Seconds left, from the epochs that finished trials took and the seconds an epoch took; None while unknown."""
        if not self.epochs_done:
            return None
        active = [r for r in self.rows.values() if r.state in ("starting", "training")]
        trials = max(0, self.total - self.finished - len(active) - len(self.resting))
        running = sum(max(0, r.epochs - r.epoch) for r in active)
        epochs = running + trials * (self.epochs_a_trial or max((r.epochs for r in active), default=1))
        return epochs * self.epoch_seconds / self.epochs_done / self.slots


def clock(seconds: float | None) -> str:
    """Seconds as 1:02:03 or 2:03; a dash where unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Screen:
    """Draws a `Progress`. `quiet` shows nothing; without a terminal each step is one plain line on stderr."""

    def __init__(self, progress: Progress, *, quiet: bool = False, stream: Any = None) -> None:
        self.progress = progress
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self._recent: deque[int] = deque(maxlen=RECENT)
        self.live = (
            Live(get_renderable=self._render, console=self.console, refresh_per_second=4)
            if self.console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> Screen:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        """One line of text above the table."""
        if not self.quiet:
            self.console.print(line, markup=False)

    def error(self, line: str) -> None:
        """What went wrong, in one line that is shown whoever asked for quiet."""
        self.console.print(f"error: {line}", markup=False)

    def step(self, line: str) -> None:
        """One line of progress, only where there is no live table."""
        if self.live is None:
            self.say(line)

    def started(self, row: Row) -> None:
        """A trial took a slot."""
        self.progress.rows[row.number] = row
        self.progress.resting.discard(row.number)
        keys = " ".join(f"{c}={show(row.config[c])}" for c in self.progress.columns if c in row.config)
        self.step(f"trial {row.number} starts: {keys}{' (' + row.note + ')' if row.note else ''}")

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial finished an epoch (counted from 1)."""
        progress, row = self.progress, self.progress.rows[number]
        row.state, row.epoch, row.seconds = "training", epoch, metrics["seconds"]
        value = metrics[progress.metric]
        if value == value:
            row.value = value if row.value is None else progress.better(row.value, value)
            progress.bests[number] = row.value
        progress.epochs_done += 1
        progress.epoch_seconds += metrics["seconds"]
        self.step(
            f"trial {number} epoch {epoch}/{row.epochs}: {progress.metric} {value:.4f}, loss {metrics['loss']:.4f}, "
            f"{metrics['seconds']:.1f} s, {metrics['images_per_second']:.0f} images/s"
        )

    def judged(self, number: int, within: bool, leading: frozenset[int]) -> None:
        """A trial that has ended is within the limits or not; who is on the front now."""
        if not within:
            self.progress.bests.pop(number, None)
        self.progress.leading = leading

    def ended(self, number: int, state: str, note: str = "") -> None:
        """A trial ended in `state`."""
        progress, row = self.progress, self.progress.rows.setdefault(number, Row(number, {}, 1))
        row.state, row.note = state, note
        if state == "resting":
            progress.resting.add(number)
        elif state != "paused":
            progress.resting.discard(number)
            progress.finished += 1
            epochs = [r.epoch for r in progress.rows.values() if r.state in ("complete", "pruned")]
            progress.epochs_a_trial = sum(epochs) / len(epochs) if epochs else 0.0
        self._recent.append(number)
        value = "" if row.value is None else f" {progress.metric} {row.value:.4f}"
        left = clock(progress.time_left())
        self.step(
            f"trial {number} {state}{value}{' (' + note + ')' if note else ''}; {progress.finished} of "
            f"{progress.total} done{self._resting()}, about {left} left"
        )

    def _resting(self) -> str:
        return f", {len(self.progress.resting)} resting" if self.progress.resting else ""

    def _render(self) -> Group:
        progress = self.progress
        table = Table(box=None, pad_edge=False, header_style="bold")
        best_of = progress.best
        columns = progress.columns if self.console.width >= WIDE else ()
        for heading in ("trial", *columns, "epoch", "", progress.metric, "s/epoch", "state"):
            table.add_column(heading, no_wrap=True)
        active = [n for n, r in list(progress.rows.items()) if r.state in ("starting", "training")]
        for number in [*(n for n in list(self._recent) if n not in active), *active]:
            row = progress.rows[number]
            best = number in progress.leading if progress.several else best_of is not None and best_of[0] == number
            table.add_row(
                str(number),
                *(show(row.config[c]) if c in row.config else "-" for c in columns),
                f"{row.epoch}/{row.epochs}",
                _bar(row.epoch / row.epochs),
                "-" if row.value is None else f"{row.value:.4f}",
                f"{row.seconds:.1f}" if row.seconds else "-",
                f"{row.state} {row.note}".strip(),
                style="green" if best else ("dim" if row.state not in ("starting", "training") else ""),
            )
        best_text = "no result yet"
        if best_of is not None:
            what = f"best {progress.metric}" if progress.several else "best"
            best_text = f"{what} {best_of[1]:.4f} (trial {best_of[0]})"
        if progress.several:
            best_text += f", front of {len(progress.leading)}"
        head = (
            f"{progress.study}: {progress.finished}/{progress.total} trials{self._resting()}, {best_text}, "
            f"{clock(time.monotonic() - progress.started)} gone, about {clock(progress.time_left())} left"
        )
        return Group(Text(head, style="bold"), table, Text(progress.stopping, style="yellow"))


def _bar(share: float, width: int = 12) -> str:
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "╌" * (width - full)
