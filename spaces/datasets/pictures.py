"""Image files into uint8 arrays on disk: probed, decoded and resized in parallel, never all of them in memory."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spaces.datasets import sources
from spaces.datasets._spec import Array, Say
from spaces.errors import DatasetCorrupt

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
GREY = ("1", "L", "LA", "La", "F")  # and I and I;16 in their forms
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # EXIF: which side is up, and where width is height
CHUNK = 256  # images decoded before they are written
FEW, SHARE = 10, 100  # unreadable images that are borne: so many, or one in so many
NAMED = 3

Read = Callable[[str], bytes]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Probe:
    """Size and colours of an image, as its head says."""

    size: Size
    grey: bool


def pool() -> ThreadPoolExecutor:
    """Threads to decode in: Pillow lets go of Python's lock."""
    return ThreadPoolExecutor(max_workers=max(2, len(os.sched_getaffinity(0))), thread_name_prefix="decode")


def probe(content: bytes) -> Probe:
    """Look at the head of an image file. Raises ValueError where it is none."""
    with _opened(content) as image:
        try:
            lying = image.getexif().get(ORIENTATION) in LYING
        except Exception:  # EXIF that makes no sense
            lying = False
        size = (image.width, image.height) if lying else (image.height, image.width)
        return Probe(size, image.mode in GREY or image.mode.startswith("I"))


def decode(content: bytes, size: Size, channels: int) -> Array:
    """An image as (height, width, channels); its aspect ratio is not kept. Raises ValueError where it cannot be read.

    Turned as its EXIF says; bilinear with antialiasing, transparency dropped, 16 bits a pixel cut to 8.
    """
    from PIL import Image, ImageOps

    with _opened(content) as image:
        try:
            picture: Any = image
            with contextlib.suppress(Exception):  # EXIF that makes no sense does not make it unreadable
                picture = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I"):
                picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            elif picture.mode == "P":
                picture = picture.convert("RGBA")
            picture = picture.convert("L" if channels == 1 else "RGB")
            if (picture.height, picture.width) != size:
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture, dtype=np.uint8).reshape(*size, channels)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise anything
            raise ValueError(sources.one_line(error) or type(error).__name__) from error


def _opened(content: bytes) -> Any:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content))
    except MemoryError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ValueError("it is no image") from error
    except Exception as error:
        raise ValueError(sources.one_line(error) or type(error).__name__) from error


def statistics(images: Iterator[Array], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels; the same whatever the machine."""
    counts = np.zeros((channels, 256), np.int64)
    for image in images:
        for channel in range(channels):
            counts[channel] += np.bincount(image[..., channel].reshape(-1), minlength=256)
    pixels = np.maximum(counts.sum(axis=1), 1)
    mean = (counts @ np.arange(256)) / pixels
    variance = (counts * (np.arange(256) - mean[:, None]) ** 2).sum(axis=1) / pixels
    # An image of one colour has none to be divided by.
    deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(round(float(m), 6) for m in mean), tuple(round(float(d), 6) for d in deviation)


def write(
    path: Path, title: str, names: Sequence[str], read: Read, size: Size, channels: int, say: Say, progress: bool
) -> tuple[Array, list[int]]:
    """Decode the images called `names` into the .npy file `path`; it, mapped, and the indices of those left out.

    Each that cannot be read is told to `say` and left out. Raises DatasetCorrupt, naming the first, where there are
    more than ten and more than one in a hundred.
    """
    bear = max(FEW, len(names) // SHARE)
    left_out: list[int] = []
    first: list[str] = []

    def one(name: str) -> Array | str:
        try:
            return decode(read(name), size, channels)
        except (OSError, ValueError) as error:
            return (error.strerror if isinstance(error, OSError) and error.strerror else None) or str(error)

    each = size[0] * size[1] * channels
    with path.open("wb") as file, sources.bar(title, len(names) * each, progress) as advance, pool() as threads:
        _head(file, (len(names), *size, channels))
        start = file.tell()
        for begin in range(0, len(names), CHUNK):
            chunk = names[begin : begin + CHUNK]
            for i, (name, found) in enumerate(zip(chunk, threads.map(one, chunk), strict=True)):
                if not isinstance(found, str):
                    file.write(found.tobytes())
                    continue
                left_out.append(begin + i)
                if len(left_out) <= NAMED:
                    first.append(f"{name} ({found})")
                say(f"{name} is left out: {found}")
                if len(left_out) > bear:
                    threads.shutdown(cancel_futures=True)
                    raise DatasetCorrupt(
                        f"more than {bear} of the {len(names):,} images of {title} cannot be read, the first being "
                        f"{', '.join(first)}; mend or remove them"
                    )
            advance((begin + len(chunk)) * each)
        file.seek(0)
        _head(file, (len(names) - len(left_out), *size, channels))
        assert file.tell() == start  # NumPy leaves room for the first number to change
    mapped: Array = np.load(path, mmap_mode="r")
    return mapped, left_out


def _head(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
