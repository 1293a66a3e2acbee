"""Mutations of stored numbers: weights, biases, tables, scales, zero points."""

from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from benchmarks.mutations.choosing import Mutation, one_of, with_constant
from benchmarks.mutations.package import Package

__all__ = ["CONSTANTS"]

_AFFINE: Final = "constexpr_affine_dequantize"
_LUT: Final = "constexpr_lut_to_dense"


def _byte(package: Package, rng: Generator, *, high: bool) -> str | None:
    """Flip a bit of one element: of its highest byte (sign, exponent or leading bits) or of its lowest."""
    value = one_of(package.stored(), rng)
    if value is None:
        return None
    array = package.numbers(value)
    size, index = array.itemsize, int(rng.integers(array.size))
    place = package.start_of(value) + index * size + (size - 1 if high else 0)
    bit = int(rng.integers(8)) if not high or size == 1 else int(rng.integers(1, 8))
    package.weights[place] ^= 1 << bit
    return f"bit {bit} of byte {place} ({array.dtype}{list(array.shape)})"


def high_byte(package: Package, rng: Generator) -> str | None:
    """One bit of the byte that holds sign and exponent."""
    return _byte(package, rng, high=True)


def low_byte(package: Package, rng: Generator) -> str | None:
    """One bit of the byte that holds the end of the mantissa."""
    return _byte(package, rng, high=False)


def bytes_swapped(package: Package, rng: Generator) -> str | None:
    """The two bytes of one float16, or the outer ones of a float32, the wrong way round."""
    value = one_of(package.stored(floats=True), rng)
    if value is None:
        return None
    array = package.numbers(value)
    first = package.start_of(value) + int(rng.integers(array.size)) * array.itemsize
    last = first + array.itemsize - 1
    package.weights[first], package.weights[last] = package.weights[last], package.weights[first]
    return f"bytes {first} and {last}"


def channels_swapped(package: Package, rng: Generator) -> str | None:
    """Two output channels of a weight, or of its integers, in each other's place."""
    arrays = [(v, package.numbers(v)) for v in package.stored()]
    chosen = one_of([(v, a) for v, a in arrays if a.ndim == 4 and len(a) > 1], rng)
    if chosen is None:
        return None
    value, array = chosen
    a, b = rng.choice(len(array), 2, replace=False)
    array[[a, b]] = array[[b, a]]
    package.write(value, array)
    return f"channels {a} and {b} of {list(array.shape)}"


def kernel_transposed(package: Package, rng: Generator) -> str | None:
    """Rows and columns of every kernel of a weight exchanged."""
    arrays = [(v, package.numbers(v)) for v in package.stored()]
    chosen = one_of([(v, a) for v, a in arrays if a.ndim == 4 and a.shape[3] > 1], rng)
    if chosen is None:
        return None
    value, array = chosen
    package.write(value, np.ascontiguousarray(array.swapaxes(2, 3)))
    return f"kernels of {list(array.shape)}"


def offsets_swapped(package: Package, rng: Generator) -> str | None:
    """Two constants of one type and size that point at each other's bytes."""
    groups: dict[tuple[int, int], list[Any]] = {}
    for value in package.stored():
        tensor = value.type.tensorType
        count = prod(int(size.constant.size) for size in tensor.dimensions)
        groups.setdefault((tensor.dataType, count), []).append(value)
    chosen = one_of([g for _, g in sorted(groups.items()) if len(g) > 1], rng)
    if chosen is None:
        return None
    first, second = (chosen[i].blobFileValue for i in rng.choice(len(chosen), 2, replace=False))
    first.offset, second.offset = second.offset, first.offset
    return f"records at {second.offset} and {first.offset}"


def bias_dropped(package: Package, rng: Generator) -> str | None:
    """A convolution without its bias."""
    operation = one_of([op for op in package.operations("conv") if "bias" in op.inputs], rng)
    if operation is None:
        return None
    del operation.inputs["bias"]
    return str(operation.outputs[0].name)


