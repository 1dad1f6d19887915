"""Reads image files of any kind as the uint8 pixels that a model takes; says of each other file why it is skipped."""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

# Two letters at least, so that C:\ is a drive; one slash is enough, as in file:/etc/hosts.
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+:/|data:)")
_RUNS_A_PROGRAM = frozenset({"EPS"})  # Pillow hands these files to Ghostscript


class Unreadable(Exception):
    """Raised when a file gives no image; its text is the reason, a few words."""


@dataclass(frozen=True)
class Skipped:
    """A path that is not read, and why."""

    path: Path
    reason: str


def urls(names: Sequence[str]) -> list[str]:
    """Those of `names` that are addresses, not files."""
    return [name for name in names if _URL.match(name)]


def shown(path: Path | str) -> str:
    """A path as it can be printed on one line, whatever is in its name."""
    text = str(path).encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def files(names: Sequence[str]) -> Iterator[Path | Skipped]:
    """The files that `names` mean, in order; of a folder all below it, by name, those in subfolders last.

    Hidden ones in a folder are skipped, and links to folders are not followed.
    """
    for name in names:
        path = Path(name)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield Skipped(path, "no such file" if error.errno == errno.ENOENT else f"cannot be read ({error.strerror})")
            continue
        if stat.S_ISDIR(mode):
            yield from _below(path)
        elif not stat.S_ISREG(mode):
            yield Skipped(path, "not a regular file")  # a pipe or a device would be waited for, or never end
        else:
            yield path


def read(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """The first image of a file as uint8 of `shape` (height, width, 1 or 3 channels).

    It is turned as its EXIF says, laid on white where it is transparent, made grey or coloured as the shape wants, and
    resized whole, so a different shape is stretched, with Pillow's antialiased Lanczos filter; one that has the size
    already keeps its pixels. 16-bit grey is divided by 257. Numbers of 32 bits have no fixed range: whole ones within
    0 to 65535 are taken for 16-bit, others within 0 to 1 for shares of white, and the rest is stretched from its
    darkest to its brightest. Raises Unreadable.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            raise Unreadable("empty file")
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of damage that Pillow reads over, and of large sizes below its limit
            with Image.open(file, formats=_formats()) as opened:
                return _pixels(opened, shape)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("no image of a known format") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except MemoryError:
        raise Unreadable("too large for the memory of this machine") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        words = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"cannot be read ({words[:200]})") from error


def _below(folder: Path) -> Iterator[Path | Skipped]:
    found = False
    broken: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=broken.append):
        folders.sort()
        for path in [Path(where, name) for name in folders]:
            if path.name.startswith(".") or path.is_symlink():
                folders.remove(path.name)
                yield Skipped(path, "a link to a folder" if path.is_symlink() else "hidden folder")
        for name in sorted(names):
            found, path = True, Path(where, name)
            if name.startswith("."):
                yield Skipped(path, "hidden file")
            else:
                yield from files([str(path)])
    for error in broken:
        yield Skipped(Path(error.filename), f"cannot be read ({error.strerror})")
    if not found and not broken:
        yield Skipped(folder, "a folder without files")


def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return sorted(set(Image.OPEN) - _RUNS_A_PROGRAM)


def _pixels(opened: Image, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    from PIL import Image, ImageOps

    height, width, channels = shape
    image: Image = opened
    image.load()
    with suppress(Exception):  # EXIF that makes no sense does not make the picture unreadable
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_eight_bits(np.asarray(image)))
    image = _on_white(image).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8).reshape(shape)


def _to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise Unreadable("holds values that are not numbers")
    low, high = float(numbers.min()), float(numbers.max())
    white = 1.0 if values.dtype.kind == "f" else 65535.0
    if low >= 0 and high <= white:
        low, high = 0.0, white
    return np.rint((numbers - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)


def _on_white(image: Image) -> Image:
    """`image` in colours that Pillow turns into RGB and grey, nothing of it transparent."""
    from PIL import Image, ImageCms

    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert turned is not None  # only in place it returns nothing
        return turned
    if not image.has_transparency_data:
        return image
    image = image.convert("LA") if image.mode == "La" else image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")
