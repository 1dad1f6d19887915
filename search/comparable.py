"""Whether the figures of several trials and versions can be compared: the same data, split and counts of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from search.compared import Compared

IMAGES = {"training": "train_images", "validation": "validation_images"}


def split_by(things: Sequence[Compared], on: str) -> bool:
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
            found.append(f"different {title}: {_who(things, [thousands(v, key) for v in values])}; {why}")
    if _other_split(things) and not _varies(t.digest for t in things):
        found.append(
            f"different splits of the data: {_who(things, [t.split[:12] if t.split else None for t in things])}"
        )
    unfinished = [f"{t.reference} {t.state.lower()}" for t in things if t.state != "COMPLETE"]
    if unfinished:
        found.append(f"not trained to its end: {', '.join(unfinished)}")
    return found


def thousands(value: Any, name: str) -> Any:
    """Counts of images as people write them, anything else as it is."""
    return f"{value:,}" if name in IMAGES.values() and isinstance(value, int) else value


def _who(things: Sequence[Compared], values: Sequence[Any]) -> str:
    """Each value with those that have it."""
    groups: dict[str, list[str]] = {}
    for thing, value in zip(things, values, strict=True):
        groups.setdefault("unknown" if value is None else str(value), []).append(thing.reference)
    return ", ".join(f"{value} ({', '.join(who[:3])}{', …' if len(who) > 3 else ''})" for value, who in groups.items())
