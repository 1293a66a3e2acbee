"""Mutations of what goes where: inputs, outputs, order, names, declarations, and the files themselves."""

import json
import struct
from collections.abc import Mapping
from typing import Final

from numpy.random import Generator

from benchmarks.mutations.choosing import Mutation, one_of
from benchmarks.mutations.package import Package

__all__ = ["WIRING"]


def _swapped(package: Package, rng: Generator, *kinds: str) -> str | None:
    operation = one_of(package.operations(*kinds), rng)
    if operation is None:
        return None
    if operation.type == "concat":
        first, second = operation.inputs["values"].arguments[:2]
    else:
        first, second = operation.inputs["x"].arguments[0], operation.inputs["y"].arguments[0]
    kept = type(first).FromString(first.SerializeToString())
    first.CopyFrom(second)
    second.CopyFrom(kept)
    return f"{operation.type} {operation.outputs[0].name}"


def inputs_swapped(package: Package, rng: Generator) -> str | None:
    """The inputs of a difference, a quotient or a ``concat`` in each other's place."""
    return _swapped(package, rng, "sub", "real_div", "concat")


def summands_swapped(package: Package, rng: Generator) -> str | None:
    """The inputs of a sum or product in each other's place: nothing changes."""
    return _swapped(package, rng, "add", "mul")


def input_rewired(package: Package, rng: Generator) -> str | None:
    """An operation that reads another value of the same type."""
    places = [
        (op, binding, others)
        for op in package.operations()
        for name in ("x", "y", "input")
        if name in op.inputs
        for binding in op.inputs[name].arguments
        if binding.name and (others := [o for o in package.alike(binding.name) if o != binding.name])
    ]
    chosen = one_of(places, rng)
    if chosen is None:
        return None
    operation, binding, others = chosen
    before, binding.name = binding.name, str(one_of(others, rng))
    return f"{operation.type} {operation.outputs[0].name} reads {binding.name}, not {before}"


def output_rewired(package: Package, rng: Generator) -> str | None:
    """The program's output under its own name, made of another value of the same type."""
    name = package.block.outputs[0]
    maker = package.maker(name)
    if maker is None:
        return None
    source = maker.inputs["x"].arguments[0] if "x" in maker.inputs else None
    others = [other for other in package.alike(source.name if source is not None else name) if other != name]
    other = one_of([o for o in others if source is None or o != source.name], rng)
    if source is None or other is None:
        return None
    before, source.name = source.name, other
    return f"{maker.type} {name} reads {other}, not {before}"


def output_renamed(package: Package, rng: Generator) -> str | None:
    """The output's name changed: in the description, in the program, or in both."""
    where, new = str(rng.choice(("description", "program", "both"))), "renamed"
    name = package.block.outputs[0]
    if where != "program":
        package.model.description.output[0].name = new
    if where != "description":
        package.block.outputs[0] = new
        maker = package.maker(name)
        assert maker is not None
        next(out for out in maker.outputs if out.name == name).name = new
    return f"{name} in {where}"


def other_output(package: Package, rng: Generator) -> str | None:
    """The program gives another of its values."""
    name = package.block.outputs[0]
    values = [out.name for op in package.operations() for out in op.outputs if out.name != name]
    package.block.outputs[0] = str(one_of(values, rng))
    return f"{package.block.outputs[0]} for {name}"


def input_described(package: Package, rng: Generator) -> str | None:
    """The input described as a picture, under another name, or as another element type."""
    feature, how = package.model.description.input[0], str(rng.choice(("image", "name", "type")))
    if how == "image":
        shape = list(feature.type.multiArrayType.shape)
        feature.type.imageType.colorSpace = 20
        feature.type.imageType.height, feature.type.imageType.width = shape[2], shape[3]
    elif how == "name":
        feature.name = "picture"
    else:
        feature.type.multiArrayType.dataType = 0x10010
    return how


def contract(package: Package, rng: Generator) -> str | None:
    """The preprocess contract in the metadata: another mean, size or colour order, or none at all."""
    told, key = package.model.description.metadata.userDefined, str(rng.choice(("mean", "colour_order", "gone")))
    if key == "gone":
        del told["preprocess"]
        return "no contract"
    fields = json.loads(told["preprocess"])
    fields[key] = [0.5, 0.5, 0.5] if key == "mean" else {"rgb": "bgr", "bgr": "rgb"}[fields[key]]
    told["preprocess"] = json.dumps(fields, sort_keys=True)
    return key


def residual_dropped(package: Package, rng: Generator) -> str | None:
    """A sum that is one of its summands."""
    operation = one_of(package.operations("add"), rng)
    if operation is None:
        return None
    operation.type = "identity"
    del operation.inputs["y"]
    return str(operation.outputs[0].name)


def order(package: Package, rng: Generator) -> str | None:
    """Two neighbouring operations in the wrong order, the second of which needs the first."""
    operations = package.block.operations
    pairs = [
        i
        for i, (a, b) in enumerate(zip(operations, list(operations)[1:], strict=False))
        if a.type != "const" and any(x.name == a.outputs[0].name for arg in b.inputs.values() for x in arg.arguments)
    ]
    index = one_of(pairs, rng)
    if index is None:
        return None
    first, second = operations[index], operations[index + 1]
    kept = type(first).FromString(first.SerializeToString())
    first.CopyFrom(second)
    second.CopyFrom(kept)
    return f"{kept.outputs[0].name} after {first.outputs[0].name}"


def declared_shape(package: Package, rng: Generator) -> str | None:
    """One length in the type an operation states for its result."""
    operation = one_of([op for op in package.operations() if len(op.outputs[0].type.tensorType.dimensions) > 1], rng)
    if operation is None:
        return None
    dimension = one_of(list(operation.outputs[0].type.tensorType.dimensions), rng)
    assert dimension is not None
    dimension.constant.size += 1
    return str(operation.outputs[0].name)


def record(package: Package, rng: Generator) -> str | None:
    """One field of the record of a constant in ``weight.bin``: sentinel, dtype, size or start."""
    value = one_of(package.stored(), rng)
    if value is None:
        return None
    field, place, form = [("sentinel", 0, "<I"), ("dtype", 4, "<I"), ("size", 8, "<Q"), ("start", 16, "<Q")][
        int(rng.integers(4))
    ]
    offset = value.blobFileValue.offset + place
    (before,) = struct.unpack_from(form, package.weights, offset)
    struct.pack_into(form, package.weights, offset, before + (64 if field == "start" else 1))
    return f"{field} of the record at {value.blobFileValue.offset}"


def cut_short(package: Package, rng: Generator) -> str | None:
    """``weight.bin`` without its end."""
    del package.weights[-int(rng.integers(1, len(package.weights) // 2)) :]
    return f"{len(package.weights)} bytes are left"


WIRING: Final[Mapping[str, Mutation]] = {
    "inputs swapped: sub, real_div, concat": inputs_swapped,
    "inputs swapped: add, mul": summands_swapped,
    "input rewired": input_rewired,
    "output rewired": output_rewired,
    "output renamed": output_renamed,
    "another value as output": other_output,
    "input described otherwise": input_described,
    "contract in the metadata": contract,
    "residual dropped": residual_dropped,
    "order of operations": order,
    "shape stated for a result": declared_shape,
    "record in weight.bin": record,
    "weight.bin cut short": cut_short,
}
"""Kind of fault to the function that plants it."""
