"""Tensors in memory: datatypes, specifications, and the `Tensors` mapping that every part exchanges.

Datatype names are those of the Open Inference Protocol v2. What ONNX has beyond that list keeps ONNX's own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lamella.errors import UnsupportedModelError

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Tensors = Mapping[str, Array]

Dimension = int | str | None
"""A size, the name of a symbolic size, or None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type.

    Attributes:
        name: Open Inference Protocol name (`FP32`), or ONNX's own where the protocol has none (`INT4`).
        onnx: Value of `TensorProto.DataType`.
        bits: Size of one element in bits, packed; 0 for `BYTES`, whose elements vary.
        numpy: Name of the NumPy dtype; those that NumPy lacks come from `ml_dtypes`.
    """

    name: str
    onnx: int
    bits: int
    numpy: str

    def size_bytes(self, elements: int) -> int:
        """Bytes of `elements` packed elements (ONNX packs 4-bit types two to a byte); 0 for `BYTES`."""
        return (elements * self.bits + 7) // 8

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The NumPy dtype of an array that holds this datatype, one element an item."""
        if self.name in _ML_DTYPES:
            import ml_dtypes  # registers the types with NumPy; small, but not free

            foreign: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, self.numpy))
            return foreign
        return np.dtype(self.numpy)


# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, TensorProto.DataType
DATATYPES = (
    Datatype("FP32", 1, 32, "float32"),
    Datatype("UINT8", 2, 8, "uint8"),
    Datatype("INT8", 3, 8, "int8"),
    Datatype("UINT16", 4, 16, "uint16"),
    Datatype("INT16", 5, 16, "int16"),
    Datatype("INT32", 6, 32, "int32"),
    Datatype("INT64", 7, 64, "int64"),
    Datatype("BYTES", 8, 0, "object"),
    Datatype("BOOL", 9, 8, "bool"),
    Datatype("FP16", 10, 16, "float16"),
    Datatype("FP64", 11, 64, "float64"),
    Datatype("UINT32", 12, 32, "uint32"),
    Datatype("UINT64", 13, 64, "uint64"),
    Datatype("COMPLEX64", 14, 64, "complex64"),
    Datatype("COMPLEX128", 15, 128, "complex128"),
    Datatype("BF16", 16, 16, "bfloat16"),
    Datatype("FLOAT8E4M3FN", 17, 8, "float8_e4m3fn"),
    Datatype("FLOAT8E4M3FNUZ", 18, 8, "float8_e4m3fnuz"),
    Datatype("FLOAT8E5M2", 19, 8, "float8_e5m2"),
    Datatype("FLOAT8E5M2FNUZ", 20, 8, "float8_e5m2fnuz"),
    Datatype("UINT4", 21, 4, "uint4"),
    Datatype("INT4", 22, 4, "int4"),
    Datatype("FLOAT4E2M1", 23, 4, "float4_e2m1fn"),
    Datatype("FLOAT8E8M0", 24, 8, "float8_e8m0fnu"),
    Datatype("UINT2", 25, 2, "uint2"),
    Datatype("INT2", 26, 2, "int2"),
)
_ML_DTYPES = {d.name for d in DATATYPES if d.onnx >= 16}
_BY_NAME = {d.name: d for d in DATATYPES}
_BY_ONNX = {d.onnx: d for d in DATATYPES}
_BY_DTYPE: dict[object, Datatype] = {}
"""Those that have been looked up."""


def datatype(key: str | int) -> Datatype:
    """Look a datatype up by its name or by its `TensorProto.DataType` number.

    Raises:
        UnsupportedModelError: There is no such datatype.
    """
    found = _BY_ONNX.get(key) if isinstance(key, int) else _BY_NAME.get(key)
    if found is None:
        raise UnsupportedModelError(
            f"unknown datatype {key!r}", hint=f"known are: {', '.join(d.name for d in DATATYPES)}"
        )
    return found


def datatype_of(array: Array) -> Datatype:
    """The datatype of a NumPy array; text and object arrays are `BYTES`.

    Raises:
        UnsupportedModelError: ONNX has no type for this dtype.
    """
    if array.dtype.kind in "OSUT":
        return _BY_NAME["BYTES"]
    found = _BY_DTYPE.get(array.dtype)
    if found is None:  # NumPy takes long to say the name
        name = array.dtype.name
        found = next((candidate for candidate in DATATYPES if candidate.numpy == name), None)
        if found is None:
            raise UnsupportedModelError(f"ONNX has no datatype for NumPy's `{name}`", hint="convert the array first")
        _BY_DTYPE[array.dtype] = found
    return found


def native(array: Array, kind: Datatype | None = None) -> Array:
    """An array as engines read it; no copy where it is so already.

    Text becomes Python strings, another machine's byte order becomes this one's, and the raw bytes that `numpy.save`
    makes of a type which NumPy lacks become `kind`.

    Raises:
        TypeError: An array of Python objects holds something other than text.
        ValueError: Text is not UTF-8.
    """
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind in "OS":
        return _texts(array.astype(object, copy=False))
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    raw = array.dtype.type is np.void and array.dtype.names is None
    if raw and kind is not None and kind.dtype.itemsize == array.dtype.itemsize:
        return array.view(kind.dtype)
    return array


def array_from(value: object, kind: Datatype) -> Array:
    """Nested lists or a scalar as an array of `kind`, where that changes no value; floats are rounded to nearest.

    Raises:
        TypeError: The values are no numbers, or no text where `kind` is `BYTES`.
        ValueError: The lists are ragged, or a value is not one of `kind`.
        OverflowError: An integer is out of range.
    """
    natural = np.asarray(value)  # refuses ragged lists, and shows what the values are
    if kind.name == "BYTES":
        return native(np.asarray(value, dtype=object))
    if natural.dtype.kind in "SUT":
        raise TypeError("the values are text")
    if natural.dtype.kind in "OmM":
        raise TypeError("the values are neither numbers nor text")
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(value, dtype=kind.dtype)
        if kind.name.startswith(("INT", "UINT", "BOOL")):
            kept = np.array_equal(array.astype(natural.dtype), natural)
        else:
            kept = not np.any(np.isfinite(natural) & ~np.isfinite(array))
    if not kept:
        raise ValueError(f"not every value is {kind.name}")
    return array


def _texts(array: Array) -> Array:
    if all(isinstance(item, str) for item in array.flat):
        return array
    texts = np.empty(array.size, object)
    texts[:] = [_text(item) for item in array.flat]
    return texts.reshape(array.shape)


def _text(item: object) -> str:
    if isinstance(item, bytes):
        return item.decode()
    if not isinstance(item, str):
        raise TypeError(f"{item!r:.40} is no text")
    return item


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of a tensor that goes into or out of something.

    Attributes:
        name: The tensor's name in the model.
        datatype: Datatype name, as in `DATATYPES`; for what is no tensor, ONNX Runtime's notation, such as
            `seq(tensor(float))`.
        shape: One entry a dimension; None where not even the rank is known.
    """

    name: str
    datatype: str
    shape: tuple[Dimension, ...] | None
