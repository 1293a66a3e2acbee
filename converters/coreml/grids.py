"""Which tensor of the plan each int8 tensor of a package is."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from converters.coreml.mil.package import Operation, Program

if TYPE_CHECKING:
    from quantization.graph import Move

__all__ = ["FLOAT16_SUFFIX", "given_name", "quantize_behind", "sources"]

FLOAT16_SUFFIX: Final = "_cast_fp16"
"""What Core ML Tools adds to the name of a value that it makes float16."""
_SHAPE_SUFFIX: Final = "_has_output_shape"
"""What it adds to the name of a transposed convolution whose result's shape it writes out."""
_LINEAR: Final = "linear"
"""Linear layers are made anew where a bias is added, and counted from 0; ``torch.export`` counts nothing, 1, 2."""
_MOVES: Final = frozenset(("reshape", "transpose", "expand_dims", "squeeze"))
"""What it carries out on the integers, between ``quantize`` and ``dequantize``."""

_PART: Final = re.compile(r"getitem(_\d+)?")

Makers = Mapping[str, Operation]


def given_name(name: str) -> str:
    """Give the name that Core ML Tools was given for a value."""
    given = name.removesuffix(FLOAT16_SUFFIX).removesuffix(_SHAPE_SUFFIX)
    return _LINEAR if given == f"{_LINEAR}_0" else given


def sources(
    program: Program,
    picture: str,
    moves: "Mapping[str, Move]",
    names: Sequence[str] = (),
    planned_name: Callable[[str], str] = str,
) -> dict[str, str]:
    """Give the plan's name of what each ``dequantize`` undoes, by the name of the ``dequantize``'s output.

    Args:
        program: Read from disk.
        picture: The plan's name of the picture.
        moves: Tensors of the plan that are others with their numbers moved.
        names: Of the plan's int8 tensors, in program order.
        planned_name: Gives the plan's name of a tensor that Core ML Tools was given under another one.
    """
    makers = {value.name: operation for operation in program.operations for value in operation.outputs}
    inputs, given = {value.name for value in program.inputs}, _parts(program, names)
    found: dict[str, str] = {}
    for operation in program.operations:
        quantize, moved = quantize_behind(operation, makers) if operation.kind == "dequantize" else (None, 0)
        if quantize is None:
            continue
        name = str(quantize.inputs["input"][0])
        while (cast := makers.get(name)) is not None and cast.kind == "cast":
            name = str(cast.inputs["x"][0])
        own = given.get(name) or _known(given_name(name), names)
        made, source = operation.outputs[0], planned_name(picture if name in inputs else own)
        shape = tuple(made.type.shape)
        others = (each for each, move in moves.items() if move.shape == shape and each not in found.values())
        found[made.name] = next((each for each in others if _behind(each, moved, moves) == source), source)
    return found


def _parts(program: Program, names: Sequence[str]) -> dict[str, str]:
    """Give the plan's names of the parts of splits, which Core ML Tools names after the split, if there are as many."""
    made = [value.name for operation in program.operations if operation.kind == "split" for value in operation.outputs]
    parts = [name for name in names if _PART.fullmatch(name)]
    return dict(zip(made, parts, strict=True)) if len(made) == len(parts) else {}


def _known(name: str, names: Sequence[str]) -> str:
    """Take off the number that Core ML Tools adds to a name it has used before."""
    short, _, number = name.rpartition("_")
    return short if number.isdigit() and name not in names and short in names else name


def quantize_behind(operation: Operation, makers: Makers) -> tuple[Operation | None, int]:
    """Give the ``quantize`` whose integers a ``dequantize`` undoes, and how often they are moved on the way."""
    maker, moved = _maker(operation.inputs["input"][0], makers), 0
    while maker is not None and maker.kind in _MOVES:
        maker, moved = _maker(maker.inputs["x"][0], makers), moved + 1
    return (maker if maker is not None and maker.kind == "quantize" else None), moved


def _maker(bound: object, makers: Makers) -> Operation | None:
    return makers.get(bound) if isinstance(bound, str) else None


def _behind(name: str, moved: int, moves: "Mapping[str, Move]") -> str | None:
    """Follow a tensor of the plan back over so many moves; None where there are not so many, or none at all."""
    if not moved:
        return None
    for _ in range(moved):
        if name not in moves:
            return None
        name = moves[name].source
    return name
