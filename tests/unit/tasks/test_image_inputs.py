"""Pixel values are those of transformers, torchvision and MLPerf's reference."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.task_models import encoded, picture, png, write_json

from lamella.errors import ItemError, TaskError, UsageError
from lamella.tasks.files import ModelFiles
from lamella.tasks.image_options import PRESETS
from lamella.tasks.pixels import ImageInput, Placement
from lamella.tensors import TensorSpec

SIZES = [(64, 48), (300, 411), (411, 300), (225, 225), (640, 101), (31, 33)]


def images(
    shape: tuple[Any, ...] = ("batch", 3, "height", "width"),
    datatype: str = "FP32",
    *,
    beside: ModelFiles | None = None,
    **settings: Any,
) -> ImageInput:
    return ImageInput(
        [TensorSpec("pixel_values", datatype, shape)], settings, beside or ModelFiles(), task="image-classification"
    )


def values(source: ImageInput, *files: bytes) -> np.ndarray:
    return source.prepare(files)[0]["pixel_values"]


def rgb(file: bytes) -> Image.Image:
    return Image.open(BytesIO(file)).convert("RGB")


PROCESSORS = [
    ("ViT", {}),
    ("ViT", {"do_normalize": False, "size": {"height": 50, "width": 70}, "resample": 3}),
    ("ViT", {"do_rescale": False, "do_resize": False, "do_normalize": False}),
    ("DeiT", {}),
    ("Beit", {}),
    ("Siglip", {}),
    ("CLIP", {}),
    ("Bit", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("ConvNext", {"size": {"shortest_edge": 384}, "crop_pct": 0.9}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {"size": {"shortest_edge": 40}, "crop_size": {"height": 37, "width": 30}}),
    ("Detr", {"size": {"shortest_edge": 80, "longest_edge": 133}}),
]


@pytest.mark.parametrize(("kind", "options"), PROCESSORS, ids=str)
def test_pixel_values_are_those_of_transformers(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    import transformers

    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**options)
    processor.save_pretrained(tmp_path)
    own = images(beside=ModelFiles(tmp_path))
    for width, height in SIZES:
        file = png(picture(width, height))
        wanted = processor(images=rgb(file), return_tensors="np")["pixel_values"]
        found = values(own, file)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted.astype(np.float32))


def test_images_of_several_sizes_are_padded_with_a_mask_as_by_transformers(tmp_path: Path) -> None:
    from transformers import DetrImageProcessorPil

    processor = DetrImageProcessorPil(size={"shortest_edge": 80, "longest_edge": 133})
    processor.save_pretrained(tmp_path)
    specs = [
        TensorSpec("pixel_values", "FP32", ("batch", 3, "height", "width")),
        TensorSpec("pixel_mask", "INT64", ("batch", "height", "width")),
    ]
    own = ImageInput(specs, {}, ModelFiles(tmp_path), task="object-detection")
    files = [png(picture(64, 48)), png(picture(48, 64))]
    wanted = processor(images=[rgb(file) for file in files], return_tensors="np")
    found, _ = own.prepare(files)
    for name in ("pixel_values", "pixel_mask"):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_default_is_torchvisions_arithmetic(width: int, height: int) -> None:
    """`Resize(256)`, `CenterCrop(224)`, `ToTensor()`, `Normalize(...)` on a Pillow image, written with torch."""
    torch = pytest.importorskip("torch")
    file = png(picture(width, height))
    image = rgb(file)
    short, long = sorted(image.size)
    scaled = 256, int(256 * long / short)
    image = image.resize(scaled if width <= height else scaled[::-1], Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2.0), round((image.height - 224) / 2.0)
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1)
    tensor = pixels.to(torch.float32).div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tensor = tensor.sub_(mean[:, None, None]).div_(std[:, None, None])
    np.testing.assert_array_equal(values(images(), file)[0], tensor.numpy())


def mlperf(file: bytes, kind: str) -> np.ndarray:
    """MLPerf's reference, after `dataset.py` of its vision benchmark: with OpenCV, height and width of 224."""
    cv2 = pytest.importorskip("cv2")
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if kind == "mlperf-ssd-mobilenet":
        return cv2.resize(image, (300, 300), interpolation=cv2.INTER_LINEAR)
    if kind == "mlperf-ssd-resnet34":
        image = cv2.resize(image, (1200, 1200), interpolation=cv2.INTER_LINEAR)
        mean, std = (np.array(v, dtype=np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return (image.astype("float32") / 255.0 - mean) / std
    height, width, _ = image.shape
    edge = int(100.0 * 224 / 87.5)
    w, h = (edge, int(edge * height / width)) if height > width else (int(edge * width / height), edge)
    how = cv2.INTER_AREA if kind == "mlperf-resnet50" else cv2.INTER_LINEAR
    image = cv2.resize(image, (w, h), interpolation=how)
    left, right = int((w - 224) / 2), int((w + 224) / 2)
    top, bottom = int((h - 224) / 2), int((h + 224) / 2)
    image = np.asarray(image[top:bottom, left:right], dtype="float32")
    if kind == "mlperf-resnet50":
        return image - np.array([123.68, 116.78, 103.94], dtype=np.float32)
    image /= 255.0
    image -= 0.5
    image *= 2
    return image


@pytest.mark.parametrize("kind", [name for name in PRESETS if name.startswith("mlperf")])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 641), (333, 500), (150, 200)])
def test_presets_are_mlperfs_reference(kind: str, width: int, height: int) -> None:
    file = png(picture(width, height))
    datatype = "UINT8" if kind == "mlperf-ssd-mobilenet" else "FP32"
    own = images(("batch", "height", "width", 3), datatype, preset=kind)
    np.testing.assert_array_equal(values(own, file)[0], mlperf(file, kind))


