"""One self-contained HTML file on how good a model is: no script, no network, for screens, phones and paper."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.evaluation import Figures, Mistake
from spaces._hp import show
from tracking import evaluation_figures, figures

KINDS = {"accepted": "Accepted", "refused": "Refused", "first": "First champion"}
LONG_TABLE = 25  # classes above which their table scrolls in a frame of its own
NAMED_CONFUSIONS = 5

Number = float | int | str | None


class Verdict(NamedTuple):
    """What was decided, in one sentence and a word."""

    kind: Literal["accepted", "refused", "first"]
    sentence: str


class Compared(NamedTuple):
    """One figure of the candidate and the champion before it. A text is shown as it is, None as a dash."""

    name: str
    candidate: Number
    champion: Number


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a page says; every section but those of `figures` is left out where there is nothing for it.

    `facts` (study, trial, digest, how often the test split was opened, ...) and `configuration` are shown in their
    order. `history` holds one mapping of metrics an epoch. `robustness` is the accuracy on changed images by the
    change's name. Each mistake comes with its uint8 image (height, width, channels). `measured_on` names the images
    that `figures` are about.
    """

    title: str
    verdict: Verdict
    figures: Figures
    facts: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    robustness: Mapping[str, float] = field(default_factory=dict)
    comparison: Sequence[Compared] = ()
    mistakes: Sequence[tuple[Mistake, NDArray[np.uint8]]] = ()
    measured_on: str = "images of the test split"


def render(report: Report) -> str:
    """The page's HTML, the same for the same report. Write it as UTF-8."""
    parts = [
        _head(report),
        _comparison(report.comparison),
        _classes(report.figures),
        _pictures(report),
        _robustness(report),
        _mistakes(report),
        _section("Facts", _pairs(report.facts, "Fact")) if report.facts else "",
        _section("Configuration", _pairs(report.configuration, "Hyperparameter")) if report.configuration else "",
    ]
    body = "\n".join(part for part in parts if part)
    return PAGE.format(title=_text(report.title), style=STYLE, body=body)


def _head(report: Report) -> str:
    found = report.figures
    tiles = [
        ("Mean F1", _share(float(np.mean(found.f1))), "every class counts the same"),
        ("Loss", f"{found.loss:.4f}", _interval(found.loss_interval) or "cross-entropy"),
        ("Calibration error", _share(found.ece), "0 is perfect"),
        ("Majority class", _share(found.majority), "accuracy of always naming it"),
    ]
    if found.top5 is not None:
        tiles.insert(0, ("Top-5 accuracy", _share(found.top5), "true class among the five likeliest"))
    listed = "".join(f"<div><dt>{_text(n)}</dt><dd>{v}<small>{_text(note)}</small></dd></div>" for n, v, note in tiles)
    return (
        f"<header><h1>{_text(report.title)}</h1>"
        f'<p class="headline">Accuracy <strong>{_share(found.accuracy)}</strong> '
        f'<span class="beside">{_interval(found.accuracy_interval)}, on {found.images:,} {_text(report.measured_on)}, '
        f"{found.classes} classes</span></p>"
        f'<p class="verdict {report.verdict.kind}"><b>{KINDS[report.verdict.kind]}</b> '
        f"{_text(report.verdict.sentence)}</p></header>\n"
        f'<dl class="tiles">{listed}</dl>'
    )


def _comparison(rows: Sequence[Compared]) -> str:
    if not rows:
        return ""
    cells = [(row.name, _number(row.candidate), _number(row.champion)) for row in rows]
    return _section("Candidate and champion", _table(("", "Candidate", "Champion before"), cells))


def _classes(found: Figures) -> str:
    rows = [
        (name, _share(p), _share(r), _share(f), f"{n:,}")
        for name, p, r, f, n in zip(
            found.class_names, found.precision, found.recall, found.f1, found.support, strict=True
        )
    ]
    table = _table(("Class", "Precision", "Recall", "F1", "Images"), rows)
    if found.classes > LONG_TABLE:
        table = f'<div class="long" tabindex="0" role="region" aria-label="Every class">{table}</div>'
    return _section("Classes", table)


