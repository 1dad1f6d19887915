"""Pretrained weights: ImageNet's as Keras keeps them, fetched once before any trial starts, or a file of one's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spaces.datasets import sources
from spaces.errors import DatasetError, DatasetUnavailable

#: A file of weights that a space offers beside `imagenet` and `none`.
VARIABLE = "SEARCH_WEIGHTS"
IMAGENET, NONE = "imagenet", "none"


@dataclass(frozen=True)
class Weights:
    """The file of a network's ImageNet weights without its top: its name in Keras' cache, address and MD5."""

    network: str
    file: str
    url: str
    md5: str


DENSENET121 = Weights(
    network="DenseNet121",
    file="densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    url="https://storage.googleapis.com/tensorflow/keras-applications/densenet/"
    "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5="30ee3e1110167f948a6b9946edeeb738",
)


def choices() -> tuple[str, ...]:
    """What a space offers: `imagenet`, `none`, and the file that SEARCH_WEIGHTS names, by its whole path."""
    own = os.environ.get(VARIABLE)
    return (IMAGENET, NONE, *((str(Path(own).expanduser().absolute()),) if own else ()))


def path(choice: str, weights: Weights) -> Path | None:
    """The file behind a choice; None for `none`."""
    if choice == NONE:
        return None
    return sources.keras_cache("models") / weights.file if choice == IMAGENET else Path(choice)


def ensure(offered: tuple[str, ...], weights: Weights, say: Callable[[str], None], *, progress: bool = False) -> None:
    """Make sure of the file behind each choice that a study may draw; ImageNet's is fetched into Keras' cache.

    Raises DatasetUnavailable with one line that says where to put it.
    """
    for choice in offered:
        wanted = path(choice, weights)
        if wanted is None or wanted.is_file():
            continue
        if choice != IMAGENET:
            raise DatasetUnavailable(f"{VARIABLE}={choice}: no such file")
        say(f"fetching the ImageNet weights of {weights.network} from {weights.url}")
        try:
            _fetch(weights, wanted, progress)
        except (DatasetError, OSError) as error:
            raise DatasetUnavailable(
                f"the ImageNet weights of {weights.network} are not at {wanted} and cannot be fetched ({error}): put "
                f"them there, set {VARIABLE} to a file of weights and choose weights=FILE, or choose weights=none"
            ) from error


def _fetch(weights: Weights, target: Path, progress: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        sources.download(weights.url, aside, sha256=None, progress=progress)
        with aside.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != weights.md5:
            raise DatasetUnavailable(f"what came has the MD5 {found[:12]}…, expected {weights.md5[:12]}…")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
