"""How images become pixel values: options, named presets, and what `preprocessor_config.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lamella.errors import TaskError, UsageError
from lamella.tasks.files import ModelFiles
from lamella.tasks.resizing import Interpolation, Rounding, Size

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROPPED = 0.875
"""What a centre crop leaves of the short side: 224 of 256."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images become pixel values: resized, cropped, scaled, normalised, in this order.

    Attributes:
        resize: The short side; or height and width, for `stretch` and `letterbox`. None leaves images as they are.
        fit: Whether the short side gets its size and the other follows, both sides get theirs, or the image fits into
            the box and is padded.
        longest: The most that the long side may get.
        padding: The value around a letterbox.
        crop: Height and width of the middle that is kept.
        crop_rounding: Where the middle begins if the margin is odd.
        interpolation: How it is resized.
        scale: What pixels, from 0 to 255, are multiplied with.
        mean: What is then subtracted, a value a channel, or one for all.
        std: What is then divided by.
        channels: Their order.
        layout: Which axis they are; from the model where it says so.
        image_input: The input that takes the pixels; from the model where there is one such input.
        max_pixels: The most that an image may have.
    """

    resize: int | Size | None = 256
    fit: Literal["short-side", "stretch", "letterbox"] = "short-side"
    longest: int | None = None
    padding: int = 114
    crop: Size | None = (224, 224)
    crop_rounding: Rounding = "even"
    interpolation: Interpolation = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["NCHW", "NHWC"] | None = None
    image_input: str | None = None
    max_pixels: int = 64_000_000


_RAW = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}
_OPENCV = {"crop_rounding": "down", "interpolation": "opencv-linear"}
_STRETCHED = {"fit": "stretch", "crop": None}

# https://github.com/mlcommons/inference/blob/master/vision/classification_and_detection/python/dataset.py
PRESETS: Mapping[str, Mapping[str, object]] = {
    "torchvision": {},
    "mlperf-resnet50": {**_RAW, **_OPENCV, "interpolation": "opencv-area", "mean": (123.68, 116.78, 103.94)},
    "mlperf-mobilenet": {**_OPENCV, "mean": (0.5,), "std": (0.5,)},
    "mlperf-ssd-mobilenet": {**_RAW, **_OPENCV, **_STRETCHED, "resize": (300, 300)},
    "mlperf-ssd-resnet34": {**_OPENCV, **_STRETCHED, "resize": (1200, 1200)},
    "ssd-mobilenet": {**_OPENCV, **_STRETCHED, "resize": (300, 300), "mean": (0.5,), "std": (0.5,)},
    "detr": {"resize": 800, "longest": 1333, "crop": None},
    "yolo": {**_RAW, **_OPENCV, "scale": 1 / 255, "resize": (640, 640), "fit": "letterbox", "crop": None},
}


def image_options(
    preset: str | None,
    beside: ModelFiles,
    *,
    size: Size | None,
    channels: int,
    integers: bool,
    default: str = "torchvision",
) -> ImageOptions:
    """Options from a preset, or from the model's files, or else as suits the model's input.

    Args:
        preset: The name of a preset; None for what the model's files say.
        beside: The model's files.
        size: Height and width of the model's input, where it says so.
        channels: Its channels; grey images are scaled and not normalised.
        integers: Whether it takes pixels as integers.
        default: The preset where nothing is said.

    Raises:
        UsageError: There is no such preset.
        TaskError: The files ask for what is not supported.
    """
    if preset is None and (config := beside.read("preprocessor_config.json")):
        return _from_config(config)
    options = _preset(preset or default)
    if integers or channels == 1:
        options = replace(options, scale=1.0 if integers else options.scale, mean=(0.0,), std=(1.0,))
    return options if size is None else _of_size(options, size)


def _preset(name: str) -> ImageOptions:
    if name not in PRESETS:
        raise UsageError(f"there is no preset `{name}`", hint=f"there is {', '.join(f'`{one}`' for one in PRESETS)}")
    return replace(ImageOptions(), **PRESETS[name])  # type: ignore[arg-type]  # the table above


def _of_size(options: ImageOptions, size: Size) -> ImageOptions:
    if options.crop is not None:
        return replace(options, crop=size, resize=int(max(size) / CROPPED))
    return replace(options, resize=size, fit="stretch" if options.fit == "short-side" else options.fit, longest=None)


_FILTERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers, which the file has."""

