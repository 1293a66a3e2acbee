"""Which weights of an ML Program are sparse, palettes or on grids, and what they take in the file.

``constexpr_…`` operations unpack them when a model is loaded; one may read what another made.
"""

from collections.abc import Iterator
from math import prod
from typing import Final

from converters.coreml.contents import bound_constants, flexible_shape, is_weight
from converters.coreml.mil.constants import Constant
from converters.coreml.mil.package import Operation, Program
from lspdmobile.encodings import Encoding

__all__ = ["encodings"]

_PREFIX: Final = "constexpr_"
_PALETTES: Final = ("constexpr_lut_to_dense", "constexpr_lut_to_sparse")
_SPARSE: Final = "constexpr_sparse_to_dense"
_BESIDES: Final = ("lut", "mask", "offset", "scale", "zero_point")
"""Parameters that are not the numbers themselves."""
_CAST: Final = "constexpr_cast"


def encodings(program: Program) -> tuple[Encoding, ...]:
    """Give every weight that is unpacked before an operation reads it, under the name it is read by."""
    constants = {
        operation.outputs[0].name: constant
        for operation in program.operations
        if operation.kind == "const"
        for constant in bound_constants(operation)
    }
    unpacking = [operation for operation in program.operations if operation.kind.startswith(_PREFIX)]
    makers = {made.name: operation for operation in unpacking for made in operation.outputs}
    inner = {bound for operation in unpacking for bound in _names(operation) if bound in makers}
    return tuple(
        _encoding(operation, constants, makers)
        for operation in unpacking
        if operation.outputs and not any(made.name in inner for made in operation.outputs)
    )


def _encoding(operation: Operation, constants: dict[str, Constant], makers: dict[str, Operation]) -> Encoding:
    chain: list[Operation] = []
    waiting = [operation]
    while waiting:
        here = waiting.pop(0)
        if here not in chain:
            chain.append(here)
            waiting += [makers[name] for name in _names(here) if name in makers]
    named = [(parameter, each) for step in chain for parameter, each in _held(step, constants).items()]
    held = {id(each): each for _, each in named}
    numbers = [each for parameter, each in named if parameter not in _BESIDES]
    stored = max(numbers or held.values(), key=lambda each: each.stored_bytes, default=None)
    return Encoding(
        tensor=operation.outputs[0].name,
        how=", ".join(dict.fromkeys(_how(step, constants, operation) for step in chain)),
        stored=stored.type.dtype.name if stored is not None else "",
        read_as=operation.outputs[-1].type.dtype.name,
        size_bytes=sum(each.stored_bytes for each in held.values()),
    )


def _how(step: Operation, constants: dict[str, Constant], last: Operation) -> str:
    held = _held(step, constants)
    if step.kind in _PALETTES:
        return _palette(held["lut"].type.shape) if "lut" in held else "palette"
    if step.kind == _SPARSE:
        return _sparse(held, last)
    return "cast" if step.kind == _CAST else "on a grid"


def _palette(shape: tuple[int | None, ...]) -> str:
    """Read a palette's shape: its length alone, or palettes in each axis, then entries, then values to an entry."""
    sizes = [size or 1 for size in shape]
    entries, width = (sizes[-2], sizes[-1]) if len(sizes) > 1 else (sizes[0], 1)
    many = prod(sizes[:-2])
    vectors = f" vectors of {width}" if width > 1 else ""
    return f"{many} palettes of {entries}{vectors}" if many > 1 else f"palette of {entries}{vectors}"


def _sparse(held: dict[str, Constant], last: Operation) -> str:
    """Count by the mask where there is one of bits, else by what is kept."""
    elements = prod(size for size in flexible_shape(last.outputs[-1].type) if size > 0)
    kept = held.get("nonzero_data")
    if "mask" in held and held["mask"].type.dtype.name == "uint1":
        count = int(held["mask"].value.sum()) if not isinstance(held["mask"].value, str) else 0
    elif kept is not None:
        count = prod(size or 1 for size in kept.type.shape)
    else:
        return "sparse"
    return f"sparse, {1 - count / elements:.0%} left out" if elements else "sparse"


def _held(step: Operation, constants: dict[str, Constant]) -> dict[str, Constant]:
    """Give the constants an operation reads, by parameter."""
    found: dict[str, Constant] = {}
    for parameter, bounds in step.inputs.items():
        for bound in bounds:
            constant = bound if isinstance(bound, Constant) else constants.get(bound)
            if constant is not None and is_weight(constant):
                found[parameter] = constant
    return found


def _names(operation: Operation) -> Iterator[str]:
    return (bound for bounds in operation.inputs.values() for bound in bounds if isinstance(bound, str))