def bias_channel_zeroed(package: Package, rng: Generator) -> str | None:
    """One channel's bias lost."""
    chosen = with_constant(package, rng, "bias", "conv")
    if chosen is None:
        return None
    operation, value = chosen
    array = package.numbers(value)
    channel = int(rng.integers(array.size))
    array[channel] = 0
    package.write(value, array)
    return f"channel {channel} of {operation.outputs[0].name}"


def _scaled(
    package: Package, rng: Generator, parameter: str, kinds: tuple[str, ...], factors: tuple[float, ...]
) -> str | None:
    chosen = with_constant(package, rng, parameter, *kinds)
    if chosen is None:
        return None
    operation, value = chosen
    array, factor = package.numbers(value), float(rng.choice(factors))
    index = int(rng.integers(array.size))
    array.reshape(-1)[index] *= factor
    package.write(value, array)
    return f"{operation.type} {operation.outputs[0].name}: {parameter}[{index}] x {factor:g}"


def weight_scale(package: Package, rng: Generator) -> str | None:
    """One channel's weight scale."""
    return _scaled(package, rng, "scale", (_AFFINE,), (0.5, 0.9, 1.1, 2.0))


def activation_scale(package: Package, rng: Generator) -> str | None:
    """One activation's scale, on one side of its int8 values."""
    return _scaled(package, rng, "scale", ("quantize", "dequantize"), (0.5, 0.9, 1.1, 2.0))


def _moved(package: Package, rng: Generator, kinds: tuple[str, ...]) -> str | None:
    chosen = with_constant(package, rng, "zero_point", *kinds)
    if chosen is None:
        return None
    operation, value = chosen
    array, step = package.numbers(value), int(rng.choice((-10, -1, 1, 10)))
    index, limits = int(rng.integers(array.size)), np.iinfo(array.dtype)
    flat = array.reshape(-1)
    flat[index] = int(np.clip(int(flat[index]) + step, limits.min, limits.max))
    package.write(value, array)
    return f"{operation.type} {operation.outputs[0].name}: zero_point[{index}] {step:+d}"


def weight_zero_point(package: Package, rng: Generator) -> str | None:
    """One channel's weight zero point."""
    return _moved(package, rng, (_AFFINE,))


def activation_zero_point(package: Package, rng: Generator) -> str | None:
    """One activation's zero point, on one side of its int8 values."""
    return _moved(package, rng, ("quantize", "dequantize"))


def lut_entry(package: Package, rng: Generator) -> str | None:
    """One entry of a palette, off by a tenth of the palette's range."""
    chosen = with_constant(package, rng, "lut", _LUT)
    if chosen is None:
        return None
    operation, value = chosen
    array = package.numbers(value)
    index = int(rng.integers(array.size))
    array.reshape(-1)[index] += (array.max() - array.min()) / 10
    package.write(value, array)
    return f"{operation.outputs[0].name}: entry {index} of {array.size}"


def lut_index(package: Package, rng: Generator) -> str | None:
    """One weight's index into its palette, one bit of it."""
    chosen = with_constant(package, rng, "indices", _LUT)
    if chosen is None:
        return None
    operation, value = chosen
    array = package.numbers(value)
    index, bit = int(rng.integers(array.size)), int(rng.integers(8))
    array.reshape(-1)[index] ^= np.uint8(1 << bit)
    package.write(value, array)
    return f"{operation.outputs[0].name}: bit {bit} of index {index}"


CONSTANTS: Final[Mapping[str, Mutation]] = {
    "weight: bit of the high byte": high_byte,
    "weight: bit of the low byte": low_byte,
    "weight: bytes swapped": bytes_swapped,
    "weight: channels swapped": channels_swapped,
    "weight: kernels transposed": kernel_transposed,
    "weight: two offsets swapped": offsets_swapped,
    "bias: dropped": bias_dropped,
    "bias: one channel zero": bias_channel_zeroed,
    "scale: of a weight": weight_scale,
    "scale: of an activation": activation_scale,
    "zero point: of a weight": weight_zero_point,
    "zero point: of an activation": activation_zero_point,
    "palette: one entry": lut_entry,
    "palette: one index": lut_index,
}
"""Kind of fault to the function that plants it."""