_SQUARE = {"ViT", "DeiT", "Beit", "Siglip", "RTDetr"}
_SHORT_SIDE = {"CLIP", "Bit", "MobileNetV1", "MobileNetV2", "ConvNext"}
_BOUNDED = {"Detr", "ConditionalDetr", "DeformableDetr"}


def _from_config(config: Mapping[str, object]) -> ImageOptions:
    """What transformers' image processor of this kind does with an image."""
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "ViT")
    kind = (
        named.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    )
    if kind not in _SQUARE | _SHORT_SIDE | _BOUNDED:
        raise TaskError(
            f"`preprocessor_config.json` asks for `{named}`, whose arithmetic is not known",
            hint="choose a `preset`, and say what differs with further settings",
        )
    found = _resizing(config, kind)
    number = config.get("resample", 2)
    if not isinstance(number, int) or not 0 <= number < len(_FILTERS):
        raise _unusable("resample", number)
    return replace(
        ImageOptions(),
        resize=found.resize,
        fit=found.fit,
        longest=found.longest,
        crop=found.crop,
        crop_rounding="down",
        interpolation=_FILTERS[number],
        scale=_number(config, "rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
        mean=_numbers(config, "image_mean", IMAGENET_MEAN) if config.get("do_normalize", True) else (0.0,),
        std=_numbers(config, "image_std", IMAGENET_STD) if config.get("do_normalize", True) else (1.0,),
    )


def _resizing(config: Mapping[str, object], kind: str) -> ImageOptions:
    """Only what is said of sizes."""
    options = replace(ImageOptions(), resize=None, crop=None)
    if config.get("do_center_crop", False):
        options = replace(options, crop=_pair(config.get("crop_size"), "crop_size"))
    if not config.get("do_resize", True):
        return options
    size = config.get("size", 224)
    if isinstance(size, int):
        size = {"height": size, "width": size} if kind in _SQUARE else {"shortest_edge": size}
    if not isinstance(size, Mapping):
        raise _unusable("size", size)
    if "shortest_edge" not in size:
        return replace(options, resize=_pair(size, "size"), fit="stretch")
    short, longest = size["shortest_edge"], size.get("longest_edge")
    if not isinstance(short, int) or not isinstance(longest, int | None):
        raise _unusable("size", dict(size))
    return _convnext(options, short, config) if kind == "ConvNext" else replace(options, resize=short, longest=longest)


def _convnext(options: ImageOptions, side: int, config: Mapping[str, object]) -> ImageOptions:
    """Cropped below 384 pixels, and stretched from there on."""
    if side >= 384:
        return replace(options, resize=(side, side), fit="stretch")
    return replace(options, resize=int(side / _number(config, "crop_pct", 224 / 256)), crop=(side, side))


def _pair(value: object, name: str) -> Size:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping):
        height, width = value.get("height"), value.get("width")
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    raise _unusable(name, value)


def _number(config: Mapping[str, object], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unusable(name, value)
    return float(value)


def _numbers(config: Mapping[str, object], name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    value = config.get(name, default)
    if not isinstance(value, list | tuple) or not all(isinstance(one, int | float) for one in value):
        raise _unusable(name, value)
    return tuple(float(one) for one in value)


def _unusable(name: str, value: object) -> TaskError:
    return TaskError(
        f"`preprocessor_config.json` has `{name}` {value!r:.80}, which is not supported",
        hint="choose a `preset`, and say what differs with further settings",
    )
