"""Whatever a file holds becomes the pixels that a model takes, or a few words that say why not."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from search import images
from search.images import Skipped, Unreadable, files, read, shown, urls

COLOUR, GREY = (8, 9, 3), (8, 9, 1)
ORANGE = (200, 40, 10)
LOSSLESS = ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "SGI", "DDS"]


def saved(path, image, form="PNG", **options):
    image.save(path, format=form, **options)
    return path


@given(
    width=st.integers(1, 70), height=st.integers(1, 70), mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]),
    seed=st.integers(0, 9), channels=st.sampled_from([1, 3]), side=st.integers(1, 40),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_size_and_mode_becomes_the_models_shape(tmp_path, width, height, mode, seed, channels, side):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    path = saved(tmp_path / "image", Image.fromarray(noise).convert(mode))
    shape = (side, side + 1, channels)
    pixels = read(path, shape)
    assert (pixels.dtype, pixels.shape) == (np.uint8, shape)


@pytest.mark.parametrize("form", LOSSLESS)
def test_an_image_of_the_models_size_keeps_its_pixels(tmp_path, form):
    noise = np.random.default_rng(0).integers(0, 256, COLOUR, dtype=np.uint8)
    np.testing.assert_array_equal(read(saved(tmp_path / "image", Image.fromarray(noise), form), COLOUR), noise)
    np.testing.assert_array_equal(
        read(saved(tmp_path / "grey", Image.fromarray(noise[..., 0])), GREY)[..., 0], noise[..., 0]
    )


MODES = [
    ("P", "GIF"), ("P", "PNG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGB", "AVIF"), ("RGBA", "ICO"), ("RGB", "JPEG"),
    ("RGB", "JPEG2000"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("PA", "TIFF"), ("RGBX", "TIFF"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "form"), MODES)
def test_every_colour_mode_gives_the_same_colour_and_its_grey(tmp_path, mode, form):
    plain = Image.new("RGB", (37, 23), ORANGE)
    path = saved(tmp_path / "image", (plain.quantize() if mode == "PA" else plain.convert("RGBA")).convert(mode), form)
    assert np.abs(read(path, COLOUR).astype(int) - ORANGE).max() <= 3
    assert np.abs(read(path, GREY).astype(int) - 84).max() <= 3


def test_grey_becomes_three_equal_channels_and_lab_becomes_colour(tmp_path):
    grey = read(saved(tmp_path / "grey", Image.new("L", (5, 5), 77)), COLOUR)
    assert (grey == 77).all()
    lab = read(saved(tmp_path / "lab", Image.new("LAB", (5, 5), (255, 128, 128)), "TIFF"), COLOUR)
    assert (lab > 250).all(), "full lightness is white"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    if mode == "P":
        palette = Image.new("P", (20, 20), 1)
        palette.putpalette([0, 0, 0, 9, 9, 9])
        palette.paste(0, (0, 0, 10, 20))
        path = saved(tmp_path / "image", palette, transparency=1)
    else:
        path = saved(tmp_path / "image", image.convert(mode))
    pixels = read(path, (20, 20, 3))
    assert (pixels[:, :10] == 0).all()
    assert (pixels[:, 10:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, orientation):
    upright = Image.new("L", (16, 16), 0)
    upright.paste(255, (0, 0, 16, 8))  # bright above
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # Pillow's numbers of the way there
    stored = upright
    for way in undo.get(orientation, []):
        stored = stored.transpose(Image.Transpose(way))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(saved(tmp_path / "image", stored, exif=exif), (16, 16, 1))
    assert pixels[:8].min() == 255
    assert pixels[8:].max() == 0


def test_16_and_32_bits_are_brought_to_8(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = np.rint(ramp / 257).astype(np.uint8)
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(
            read(saved(tmp_path / form, Image.fromarray(ramp), form), (16, 16, 1))[..., 0], expected
        )
    whole = Image.fromarray(ramp.astype(np.int32))
    np.testing.assert_array_equal(read(saved(tmp_path / "whole", whole, "TIFF"), (16, 16, 1))[..., 0], expected)
    share = Image.fromarray((ramp / 65535).astype(np.float32))
    np.testing.assert_array_equal(read(saved(tmp_path / "share", share, "TIFF"), (16, 16, 1))[..., 0], expected)
    wide = read(saved(tmp_path / "wide", Image.fromarray(ramp.astype(np.float32) - 1000), "TIFF"), (16, 16, 1))
    assert (wide.min(), wide.max()) == (0, 255)
    nan = Image.fromarray(np.full((4, 4), np.nan, np.float32))
    with pytest.raises(Unreadable, match="not numbers"):
        read(saved(tmp_path / "nan", nan, "TIFF"), GREY)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_counts(tmp_path, form):
    first, second = Image.new("RGB", (9, 8), ORANGE), Image.new("RGB", (9, 8), (0, 0, 255))
    path = saved(tmp_path / "image", first, form, save_all=True, append_images=[second], lossless=True)
    assert np.abs(read(path, COLOUR).astype(int) - ORANGE).max() <= 3


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_picture_made_to_burst_the_memory_is_refused_by_its_header(tmp_path):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(Unreadable, match="more than 178,956,970 pixels"):
        read(tmp_path / "bomb.png", COLOUR)


def test_what_is_no_image_says_so_in_a_few_words(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "JPEG")
    contents = {
        "empty": (b"", "empty file"),
        "text.png": (b"not an image", "no image of a known format"),
        "cut.jpg": (whole.getvalue()[:900], "cannot be read"),
        "script.eps": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "no image of a known format",
        ),
        "page.pdf": (b"%PDF-1.4\n", "no image of a known format"),
    }
    for name, (content, says) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unreadable, match=says) as caught:
            read(tmp_path / name, COLOUR)
        assert len(str(caught.value).splitlines()) == 1


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_image_is_read_or_refused_and_nothing_else(tmp_path, data):
    form = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "ICO", "TGA"]))
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(whole, form)
    content = bytearray(whole.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "image"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert read(path, COLOUR).shape == COLOUR
    except Unreadable as error:
        assert "\n" not in str(error)


def test_folders_are_walked_in_order_and_what_is_hidden_or_no_file_is_named(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("b.png", "a.png", "10/z.png", "2/y.png", ".DS_Store", ".git/x.png", "nothing/.keep"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "loop").symlink_to(folder)
    (folder / "lost.png").symlink_to(folder / "no")
    os.mkfifo(folder / "pipe")
    (tmp_path / "void").mkdir()
    found = list(files([str(folder), str(tmp_path / "no"), str(tmp_path / "void"), str(folder / ".DS_Store")]))
    read_ones = [str(f.relative_to(folder)) for f in found if not isinstance(f, Skipped)]
    assert read_ones == ["a.png", "b.png", "10/z.png", "2/y.png", ".DS_Store"], "what is asked for by name is read"
    assert {s.path.name: s.reason for s in found if isinstance(s, Skipped)} == {
        ".DS_Store": "hidden file",
        ".git": "hidden folder",
        ".keep": "hidden file",
        "loop": "a link to a folder",
        "lost.png": "no such file",
        "pipe": "not a regular file",
        "no": "no such file",
        "void": "a folder without files",
    }


def test_addresses_are_told_from_files():
    given = ["http://x/a.png", "HTTPS://x", "ftp://x", "s3://b/k", "file:///etc/x", "file:/etc/x", "data:image/png,x"]
    assert urls(given) == given
    assert urls(["a.png", "C:\\a.png", "./http", "/a://b", "pictures/", "a:b"]) == []


def test_a_name_is_shown_on_one_line_whatever_is_in_it():
    assert shown("a\nb\x1b[31m.png") == "a\\nb\\x1b[31m.png"
    assert shown(os.fsdecode(b"caf\xe9 \xc3\xa9.png")) == "caf\\udce9 é.png"


def test_formats_that_need_another_program_are_left_out():
    assert "EPS" not in images._formats()
    assert {"PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"} <= set(images._formats())
