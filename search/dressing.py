"""Makes Optuna's pictures readable: the worst trials are not nearly white, the labels of categories do not overlap."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

DARKER = 0.78  # of each colour's channels: white becomes a grey that is seen on white
PALE = 0.25  # of a scale of colours, at its pale end
CROSSED = 15, 10  # inches of a picture with a small one for each pair
LONG = 3  # characters of a label, above which labels stand aslant
RGB = re.compile(r"rgb\((\d+), ?(\d+), ?(\d+)\)")


def interactive(function: str, figure: Any) -> Any:
    """The figure of plotly that a function of Optuna's gave."""
    if function == "plot_parallel_coordinate":
        for trace in figure.data:
            line = trace.line
            if line is not None and isinstance(line.color, str):
                line.color = _darker(line.color)
            marker = trace.marker
            if marker is not None and marker.colorscale:
                marker.colorscale = [(at, _darker(colour)) for at, colour in marker.colorscale]
    if function in ("plot_slice", "plot_contour"):
        figure.update_xaxes(tickangle=-40, selector=lambda axis: axis.type == "category")
    return figure


def still(function: str, axes: Any) -> Any:
    """What a function of Optuna's for matplotlib gave: axes, or an array of them."""
    from matplotlib.colors import ListedColormap

    each = axes.ravel() if hasattr(axes, "ravel") else [axes]
    if function == "plot_parallel_coordinate":
        for lines in each[0].collections:
            reverse = lines.cmap.name.endswith("_r")
            lines.set_cmap(ListedColormap(lines.cmap(np.linspace(0, 1 - PALE) if reverse else np.linspace(PALE, 1))))
    if function in ("plot_slice", "plot_contour"):
        for one in each:
            labels = [label.get_text() for label in one.get_xticklabels()]
            if any(len(text) > LONG and not _is_number(text) for text in labels):
                one.tick_params(axis="x", labelrotation=40)
    if function == "plot_contour":
        each[0].figure.set_size_inches(*CROSSED)
    return axes


def _darker(colour: str) -> str:
    found = RGB.fullmatch(colour)
    return colour if found is None else f"rgb({', '.join(str(round(int(c) * DARKER)) for c in found.groups())})"


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return text.startswith("$")  # a power of ten
    return True
