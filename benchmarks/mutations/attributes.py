"""Mutations of what an operation is told to do: strides, pads, axes, bounds, modes, and which operation it is."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from benchmarks.mutations.choosing import Mutation, one_of, with_constant
from benchmarks.mutations.package import Package

__all__ = ["ATTRIBUTES"]

_REPLACEMENTS: Final = {
    "relu": ("relu6", "identity", "abs", "sigmoid"),
    "elu": ("relu", "identity"),
    "upsample_bilinear": ("upsample_nearest_neighbor",),
    "add": ("sub", "maximum", "mul"),
    "sub": ("add",),
    "real_div": ("mul",),
    "softmax": ("identity",),
    "reduce_mean": ("reduce_max",),
    "avg_pool": ("max_pool",),
}
_UNKNOWN_TO: Final = {"upsample_nearest_neighbor": ("align_corners", "half_pixel_centers")}
_AXES: Final = ("axis", "axes", "perm", "split_sizes", "begin", "end")
_LOWER: Final = {"clip": ("alpha", "beta"), "elu": ("alpha",), "leaky_relu": ("alpha",)}


def _changed(package: Package, operation: Any, value: Any, parameter: str, array: Any) -> str:
    before = package.read(value)
    package.write(value, array)
    shown = [v.tolist() if isinstance(v, np.ndarray) else v for v in (before, array)]
    return f"{operation.type} {operation.outputs[0].name}: {parameter} {shown[0]} to {shown[1]}"


def stride(package: Package, rng: Generator) -> str | None:
    """One stride of a convolution, 1 for 2 or 2 for 1."""
    chosen = with_constant(package, rng, "strides", "conv", "avg_pool")
    if chosen is None:
        return None
    array = package.numbers(chosen[1])
    axis = int(rng.integers(array.size))
    array[axis] = 3 - array[axis]
    return _changed(package, *chosen, "strides", array)


def dilation(package: Package, rng: Generator) -> str | None:
    """One dilation more on both axes; the pads follow, so that every shape stays."""
    operations = [op for op in package.operations("conv") if package.constant(op, "dilations") is not None]
    operation = one_of(operations, rng)
    if operation is None:
        return None
    pad, dilations = (package.constant(operation, name) for name in ("pad", "dilations"))
    weight = next(
        out.type
        for op in package.block.operations
        for out in op.outputs
        if out.name == operation.inputs["weight"].arguments[0].name
    )
    kernel = int(weight.tensorType.dimensions[2].constant.size)
    if pad is not None:
        package.write(pad, package.numbers(pad) + (kernel - 1) // 2)
    return _changed(package, operation, dilations, "dilations", package.numbers(dilations) + 1)


def groups(package: Package, rng: Generator) -> str | None:
    """One group where there are several, two where there is one."""
    chosen = with_constant(package, rng, "groups", "conv")
    if chosen is None:
        return None
    array = package.numbers(chosen[1])
    return _changed(package, *chosen, "groups", np.where(array > 1, 1, 2).astype(array.dtype))


def pad_moved(package: Package, rng: Generator) -> str | None:
    """One row of padding at the other end: every shape stays."""
    pairs = [(op, package.constant(op, "pad")) for op in package.operations("conv", "pad")]
    chosen = one_of([(op, v) for op, v in pairs if v is not None and package.numbers(v).any()], rng)
    if chosen is None:
        return None
    array = package.numbers(chosen[1])
    axis = int(rng.choice(np.flatnonzero(array))) // 2
    array[2 * axis : 2 * axis + 2] += np.array([1, -1]) if array[2 * axis + 1] else np.array([-1, 1])
    return _changed(package, *chosen, "pad", array)


def pad_changed(package: Package, rng: Generator) -> str | None:
    """One pad value, one more or one less."""
    chosen = with_constant(package, rng, "pad", "conv", "pad")
    if chosen is None:
        return None
    array = package.numbers(chosen[1])
    axis = int(rng.integers(array.size))
    array[axis] += 1 if array[axis] == 0 or rng.random() < 0.5 else -1
    return _changed(package, *chosen, "pad", array)


def pad_type(package: Package, rng: Generator) -> str | None:
    """Another pad type."""
    chosen = with_constant(package, rng, "pad_type", "conv")
    if chosen is None:
        return None
    others = [name for name in ("same", "same_lower", "valid", "custom") if name != package.read(chosen[1])]
    return _changed(package, *chosen, "pad_type", str(rng.choice(others)))


def pad_content(package: Package, rng: Generator) -> str | None:
    """What a ``pad`` fills with: another constant, or the picture's own rows."""
    chosen = one_of([op for op in package.operations("pad") if package.constant(op, "mode") is not None], rng)
    if chosen is None:
        return None
    mode, content = (package.constant(chosen, name) for name in ("mode", "constant_val"))
    if content is not None and package.read(mode) == "constant" and rng.random() < 0.5:
        array = package.numbers(content)
        return _changed(package, chosen, content, "constant_val", np.asarray(array + 0.5, array.dtype))
    others = [name for name in ("constant", "reflect", "replicate") if name != package.read(mode)]
    return _changed(package, chosen, mode, "mode", str(rng.choice(others)))


