"""Pictures of which hyperparameters mattered: shares of the variance with their spread, and what chance gives."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracking.figures import EDGE, FAINT, INK, TRAINING, VALIDATION, frame

MOST_BARS = 20


class Bar(NamedTuple):
    """One hyperparameter's share, the least and the most of several forests, and what chance gives up to."""

    share: float
    low: float
    high: float
    chance: float


def _title(metric: str, trials: int) -> str:
    return f"share of the variance of {metric}, {trials} trials"


def importances(bars: Mapping[str, Bar], metric: str, trials: int) -> bytes:
    """A PNG: one bar a hyperparameter, the largest on top; a red mark where chance ends. Safe in any thread."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(bars.items())[:MOST_BARS][::-1]
    figure = Figure(figsize=(9, 1.4 + 0.36 * len(shown)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="white")  # Optuna's pictures leave a grey as the default
    places = range(len(shown))
    colours = [TRAINING if bar.share > bar.chance else EDGE for _, bar in shown]
    axes.barh(places, [bar.share for _, bar in shown], color=colours, height=0.62)
    spread = [[bar.share - bar.low for _, bar in shown], [bar.high - bar.share for _, bar in shown]]
    axes.errorbar([bar.share for _, bar in shown], places, xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=3,
                  label="least and most of several forests")  # fmt: skip
    axes.plot([bar.chance for _, bar in shown], places, "|", color=VALIDATION, ms=13, mew=2, label="chance gives up to")
    axes.set_yticks(places, [name for name, _ in shown])
    axes.set_xlim(left=0)
    axes.set_title(_title(metric, trials), fontsize=10, color=INK, loc="left")
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower right")
    frame(axes, "x")
    axes.tick_params(axis="y", labelsize=9, colors=FAINT)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def interactive_importances(bars: Mapping[str, Bar], metric: str, trials: int) -> bytes:
    """The same as a page of its own."""
    import plotly.graph_objects as go

    names: Sequence[str] = list(bars)[::-1]
    found = [bars[name] for name in names]
    above = [bar.high - bar.share for bar in found]
    below = [bar.share - bar.low for bar in found]
    figure = go.Figure(
        [
            go.Bar(
                x=[bar.share for bar in found],
                y=names,
                orientation="h",
                name="share",
                marker_color=[TRAINING if bar.share > bar.chance else EDGE for bar in found],
                error_x={"type": "data", "symmetric": False, "array": above, "arrayminus": below},
            ),
            go.Scatter(
                x=[bar.chance for bar in found],
                y=names,
                mode="markers",
                name="chance gives up to",
                marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": VALIDATION}},
            ),
        ]
    )
    figure.update_layout(title=_title(metric, trials), xaxis_title="share of the variance (fANOVA)")
    text: str = figure.to_html(include_plotlyjs=True)
    return text.encode()
