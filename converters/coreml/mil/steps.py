"""One planned operation: what it needs, how it is run, and how its results are held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.arguments import Kernel
from converters.coreml.mil.constants import Dtype, TensorType
from converters.coreml.mil.features import NamedType
from lspdmobile.errors import ConversionError

__all__ = ["RUN_DTYPES", "SMALLEST_NORMAL_FP16", "Compute", "Step", "exported", "fits", "is_fp16", "run_step", "stored"]

Compute = Literal["stated", "fp16", "fp32"]
"""Which float results are rounded to float16: those the file types so, all, or none."""

SMALLEST_NORMAL_FP16: Final = 2.0**-14

RUN_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "bool": torch.bool,
    "float16": torch.float32,
    "float32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "uint32": torch.int64,
}
"""The torch type that holds a value of each MIL dtype; float16 values are held, rounded, in float32."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One planned operation.

    Attributes:
        label: Its kind and first output, for messages.
        kernel: What runs it.
        operands: Names of values, or tensors of constants.
        outputs: Values it makes.
        rounds: Whether float16 results need rounding.
        frees: Values no later step needs.
    """

    label: str
    kernel: Kernel
    operands: tuple[str | Tensor, ...]
    outputs: tuple[NamedType, ...]
    rounds: bool
    frees: tuple[str, ...]


def fits(shape: tuple[int, ...], kind: TensorType, *, batch: int | None = None) -> bool:
    """Whether a shape agrees with the lengths a type fixes, the first one replaced by ``batch`` if that is given."""
    wanted = kind.shape if batch is None else (batch, *kind.shape[1:])
    return len(shape) == len(wanted) and all(stated in (None, size) for size, stated in zip(shape, wanted, strict=True))


def run_step(
    step: Step, operands: Sequence[Tensor], *, compute: Compute = "stated", batch: int | None = None
) -> tuple[Tensor, ...]:
    """Run a step and give its results, held as their MIL dtypes are.

    Args:
        step: The step; one of a program that takes batches where ``batch`` is given.
        operands: Its operands' values.
        compute: Which results are rounded to float16.
        batch: How many entries are stacked along the first axis; None for what the file states.

    Raises:
        ConversionError: It cannot run, or a result has not the shape the file states.
    """
    try:
        with torch.inference_mode():
            results = step.kernel.run(*operands)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        message = f"{step.label}: cannot run: {str(error).splitlines()[0]}"
        raise ConversionError(message) from error
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(step.outputs):
        message = f"{step.label}: gives {len(results)} values, not {len(step.outputs)}"
        raise ConversionError(message)
    for value, result in zip(step.outputs, results, strict=True):
        if not fits(tuple(result.shape), value.type, batch=batch):
            message = f"{step.label}: gives {list(result.shape)} where the file states {value.type}"
            raise ConversionError(message)
    return tuple(
        stored(result, value.type.dtype, rounds=step.rounds, compute=compute)
        for value, result in zip(step.outputs, results, strict=True)
    )


def stored(value: Tensor, dtype: Dtype, *, rounds: bool, compute: Compute = "stated") -> Tensor:
    """Hold a value as its MIL dtype does, or as ``compute`` says."""
    if rounds and is_fp16(dtype, compute):
        return value.to(torch.float16).to(torch.float32)
    return value.to(RUN_DTYPES[dtype.name])


def is_fp16(dtype: Dtype, compute: Compute) -> bool:
    """Whether values of a dtype are rounded to float16."""
    if compute == "fp16":
        return dtype.is_float
    return compute == "stated" and dtype.name == "float16"


def exported(value: Tensor, dtype: Dtype, *, compute: Compute = "stated") -> NDArray[Any]:
    """Give a value in its MIL dtype; float16 as float32 where nothing was rounded to it."""
    kept = compute == "fp32" and dtype.name == "float16"
    array: NDArray[Any] = value.numpy().astype(np.float32 if kept else dtype.storage)
    return array
