"""From pixels to what the networks read."""

import numpy as np
import pytest

from models import preprocess
from tests.models.making import draw_chest
from triage.domain.errors import UnusableRadiograph


def lungs_of(square: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[0:256, 0:256] / 256
    both = np.zeros((256, 256), bool)
    for middle in (0.31, 0.69):
        both[((y - 0.45) / 0.3) ** 2 + ((x - middle) / 0.12) ** 2 < 1] = True
    return both


@pytest.mark.parametrize("shape", [(400, 420), (300, 900), (2000, 1700), (64, 64)])
def test_any_shape_becomes_the_same_square(shape: tuple[int, int]) -> None:
    square = preprocess.squared(draw_chest(*shape))
    assert square.shape == (256, 256)
    assert square.dtype == np.float32
    assert square.min() == 0
    assert square.max() == 1


def test_the_lung_input_has_the_network_s_shape() -> None:
    found = preprocess.to_lung_input(preprocess.squared(draw_chest()), 192)
    assert tuple(found.shape) == (1, 1, 192, 192)


@pytest.mark.parametrize("change", [lambda p: p * 0.4 + 0.2, lambda p: p * 0.9])
def test_brightness_and_contrast_do_not_reach_the_networks(change) -> None:
    pixels = draw_chest()
    assert np.allclose(preprocess.squared(pixels), preprocess.squared(change(pixels).astype(np.float32)), atol=1e-4)


def test_a_gamma_curve_does_not_reach_the_classifier() -> None:
    pixels = np.clip(preprocess.squared(draw_chest()), 0.01, 1)
    lungs = lungs_of(pixels)
    plain = preprocess.to_lung_crop(pixels, lungs, 160).image
    curved = preprocess.to_lung_crop((pixels**1.8).astype(np.float32), lungs, 160).image
    assert np.abs(plain - curved).mean() < 0.005


def test_what_lies_outside_the_lungs_does_not_reach_the_classifier() -> None:
    square = preprocess.squared(draw_chest())
    lungs = lungs_of(square)
    marked = square.copy()
    marked[:25, :60] = 1
    marked[235:, :] = 0
    marked[100:150, 120:136] = 1
    plain, other = (preprocess.to_lung_crop(s, lungs, 160) for s in (square, marked))
    assert np.array_equal(plain.image, other.image)
    assert plain.box == other.box


def test_the_crop_frames_the_lungs() -> None:
    square = preprocess.squared(draw_chest())
    crop = preprocess.to_lung_crop(square, lungs_of(square), 160)
    assert crop.image.shape == crop.lungs.shape == (160, 160)
    top, left, bottom, right = crop.box
    assert 0.1 < top < 0.15
    assert 0.75 < bottom < 0.8
    assert 0.13 < left < 0.19
    assert 0.81 < right < 0.87


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((400, 400), np.float32), "blank"),
        (np.full((400, 400), 0.7, np.float32), "blank"),
        (np.full((400, 400), np.nan, np.float32), "blank"),
        (draw_chest(40, 400), "too-small"),
        (draw_chest(63, 63), "too-small"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(pixels: np.ndarray, reason: str) -> None:
    with pytest.raises(UnusableRadiograph) as refused:
        preprocess.check_usable(pixels)
    assert refused.value.reason == reason


def test_no_lungs_no_crop() -> None:
    with pytest.raises(UnusableRadiograph, match="lungs-implausible"):
        preprocess.to_lung_crop(preprocess.squared(draw_chest()), np.zeros((256, 256), bool), 160)


def test_the_wider_view_keeps_the_greys_and_leaves_the_border_out() -> None:
    square = preprocess.squared(draw_chest())
    lungs = lungs_of(square)
    marked = square.copy()
    marked[:8, :60] = 1
    plain, other = (preprocess.seen(s, lungs, 160, "box") for s in (square, marked))
    assert np.array_equal(plain.image, other.image)
    top, left, bottom, right = plain.box
    middle = square[round(256 * (top + bottom) / 2), round(256 * (left + right) / 2)]
    assert plain.image[80, 80] == pytest.approx(middle, abs=0.1)
    narrow = preprocess.seen(square, lungs, 160, "lungs").box
    assert top < narrow[0]
    assert bottom > narrow[2]


def test_the_whole_view_is_the_whole_picture() -> None:
    square = preprocess.squared(draw_chest())
    assert preprocess.seen(square, lungs_of(square), 256, "whole").image == pytest.approx(square, abs=1e-5)
