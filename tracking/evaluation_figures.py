"""Pictures of what a model gets right and wrong."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tracking.figures import EDGE, FAINT, GRID, INK, TRAINING, VALIDATION, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 130  # an inch
MOST_NUMBERED = 20  # classes whose confusions can be read as numbers
MOST_BARS = 40  # classes that have a bar each
LARGEST = 15  # confusions listed beside a matrix without numbers
WEAKEST = 20  # classes listed beside a curve of all
COLUMNS = 6  # of the grid of mistakes
LONGEST_NAME = 18  # characters
SHORT_NAME = 5  # stands level below a column
LONGEST_LINE = 21  # of a caption
LONGEST_SIDE = 192  # pixels of a thumbnail

Matrix = Sequence[Sequence[int]]
#: A uint8 image (height, width) or (height, width, channels), its true class, the predicted one, its probability.
Wrong = tuple[NDArray[np.uint8], str, str, float]


class Bin(Protocol):
    """The images whose confidence is between `lower` and `upper`: their mean confidence, accuracy and number."""

    @property
    def lower(self) -> float: ...
    @property
    def upper(self) -> float: ...
    @property
    def confidence(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def count(self) -> int: ...


def confusion_matrix(matrix: Matrix, class_names: Sequence[str], title: str = "Confusion matrix") -> bytes:
    """A PNG of a confusion matrix: a row for each true class, a column for each predicted one.

    Up to 20 classes each cell has its count and its share of the row; with more, the 15 largest confusions are listed
    at the side. Safe in any thread, as all pictures here are.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    names = _names(class_names)
    size = len(counts)
    if size <= MOST_NUMBERED:
        side = 1.6 + max(0.62 * size, 2.6)
        figure = _figure(side + 0.4, side + 0.3, title)
        _cells(figure.add_subplot(), counts, names)
    else:
        figure = _figure(13.0, 7.2, title)
        grid = figure.add_gridspec(1, 2, width_ratios=[1.5, 1.0])
        _cells(figure.add_subplot(grid[0, 0]), counts, names)
        _largest(figure.add_subplot(grid[0, 1]), counts, names)
    return _png(figure)


def largest_confusions(matrix: Matrix, most: int = LARGEST) -> list[tuple[int, int, int]]:
    """(true, predicted, images) of the cells off the diagonal with the most images, at most `most`, none with 0.

    Ties stand in the order of rows, then of columns.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    cells = [divmod(int(place), len(counts)) for place in order]
    return [(true, predicted, int(wrong[true, predicted])) for true, predicted in cells if wrong[true, predicted]]


def reliability(bins: Sequence[Bin], ece: float, title: str = "Reliability") -> bytes:
    """A PNG of how often predictions of a confidence are right, and of how many there are of each confidence."""
    figure = _figure(6.4, 6.2, f"{title}: expected calibration error {ece:.4f}")
    grid = figure.add_gridspec(2, 1, height_ratios=[3.0, 1.1])
    top = figure.add_subplot(grid[0])
    below = figure.add_subplot(grid[1], sharex=top)
    rows = [(b.lower, b.upper, b.confidence, b.accuracy, b.count) for b in bins]
    lower, upper, confidence, accuracy, count = np.array(rows, dtype=float).reshape(-1, 5).T
    middle, width = (lower + upper) / 2, (upper - lower) * 0.94
    top.bar(middle, accuracy, width, color=TRAINING, alpha=0.3, label="accuracy in the bin")
    top.plot([0, 1], [0, 1], color=FAINT, lw=1.0, ls=(0, (4, 3)), label="confidence = accuracy")
    top.plot(confidence, accuracy, "o-", color=TRAINING, lw=1.4, ms=4.5, label="at its mean confidence")
    top.set_ylim(0, 1.03)
    top.set_ylabel("accuracy", fontsize=9, color=FAINT)
    _legend(top, "left", columns=3)
    top.tick_params(labelbottom=False)
    below.bar(middle, count, width, color=FAINT, alpha=0.55)
    for x, n in zip(middle, count, strict=True):
        below.annotate(_short(n), (x, n), xytext=(0, 2), textcoords="offset points", fontsize=7, color=INK, ha="center")
    below.set_ylim(0, max(count, default=1) * 1.25)
    below.set_ylabel("images", fontsize=9, color=FAINT)
    below.set_xlabel("probability of the predicted class", fontsize=9, color=FAINT)
    for axes in (top, below):
        frame(axes, "y")
        axes.set_xlim(0, 1)
    return _png(figure)


def class_scores(f1: Sequence[float], class_names: Sequence[str], title: str = "F1 per class") -> bytes:
    """A PNG of each class' F1; with more than 40 classes a curve over all of them and the 20 lowest by name."""
    names = _names(class_names)
    scores = np.asarray(f1, dtype=float)
    if len(scores) <= MOST_BARS:
        figure = _figure(6.4, 1.3 + max(0.27 * len(scores), 0.8), title)
        _bars(figure.add_subplot(), names, scores, mean=float(scores.mean()))
        return _png(figure)
    order = np.argsort(scores, kind="stable")
    figure = _figure(11.5, 5.8, title)
    grid = figure.add_gridspec(1, 2, width_ratios=[1.2, 1.0])
    curve = figure.add_subplot(grid[0, 0])
    places = np.arange(1, len(scores) + 1)
    curve.fill_between(places, scores[order], color=TRAINING, alpha=0.25, lw=0)
    curve.plot(places, scores[order], color=TRAINING, lw=1.8)
    mean = float(scores.mean())
    curve.axhline(mean, color=VALIDATION, lw=1.2, ls=(0, (4, 3)))
    curve.annotate(f"mean {mean:.3f}", (places[0], mean), xytext=(4, 4), textcoords="offset points", fontsize=8,
                   color=VALIDATION)  # fmt: skip
    curve.set_xlim(1, len(scores))
    curve.set_ylim(0, 1.03)
    curve.set_title(f"all {len(scores)} classes, lowest first", fontsize=10, color=INK, loc="left")
    curve.set_xlabel("classes", fontsize=9, color=FAINT)
    frame(curve, "both")
    lowest = figure.add_subplot(grid[0, 1])
    _bars(lowest, [names[i] for i in order[:WEAKEST]], scores[order[:WEAKEST]])
    lowest.set_title(f"the {WEAKEST} lowest", fontsize=10, color=INK, loc="left")
    return _png(figure)


