"""The Core ML programs inside a ``.pte``: found, unpacked and read with the reader of ``.mlpackage`` folders."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from converters.coreml.mil.package import Program
from converters.coreml.mil.package import read_program as read_package
from converters.executorch.program import forward_plan
from converters.executorch_coreml.memory_files import unpacked
from lspdmobile.errors import BadInputError, ConversionError, LspdmobileError

__all__ = ["CORE_ML", "METADATA", "PACKAGE", "core_ml_files", "is_compiled", "mil_program", "written"]

CORE_ML: Final = "CoreMLBackend"
PACKAGE: Final = "model.mlpackage"
METADATA: Final = "metadata.json"
_COMPILED: Final = "model.mlmodelc"
_REFERENCE: Final = b"CMJR"


def core_ml_files(program: Any, path: Path, *, skip_shared: bool = False) -> Iterator[dict[str, bytes]]:
    """Yield the files of each Core ML delegate of the main method: path to content.

    Args:
        program: As :func:`converters.executorch.program.read_program` gives it.
        path: For messages.
        skip_shared: Give no files of a model that is stored elsewhere, instead of refusing it.

    Raises:
        BadInputError: A delegate's data is damaged.
        ConversionError: Several methods share one Core ML model, which is stored elsewhere in the file.
    """
    for delegate in forward_plan(program).delegates:
        if delegate.id != CORE_ML:
            continue
        blob = bytes(program.backend_delegate_data[delegate.processed.index].data)
        if blob.startswith(_REFERENCE) and skip_shared:
            yield {}
            continue
        if blob.startswith(_REFERENCE):
            message = f"{path}: its methods share one Core ML model; only files whose one method has its own are read"
            raise ConversionError(message)
        try:
            yield unpacked(blob)
        except ValueError as error:
            message = f"{path}: its Core ML part is damaged or cut short ({error}); export it again"
            raise BadInputError(message) from error


def is_compiled(files: Mapping[str, bytes]) -> bool:
    """Tell whether a delegate holds a compiled model, which the runtime prefers to a package."""
    return any(name.split("/")[0] == _COMPILED for name in files)


def mil_program(files: Mapping[str, bytes], path: Path) -> Program:
    """Read the ML Program of a delegate's package.

    Args:
        files: From :func:`core_ml_files`.
        path: The ``.pte``, for messages.

    Raises:
        BadInputError: The package is damaged, or not the one the delegate describes.
        ConversionError: The model is compiled, or its program uses what the reader does not know.
    """
    if is_compiled(files):
        message = (
            f"{path}: holds a compiled Core ML model ({_COMPILED}), which only Core ML itself can open; "
            "lower it again with model type MODEL to have its program read here"
        )
        raise ConversionError(message)
    with TemporaryDirectory() as folder:
        written(files, Path(folder))
        try:
            program = replace(read_package(Path(folder) / PACKAGE), path=path)
        except LspdmobileError as error:
            message = str(error).replace(f"{folder}/", f"{path}, Core ML part, ")
            raise type(error)(message) from error
    _check_names(files, program)
    return program


def written(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _check_names(files: Mapping[str, bytes], program: Program) -> None:
    """Compare the names the runtime feeds and fetches with the program's own."""
    try:
        named = json.loads(files[METADATA])
        told = sorted(named["inputNames"]), sorted(named["outputNames"])
    except (LookupError, ValueError, TypeError) as error:
        message = f"{program.path}: its Core ML part does not name its inputs and outputs; export it again"
        raise BadInputError(message) from error
    have = sorted(value.name for value in program.inputs), sorted(value.name for value in program.outputs)
    if told != have:
        message = f"{program.path}: its Core ML part is called with {told}, but the program has {have}; export it again"
        raise BadInputError(message)
