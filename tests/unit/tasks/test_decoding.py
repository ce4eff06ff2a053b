"""Images of all kinds, and files that only say that they are images."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.task_models import encoded, picture, png

from lamella.errors import ItemError
from lamella.tasks.decoding import FORMATS, decode

MOST = 64_000_000


def pixels(file: bytes, *, grey: bool = False) -> np.ndarray:
    return np.asarray(decode(file, 0, grey=grey, max_pixels=MOST))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    original = picture(40, 30)
    found = pixels(encoded(original, kind))
    assert found.shape == (30, 40, 3)
    assert np.abs(found.astype(int) - original).mean() < 40
    if kind in ("PNG", "BMP", "PPM", "TIFF"):
        np.testing.assert_array_equal(found, original)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_as_exif_says(orientation: int) -> None:
    turns = [
        lambda a: a,
        np.fliplr,
        lambda a: np.rot90(a, 2),
        np.flipud,
        lambda a: np.swapaxes(a, 0, 1),
        lambda a: np.rot90(a, -1),
        lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        np.rot90,
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    original = picture(8, 6)
    found = pixels(png(original, exif=exif))
    np.testing.assert_array_equal(found, turns[orientation - 1](original))


def test_transparency_is_dropped_as_by_the_references() -> None:
    original = picture(8, 6, mode="RGBA")
    np.testing.assert_array_equal(pixels(png(original)), original[..., :3])


def test_palettes_with_transparency_are_read_without_a_warning() -> None:
    image = Image.fromarray(picture(20, 20)).quantize(16)
    file = saved(image, transparency=bytes(range(16)))
    np.testing.assert_array_equal(pixels(file), np.asarray(image.convert("RGB")))


def test_cmyk_is_converted() -> None:
    image = Image.fromarray(picture(20, 20)).convert("CMYK")
    np.testing.assert_array_equal(pixels(saved(image, "TIFF")), np.asarray(image.convert("RGB")))


def test_sixteen_bits_become_eight_by_their_upper_half() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = pixels(saved(Image.fromarray(deep)))
    np.testing.assert_array_equal(found[..., 0], deep >> 8)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(deep)), grey=True), deep >> 8)


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    file = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(pixels(file)[0, 0], (255, 0, 0))


def test_a_small_file_that_claims_a_large_image_is_refused_at_once() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    file = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    file += struct.pack(">I", 1 << 20) + b"IDAT" + bytes(64)
    with pytest.raises(ItemError, match=r"item 3 has too many pixels \(at most 64,000,000\)"):
        decode(file, 3, max_pixels=MOST)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("cat.jpg", "item 0 is no image: it is not bytes"),
        (b"", "item 0 is no image that can be read: it has no known format"),
        (b"<svg></svg>", "item 0 is no image that can be read: it has no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "item 0 is no image that can be read: it has no known format"),
    ],
)
def test_what_is_no_image_is_refused(item: str | bytes, message: str) -> None:
    with pytest.raises(ItemError) as caught:
        decode(item, 0, max_pixels=MOST)
    assert caught.value.message == message
    assert caught.value.hint


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_read_or_refused_and_nothing_else(kind: str) -> None:
    whole = bytearray(encoded(picture(24, 20), kind))
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for index in random.integers(0, len(damaged), 4):
            damaged[index] = random.integers(256)
        try:
            assert pixels(bytes(damaged)).ndim == 3
        except ItemError:
            refused += 1
    assert refused > 20


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ItemError, match="its pixels are floating-point numbers"):
        pixels(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb_or_grey(mode: str) -> None:
    image = Image.fromarray(picture(12, 10))
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert pixels(saved(image, kind)).shape == (10, 12, 3)
    assert pixels(saved(image, kind), grey=True).shape == (10, 12)


def test_photographs_of_several_pictures_are_read() -> None:
    """MPO, as telephones write it, looks like JPEG from outside."""
    frames = [Image.fromarray(picture(20, 16, seed=seed)) for seed in (0, 1)]
    file = saved(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    assert np.abs(pixels(file).astype(int) - picture(20, 16)).mean() < 25


def test_jpeg_of_four_inks_is_read_as_pillow_converts_it() -> None:
    file = saved(Image.fromarray(picture(20, 16)).convert("CMYK"), "JPEG", quality=95)
    np.testing.assert_array_equal(pixels(file), np.asarray(Image.open(BytesIO(file)).convert("RGB")))
