"""What is really inside a ``.mlpackage``, read from the file; needs neither coremltools nor torch.

Only models that are no ML Programs (neural networks of Core ML's first kind, pipelines, trees and others) are read with
coremltools' own specification.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from converters.coreml.contents import constants, contents, flexible_shape, grids, operators, readings
from converters.coreml.encodings import encodings
from converters.coreml.mil.features import NamedType
from converters.coreml.mil.functions import read_functions
from converters.coreml.mil.package import Program, read_model, read_program
from converters.coreml.other_models import inspect_other, is_other
from converters.coreml.rules import FLEXIBLE, GPU, NEURAL_ENGINE
from converters.layer_bytes import layer_bytes
from lspdmobile.artifact import ArtifactFacts, Part, TensorFacts
from lspdmobile.delegation import Delegation, forecast
from lspdmobile.errors import BadInputError, ConversionError
from lspdmobile.operators import Operator, duplicates_of, layout_of_shape, leftovers_of

__all__ = ["ANE_TARGET", "GPU_TARGET", "forecasts", "inspect"]

ANE_TARGET: Final = "coreml-ane"
GPU_TARGET: Final = "coreml-gpu"
_ON_DEVICE: Final = "Core ML decides on the device"


def inspect(path: Path) -> ArtifactFacts:
    """Read what is inside a package, ours or not.

    Weight bytes count every stored constant of at least one axis whose dtype is not one that only parameters such as
    strides have, under the dtype it is stored in: an int8 weight and its float16 scales count as int8 and float16.
    Which operations the Neural Engine takes is not in the file, so it is foretold by rules. Axes of flexible length are
    shown as -1, and an input or output that is an image has a dtype such as ``image_rgb``.

    Raises:
        BadInputError: The package is damaged.
        EnvironmentLacksError: It holds no ML Program, and coremltools is absent.
    """
    file, model = read_model(path)
    if is_other(model):
        return inspect_other(path, file)
    try:
        programs = {"main": read_program(path)}
    except ConversionError:  # it cannot be executed here, but read
        programs = read_functions(path)
    try:
        return _facts(programs)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        message = f"{path}: its program contradicts itself ({type(error).__name__}: {error}); export the package again"
        raise BadInputError(message) from error


def _facts(programs: Mapping[str, Program]) -> ArtifactFacts:
    program = next(iter(programs.values()))
    kinds, weights = contents(*programs.values())
    prefixes = {name: f"{name}: " if len(programs) > 1 else "" for name in programs}
    reads = (each for name, read in programs.items() for each in readings(read, prefixes[name]))
    working = operators(program)
    inputs = _borders(program, program.inputs)
    return ArtifactFacts(
        inputs=inputs,
        outputs=_borders(program, program.outputs),
        weight_bytes_by_dtype=dict(weights.most_common()),
        ops=dict(kinds.most_common()),
        delegation=None,
        undelegated=_ON_DEVICE,
        metadata=program.metadata,
        weight_bytes_by_layer=layer_bytes(reads, weights),
        operators=working,
        forecasts=forecasts(working, enumerated=program.enumerated),
        grids=grids(program),
        duplicates=duplicates_of(constants(*programs.values())),
        leftovers=leftovers_of(working, simulated=True),
        layout=layout_of_shape(inputs[0].shape) if inputs else None,
        parts=tuple(_parts(programs)) if len(programs) > 1 else (),
        encodings=encodings(program),
    )


def _parts(programs: Mapping[str, Program]) -> Iterator[Part]:
    for number, (name, program) in enumerate(programs.items()):
        working = operators(program)
        yield Part(
            kind="function",
            name=name,
            inputs=_borders(program, program.inputs),
            outputs=_borders(program, program.outputs),
            operators=len(working),
            macs=sum(each.macs for each in working),
            main=number == 0,
        )


def forecasts(working: Sequence[Operator], *, enumerated: bool = False) -> tuple[Delegation, ...]:
    """Foretell what the Neural Engine and the GPU take of a program's operations.

    Args:
        working: The operations.
        enumerated: Sizes that are not fixed are ones of a list.
    """
    engine = [rule for rule in NEURAL_ENGINE if not (enumerated and rule.name == FLEXIBLE)]
    return (
        forecast(working, engine, delegate="Neural Engine", target=ANE_TARGET),
        forecast(working, GPU, delegate="Core ML GPU", target=GPU_TARGET),
    )


def _borders(program: Program, values: Sequence[NamedType]) -> tuple[TensorFacts, ...]:
    return tuple(_border(program, value) for value in values)


def _border(program: Program, value: NamedType) -> TensorFacts:
    image = program.images.get(value.name)
    return TensorFacts(
        name=value.name,
        shape=flexible_shape(value.type),
        dtype=f"image_{image.colour}" if image else value.type.dtype.name,
        description=program.descriptions.get(value.name, ""),
        sizes=program.sizes.get(value.name, ""),
    )