def _pictures(report: Report) -> str:
    found = report.figures
    named = [
        f"{found.class_names[true]} → {found.class_names[predicted]}: {images:,} of {found.support[true]:,}"
        for true, predicted, images in evaluation_figures.largest_confusions(found.confusion, NAMED_CONFUSIONS)
    ]
    lowest = sorted(range(found.classes), key=lambda c: found.f1[c])[:3]
    low = ", ".join(f"{found.class_names[c]} {_share(found.f1[c])}" for c in lowest)
    pictures = [
        _picture(
            evaluation_figures.confusion_matrix(found.confusion, found.class_names),
            f"Confusion matrix of {found.classes} classes. " + ("; ".join(named) or "No confusions") + ".",
            f"Most frequent confusions (true → predicted): {'; '.join(named)}." if named else "No image was confused.",
            broad=True,
        ),
        _picture(
            evaluation_figures.class_scores(found.f1, found.class_names),
            f"Bars of F1 per class; the lowest are {low}.",
            f"Lowest F1: {low}.",
            broad=found.classes > evaluation_figures.MOST_BARS,
        ),
        _picture(
            evaluation_figures.reliability(found.bins, found.ece),
            f"Reliability diagram: accuracy by the probability of the predicted class; expected calibration error "
            f"{_share(found.ece)}.",
            "On the dashed line a model that says 0.8 is right in 80 % of such cases. Above it it is too modest, below "
            "it too sure.",
        ),
    ]
    if report.history:
        shown = {n: v for n, v in report.history[-1].items() if n not in figures.NOT_CURVES and "/" not in n}
        last = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
        epochs = "1 epoch" if len(report.history) == 1 else f"{len(report.history)} epochs"
        pictures.append(
            _picture(
                figures.learning_curves(report.history, "Learning curves"),
                f"Learning curves of {epochs}. In the last one: {last}.",
                f"Training and validation data over {epochs}; the last one: {last}.",
                broad=True,
            )
        )
    return _section("Pictures", f'<div class="pictures">{"".join(pictures)}</div>')