def robustness(accuracies: Mapping[str, float], clean: float, title: str = "Robustness") -> bytes:
    """A PNG of the accuracy on images changed in named ways, beside `clean`, that on the images as they are."""
    names = [plain(name.replace("_", " "), 28) for name in accuracies]
    figure = _figure(6.4, 1.5 + 0.36 * max(len(names), 1), title)
    axes = figure.add_subplot()
    _bars(axes, names, np.asarray(list(accuracies.values()), dtype=float))
    axes.axvline(clean, color=VALIDATION, lw=1.4, ls=(0, (4, 3)), label=f"unchanged images: {clean:.3f}")
    _legend(axes, "right")
    axes.set_xlabel("accuracy", fontsize=9, color=FAINT)
    return _png(figure)


def mistakes(wrong: Sequence[Wrong], title: str = "The most confident mistakes") -> bytes:
    """A PNG of images with their true and predicted class and the predicted one's probability, six in a row."""
    rows = max(1, -(-len(wrong) // COLUMNS))
    figure = _figure(1.62 * COLUMNS, 0.5 + 1.95 * rows, title)
    if not wrong:
        figure.text(0.5, 0.4, "no mistakes", fontsize=10, color=FAINT, ha="center")
    grid = figure.add_gridspec(rows, COLUMNS)
    for place, (image, true, predicted, confidence) in enumerate(wrong):
        axes = figure.add_subplot(grid[divmod(place, COLUMNS)])
        axes.imshow(as_shown(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        caption = f"{plain(true)} → {plain(predicted)} {confidence:.2f}"
        if len(caption) > LONGEST_LINE:
            caption = caption.replace(" → ", " →\n", 1)
        axes.set_title(caption, fontsize=8, color=INK, parse_math=False, pad=4)
    return _png(figure)


def as_shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image as (height, width) grey or (height, width, 3 or 4) colour; other channels become their mean."""
    if image.ndim == 2 or image.shape[2] in (3, 4):
        return image
    return np.asarray(np.rint(image.mean(axis=2)), dtype=np.uint8)


def thumbnail(image: NDArray[np.uint8], longest: int = LONGEST_SIDE) -> bytes:
    """A PNG of an image, made smaller where a side has more than `longest` pixels and never larger."""
    from PIL import Image

    small = Image.fromarray(as_shown(image))
    small.thumbnail((longest, longest))
    picture = io.BytesIO()
    small.save(picture, format="png")
    return picture.getvalue()


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` as the pictures' font can write it on one line, cut to `longest` characters."""
    known = _characters()
    written = "".join(c if ord(c) in known else "?" for c in " ".join(text.split()))
    return written if len(written) <= longest else written[: longest - 1] + "…"


def _names(class_names: Sequence[str]) -> list[str]:
    """Those of which nothing can be written are numbered."""
    written = [plain(name) for name in class_names]
    return [name if name.strip("? ") else f"class {index}" for index, name in enumerate(written)]


@functools.cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def _figure(width: float, height: float, title: str) -> Figure:
    """In inches."""
    # Not pyplot: its figures belong to the process, and live until somebody closes them.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plain(title, 200), fontsize=12, color=INK, x=0.01, ha="left", fontweight="bold", parse_math=False)
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _legend(axes: Axes, side: Literal["left", "right"], columns: int = 1) -> None:
    """Above the axes, where it hides nothing."""
    left = side == "left"
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, borderpad=0.1, borderaxespad=0.3, ncols=columns,
                loc="lower left" if left else "lower right", bbox_to_anchor=(0.0 if left else 1.0, 1.0))  # fmt: skip


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 10_000 else f"{count / 1000:.0f}k"


def _bars(axes: Axes, names: Sequence[str], values: NDArray[np.float64], mean: float | None = None) -> None:
    """A horizontal bar for each value between 0 and 1, the first at the top, the value written at its foot."""
    places = np.arange(len(names))
    axes.barh(places, values, height=0.68, color=TRAINING, alpha=0.85)
    for place, value in zip(places, values, strict=True):
        inside = value > 0.12
        axes.annotate(f"{value:.3f}", (0 if inside else value, place), xytext=(4, 0), textcoords="offset points",
                      fontsize=7.5, color="white" if inside else INK, va="center_baseline")  # fmt: skip
    if mean is not None:
        axes.axvline(mean, color=VALIDATION, lw=1.2, ls=(0, (4, 3)), label=f"mean {mean:.3f}")
        _legend(axes, "right")
    frame(axes, "x")
    axes.set_yticks(places, names, parse_math=False, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.0)


def _cells(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    from matplotlib.colors import to_rgb

    size = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(size, dtype=bool)
    # The root: one image in twenty that goes astray must be seen.
    depth = (np.sqrt(shares) * np.where(right, 0.9, 1.0))[:, :, None]
    ink = np.where(right[:, :, None], to_rgb(TRAINING), to_rgb(VALIDATION))
    axes.imshow(1 - depth * (1 - ink), interpolation="nearest", aspect="equal")
    if size <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            light = depth[row, column, 0] > 0.6
            axes.annotate(f"{counts[row, column]}\n{_percent(shares[row, column])}", (column, row), fontsize=7,
                          ha="center", va="center", linespacing=1.25, color="white" if light else INK)  # fmt: skip
        axes.set_xticks(range(size), names, parse_math=False)
        if max(map(len, names)) > SHORT_NAME:
            for label in axes.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), names, parse_math=False)
        axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
        axes.grid(which="minor", color=GRID, lw=0.8)
        axes.tick_params(which="minor", length=0)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    for side in axes.spines.values():
        side.set_color(EDGE)
    counted = "" if size <= MOST_NUMBERED else ", counted from 0"
    axes.set_xlabel(f"predicted class{counted}", fontsize=9, color=FAINT)
    axes.set_ylabel(f"true class{counted}", fontsize=9, color=FAINT)


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def _largest(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    cells = largest_confusions(counts.tolist())
    axes.set_title(f"the {len(cells)} largest confusions" if cells else "no confusions", fontsize=10, color=INK,
                   loc="left")  # fmt: skip
    places = np.arange(len(cells))
    sizes = [n for _, _, n in cells]
    axes.barh(places, sizes, height=0.66, color=VALIDATION, alpha=0.85)
    for place, (true, _, images) in zip(places, cells, strict=True):
        share = images / max(int(counts[true].sum()), 1)
        axes.annotate(f"{images} ({_percent(share)})", (images, place), xytext=(4, 0), textcoords="offset points",
                      fontsize=8, color=INK, va="center_baseline")  # fmt: skip
    frame(axes, "x")
    axes.set_yticks(places, [f"{names[t]} → {names[p]}" for t, p, _ in cells], parse_math=False, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(cells), 1) - 0.4, -0.6)
    axes.set_xlim(0, max(sizes, default=1) * 1.3)
    axes.set_xlabel("images (share of the true class)", fontsize=9, color=FAINT)
