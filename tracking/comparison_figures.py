"""Learning curves of several trainings over each other, as a PNG and as an interactive page."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking.figures import FAINT, GRID, INK, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Petroff, "Accessible color sequences for data visualization", 2021: ten that colour-blind eyes tell apart.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MOST = len(COLOURS)  # trainings in one picture
MARKED = 30  # epochs up to which each is a point
STEEP = 100.0  # times between the largest and the smallest loss from which the axis is logarithmic
LONGEST = 44  # characters of a label
LEGEND_WIDTH = 72  # characters beside each other below a panel
DASH = "5px,4px"


@dataclass(frozen=True)
class Training:
    """One training as it is drawn: a mapping of metrics an epoch, in order, and the index of its best epoch, if any."""

    label: str
    history: Sequence[Mapping[str, float]]
    best: int | None = None


def still(trainings: Sequence[Training], metrics: Sequence[str], title: str) -> bytes:
    """A PNG: the loss and each of `metrics` in a panel, training dashed, validation solid, a colour each.

    `metrics` are objectives like val_accuracy; epochs are counted from 1; a ring marks the best epoch. Only the first
    `MOST` trainings are drawn, and the picture says so. Safe in any thread.
    """
    # Not pyplot: its figures belong to the process, and live until somebody closes them.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn, names = trainings[:MOST], panels(metrics)
    columns = _columns(drawn, LEGEND_WIDTH * len(names))
    height = 4.2 + 0.2 * (1 + -(-len(drawn) // columns))
    figure = Figure(figsize=(5.8 * len(names), height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_plain(_title(title, trainings)), fontsize=12, color=INK, x=0.01, ha="left", fontweight="bold")
    for column, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), column + 1)
        for colour, training in zip(COLOURS, drawn, strict=False):
            _curves(axes, training, name, colour)
        _dress(axes, drawn, name)
    _legend(figure, drawn, columns)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def interactive(trainings: Sequence[Training], metrics: Sequence[str], title: str) -> bytes:
    """The same as an HTML page that needs no network; a click in the legend hides or shows a training's curves."""
    from plotly.subplots import make_subplots

    drawn, names = trainings[:MOST], panels(metrics)
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[_words(n) for n in names], horizontal_spacing=0.07)
    for number, (colour, training) in enumerate(zip(COLOURS, drawn, strict=False)):
        for column, name in enumerate(names):
            for trace in _traces(training, name, colour, number, first=column == 0):
                figure.add_trace(trace, row=1, col=column + 1)
    for column, name in enumerate(names):
        steep = name == "loss" and _is_steep(drawn)
        scale = {"type": "log", "dtick": "D2"} if steep else {"type": "linear"}
        figure.update_yaxes(exponentformat="none", row=1, col=column + 1, **scale)
    figure.update_xaxes(title_text="epoch", tickformat="d", showspikes=True, spikethickness=1, spikecolor=FAINT)
    ticks = {"dtick": 1} if max((len(t.history) for t in drawn), default=0) <= 12 else {}
    figure.update_xaxes(gridcolor=GRID, zeroline=False, **ticks)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    key = "solid: validation, dashed: training, ring: best epoch; a click in the legend hides a training"
    figure.update_layout(
        title={"text": f"{html.escape(_title(title, trainings))}<br><sup>{key}</sup>", "x": 0.01},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "color": INK},
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0, "groupclick": "togglegroup"},
        hovermode="closest",
        height=620,
        margin={"l": 60, "r": 30},
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page.replace("<head>", f"<head><title>{html.escape(title)}</title>", 1).encode()


def panels(metrics: Sequence[str]) -> list[str]:
    """What is drawn: the loss, then what each objective measures, without its val_."""
    return list(dict.fromkeys(["loss", *(metric.removeprefix("val_") for metric in metrics)]))


def _title(title: str, trainings: Sequence[Training]) -> str:
    return title if len(trainings) <= MOST else f"{title}: the first {MOST} of {len(trainings)}"


def _values(training: Training, name: str) -> np.ndarray:
    values = np.array([float(epoch.get(name, np.nan)) for epoch in training.history], dtype=float)
    values[~np.isfinite(values)] = np.nan
    return values


def _series(training: Training, name: str) -> Iterator[tuple[str, np.ndarray, bool]]:
    """(metric, values, whether it is of validation) of each curve that has a value."""
    for key, is_validation in ((name, False), (f"val_{name}", True)):
        values = _values(training, key)
        if np.isfinite(values).any():
            yield key, values, is_validation


