"""Which tensor of the plan each int8 tensor of a package is."""

from collections.abc import Mapping
from typing import Final

from converters.coreml.mil.package import Operation, Program

__all__ = ["FLOAT16_SUFFIX", "given_name", "sources"]

FLOAT16_SUFFIX: Final = "_cast_fp16"
"""What Core ML Tools adds to the name of a value that it makes float16."""
_SHAPE_SUFFIX: Final = "_has_output_shape"
"""What it adds to the name of a transposed convolution whose result's shape it writes out."""


def given_name(name: str) -> str:
    """Give the name that Core ML Tools was given for a value."""
    return name.removesuffix(FLOAT16_SUFFIX).removesuffix(_SHAPE_SUFFIX)


def sources(program: Program, picture: str) -> dict[str, str]:
    """Give the plan's name of what each ``dequantize`` undoes, by the name of the ``dequantize``'s output."""
    makers = {value.name: operation for operation in program.operations for value in operation.outputs}
    inputs = {value.name for value in program.inputs}
    sources: dict[str, str] = {}
    for operation in program.operations:
        quantize = _maker(operation, makers) if operation.kind == "dequantize" else None
        if quantize is not None and quantize.kind == "quantize":
            name = str(quantize.inputs["input"][0])
            while (cast := makers.get(name)) is not None and cast.kind == "cast":
                name = str(cast.inputs["x"][0])
            sources[operation.outputs[0].name] = picture if name in inputs else given_name(name)
    return sources


def _maker(operation: Operation, makers: Mapping[str, Operation]) -> Operation | None:
    bound = operation.inputs["input"][0]
    return makers.get(bound) if isinstance(bound, str) else None
