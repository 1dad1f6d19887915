"""What happens to images that a report measures robustness with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Change = Callable[[Images], Images]

SHIFT = 8  # the part of height and width, one in so many, that images move by
BRIGHTER = 1.25
NOISE = 16.0  # standard deviation, in pixel values 0 to 255
CHUNK = 1024  # images whose noise is held in memory at once


def rotated_90(images: Images) -> Images:
    """Turned a quarter to the left.

    Images that are not square keep their height and width: around the centre, what sticks out after turning is cut and
    what is missing repeats the edge.
    """
    _, height, width, _ = _checked(images).shape
    turned = np.rot90(images, axes=(1, 2))  # (images, width, height, channels)
    rows = np.clip(np.arange(height) + (width - height) // 2, 0, width - 1)
    columns = np.clip(np.arange(width) + (height - width) // 2, 0, height - 1)
    return np.ascontiguousarray(turned[:, rows][:, :, columns])


def flipped_horizontally(images: Images) -> Images:
    """Left and right changed places."""
    return _checked(images)[:, :, ::-1].copy()


def flipped_vertically(images: Images) -> Images:
    """Top and bottom changed places."""
    return _checked(images)[:, ::-1].copy()


def shifted(images: Images) -> Images:
    """Moved right and down by an eighth of the size, rounded down, at least a pixel; left and top repeat the edge."""
    _, height, width, _ = _checked(images).shape
    rows = np.maximum(np.arange(height) - max(height // SHIFT, 1), 0)
    columns = np.maximum(np.arange(width) - max(width // SHIFT, 1), 0)
    return np.ascontiguousarray(images[:, rows][:, :, columns])


def brightened(images: Images) -> Images:
    """Every value times 1.25, rounded, at most 255."""
    table = np.minimum(np.rint(np.arange(256) * BRIGHTER), 255).astype(np.uint8)
    return table[_checked(images)]


def noisy(images: Images, seed: int = 0) -> Images:
    """With Gaussian noise of standard deviation 16 of 255, rounded, clipped to 0 to 255.

    An image's noise follows from `seed` and its place in `images`, not from how many come after it: give the whole
    array, and make batches of the result.
    """
    random = np.random.default_rng(seed)
    changed = np.empty_like(_checked(images))
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        noise = random.standard_normal(part.shape, dtype=np.float32)
        changed[start : start + CHUNK] = np.clip(np.rint(part + np.float32(NOISE) * noise), 0, 255)
    return changed


#: In a report's order. Each takes uint8 images (images, height, width, channels), returns a new array of the same shape
#: and raises ValueError for anything else. `noisy` here has the seed 0.
CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "rotated_90": rotated_90,
        "flipped_horizontally": flipped_horizontally,
        "flipped_vertically": flipped_vertically,
        "shifted": shifted,
        "brightened": brightened,
        "noisy": noisy,
    }
)


def _checked(images: Images) -> Images:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype} of shape {images.shape}, not uint8 of (images, height, width, c)")
    return images
