"""ML Programs of any kind, read as far as looking inside needs: executable here or not.

Several functions, states, branches and loops, and borders that are dictionaries or images are all read; values that
are no tensors are left out of the operations that take them. What is to be executed is read by
:func:`converters.coreml.mil.package.read_program`, which refuses what it does not know.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters.coreml.mil.constants import BlobFile, Constant, Dtype, TensorType, constant_from_value, tensor_type
from converters.coreml.mil.features import COLOURS, ImageInput, NamedType
from converters.coreml.mil.package import Binding, Operation, Program, metadata_of, read_model, said_of
from lspdmobile.errors import BadInputError, ConversionError

__all__ = ["functions_of", "read_functions"]

_OTHER_VALUES = {"listType": "list", "tupleType": "tuple", "dictionaryType": "dictionary"}


def read_functions(path: Path) -> dict[str, Program]:
    """Read every function of a package's ML Program, the one that runs unless another is asked for first.

    Raises:
        BadInputError: The package is damaged, incomplete or not an ML Program.
    """
    return functions_of(path, *read_model(path))


def functions_of(path: Path, file: Path, model: Any) -> dict[str, Program]:
    """Give the same of a specification that was read already.

    Args:
        path: The package, for messages.
        file: Where the specification is; weights are found from there.
        model: The specification, or that of a model a pipeline calls.
    """
    if not model.mlProgram.functions:
        message = f"{path}: holds no ML Program or is cut short; export the package again"
        raise BadInputError(message)
    blobs: dict[str, BlobFile] = {}
    names = sorted(model.mlProgram.functions)
    first = model.description.defaultFunctionName
    ordered = sorted(names, key=lambda name: name != first)
    return {name: _program(path, file, model, name, blobs) for name in ordered}


def _program(path: Path, file: Path, model: Any, name: str, blobs: dict[str, BlobFile]) -> Program:
    function = model.mlProgram.functions[name]
    described = next((each for each in model.description.functions if each.name == name), model.description)
    features = (*described.input, *described.output, *described.state)
    block = function.block_specializations.get(function.opset)
    if block is None:
        message = f"{file}: the function's opset {function.opset!r} has no block; export the package again"
        raise BadInputError(message)
    operations, inner = tuple(_operations(block, file.parent, blobs)), tuple(_inner(block))
    inputs = tuple(_loose_type(named) for named in function.inputs)
    known = {each.name: each for each in (*inputs, *(made for each in operations for made in each.outputs))}
    return Program(
        path=path,
        specification_version=model.specificationVersion,
        inputs=inputs,
        outputs=tuple(known[each] for each in block.outputs if each in known),
        operations=operations,
        metadata=metadata_of(model),
        images={each.name: _image(each) for each in features if each.type.HasField("imageType")},
        inner=inner,
        **said_of(features),
    )


def _image(feature: Any) -> ImageInput:
    image = feature.type.imageType
    colour = {**COLOURS, 40: "grey_float16"}.get(image.colorSpace, f"colour_{image.colorSpace}")
    return ImageInput(colour=colour, height=int(image.height), width=int(image.width))


def _loose_type(named: Any) -> NamedType:
    """Give a value's type; what is no tensor has its own word for a dtype."""
    try:
        kind = tensor_type(named.type, named.name)
    except ConversionError:
        kind = _other_type(named.type)
    return NamedType(name=named.name, type=kind)


def _other_type(value_type: Any) -> TensorType:
    if value_type.HasField("stateType"):
        wrapped = _loose_type(_Named("", value_type.stateType.wrappedType)).type
        dtype = Dtype(name=f"{wrapped.dtype.name} state", mil_name="", bits=wrapped.dtype.bits, storage=None)
        return TensorType(dtype=dtype, shape=wrapped.shape)
    words = [word for field, word in _OTHER_VALUES.items() if value_type.HasField(field)]
    name = words[0] if words else f"dtype {value_type.tensorType.dataType}"
    return TensorType(dtype=Dtype(name=name, mil_name="", bits=0, storage=None), shape=())


class _Named:
    """A name and a type, as the messages have them."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self.type = kind


def _operations(block: Any, folder: Path, blobs: dict[str, BlobFile]) -> Iterator[Operation]:
    """Yield a block's operations, those inside of an operation's own blocks behind it."""
    for message in block.operations:
        where = message.type
        inputs: dict[str, tuple[Binding, ...]] = {}
        for name, argument in message.inputs.items():
            bound = (_bound(each, folder, blobs, where) for each in argument.arguments)
            inputs[name] = tuple(each for each in bound if each is not None)
        for name, value in message.attributes.items():
            held = _constant(value, folder, blobs, where) if name != "name" else None
            if held is not None:
                inputs[name] = (held,)
        yield Operation(kind=message.type, inputs=inputs, outputs=tuple(map(_loose_type, message.outputs)))
        for inside in message.blocks:
            yield from _operations(inside, folder, blobs)


def _inner(block: Any) -> Iterator[NamedType]:
    for message in block.operations:
        for inside in message.blocks:
            yield from map(_loose_type, inside.inputs)
            yield from _inner(inside)


def _bound(binding: Any, folder: Path, blobs: dict[str, BlobFile], where: str) -> Binding | None:
    return _constant(binding.value, folder, blobs, where) if binding.HasField("value") else str(binding.name)


def _constant(value: Any, folder: Path, blobs: dict[str, BlobFile], where: str) -> Constant | None:
    try:
        return constant_from_value(value, folder, blobs, where)
    except ConversionError:
        return None