def test_a_models_fixed_size_is_kept() -> None:
    own = images((1, 3, 299, 299))
    assert (own.options.resize, own.options.crop) == (341, (299, 299))
    assert values(own, png(picture(500, 400))).shape == (1, 3, 299, 299)


@pytest.mark.parametrize(
    ("shape", "made"),
    [
        (("n", 3, "h", "w"), (1, 3, 224, 224)),
        (("n", "h", "w", 3), (1, 224, 224, 3)),
        (("n", 1, 28, 28), (1, 1, 28, 28)),
    ],
)
def test_the_layout_and_the_channels_are_the_models(shape: tuple[Any, ...], made: tuple[int, ...]) -> None:
    assert values(images(shape), png(picture(64, 48))).shape == made


def test_grey_images_are_scaled_only() -> None:
    pixels = picture(28, 28, mode="L")
    found = values(images((1, 1, 28, 28), resize=None), png(pixels))
    np.testing.assert_array_equal(found[0, 0], (pixels / 255).astype(np.float32))


def test_channels_may_be_reversed() -> None:
    file = png(picture(64, 48))
    plain = {"mean": [0], "std": [1]}
    np.testing.assert_array_equal(values(images(channels="bgr", **plain), file), values(images(**plain), file)[:, ::-1])


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", np.float16), ("FP64", np.float64), ("UINT8", np.uint8)])
def test_pixels_have_the_models_datatype(datatype: str, dtype: type) -> None:
    assert values(images(datatype=datatype), png(picture())).dtype == dtype


def test_integers_are_the_pixels_themselves() -> None:
    pixels = picture(30, 20)
    own = images(("n", 20, 30, 3), "UINT8", resize=[20, 30], fit="stretch", crop=None)
    np.testing.assert_array_equal(values(own, png(pixels))[0], pixels)
    with pytest.raises(TaskError, match="the model takes UINT8 pixels, which cannot be scaled to fractions"):
        images(datatype="UINT8", scale=1 / 255)


