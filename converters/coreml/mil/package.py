"""A saved ``.mlpackage`` read back from disk: its one ML Program, as plain data.

Reads the manifest, the specification and the weights and nothing else; needs neither coremltools nor torch. What an
executor cannot honour (old neural networks, several functions, states, images as outputs) is refused by name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.coreml.mil.constants import BlobFile, Constant, constant_from_value, tensor_type
from converters.coreml.mil.features import ImageInput, NamedType, allowed_sizes, check_features, image_inputs
from converters.coreml.mil.schema import OTHER_MODEL_TYPES, model_from_bytes
from lspdmobile.errors import BadInputError, ConversionError

__all__ = [
    "Binding",
    "Operation",
    "Program",
    "metadata_of",
    "read_model",
    "read_program",
    "said_of",
    "specification_path",
]

Binding = str | Constant
"""What an operation's input is bound to: the name of a value, or a constant written in place."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        kind: Such as ``conv``.
        inputs: Parameter name to what it is bound to; several for variadic parameters. Attributes other than the
            operation's own name are listed here too: that is how constants carry their value.
        outputs: Values it makes.
    """

    kind: str
    inputs: Mapping[str, tuple[Binding, ...]]
    outputs: tuple[NamedType, ...]

    @property
    def label(self) -> str:
        """Kind and first output, for messages."""
        return f"{self.kind} {self.outputs[0].name!r}" if self.outputs else self.kind


@dataclass(frozen=True, kw_only=True)
class Program:
    """An ML Program with one function.

    Attributes:
        path: The package.
        specification_version: 6 is iOS 15, 7 iOS 16, 8 iOS 17, 9 iOS 18.
        inputs, outputs: Of the function.
        operations: In execution order, constants among them.
        metadata: User-defined entries, and ``author``, ``license``, ``version``, ``short_description`` where set.
        images: Those of the inputs that are images, by name.
        descriptions: Of inputs and outputs, by name, where the file has one.
        sizes: What inputs and outputs take whose sizes are not fixed, by name, in words.
        enumerated: Whether all sizes that are not fixed are ones of a list.
        inner: Values that blocks of operations are handed, such as the body of a loop.
    """

    path: Path
    specification_version: int
    inputs: tuple[NamedType, ...]
    outputs: tuple[NamedType, ...]
    operations: tuple[Operation, ...]
    metadata: Mapping[str, str]
    images: Mapping[str, ImageInput] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    enumerated: bool = False
    inner: tuple[NamedType, ...] = ()


def specification_path(path: Path) -> Path:
    """Find the ``.mlmodel`` file of a package through its manifest.

    Raises:
        BadInputError: This is no package, or its manifest cannot be read or names no file inside it.
    """
    manifest = path / "Manifest.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        relative = Path(content["itemInfoEntries"][content["rootModelIdentifier"]]["path"])
    except OSError as error:
        message = f"{path}: not a .mlpackage (Manifest.json: {error.strerror or error})"
        raise BadInputError(message) from error
    except (ValueError, KeyError, TypeError) as error:
        message = f"{manifest}: cannot be read as a package manifest; export the package again"
        raise BadInputError(message) from error
    if relative.is_absolute() or ".." in relative.parts or "\0" in str(relative):
        message = f"{manifest}: names a model outside the package; refused"
        raise BadInputError(message)
    return path / "Data" / relative


def read_model(path: Path) -> tuple[Path, Any]:
    """Read a package's specification: where it is, and the message.

    Raises:
        BadInputError: The package is damaged or incomplete.
    """
    file = specification_path(path)
    try:
        return file, model_from_bytes(file.read_bytes())
    except OSError as error:
        message = f"{file}: cannot be read ({error.strerror or error}); export the package again"
        raise BadInputError(message) from error
    except ValueError as error:
        message = f"{file}: not a Core ML specification or cut short; export the package again"
        raise BadInputError(message) from error


def read_program(path: Path) -> Program:
    """Read a package's ML Program.

    Raises:
        BadInputError: The package is damaged, incomplete or not an ML Program.
        ConversionError: The program uses what is not implemented: several functions, states, images as outputs.
    """
    file, model = read_model(path)
    function = _only_function(model, path)
    if function.opset not in function.block_specializations:
        message = f"{file}: the function's opset {function.opset!r} has no block; export the package again"
        raise BadInputError(message)
    block = function.block_specializations[function.opset]
    blobs: dict[str, BlobFile] = {}
    operations = tuple(_operation(message, file.parent, blobs) for message in block.operations)
    inputs = tuple(_named_type(named, f"input {named.name!r}") for named in function.inputs)
    outputs = _outputs(block, inputs, operations, file)
    images = image_inputs(model.description, path)
    try:
        check_features(model.description, inputs=inputs, outputs=outputs, images=images)
    except BadInputError as error:
        message = f"{file}: {error}; export the package again"
        raise BadInputError(message) from error
    return Program(
        path=path,
        specification_version=model.specificationVersion,
        inputs=inputs,
        outputs=outputs,
        operations=operations,
        metadata=metadata_of(model),
        images=images,
        **said_of((*model.description.input, *model.description.output)),
    )


def said_of(features: Sequence[Any]) -> dict[str, Any]:
    """Give the fields of :class:`Program` that its description alone has."""
    sizes = {feature.name: said for feature in features if (said := allowed_sizes(feature))}
    listed = [
        feature.type.multiArrayType.HasField("enumeratedShapes") or feature.type.imageType.HasField("enumeratedSizes")
        for feature in features
        if feature.name in sizes
    ]
    return {
        "descriptions": {each.name: each.shortDescription for each in features if each.shortDescription},
        "sizes": sizes,
        "enumerated": bool(listed) and all(listed),
    }


def _only_function(model: Any, path: Path) -> Any:
    if not model.HasField("mlProgram"):
        kind = next((name for name in OTHER_MODEL_TYPES if model.HasField(name)), None)
        what = f"holds a {kind}, not an ML Program" if kind else "holds no ML Program or is cut short"
        message = f"{path}: {what}; convert it again with convert_to='mlprogram'"
        raise BadInputError(message)
    description, functions = model.description, model.mlProgram.functions
    if len(functions) != 1 or description.functions:
        names = ", ".join(sorted(functions)) or "none"
        message = f"{path}: multi-function programs are not implemented (functions: {names})"
        raise ConversionError(message)
    if description.state:
        message = f"{path}: stateful programs are not implemented (state {description.state[0].name!r})"
        raise ConversionError(message)
    return next(iter(functions.values()))


def _named_type(named: Any, where: str) -> NamedType:
    return NamedType(name=named.name, type=tensor_type(named.type, where))


def _operation(message: Any, folder: Path, blobs: dict[str, BlobFile]) -> Operation:
    first = message.outputs[0].name if message.outputs else "?"
    where = f"{message.type} {first!r}"
    if message.blocks or not message.outputs:
        what = "control flow (an operation with blocks)" if message.blocks else "an operation without outputs"
        text = f"{where}: {what} is not implemented"
        raise ConversionError(text)
    inputs: dict[str, tuple[Binding, ...]] = {}
    for name, argument in message.inputs.items():
        inputs[name] = tuple(
            constant_from_value(binding.value, folder, blobs, f"{where}: {name}")
            if binding.HasField("value")
            else str(binding.name)
            for binding in argument.arguments
        )
    for name, value in message.attributes.items():
        if name != "name":
            inputs[name] = (constant_from_value(value, folder, blobs, f"{where}: {name}"),)
    return Operation(
        kind=message.type,
        inputs=inputs,
        outputs=tuple(_named_type(named, f"{where}: output {named.name!r}") for named in message.outputs),
    )


def _outputs(
    block: Any, inputs: tuple[NamedType, ...], operations: tuple[Operation, ...], file: Path
) -> tuple[NamedType, ...]:
    known = {value.name: value for value in inputs}
    known.update((value.name, value) for operation in operations for value in operation.outputs)
    missing = [name for name in block.outputs if name not in known]
    if missing or not block.outputs:
        message = f"{file}: no operation makes the output {', '.join(missing) or '(none named)'}; export it again"
        raise BadInputError(message)
    return tuple(known[name] for name in block.outputs)


def metadata_of(model: Any) -> dict[str, str]:
    """Give what a specification says of its author and origin, and its user-defined entries."""
    metadata = model.description.metadata
    fixed = {
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
        "short_description": metadata.shortDescription,
    }
    return {**dict(sorted(metadata.userDefined.items())), **{key: text for key, text in fixed.items() if text}}
