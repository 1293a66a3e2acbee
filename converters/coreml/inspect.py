"""What is really inside a ``.mlpackage``, read from the file; needs neither coremltools nor torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from converters.coreml.contents import constants, flexible_shape, grids, is_weight, operators
from converters.coreml.mil.constants import Constant
from converters.coreml.mil.features import NamedType
from converters.coreml.mil.package import Operation, Program, read_program
from converters.coreml.rules import GPU, NEURAL_ENGINE
from converters.layer_bytes import Reading, StoredConstant, layer_bytes
from lspdmobile.artifact import ArtifactFacts, TensorFacts
from lspdmobile.delegation import Delegation, forecast
from lspdmobile.operators import Operator, duplicates_of, layout_of_shape, leftovers_of

__all__ = ["ANE_TARGET", "GPU_TARGET", "contents", "forecasts", "inspect", "readings"]

ANE_TARGET: Final = "coreml-ane"
GPU_TARGET: Final = "coreml-gpu"


def inspect(path: Path) -> ArtifactFacts:
    """Read what is inside a package, ours or not.

    Weight bytes count every stored constant of at least one axis whose dtype is not one that only parameters such as
    strides have, under the dtype it is stored in: an int8 weight and its float16 scales count as int8 and float16.
    Which operations the Neural Engine takes is not in the file, so it is foretold by rules. Axes of flexible length are
    shown as -1, and an input that is an image has the dtype ``image_rgb``, ``image_bgr`` or ``image_grey``.

    Raises:
        BadInputError: The package is damaged or not an ML Program.
        ConversionError: It has several functions, states or images as outputs.
    """
    program = read_program(path)
    kinds, weights = contents(program)
    working = operators(program)
    return ArtifactFacts(
        inputs=tuple(_facts(program, value) for value in program.inputs),
        outputs=tuple(_facts(program, value) for value in program.outputs),
        weight_bytes_by_dtype=dict(weights.most_common()),
        ops=dict(kinds.most_common()),
        delegation=None,
        metadata=program.metadata,
        weight_bytes_by_layer=layer_bytes(readings(program), weights),
        operators=working,
        forecasts=forecasts(working),
        grids=grids(program),
        duplicates=duplicates_of(constants(program)),
        leftovers=leftovers_of(working, simulated=True),
        layout=layout_of_shape(flexible_shape(program.inputs[0].type)) if program.inputs else None,
    )


def forecasts(working: Sequence[Operator]) -> tuple[Delegation, ...]:
    """Foretell what the Neural Engine and the GPU take of a program's operations."""
    return (
        forecast(working, NEURAL_ENGINE, delegate="Neural Engine", target=ANE_TARGET),
        forecast(working, GPU, delegate="Core ML GPU", target=GPU_TARGET),
    )


def contents(program: Program) -> tuple[Counter[str], Counter[str]]:
    """Count operations by kind, without constants, and weight bytes by the dtype they are stored in."""
    kinds: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for operation in program.operations:
        if operation.kind != "const":
            kinds[operation.kind] += 1
        for constant in _weights(operation):
            weights[constant.type.dtype.name] += constant.stored_bytes
    return kinds, weights


def readings(program: Program) -> Iterator[Reading]:
    """Say which values and constants each operation reads."""
    for operation in program.operations:
        yield Reading(
            name=operation.label,
            inputs=[b for bounds in operation.inputs.values() for b in bounds if isinstance(b, str)],
            outputs=[made.name for made in operation.outputs],
            constants=[
                StoredConstant(key=id(each), dtype=each.type.dtype.name, size_bytes=each.stored_bytes)
                for each in _weights(operation)
            ],
        )


def _weights(operation: Operation) -> Iterator[Constant]:
    for bound in (bound for bounds in operation.inputs.values() for bound in bounds):
        if isinstance(bound, Constant) and is_weight(bound):
            yield bound


def _facts(program: Program, value: NamedType) -> TensorFacts:
    said = program.descriptions.get(value.name, "")
    image = program.images.get(value.name)
    dtype = f"image_{image.colour}" if image else value.type.dtype.name
    return TensorFacts(name=value.name, shape=flexible_shape(value.type), dtype=dtype, description=said)
