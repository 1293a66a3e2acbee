"""Constants of an ML Program: their dtypes, and their values decoded from the specification or from ``weight.bin``.

``weight.bin`` is Core ML's blob storage, version 2: a 64-byte header, then for each constant a 64-byte record (sentinel
0xDEADBEEF, dtype code, size in bytes, offset of the data) and its data, everything aligned to 64 bytes. Values narrower
than a byte are packed from the least significant bit up.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.errors import BadInputError, ConversionError

__all__ = [
    "DTYPES",
    "BlobFile",
    "Constant",
    "Dtype",
    "TensorType",
    "constant_from_value",
    "tensor_type",
    "unpacked",
]

_SENTINEL: Final = 0xDEADBEEF
_RECORD_BYTES: Final = 64


@dataclass(frozen=True, kw_only=True)
class Dtype:
    """An element type.

    Attributes:
        name: As reports show it, such as ``float16``.
        mil_name: As MIL spells it in ``cast`` and ``quantize``, such as ``fp16``.
        bits: Bits per element in storage.
        storage: NumPy type the elements are decoded to; None for text and for types that are not implemented.
        blob_code: Code of the type in ``weight.bin``; None where it is never stored there.
    """

    name: str
    mil_name: str
    bits: int
    storage: type[np.generic] | None
    blob_code: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self.name.startswith(("float", "bfloat"))


def _dtype(name: str, mil_name: str, bits: int, storage: type[np.generic] | None, code: int | None = None) -> Dtype:
    return Dtype(name=name, mil_name=mil_name, bits=bits, storage=storage, blob_code=code)


DTYPES: Final[dict[int, Dtype]] = {
    1: _dtype("bool", "bool", 8, np.bool_),
    2: _dtype("string", "string", 0, None),
    10: _dtype("float16", "fp16", 16, np.float16, 1),
    11: _dtype("float32", "fp32", 32, np.float32, 2),
    12: _dtype("float64", "fp64", 64, np.float64),
    13: _dtype("bfloat16", "bf16", 16, None, 5),
    21: _dtype("int8", "int8", 8, np.int8, 4),
    22: _dtype("int16", "int16", 16, np.int16, 6),
    23: _dtype("int32", "int32", 32, np.int32, 14),
    24: _dtype("int64", "int64", 64, np.int64),
    25: _dtype("int4", "int4", 4, np.int8, 8),
    31: _dtype("uint8", "uint8", 8, np.uint8, 3),
    32: _dtype("uint16", "uint16", 16, np.uint16, 7),
    33: _dtype("uint32", "uint32", 32, np.uint32, 15),
    34: _dtype("uint64", "uint64", 64, np.uint64),
    35: _dtype("uint4", "uint4", 4, np.uint8, 11),
    36: _dtype("uint2", "uint2", 2, np.uint8, 10),
    37: _dtype("uint1", "uint1", 1, np.uint8, 9),
    38: _dtype("uint6", "uint6", 6, np.uint8, 13),
    39: _dtype("uint3", "uint3", 3, np.uint8, 12),
    40: _dtype("float8e4m3fn", "fp8e4m3fn", 8, None, 16),
    41: _dtype("float8e5m2", "fp8e5m2", 8, None, 17),
}
"""MIL's dtype codes."""


@dataclass(frozen=True, kw_only=True)
class TensorType:
    """Element type and shape; None stands for an axis whose length is not fixed."""

    dtype: Dtype
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A decoded constant.

    Attributes:
        type: As the file states it.
        value: The elements in the file's own dtype (sub-byte types one element per byte), or text.
        stored_bytes: Bytes the elements take in the file.
        record: Weight file and offset; empty where it is written in place.
    """

    type: TensorType
    value: NDArray[Any] | str
    stored_bytes: int
    record: str = ""


def tensor_type(value_type: Any, where: str) -> TensorType:
    """Read a MIL value type.

    Raises:
        ConversionError: It is not a tensor (a list, tuple, dictionary or state), or the dtype is unknown.
    """
    if not value_type.HasField("tensorType"):
        kind = "a state" if value_type.HasField("stateType") else "a list, tuple or dictionary"
        message = f"{where}: {kind} is not implemented; only tensors are"
        raise ConversionError(message)
    tensor = value_type.tensorType
    if tensor.dataType not in DTYPES:
        message = f"{where}: unknown dtype code {tensor.dataType}"
        raise ConversionError(message)
    shape = tuple(int(d.constant.size) if d.HasField("constant") else None for d in tensor.dimensions)
    return TensorType(dtype=DTYPES[tensor.dataType], shape=shape)


class BlobFile:
    """A ``weight.bin``, read whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = path.read_bytes()
        except OSError as error:
            message = f"{path}: the package's weights cannot be read ({error.strerror or error}); export it again"
            raise BadInputError(message) from error
        version = struct.unpack_from("<I", self._raw, 4)[0] if len(self._raw) >= _RECORD_BYTES else None
        if version != 2:
            message = f"{path}: not Core ML blob storage version 2; export the package again"
            raise BadInputError(message)

    def data(self, offset: int, dtype: Dtype, count: int) -> bytes:
        """Give the bytes of one constant of ``count`` elements whose record lies at ``offset``.

        Raises:
            BadInputError: The record is damaged, cut short or of another dtype or size.
        """
        if offset + _RECORD_BYTES > len(self._raw):
            raise self._damaged(offset, "it lies beyond the end of the file")
        sentinel, code, size, start = struct.unpack_from("<IIQQ", self._raw, offset)
        if sentinel != _SENTINEL:
            raise self._damaged(offset, "its sentinel is wrong")
        if code != dtype.blob_code:
            raise self._damaged(offset, f"its dtype code is {code}, not {dtype.name}'s {dtype.blob_code}")
        if size != (count * dtype.bits + 7) // 8:
            raise self._damaged(offset, f"it holds {size} bytes, not {count} values of {dtype.name}")
        if start + size > len(self._raw):
            raise self._damaged(offset, "its data is cut short")
        return self._raw[start : start + size]

    def _damaged(self, offset: int, what: str) -> BadInputError:
        return BadInputError(f"{self.path}: record at byte {offset}: {what}; the file is damaged, export it again")


