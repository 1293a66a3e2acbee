"""A package whose input is an image: Core ML hands the pixels over, and the program begins with the normalisation.

A finished package is changed in place: its input becomes an image of the contract's colour order and size, and two
float32 operations, ``x * 1 / (255 std) + (-mean / std)`` by channel, stand between the input and all that read it.
:func:`normalised` takes them away again, for everything that compares the network with the student's.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.mil.constants import Constant
from converters.coreml.mil.package import Operation, Program, specification_path
from lspdmobile.errors import BadInputError, ConversionError
from lspdmobile.preprocess import PreprocessContract

__all__ = ["contract_of", "normalised", "take_images"]

_COLOURS: Final = {"rgb": 20, "bgr": 30}
"""Of ``ImageFeatureType.ColorSpace``."""
_FLOAT32: Final = 11
_STRING: Final = 2
"""Of MIL's ``DataType``."""
_STEPS: Final = (("mul", "normalise_factor", "normalise_scaled"), ("add", "normalise_summand", "normalised"))
"""Kind of each operation, its constant and its result; the names are those of values in the program."""
_LARGEST_ERROR: Final = 1e-5


def take_images(path: Path, contract: PreprocessContract) -> None:
    """Let a package with one input take images."""
    from coremltools.proto import Model_pb2

    file = specification_path(path)
    model = Model_pb2.Model.FromString(file.read_bytes())
    feature = model.description.input[0]
    rows, columns = contract.input_size
    feature.type.imageType.width, feature.type.imageType.height = columns, rows
    feature.type.imageType.colorSpace = _COLOURS[contract.colour_order]
    function = next(iter(model.mlProgram.functions.values()))
    _normalise(function.block_specializations[function.opset], function.inputs[0], contract)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _normalise(block: Any, picture: Any, contract: PreprocessContract) -> None:
    """Put the operations in front of a block and let all that read the picture read their result."""
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == picture.name:
                    binding.name = _STEPS[-1][2]
    made, before = list[Any](), picture.name
    for (kind, constant, result), values in zip(_STEPS, _factors(contract), strict=True):
        made += [_constant(constant, values), _step(kind, (before, constant), result, picture.type)]
        before = result
    others = list(block.operations)
    del block.operations[:]
    block.operations.extend([*made, *others])


def _factors(contract: PreprocessContract) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the factor and the summand of each channel, as float32 ``[1, 3, 1, 1]``, for values 0 to 255."""
    mean, std = np.asarray(contract.mean), np.asarray(contract.std)
    scale, bias = 1 / (255 * std), -mean / std
    return scale.astype(np.float32).reshape(1, 3, 1, 1), bias.astype(np.float32).reshape(1, 3, 1, 1)


def _constant(name: str, values: NDArray[np.float32]) -> Any:
    from coremltools.proto import MIL_pb2

    operation = MIL_pb2.Operation(type="const")
    value = operation.attributes["val"]
    value.type.tensorType.dataType, value.type.tensorType.rank = _FLOAT32, values.ndim
    for size in values.shape:
        value.type.tensorType.dimensions.add().constant.size = size
    value.immediateValue.tensor.floats.values.extend(values.ravel().tolist())
    operation.outputs.add(name=name, type=value.type)
    return _named(operation)


def _step(kind: str, operands: tuple[str, str], result: str, made: Any) -> Any:
    from coremltools.proto import MIL_pb2

    operation = MIL_pb2.Operation(type=kind)
    for parameter, operand in zip("xy", operands, strict=True):
        operation.inputs[parameter].arguments.add(name=operand)
    operation.outputs.add(name=result, type=made)
    return _named(operation)


def _named(operation: Any) -> Any:
    """Name an operation after its result, as Core ML Tools does."""
    value = operation.attributes["name"]
    value.type.tensorType.dataType = _STRING
    value.immediateValue.tensor.strings.values.append(operation.outputs[0].name)
    return operation


def normalised(program: Program) -> Program:
    """Give a program that takes normalised pictures ``[1, 3, H, W]``: one that takes images, without its normalisation.

    Raises:
        ConversionError: It takes images and does not begin by normalising them as its own contract says.
    """
    if not program.images:
        return program
    contract = contract_of(program)
    (picture,) = program.inputs
    factors = {name: values for (_, name, _), values in zip(_STEPS, _factors(contract), strict=True)}
    start, rest = program.operations[: 2 * len(_STEPS)], program.operations[2 * len(_STEPS) :]
    before = picture.name
    for (kind, name, result), constant, step in zip(_STEPS, start[::2], start[1::2], strict=True):
        made = constant.inputs.get("val", ("",))[0]
        if not (
            (constant.kind, constant.outputs[0].name, step.kind) == ("const", name, kind)
            and (step.inputs.get("x"), step.inputs.get("y")) == ((before,), (name,))
            and step.outputs[0].name == result
            and isinstance(made, Constant)
            and np.allclose(np.asarray(made.value, np.float32), factors[name], rtol=_LARGEST_ERROR, atol=0)
        ):
            message = f"{program.path}: takes images and does not normalise them as its preprocess contract says"
            raise ConversionError(message)
        before = result
    return replace(program, operations=tuple(_reading(each, before, picture.name) for each in rest), images={})


def _reading(operation: Operation, old: str, new: str) -> Operation:
    """Give an operation that reads one value where it read another."""
    inputs = {name: tuple(new if b == old else b for b in bounds) for name, bounds in operation.inputs.items()}
    return replace(operation, inputs=inputs)


def contract_of(program: Program) -> PreprocessContract:
    """Read the preprocess contract that a package of ours carries.

    Raises:
        BadInputError: It carries none, or its images are of another size or colour order.
    """
    if "preprocess" not in program.metadata:
        message = f"{program.path}: takes images and has no preprocess contract; only packages made by export can run"
        raise BadInputError(message)
    contract = PreprocessContract.from_dict(json.loads(program.metadata["preprocess"]))
    for name, image in program.images.items():
        if (image.colour, image.height, image.width) != (contract.colour_order, *contract.input_size):
            message = f"{program.path}: image {name!r} is not what its preprocess contract says; export it again"
            raise BadInputError(message)
    return contract
