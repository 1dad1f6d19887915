"""Pictures of the images a study trains on, drawn in milliseconds: by a worker, before its trial."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracking.evaluation_figures import as_shown
from tracking.figures import FAINT, GRID, INK, TRAINING, VALIDATION

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

TILE, GAP, MARGIN, HEAD, CAPTION = 96, 8, 16, 44, 18  # pixels
BAR, BAR_WIDTH, NAME_WIDTH, COUNT_WIDTH = 22, 520, 190, 130

Tile = tuple[NDArray[np.uint8], str]  # an image (height, width, channels) and what stands under it


def grid(rows: Sequence[Sequence[Tile]], title: str) -> bytes:
    """A PNG of rows of images with a caption under each; all are shown at one size, none is cropped."""
    from PIL import Image, ImageDraw

    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (max(width, _width(title, 18) + 2 * MARGIN), HEAD + len(rows) * _step() + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, fill=INK, font=_font(18))
    for r, row in enumerate(rows):
        for c, (image, caption) in enumerate(row):
            x, y = MARGIN + c * (TILE + GAP), HEAD + r * _step()
            tile = _tile(image)
            sheet.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
            draw.text((x, y + TILE + 2), _cut(caption, TILE), fill=FAINT, font=_font(12))
    return _png(sheet)


def bars(counts: Sequence[tuple[str, int, int]], title: str) -> bytes:
    """A PNG with a bar for each class: (its name, its training images, its validation images)."""
    from PIL import Image, ImageDraw

    most = max((a + b for _, a, b in counts), default=0) or 1
    width = max(2 * MARGIN + NAME_WIDTH + BAR_WIDTH + COUNT_WIDTH, _width(title, 18) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, HEAD + CAPTION + BAR * len(counts) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, fill=INK, font=_font(18))
    left = MARGIN + NAME_WIDTH
    for x, colour, text in ((left, TRAINING, "training"), (left + 110, VALIDATION, "validation")):
        draw.rectangle((x, HEAD, x + 10, HEAD + 10), fill=colour)
        draw.text((x + 16, HEAD - 3), text, fill=FAINT, font=_font(12))
    for place, (name, training, validation) in enumerate(counts):
        y = HEAD + CAPTION + place * BAR
        draw.text((MARGIN, y + 2), _cut(name, NAME_WIDTH - 12), fill=INK, font=_font(13))
        draw.rectangle((left, y + 3, left + BAR_WIDTH, y + BAR - 4), fill=GRID)
        first = left + round(BAR_WIDTH * training / most)
        last = left + round(BAR_WIDTH * (training + validation) / most)
        for start, end, colour in ((left, first, TRAINING), (first, last, VALIDATION)):
            if end > start:
                draw.rectangle((start, y + 3, end, y + BAR - 4), fill=colour)
        said = f"{training:,} + {validation:,}"
        draw.text((left + BAR_WIDTH + 8, y + 2), said, fill=FAINT, font=_font(13))
    return _png(sheet)


def _step() -> int:
    return TILE + CAPTION + GAP


def _tile(image: NDArray[np.uint8]) -> Image:
    """Small ones are shown with their pixels, large ones made smaller."""
    from PIL import Image

    shown = as_shown(image)
    picture = Image.fromarray(shown[:, :, 0] if shown.ndim == 3 and shown.shape[2] == 1 else shown).convert("RGB")
    scale = TILE / max(picture.size)
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how)


@cache
def _font(size: int) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    # matplotlib's has letters that Pillow's own lacks: accents, Greek, Cyrillic.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _width(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1


def _cut(text: str, width: int) -> str:
    """As much of `text`, on one line, as fits `width` pixels; of one that is cut both ends, which tell more."""
    line = " ".join(text.encode(errors="backslashreplace").decode().split())
    shown, kept = line, len(line)
    while kept and _width(shown, 13) > width:
        kept -= 1
        shown = f"{line[: -(-kept // 2)]}…{line[len(line) - kept // 2 :]}"
    return shown


def _png(sheet: Image) -> bytes:
    picture = io.BytesIO()
    sheet.save(picture, format="png", optimize=False)
    return picture.getvalue()
