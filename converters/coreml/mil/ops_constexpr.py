"""Compressed constants: unpacked once, when a program is loaded.

Products are taken in float32 and then rounded to the output's own dtype. ``constexpr_lut_to_dense`` and
``constexpr_sparse_to_dense`` take other inputs since iOS 18; the older form has a ``shape``.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.mil.arguments import Arguments
from converters.coreml.mil.constants import unpacked

__all__ = ["UNPACKERS"]

Numbers = NDArray[Any]


def _affine_dequantize(args: Arguments) -> Numbers:
    """``scale * (data - zero_point)``; scale and zero point are scalars or vectors along ``axis``."""
    data = args.array("quantized_data")
    axis = args.axis("axis", data.ndim)
    scale, zero_point = (_along(args, name, axis, data) for name in ("scale", "zero_point"))
    return (data.astype(np.float32) - zero_point) * scale


def _along(args: Arguments, name: str, axis: int, data: Numbers) -> Numbers:
    values = args.array(name).astype(np.float32)
    if values.ndim == 0:
        return values
    if values.shape != (data.shape[axis],):
        args.refuse(name, f"has shape {list(values.shape)}, not [{data.shape[axis]}]")
    return values.reshape([-1 if place == axis else 1 for place in range(data.ndim)])


def _blockwise_shift_scale(args: Arguments) -> Numbers:
    """``scale * (data - offset)``; a scale serves a block of ``data.shape / scale.shape`` elements."""
    data = args.array("data").astype(np.float32)
    if args.has("offset"):
        data = data - _spread(args, "offset", data.shape)
    return data * _spread(args, "scale", data.shape)


def _spread(args: Arguments, name: str, shape: tuple[int, ...]) -> Numbers:
    values = args.array(name).astype(np.float32)
    if values.ndim != len(shape) or any(size % blocks for size, blocks in zip(shape, values.shape, strict=False)):
        args.refuse(name, f"of shape {list(values.shape)} does not divide {list(shape)}")
    for axis, size in enumerate(shape):
        values = values.repeat(size // values.shape[axis], axis)
    return values


def _lut_to_dense(args: Arguments) -> Numbers:
    """Look indices up in a table.

    Before iOS 18 indices are packed bytes and the table a vector; since then the table has shape
    ``[..blocks, entries, 1]`` and each block of indices its own entries. Vectors as entries are refused.
    """
    indices, table = args.array("indices"), args.array("lut")
    if args.has("shape"):
        shape = args.integers("shape")
        bits = int(table.size).bit_length() - 1
        if 2**bits != table.size or indices.size != -(-prod(shape) * bits // 8):
            args.refuse("indices", f"of {indices.size} bytes do not fit {list(shape)} and {table.size} entries")
        flat: Numbers = table[unpacked(indices, bits, prod(shape), signed=False)]
        return flat.reshape(shape)
    if args.has("vector_axis"):
        args.integer("vector_axis")
    if table.ndim != indices.ndim + 2 or table.shape[-1] != 1:
        args.refuse("lut", f"of shape {list(table.shape)} is not implemented; entries that are vectors are not")
    if int(indices.max(initial=0)) >= table.shape[-2]:
        args.refuse("indices", "point beyond the table")
    blocks = np.indices(indices.shape)
    for axis, size in enumerate(indices.shape):
        if size % table.shape[axis]:
            args.refuse("lut", f"of shape {list(table.shape)} does not divide {list(indices.shape)}")
        blocks[axis] //= size // table.shape[axis]
    looked_up: Numbers = table[(*blocks, indices.astype(np.intp), 0)]
    return looked_up


def _sparse_to_dense(args: Arguments) -> Numbers:
    """Put values where the mask has a 1, zero elsewhere."""
    values, mask = args.array("nonzero_data"), args.array("mask")
    if args.has("shape"):
        shape = args.integers("shape")
        mask = unpacked(mask, 1, prod(shape), signed=False).reshape(shape)
    if int(mask.sum()) != values.size:
        args.refuse("nonzero_data", f"has {values.size} values for a mask with {int(mask.sum())} ones")
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def _cast(args: Arguments) -> Numbers:
    args.text("output_dtype", ("fp32",))
    return args.array("source_val").astype(np.float32)


UNPACKERS: Final[Mapping[str, Callable[[Arguments], Numbers]]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