def test_a_letterbox_is_ultralytics() -> None:
    """`LetterBox` of Ultralytics: the ratio, the new size, borders of 114 whose odd pixel goes to the end."""
    cv2 = pytest.importorskip("cv2")
    for width, height in SIZES:
        file = png(picture(width, height))
        image = np.asarray(rgb(file))
        ratio = min(640 / height, 640 / width)
        unpadded = round(width * ratio), round(height * ratio)
        dw, dh = (640 - unpadded[0]) / 2, (640 - unpadded[1]) / 2
        if image.shape[:2][::-1] != unpadded:
            image = cv2.resize(image, unpadded, interpolation=cv2.INTER_LINEAR)
        top, bottom, left, right = (round(v) for v in (dh - 0.1, dh + 0.1, dw - 0.1, dw + 0.1))
        wanted = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        found, (placement,) = images(preset="yolo").prepare([file])
        np.testing.assert_array_equal(found["pixel_values"][0], wanted.transpose(2, 0, 1).astype(np.float32) / 255)
        assert placement == Placement((height, width), unpadded[::-1], (top, left), (640, 640))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"preset": "torchvison"}, UsageError, "there is no preset `torchvison`"),
        ({"interpolation": "cubic"}, UsageError, "the setting `interpolation` cannot be `'cubic'`"),
        ({"mean": [0.5, 0.5]}, TaskError, "the setting `mean` has 2 values for 3 channels"),
        ({"std": [0]}, TaskError, "the setting `std` has a zero"),
        ({"resize": [8, 8]}, TaskError, "`resize` has two sizes and `fit` is `short-side`"),
        ({"fit": "stretch"}, TaskError, "`fit` is `stretch` and `resize` one size"),
        ({"image_input": "pixels"}, UsageError, "the setting `image_input` names `pixels`, which the model lacks"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        images(**settings)
    assert caught.value.hint


def test_a_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(
        TaskError, match="images become 224 by 224 pixels, and the model's input `pixel_values` takes 96"
    ):
        images((1, 3, 96, 96), crop=[224, 224])
    with pytest.raises(TaskError, match="images become 48 by 64 pixels"):
        values(images((1, 3, 32, 32), resize=None, crop=None), png(picture(64, 48)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "asks for `LevitImageProcessor`"),
        ({"size": "large"}, "has `size` 'large'"),
        ({"resample": 17}, "has `resample` 17"),
        ({"image_mean": "grey"}, "has `image_mean` 'grey'"),
        ({"rescale_factor": "1/255"}, "has `rescale_factor` '1/255'"),
    ],
)
def test_a_configuration_that_is_not_supported_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessor_config.json", config)
    with pytest.raises(TaskError, match=message) as caught:
        images(beside=ModelFiles(tmp_path))
    assert "preset" in str(caught.value.hint)


def test_a_preset_stands_above_the_models_files(tmp_path: Path) -> None:
    write_json(tmp_path / "preprocessor_config.json", {"image_processor_type": "LevitImageProcessor"})
    assert images(beside=ModelFiles(tmp_path), preset="torchvision").options == images().options


def test_placements_survive_json() -> None:
    placement = Placement((48, 64), (30, 40), (5, 0), (40, 40))
    assert Placement.of(json.loads(json.dumps(placement.state()))) == placement


def test_pixels_are_counted_before_they_are_unpacked() -> None:
    with pytest.raises(ItemError, match=r"item 0 has 3,072 pixels \(at most 3,000\)"):
        values(images(max_pixels=3000), png(picture(64, 48)))


def test_a_strip_is_not_blown_up() -> None:
    """60,000 pixels of which the short side is one: resized, they would take 11 GB."""
    strip = np.zeros((1, 60_000, 3), np.uint8)
    with pytest.raises(ItemError, match=r"item 0 would have 3,932,160,000 pixels once resized \(at most 64,000,000\)"):
        values(images(), png(strip))


@pytest.mark.parametrize("settings", [{"crop": [0, 4]}, {"resize": -1}, {"crop": [99999, 99999]}, {"longest": 0}])
def test_sizes_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="images cannot be made"):
        images(**settings)


def test_jpeg_is_read_as_pillow_reads_it() -> None:
    file = encoded(picture(224, 224), "JPEG")
    own = images(resize=None, scale=1.0, mean=[0], std=[1])
    np.testing.assert_array_equal(values(own, file)[0].transpose(1, 2, 0), np.asarray(rgb(file)))