def _is_steep(trainings: Sequence[Training]) -> bool:
    """Whether the losses need a logarithmic axis to be told apart."""
    found = [v for t in trainings for _, values, _ in _series(t, "loss") for v in values[np.isfinite(values)]]
    return bool(found) and min(found) > 0 and max(found) > STEEP * min(found)


def _curves(axes: Axes, training: Training, name: str, colour: str) -> None:
    epochs = np.arange(1, len(training.history) + 1)
    marker = "o" if len(training.history) <= MARKED else None
    for _, values, is_validation in _series(training, name):
        style: Any = "-" if is_validation else (0, (4, 2.5))
        size, width = (3.2, 1.9) if is_validation else (1.8, 1.2)
        axes.plot(epochs, values, color=colour, ls=style, lw=width, marker=marker, ms=size, zorder=3 + is_validation)
        if is_validation and training.best is not None and np.isfinite(values[training.best]):
            at = training.best
            axes.plot(epochs[at], values[at], "o", ms=9, mfc="none", mec=colour, mew=1.8, zorder=5)


def _dress(axes: Axes, trainings: Sequence[Training], name: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    longest = max((len(t.history) for t in trainings), default=1)
    axes.set_title(_words(name), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=9, color=FAINT)
    beside = max(0.5, 0.02 * longest)  # room for a ring
    axes.set_xlim(1 - beside, max(longest, 1) + beside)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "loss" and _is_steep(trainings):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    frame(axes)


def _legend(figure: Figure, trainings: Sequence[Training], columns: int) -> None:
    """Below the panels, where no curve is hidden: the colours, then what the two styles and the ring mean."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, lw=2.4) for c, _ in zip(COLOURS, trainings, strict=False)]
    labels = [_plain(_short(training.label)) for training in trainings]
    handles += [
        Line2D([], [], color=FAINT, lw=1.9),
        Line2D([], [], color=FAINT, lw=1.2, ls=(0, (4, 2.5))),
        Line2D([], [], color=FAINT, lw=0, marker="o", ms=8, mfc="none", mew=1.6),
    ]
    labels += ["validation", "training", "best epoch"]
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK)


def _columns(trainings: Sequence[Training], width: int) -> int:
    """How many labels stand beside each other in a legend of so many characters."""
    longest = max((len(_short(t.label)) for t in trainings), default=0)
    return max(1, min(len(trainings) + 3, width // (max(longest, 10) + 6)))


def _traces(training: Training, name: str, colour: str, number: int, *, first: bool) -> Iterator[Any]:
    """The curves of one training in one panel; `first` makes the one that stands in the legend."""
    from plotly.graph_objects import Scatter

    label = html.escape(_short(training.label))
    epochs = list(range(1, len(training.history) + 1))
    shared = {"legendgroup": str(number), "name": label, "x": epochs}
    mode = "lines+markers" if len(epochs) <= MARKED else "lines"
    if first:  # also where this panel has no curve of it
        yield Scatter(
            x=[None], y=[None], mode="lines", name=label, legendgroup=str(number), line={"color": colour, "width": 3}
        )
    for key, values, is_validation in _series(training, name):
        said = f"{label}<br>{_words(key)}, epoch %{{x}}: %{{y:.4g}}<extra></extra>"
        line = {"color": colour, "width": 2.4 if is_validation else 1.4, "dash": "solid" if is_validation else DASH}
        points = [None if np.isnan(v) else float(v) for v in values]
        size = {"size": 5 if is_validation else 3}
        yield Scatter(**shared, y=points, mode=mode, line=line, marker=size, hovertemplate=said, showlegend=False)
        if is_validation and training.best is not None and np.isfinite(values[training.best]):
            ring = {"symbol": "circle-open", "size": 13, "color": colour, "line": {"width": 2.2}}
            at = training.best
            yield Scatter(
                **shared | {"x": [epochs[at]]},
                y=[points[at]],
                mode="markers",
                marker=ring,
                hoverinfo="skip",
                showlegend=False,
            )


def _words(name: str) -> str:
    return name.replace("val_", "validation ", 1).replace("_", " ")


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST // 2 - 1]}…{label[-LONGEST // 2 :]}"


def _plain(text: str) -> str:
    """Text that matplotlib takes as it stands: a $ begins a formula, a leading _ hides a line from the legend."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
