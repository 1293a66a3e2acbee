"""Compressed constants: unpacked once, when a program is loaded.

Each gives one array, the sparse ones two: a mask and the values where it has a 1, in row-major order. One may be made
of what another gives. Products are taken in float32 and then rounded to the output's own dtype.
``constexpr_lut_to_dense`` and ``constexpr_sparse_to_dense`` take other inputs since iOS 18; the older form has a
``shape``.
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
    return _shifted_and_scaled(args, args.array("data"))


def _shifted_and_scaled(args: Arguments, data: Numbers) -> Numbers:
    """``scale * (data - offset)``; a scale serves a block of ``data.shape / scale.shape`` elements."""
    data = data.astype(np.float32)
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

    Before iOS 18 indices are packed bytes and the table a vector; since then see :func:`_looked_up`.
    """
    indices, table = args.array("indices"), args.array("lut")
    if not args.has("shape"):
        return _looked_up(args, indices, table, _vector_axis(args, indices.ndim))
    shape = args.integers("shape")
    bits = int(table.size).bit_length() - 1
    if 2**bits != table.size or indices.size != -(-prod(shape) * bits // 8):
        args.refuse("indices", f"of {indices.size} bytes do not fit {list(shape)} and {table.size} entries")
    flat: Numbers = table[unpacked(indices, bits, prod(shape), signed=False)]
    return flat.reshape(shape)


def _vector_axis(args: Arguments, rank: int) -> int:
    """Give the axis that entries fill; entries of one number have no need of it."""
    if args.has("vector_axis"):
        return args.axis("vector_axis", rank)
    if args.array("lut").shape[-1] != 1:
        args.refuse("vector_axis", "is missing")
    return 0


def _looked_up(args: Arguments, indices: Numbers, table: Numbers, axis: int) -> Numbers:
    """Put entries in the place of indices.

    The table has shape ``[..blocks, entries, length]``: each block of indices has its own entries, and an entry's
    numbers follow one another along ``axis``.
    """
    if table.ndim != indices.ndim + 2:
        args.refuse("lut", f"of shape {list(table.shape)} does not fit indices {list(indices.shape)}")
    if int(indices.max(initial=0)) >= table.shape[-2]:
        args.refuse("indices" if args.has("indices") else "indices_nonzero_data", "point beyond the table")
    blocks = np.indices(indices.shape)
    for place, size in enumerate(indices.shape):
        if size % table.shape[place]:
            args.refuse("lut", f"of shape {list(table.shape)} does not divide {list(indices.shape)}")
        blocks[place] //= size // table.shape[place]
    entries: Numbers = table[(*blocks, indices.astype(np.intp))]
    shape = [size * table.shape[-1] if place == axis else size for place, size in enumerate(indices.shape)]
    return np.moveaxis(entries, -1, axis + 1).reshape(shape)


def _sparse_to_dense(args: Arguments) -> Numbers:
    """Put values where the mask has a 1, zero elsewhere."""
    mask = args.array("mask")
    if args.has("shape"):
        shape = args.integers("shape")
        mask = unpacked(mask, 1, prod(shape), signed=False).reshape(shape)
    return _spread_out(args, "nonzero_data", mask)


def _spread_out(args: Arguments, name: str, mask: Numbers) -> Numbers:
    values = args.array(name)
    if int(mask.sum()) != values.size:
        args.refuse(name, f"has {values.size} values for a mask with {int(mask.sum())} ones")
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def _lut_to_sparse(args: Arguments) -> tuple[Numbers, Numbers]:
    mask, table = args.array("indices_mask"), args.array("lut")
    axis = _vector_axis(args, mask.ndim)
    dense = _looked_up(args, _spread_out(args, "indices_nonzero_data", mask), table, axis)
    mask = mask.repeat(table.shape[-1], axis)
    return mask, dense[mask != 0]


def _sparse_blockwise_shift_scale(args: Arguments) -> tuple[Numbers, Numbers]:
    mask = args.array("data_mask")
    dense = _shifted_and_scaled(args, _spread_out(args, "nonzero_data", mask))
    return mask, dense[mask != 0]


def _cast(args: Arguments) -> Numbers:
    args.text("output_dtype", ("fp32",))
    return args.array("source_val").astype(np.float32)


def _one(unpack: Callable[[Arguments], Numbers]) -> Callable[[Arguments], tuple[Numbers, ...]]:
    return lambda args: (unpack(args),)


UNPACKERS: Final[Mapping[str, Callable[[Arguments], tuple[Numbers, ...]]]] = {
    "constexpr_affine_dequantize": _one(_affine_dequantize),
    "constexpr_blockwise_shift_scale": _one(_blockwise_shift_scale),
    "constexpr_cast": _one(_cast),
    "constexpr_lut_to_dense": _one(_lut_to_dense),
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _one(_sparse_to_dense),
}
