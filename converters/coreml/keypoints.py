"""Decoding inside a package: in float32 whatever the network computes in, and how to look at the network alone.

Coordinates beyond 128 pixels are 1/8 of a pixel apart in float16, and what finds a peak multiplies by 1e30.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from converters.coreml.image_input import normalised
from converters.coreml.mil.package import Operation, Program

__all__ = ["KEYPOINTS", "is_of_network", "network_alone"]

KEYPOINTS: Final = "keypoints"


def is_of_network() -> Callable[[Any], bool]:
    """Give a function that tells Core ML Tools' operations of the network from those that decode its heatmaps.

    The heatmaps are the first output of the operations' block; what is computed from them decodes.
    """
    decoding: set[str] = set()
    found: list[Any] = []

    def told(operation: Any) -> bool:
        block = operation.enclosing_block
        if block not in found:
            found.append(block)
            decoding.update(_behind(block.outputs[0]))
        return not any(value.name in decoding for value in operation.outputs)

    return told


def _behind(value: Any) -> set[str]:
    """Name all values that are computed from one."""
    names: set[str] = set()
    waiting = [value]
    while waiting:
        for operation in waiting.pop().child_ops:
            fresh = [each for each in operation.outputs if each.name not in names]
            names.update(each.name for each in fresh)
            waiting.extend(fresh)
    return names


def network_alone(program: Program) -> Program:
    """Give what maps normalised pictures to heatmaps, without the normalisation of images and without decoding.

    Raises:
        ConversionError: The program takes images and does not normalise them as its own contract says.
    """
    program = normalised(program)
    if [value.name for value in program.outputs[1:]] != [KEYPOINTS]:
        return program
    needed, kept = {program.outputs[0].name}, list[Operation]()
    for operation in reversed(program.operations):
        if any(value.name in needed for value in operation.outputs):
            needed.update(b for bounds in operation.inputs.values() for b in bounds if isinstance(b, str))
            kept.append(operation)
    return replace(program, outputs=program.outputs[:1], operations=tuple(reversed(kept)))
