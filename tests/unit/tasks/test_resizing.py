"""Sizes and pixels are those of the references, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.task_models import picture

from lamella.tasks.opencv_resizing import resize_area, resize_linear
from lamella.tasks.resizing import centre_crop, resize, short_side, within

SIDE = st.integers(1, 5000)
# From and to: smaller, larger, one of each, whole multiples, halves, single pixels.
SIZES = [
    ((480, 640), (256, 341)),
    ((480, 640), (300, 300)),
    ((100, 77), (256, 332)),
    ((91, 60), (30, 100)),
    ((60, 91), (100, 30)),
    ((512, 256), (256, 128)),
    ((90, 120), (30, 40)),
    ((90, 120), (30, 60)),
    ((64, 64), (128, 128)),
    ((1, 5), (7, 9)),
    ((7, 7), (1, 1)),
    ((333, 500), (256, 384)),
]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("size", "wanted"), SIZES, ids=str)
def test_opencvs_ways_are_bit_for_bit_its_own(size: tuple[int, int], wanted: tuple[int, int], mode: str) -> None:
    cv2 = pytest.importorskip("cv2")
    smooth = picture(size[1], size[0], mode=mode).reshape(*size, *[3] * (mode == "RGB"))
    noise = np.random.default_rng(0).integers(0, 256, smooth.shape, np.uint8)
    for pixels in (smooth, noise):
        for own, its in ((resize_linear, cv2.INTER_LINEAR), (resize_area, cv2.INTER_AREA)):
            np.testing.assert_array_equal(own(pixels, wanted), cv2.resize(pixels, wanted[::-1], interpolation=its))


def test_pillows_filters_are_pillows() -> None:
    image = Image.fromarray(picture(90, 60))
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        wanted = np.asarray(image.resize((50, 40), Image.Resampling[name.upper()]))
        np.testing.assert_array_equal(resize(image, (40, 50), name), wanted)


@given(SIDE, SIDE, st.integers(1, 1000))
def test_the_short_side_is_transformers(height: int, width: int, side: int) -> None:
    from transformers.image_transforms import get_resize_output_image_size

    shape = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (3, height, width), (0, 0, 0))
    wanted = get_resize_output_image_size(shape, side, default_to_square=False, input_data_format="channels_first")
    found = short_side((height, width), side)
    assert found == tuple(max(1, size) for size in wanted)


@given(SIDE, SIDE, st.integers(1, 1000), st.integers(1, 1500))
def test_the_bound_of_the_long_side_is_detrs(height: int, width: int, side: int, longest: int) -> None:
    from transformers.image_transforms import get_size_with_aspect_ratio

    wanted = get_size_with_aspect_ratio((height, width), side, longest)
    assert short_side((height, width), side, longest) == tuple(max(1, size) for size in wanted)


@given(SIDE, SIDE, st.integers(1, 1000), st.integers(1, 1000))
def test_what_fits_into_a_box_is_no_larger_and_touches_it(height: int, width: int, tall: int, wide: int) -> None:
    found = within((height, width), (tall, wide))
    assert found[0] <= tall
    assert found[1] <= wide
    assert found[0] == tall or found[1] == wide


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))
def test_a_crop_rounded_down_is_transformers(height: int, width: int, tall: int, wide: int) -> None:
    from transformers.image_transforms import center_crop

    pixels = picture(width, height).reshape(height, width, 3)
    wanted = center_crop(pixels, (tall, wide), input_data_format="channels_last")
    np.testing.assert_array_equal(centre_crop(pixels, (tall, wide), "down"), wanted)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))
def test_a_crop_rounded_to_even_is_torchvisions(height: int, width: int, tall: int, wide: int) -> None:
    """`center_crop` in torchvision/transforms/functional.py, written with Pillow as it does there."""
    pixels = picture(width, height).reshape(height, width, 3)
    image = Image.fromarray(pixels)
    if wide > width or tall > height:
        left, top = ((wide - width) // 2 if wide > width else 0), ((tall - height) // 2 if tall > height else 0)
        padded = Image.new("RGB", (max(wide, width), max(tall, height)))
        padded.paste(image, (left, top))
        image = padded
    top, left = round((image.height - tall) / 2.0), round((image.width - wide) / 2.0)
    wanted = np.asarray(image.crop((left, top, left + wide, top + tall)))
    np.testing.assert_array_equal(centre_crop(pixels, (tall, wide), "even"), wanted)