def _robustness(report: Report) -> str:
    if not report.robustness:
        return ""
    clean = report.figures.accuracy
    rows = [(name.replace("_", " "), _share(a), f"{a - clean:+.4f}") for name, a in report.robustness.items()]
    listed = ", ".join(f"{name} {accuracy}" for name, accuracy, _ in rows)
    picture = _picture(
        evaluation_figures.robustness(report.robustness, clean),
        f"Bars of the accuracy on changed images: {listed}; unchanged {_share(clean)}.",
        "The dashed line is the accuracy on the images as they are.",
    )
    table = _table(("Images", "Accuracy", "Difference"), [("as they are", _share(clean), ""), *rows])
    return _section("Robustness", f'<div class="pictures">{picture}<div>{table}</div></div>')


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    names = report.figures.class_names
    shown = []
    for each, image in report.mistakes:
        true, predicted = _text(names[each.true]), _text(names[each.predicted])
        source = _source(evaluation_figures.thumbnail(image))
        shown.append(
            f'<figure><img src="{source}" alt="Image {each.index}, a {true}, taken for {predicted} with probability '
            f'{each.confidence:.2f}">'
            f"<figcaption>{true} → <b>{predicted}</b> {each.confidence:.2f}</figcaption></figure>"
        )
    wrong = report.figures.images - sum(row[i] for i, row in enumerate(report.figures.confusion))
    return _section(
        "The most confident mistakes",
        f"<p>{len(shown)} of {wrong:,} images that were given a wrong class, the most confident first: true class, "
        f'<b>predicted class</b>, its probability.</p><div class="mistakes">{"".join(shown)}</div>',
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _pairs(values: Mapping[str, Any], kind: str) -> str:
    return _table((kind, "Value"), [(name, show(value)) for name, value in values.items()], words=True)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """The first cell of a row is its heading; the others are numbers, or `words`."""
    top = "".join(f'<th scope="col">{_text(h)}</th>' if h else "<td></td>" for h in headings)
    lines = (
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    kind = ' class="words"' if words else ""
    return f'<div class="wide"><table{kind}><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _picture(png: bytes, alternative: str, caption: str, *, broad: bool = False) -> str:
    """In a column of its own, or `broad` across all of them."""
    # A PNG begins with its size. Said here, its letters are as large as drawn, and the page does not jump as it loads.
    width, height = (round(int.from_bytes(png[at : at + 4], "big") * 96 / evaluation_figures.DOTS) for at in (16, 20))
    image = f'<img src="{_source(png)}" width="{width}" height="{height}" alt="{_text(alternative)}">'
    if broad:  # scrolls sideways on a phone, where it would be too small to read
        image = f'<div class="frame" tabindex="0">{image}</div>'
    kind = ' class="broad"' if broad else ""
    return f"<figure{kind}>{image}<figcaption>{_text(caption)}</figcaption></figure>"


def _source(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _share(value: float) -> str:
    return f"{value:.4f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"95 % interval {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


def _number(value: Number) -> str:
    if value is None:
        return "—"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) <= 1 else f"{value:.5g}"
    return value


def _text(value: str) -> str:
    """Escaped; half surrogates and control characters, which no HTML file may hold, become question marks."""
    sound = value.encode("utf-8", "replace").decode()
    return html.escape("".join(c if c.isprintable() or c in " \t\n" else "?" for c in sound))


STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #52606d; --line: #dfe3e8; --paper: #ffffff;
  --card: #f6f7f9; --accepted: #2b7a4b; --refused: #b3364a; --first: #2a6fbb; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --faint: #a3adb8; --line: #333b45; --paper: #14181d; --card: #1d232a;
    --accepted: #6cc492; --refused: #f08a9a; --first: #7fb4ee; }
  .pictures img { filter: brightness(.92); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; }
.headline { font-size: 1.15rem; margin: 0 0 .75rem; }
.headline strong { font-size: 2.2rem; line-height: 1.1; margin-right: .4rem; font-variant-numeric: tabular-nums; }
.beside, small, figcaption, dt { color: var(--faint); }
.verdict { margin: 0; padding: .7rem 1rem; border-left: .35rem solid; background: var(--card);
  border-radius: 0 .4rem .4rem 0; overflow-wrap: anywhere; }
.verdict b { margin-right: .4rem; }
.accepted { border-color: var(--accepted); } .accepted b { color: var(--accepted); }
.refused { border-color: var(--refused); } .refused b { color: var(--refused); }
.first { border-color: var(--first); } .first b { color: var(--first); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0 0; }
.tiles div { background: var(--card); border-radius: .4rem; padding: .6rem .8rem; break-inside: avoid; }
dt { font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
small { display: block; font-size: .75rem; font-weight: 400; line-height: 1.3; }
.wide { overflow-x: auto; }
.long { width: fit-content; max-width: 100%; max-height: 32rem; overflow-y: auto;
  border: 1px solid var(--line); border-radius: .4rem; }
.long .wide { overflow: visible; }
.long thead td, .long thead th { position: sticky; top: 0; background: var(--paper); }
table { border-collapse: collapse; min-width: min(100%, 32rem); font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } thead th { color: var(--faint); font-size: .85rem; }
tr > :first-child { text-align: left; padding-left: .25rem; } tbody th { font-weight: 400; }
.long tr > :first-child { padding-left: .75rem; }
tr { break-inside: avoid; }
.words { width: 100%; table-layout: fixed; min-width: 0; }
.words th:first-child { width: 32%; color: var(--faint); } .words td, .words th { text-align: left; }
.words td, .words th { overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1.25rem;
  align-items: start; }
figure { margin: 0; break-inside: avoid; }
.broad { grid-column: 1 / -1; min-width: 0; }
.frame { overflow-x: auto; }
.pictures img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: .4rem; padding: .4rem; }
figcaption { font-size: .85rem; margin-top: .35rem; overflow-wrap: anywhere; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; }
.mistakes img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--card);
  image-rendering: pixelated; border-radius: .25rem; }
.mistakes b { color: var(--ink); font-weight: 600; }
@media screen and (max-width: 40rem) { .pictures .frame img { max-width: none; }
  table { font-size: .85rem; } th, td { padding: .35rem .3rem; } }
@media print { body { padding: 0; max-width: none; font-size: 11pt; } th, td { padding: .15rem .5rem; }
  table { font-size: 9.5pt; } .long { max-height: none; overflow: visible; border: 0; }
  .long thead td, .long thead th { position: static; } h2 { break-after: avoid; }
  .tiles div, .verdict, .mistakes img { print-color-adjust: exact; }
  .mistakes { grid-template-columns: repeat(6, 1fr); } .pictures { grid-template-columns: repeat(2, 1fr); } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
