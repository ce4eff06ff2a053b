"""Images as a model's input: which input that is, and the tensor of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lamella.errors import ItemError, TaskError
from lamella.tasks.base import Item
from lamella.tasks.decoding import decode
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_options import image_options
from lamella.tasks.resizing import Pixels, Size, centre_crop, resize, short_side, within
from lamella.tasks.settings import changed
from lamella.tasks.specs import chosen, fixed, rank
from lamella.tensors import Array, TensorSpec, datatype

MASK = "pixel_mask"
MOST_PIXELS = 64_000_000
"""Of what an image is resized to, whatever the model's files ask for."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in the model's input.

    Attributes:
        size: Its height and width.
        scaled: Its height and width in the input, before anything is cropped.
        offset: Rows and columns of the input before it; negative where it was cropped.
        canvas: Height and width of the input.
    """

    size: Size
    scaled: Size
    offset: Size
    canvas: Size

    def state(self) -> dict[str, object]:
        """As JSON has it."""
        return {name: list(getattr(self, name)) for name in ("size", "scaled", "offset", "canvas")}

    @staticmethod
    def of(state: Mapping[str, object]) -> Placement:
        """What `state` was made of."""
        return Placement(*(_pair(state[name]) for name in ("size", "scaled", "offset", "canvas")))


def _pair(value: object) -> Size:
    if not isinstance(value, list) or len(value) != 2:
        raise TaskError("the state of an item is not what was prepared", hint="give `postprocess` what came with it")
    return int(value[0]), int(value[1])


class ImageInput:
    """Fills a model's image input.

    Args:
        specs: The model's inputs.
        settings: Settings of `ImageOptions`, and `preset`.
        beside: The model's files.
        task: The task's name, for errors.
        default: The preset where nothing is said.

    Raises:
        UsageError: A setting makes no sense.
        TaskError: The model has no input for images, or not for such.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        settings: Mapping[str, object],
        beside: ModelFiles,
        *,
        task: str,
        default: str = "torchvision",
    ) -> None:
        named = settings.get("image_input")
        self._spec = chosen(str(named), "image_input", specs) if named is not None else image_spec(specs, task)
        self._dtype = datatype(self._spec.datatype).dtype
        self._layout = _layout(self._spec, settings.get("layout"))
        self._channels = fixed(self._spec, 1 if self._layout == "NCHW" else 3) or 3
        preset = settings.get("preset")
        own = {name: value for name, value in settings.items() if name != "preset"}
        start = image_options(
            None if preset is None else str(preset),
            beside,
            size=self._size(),
            channels=self._channels,
            integers=self._dtype.kind in "iu",
            default=default,
        )
        self.options = changed(start, own, task)
        self._table = self._values()
        self._masks = [spec for spec in specs if spec.name == MASK]
        self._check_size()

    @property
    def filled(self) -> list[str]:
        """The inputs that it fills."""
        return [self._spec.name, *(spec.name for spec in self._masks)]

    @property
    def batch(self) -> int | None:
        """Images that the model takes at once; None for any number."""
        return fixed(self._spec, 0)

    def prepare(self, items: Sequence[Item]) -> tuple[dict[str, Array], list[Placement]]:
        """The model's inputs for images, and where each of these lies in them.

        Images that differ in size are padded with zeros at the right and at the bottom.

        Raises:
            ItemError: An item is no image, or too large.
            TaskError: The model does not take images of this size.
        """
        options, grey = self.options, self._channels == 1
        found = [
            self._placed(decode(item, index, grey=grey, max_pixels=options.max_pixels), index)
            for index, item in enumerate(items)
        ]
        sizes = [pixels.shape[:2] for pixels, _ in found]
        fixed_size = self._size()
        canvas = fixed_size or (max(size[0] for size in sizes), max(size[1] for size in sizes))
        if any(size[0] > canvas[0] or size[1] > canvas[1] for size in sizes):
            raise self._unfit(max(sizes), canvas)
        values = np.zeros((len(items), self._channels, *canvas), self._dtype)
        for row, (pixels, _) in zip(values, found, strict=True):
            self._fill(row, pixels)
        inputs: dict[str, Array] = {self._spec.name: values}
        if self._layout == "NHWC":
            inputs[self._spec.name] = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        inputs.update((spec.name, self._mask(sizes, canvas, spec)) for spec in self._masks)
        return inputs, [Placement(*place, canvas) for _, place in found]

    def _placed(self, image: object, index: int) -> tuple[Pixels, tuple[Size, Size, Size]]:
        options = self.options
        size: Size = (image.height, image.width)  # type: ignore[attr-defined]  # Pillow's
        scaled = self._scaled(size)
        if scaled[0] * scaled[1] > MOST_PIXELS:  # a strip of one pixel by many, whose short side is to be long
            raise ItemError(
                f"would have {scaled[0] * scaled[1]:,} pixels once resized (at most {MOST_PIXELS:,})",
                item=index,
                hint="give an image that is less long and narrow",
            )
        pixels = resize(image, scaled, options.interpolation)  # type: ignore[arg-type]
        offset = (0, 0)
        if options.fit == "letterbox" and isinstance(options.resize, tuple):
            box = options.resize
            offset = (_half(box[0] - scaled[0]), _half(box[1] - scaled[1]))
            ends = [(at, whole - at - part) for at, whole, part in zip(offset, box, scaled, strict=True)]
            pixels = np.pad(pixels, [*ends, *[(0, 0)] * (pixels.ndim - 2)], constant_values=options.padding)
        if options.crop is not None:
            before = pixels.shape
            pixels = centre_crop(pixels, options.crop, options.crop_rounding)
            offset = (offset[0] + (pixels.shape[0] - before[0]) // 2, offset[1] + (pixels.shape[1] - before[1]) // 2)
        return pixels, (size, scaled, offset)

    def _scaled(self, size: Size) -> Size:
        options = self.options
        if options.resize is None:
            return size
        if isinstance(options.resize, int):
            return short_side(size, options.resize, options.longest)
        return within(size, options.resize) if options.fit == "letterbox" else options.resize

    def _fill(self, row: Array, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        if self._channels == 1:
            row[0, :height, :width] = self._table[0][pixels]
            return
        for index in range(3):
            channel = index if self.options.channels == "rgb" else 2 - index
            row[index, :height, :width] = self._table[index][pixels[..., channel]]

    def _values(self) -> Array:
        """What each of the 256 values of a channel becomes, in the order of the model's channels.

        Scaled in 64 bits and rounded to 32, then normalised in 32, as transformers does it; torchvision's values are
        the same.
        """
        options = self.options
        scaled = (np.arange(256, dtype=np.float64) * options.scale).astype(np.float32)
        mean, std = (
            _per_channel(v, self._channels, name) for v, name in ((options.mean, "mean"), (options.std, "std"))
        )
        if not std.all():
            raise TaskError("the setting `std` has a zero", hint="give numbers to divide by")
        values: Array = (scaled - mean) / std
        if self._dtype.kind in "iu" and not np.array_equal(values, values.astype(self._dtype)):
            raise TaskError(
                f"the model takes {self._spec.datatype} pixels, which cannot be scaled to fractions",
                hint="set `scale` to 1, `mean` to [0] and `std` to [1]",
            )
        return values.astype(self._dtype)

    def _mask(self, sizes: Sequence[Size], canvas: Size, spec: TensorSpec) -> Array:
        mask = np.zeros((len(sizes), *canvas), datatype(spec.datatype).dtype)
        for row, (height, width) in zip(mask, sizes, strict=True):
            row[:height, :width] = 1
        return mask

    def _size(self) -> Size | None:
        first = 2 if self._layout == "NCHW" else 1
        height, width = fixed(self._spec, first), fixed(self._spec, first + 1)
        return None if height is None or width is None else (height, width)

    def _check_size(self) -> None:
        options, wanted = self.options, self._size()
        sides = [options.crop, options.resize, options.longest]
        numbers = [n for side in sides for n in (side if isinstance(side, tuple) else (side,)) if n is not None]
        areas = [side[0] * side[1] for side in sides if isinstance(side, tuple)]
        if any(n < 1 for n in numbers) or max(areas, default=1) > MOST_PIXELS:
            raise TaskError(
                f"images cannot be made {max(numbers)} by {min(numbers)} pixels", hint="set `resize` and `crop`"
            )
        if isinstance(options.resize, tuple) and options.fit == "short-side":
            raise TaskError("`resize` has two sizes and `fit` is `short-side`", hint="set `fit` to `stretch`")
        if isinstance(options.resize, int) and options.fit != "short-side":
            raise TaskError(f"`fit` is `{options.fit}` and `resize` one size", hint="give height and width")
        made = options.crop or (options.resize if isinstance(options.resize, tuple) else None)
        if wanted is not None and made is not None and made != wanted:
            raise self._unfit(made, wanted)

    def _unfit(self, made: tuple[int, ...], wanted: Size) -> TaskError:
        return TaskError(
            f"images become {made[0]} by {made[1]} pixels, and the model's input `{self._spec.name}` takes "
            f"{wanted[0]} by {wanted[1]}",
            hint='set `crop`, or `resize` with `fit = "stretch"`, to the model\'s size',
        )


def image_spec(specs: Sequence[TensorSpec], task: str) -> TensorSpec:
    """The input for images: the one of four dimensions.

    Raises:
        TaskError: There is none, or several.
    """
    found = [spec for spec in specs if spec.name == "pixel_values"] or [spec for spec in specs if rank(spec) == 4]
    if len(found) == 1:
        return found[0]
    raise TaskError(
        f"the model has {len(found) or 'no'} inputs of four dimensions, and the task `{task}` takes images",
        hint="name it with the setting `image_input`" if found else "choose another task",
    )


def _layout(spec: TensorSpec, said: object) -> Literal["NCHW", "NHWC"]:
    if said in ("NCHW", "NHWC"):
        return said
    last, second = fixed(spec, 3), fixed(spec, 1)
    return "NHWC" if last in (1, 3) and second not in (1, 3) else "NCHW"


def _per_channel(values: tuple[float, ...], channels: int, name: str) -> npt.NDArray[np.float32]:
    if len(values) not in (1, channels):
        raise TaskError(f"the setting `{name}` has {len(values)} values for {channels} channels", hint="give as many")
    return np.array(values * (channels // len(values)), np.float32).reshape(channels, 1)


def _half(margin: int) -> int:
    """As Ultralytics' letterbox: half a pixel goes to the end."""
    return round(margin / 2 - 0.1)
