"""Changed images are what their names say, new arrays of the same shape, for any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.trial import robustness
from search.trial.robustness import CHANGES


@st.composite
def images(draw):
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(1, 4)))
    return np.random.default_rng(draw(st.integers(0, 999))).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", CHANGES)
@given(x=images())
@settings(deadline=None)
def test_a_change_makes_a_new_array_of_the_same_shape_and_leaves_the_first_alone(name, x):
    before = x.copy()
    changed = CHANGES[name](x)
    assert (changed.shape, changed.dtype) == (x.shape, np.uint8)
    assert np.array_equal(x, before)
    assert changed.flags.c_contiguous
    assert not np.shares_memory(changed, x)


@pytest.mark.parametrize("name", CHANGES)
def test_only_uint8_images_are_changed(name):
    for wrong in (np.zeros((2, 4, 4, 1), np.float32), np.zeros((4, 4, 1), np.uint8)):
        with pytest.raises(ValueError, match="not uint8 of"):
            CHANGES[name](wrong)


@given(st.integers(1, 12), st.integers(1, 3))
def test_a_square_image_is_turned_a_quarter_and_four_quarters_are_none(size, channels):
    x = np.random.default_rng(size).integers(0, 256, (2, size, size, channels), dtype=np.uint8)
    once = robustness.rotated_90(x)
    assert np.array_equal(once[:, -1, 0], x[:, 0, 0])  # the top left corner is now below
    again = x
    for _ in range(4):
        again = robustness.rotated_90(again)
    assert np.array_equal(again, x)


def test_an_oblong_image_is_turned_around_its_centre_cut_and_filled_with_its_edge():
    x = np.arange(1, 9, dtype=np.uint8).reshape(1, 2, 4, 1)
    # 1 2 3 4      4 8
    # 5 6 7 8  to  3 7  of which the middle rows stay, and whose sides repeat.
    #              2 6
    #              1 5
    assert robustness.rotated_90(x)[0, :, :, 0].tolist() == [[3, 3, 7, 7], [2, 2, 6, 6]]


@given(images())
def test_flips_change_one_axis_and_undo_themselves(x):
    assert np.array_equal(robustness.flipped_horizontally(x), np.flip(x, 2))
    assert np.array_equal(robustness.flipped_vertically(x), np.flip(x, 1))
    assert np.array_equal(robustness.flipped_vertically(robustness.flipped_vertically(x)), x)


@given(images())
def test_a_shift_moves_right_and_down_by_an_eighth_and_repeats_the_edge(x):
    moved = robustness.shifted(x)
    _, height, width, _ = x.shape
    down, right = max(height // 8, 1), max(width // 8, 1)
    for row in range(height):
        for column in range(width):
            assert np.array_equal(moved[:, row, column], x[:, max(row - down, 0), max(column - right, 0)])


def test_brightness_grows_by_a_quarter_up_to_white():
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert robustness.brightened(x).ravel().tolist() == [min(round(v * 1.25), 255) for v in range(256)]


def test_noise_has_its_spread_and_no_drift():
    grey = np.full((200, 16, 16, 3), 128, np.uint8)
    noise = robustness.noisy(grey, seed=3).astype(int) - 128
    assert noise.std() == pytest.approx(16, rel=0.01)
    assert abs(noise.mean()) < 0.2


def test_noise_follows_from_the_seed_and_the_place_not_from_how_many_images_there_are(monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), dtype=np.uint8)
    whole = robustness.noisy(x, seed=1)
    assert np.array_equal(robustness.noisy(x, seed=1), whole)
    assert np.array_equal(robustness.noisy(x[:13], seed=1), whole[:13])
    assert not np.array_equal(robustness.noisy(x, seed=2), whole)
    monkeypatch.setattr(robustness, "CHUNK", 7)
    assert np.array_equal(robustness.noisy(x, seed=1), whole)


def test_the_changes_stand_in_a_fixed_order():
    assert list(CHANGES) == [
        "rotated_90",
        "flipped_horizontally",
        "flipped_vertically",
        "shifted",
        "brightened",
        "noisy",
    ]
