"""Bytes to an image, with a bound on what a small file may unpack to."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from lamella.errors import ItemError, MissingDependencyError
from lamella.tasks.base import Item

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
"""What is read, those first that Pillow loads no further readers for. It knows more formats, old ones among them, whose
readers saw little hostile input."""

_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def decode(item: Item, index: int, *, grey: bool = False, max_pixels: int) -> Image:
    """The image in the bytes of a file: upright as its EXIF data says, 8 bits a channel, RGB or grey.

    Transparency is dropped and the colours under it are kept, as torchvision and transformers do it. Of an animation,
    the first frame. 16 bits become 8 by their upper half.

    Args:
        item: The bytes.
        index: Which item it is, for errors.
        grey: Give one channel.
        max_pixels: The most pixels that it may have. Nothing is unpacked before that is known.

    Raises:
        ItemError: It is no such image, is damaged, or has more pixels.
        MissingDependencyError: Pillow is not installed.
    """
    if not isinstance(item, bytes):
        raise ItemError("is no image: it is not bytes", item=index, hint="give the bytes of a JPEG, PNG or WebP file")
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "decoding images needs Pillow", hint="install it with `pip install 'lamella[images]'`"
        ) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        image = Image.open(BytesIO(item), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise _too_large(index, image.width * image.height, max_pixels)
        image.load()
        return _plain(ImageOps.exif_transpose(image), grey=grey)
    except (ItemError, MemoryError):
        raise
    except bombs as error:  # raised before the size can be asked for
        raise _too_large(index, None, max_pixels) from error
    except Exception as error:  # whatever Pillow's readers stumble over where a file lies about itself
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ItemError(
            f"is no image that can be read: {_without_address(reason)}",
            item=index,
            hint=f"known are {', '.join(FORMATS)}",
        ) from error


def _plain(image: Image, *, grey: bool) -> Image:
    from PIL.Image import fromarray

    if image.mode in _SIXTEEN_BITS:
        image = fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns
    return image.convert("L" if grey else "RGB")


def _without_address(reason: str) -> str:
    """Pillow names the buffer that it read from, at an address that differs each time."""
    return "it has no known format" if reason.startswith("cannot identify image file") else reason


def _too_large(index: int, pixels: int | None, limit: int) -> ItemError:
    counted = "too many" if pixels is None else f"{pixels:,}"
    return ItemError(
        f"has {counted} pixels (at most {limit:,})", item=index, hint="give a smaller image, or raise `max_pixels`"
    )