def constant_from_value(value: Any, folder: Path, blobs: dict[str, BlobFile], where: str) -> Constant:
    """Decode a MIL value.

    Args:
        value: The ``Value`` message.
        folder: Where ``@model_path`` points: the folder of the ``.mlmodel``.
        blobs: Weight files opened so far, by file name; grows.
        where: What the value belongs to, for messages.

    Raises:
        BadInputError: The weights are missing or damaged.
        ConversionError: The value is of a kind or dtype that is not implemented.
    """
    kind = tensor_type(value.type, where)
    if None in kind.shape:
        message = f"{where}: a constant of unknown shape {kind}"
        raise ConversionError(message)
    count = int(np.prod([size for size in kind.shape if size is not None], dtype=np.int64))
    if value.HasField("blobFileValue"):
        name = value.blobFileValue.fileName
        if name not in blobs:
            blobs[name] = BlobFile(_inside(folder, name))
        raw = blobs[name].data(value.blobFileValue.offset, kind.dtype, count)
        record = f"{name}@{value.blobFileValue.offset}"
        return Constant(type=kind, value=_from_bytes(raw, kind, count, where), stored_bytes=len(raw), record=record)
    if not value.HasField("immediateValue") or not value.immediateValue.HasField("tensor"):
        message = f"{where}: a value that is neither a tensor nor in a weight file is not implemented"
        raise ConversionError(message)
    return _immediate(value.immediateValue.tensor, kind, count, where)


def _inside(folder: Path, name: str) -> Path:
    relative = Path(name.removeprefix("@model_path/"))
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        message = f"{folder}: weights {name!r} lie outside the package; refused"
        raise BadInputError(message)
    return folder / relative


def _immediate(tensor: Any, kind: TensorType, count: int, where: str) -> Constant:
    stored = (count * kind.dtype.bits + 7) // 8
    if tensor.HasField("bytes"):
        value = _from_bytes(tensor.bytes.values, kind, count, where)
        return Constant(type=kind, value=value, stored_bytes=stored)
    holders = ("floats", "ints", "bools", "strings", "longInts", "doubles")
    holder = next((name for name in holders if tensor.HasField(name)), None)
    values = list(getattr(tensor, holder).values) if holder else []
    if kind.dtype.name == "string" and count == 1 and len(values) == 1:
        return Constant(type=kind, value=str(values[0]), stored_bytes=len(values[0]))
    if kind.dtype.storage is None:
        message = f"{where}: constants of dtype {kind.dtype.name} are not implemented"
        raise ConversionError(message)
    if len(values) != count:
        message = f"{where}: {len(values)} values for {kind}; the file is damaged, export it again"
        raise BadInputError(message)
    shape = tuple(size or 0 for size in kind.shape)
    return Constant(type=kind, value=np.array(values, kind.dtype.storage).reshape(shape), stored_bytes=stored)


def _from_bytes(raw: bytes, kind: TensorType, count: int, where: str) -> NDArray[Any]:
    dtype = kind.dtype
    if dtype.storage is None:
        message = f"{where}: constants of dtype {dtype.name} are not implemented"
        raise ConversionError(message)
    if len(raw) != (count * dtype.bits + 7) // 8:
        message = f"{where}: {len(raw)} bytes for {kind}; the file is damaged, export it again"
        raise BadInputError(message)
    shape = tuple(size or 0 for size in kind.shape)
    if dtype.bits >= 8:
        little_endian = np.dtype(dtype.storage).newbyteorder("<")
        return np.frombuffer(raw, little_endian).astype(dtype.storage, copy=False).reshape(shape)
    return unpacked(np.frombuffer(raw, np.uint8), dtype.bits, count, signed=dtype.name == "int4").reshape(shape)


def unpacked(packed: NDArray[np.uint8], bits: int, count: int, *, signed: bool) -> NDArray[Any]:
    """Spread ``count`` values of ``bits`` bits, packed from the least significant bit up, to one per byte."""
    stream = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    weights = 1 << np.arange(bits)
    if signed:
        weights[-1] = -weights[-1]
    values: NDArray[Any] = stream @ weights
    return values.astype(np.int8 if signed else np.uint8)