def activation(package: Package, rng: Generator) -> str | None:
    """Another operation in an operation's place."""
    operation = one_of(package.operations(*_REPLACEMENTS), rng)
    if operation is None:
        return None
    before, operation.type = operation.type, str(rng.choice(_REPLACEMENTS[operation.type]))
    for lost in _UNKNOWN_TO.get(operation.type, ()):
        operation.inputs.pop(lost, None)
    return f"{before} {operation.outputs[0].name} is {operation.type}"


def bound(package: Package, rng: Generator) -> str | None:
    """The slope or bound of an activation."""
    pairs = [(op, package.constant(op, name), name) for op in package.operations(*_LOWER) for name in _LOWER[op.type]]
    chosen = one_of([(op, value, name) for op, value, name in pairs if value is not None], rng)
    if chosen is None:
        return None
    operation, value, name = chosen
    array = package.numbers(value)
    return _changed(package, operation, value, name, np.asarray(array * rng.choice((0.1, 0.5)), array.dtype))


def epsilon(package: Package, rng: Generator) -> str | None:
    """The epsilon of a norm: hugely, or by next to nothing."""
    chosen = with_constant(package, rng, "epsilon", "layer_norm", "instance_norm", "batch_norm")
    if chosen is None:
        return None
    array = package.numbers(chosen[1])
    return _changed(package, *chosen, "epsilon", np.asarray(array + rng.choice((1e-9, 1e-3, 1e-1)), array.dtype))


def resize(package: Package, rng: Generator) -> str | None:
    """How a bilinear resize lines up its corners, or by how much it enlarges."""
    operation = one_of(package.operations("upsample_bilinear"), rng)
    if operation is None:
        return None
    names = ("align_corners", "half_pixel_centers", "scale_factor_height", "scale_factor_width")
    chosen = one_of([(v, name) for name in names if (v := package.constant(operation, name)) is not None], rng)
    if chosen is None:
        return None
    array = package.numbers(chosen[0])
    changed = ~array if array.dtype == bool else np.asarray(array + rng.choice((-0.25, 1)), array.dtype)
    return _changed(package, operation, chosen[0], chosen[1], changed)


def axis(package: Package, rng: Generator) -> str | None:
    """An axis, a permutation, or where a slice begins and ends."""
    kinds = ("concat", "softmax", "transpose", "reduce_mean", "reduce_log_sum_exp", "layer_norm", "slice_by_index")
    pairs = [(op, package.constant(op, name), name) for op in package.operations(*kinds) for name in _AXES]
    chosen = one_of([(op, value, name) for op, value, name in pairs if value is not None], rng)
    if chosen is None:
        return None
    operation, value, name = chosen
    array = package.numbers(value)
    if name == "perm":
        a, b = rng.choice(array.size, 2, replace=False)
        array[[a, b]] = array[[b, a]]
    else:
        flat = array.reshape(-1)
        flat[int(rng.integers(flat.size))] += int(rng.choice((-1, 1)))
    return _changed(package, operation, value, name, array)


def dtype_text(package: Package, rng: Generator) -> str | None:
    """The dtype that a ``cast`` or ``quantize`` names."""
    pairs = [
        (op, package.constant(op, name))
        for op in package.operations("cast", "quantize")
        for name in ("dtype", "output_dtype")
    ]
    chosen = one_of([(op, value) for op, value in pairs if value is not None], rng)
    if chosen is None:
        return None
    now = package.read(chosen[1])
    others = {"int8": ["uint8"], "uint8": ["int8"]}.get(str(now), [n for n in ("fp16", "fp32", "int32") if n != now])
    return _changed(package, *chosen, "dtype", str(rng.choice(others)))


ATTRIBUTES: Final[Mapping[str, Mutation]] = {
    "stride": stride,
    "dilation": dilation,
    "groups": groups,
    "pad: moved to the other end": pad_moved,
    "pad: one value": pad_changed,
    "pad: type": pad_type,
    "pad: content": pad_content,
    "operation replaced": activation,
    "bound or slope of an activation": bound,
    "epsilon of a norm": epsilon,
    "resize": resize,
    "axis, permutation or slice": axis,
    "dtype of a cast or quantize": dtype_text,
}
"""Kind of fault to the function that plants it."""
