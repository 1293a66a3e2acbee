"""The MIL executor: runs a saved ML Program with torch, on any operating system.

It reads nothing but the package on disk. What it computes is what the file says, in float32: a value that the program
types as float16 is rounded to float16 after each operation, while sums inside an operation (a convolution's, say) are
accumulated in float32. Apple's Neural Engine accumulates in its own way, so its results agree only up to rounding;
whether the *file* says the right thing is settled here.

``compute`` overrules the file's float types: with ``"fp32"`` nothing is rounded to float16 (weights that are stored so
are what they are), with ``"fp16"`` every float constant and every float result is, whatever the file states.

Every operation is planned once, when the program is loaded: attributes checked, constants decoded, compressed weights
unpacked. Operations and attributes that are not implemented are refused by name then, never skipped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.features import ImageInput, NamedType
from converters.coreml.mil.package import Program, read_program
from converters.coreml.mil.planning import plan_program
from converters.coreml.mil.steps import SMALLEST_NORMAL_FP16, Compute, Step, exported, fits, is_fp16, run_step, stored
from lspdmobile.errors import BadInputError, ConversionError

__all__ = ["Compute", "MilProgram"]


class MilProgram:
    """An ML Program ready to run; usually made by :meth:`load`.

    Args:
        program: The program as read.
        compute: Which float results are rounded to float16.

    Raises:
        ConversionError: An operation, attribute or dtype is not implemented; the message names it.
        ValueError: No such ``compute``.
    """

    def __init__(self, program: Program, *, compute: Compute = "stated") -> None:
        if compute not in get_args(Compute):
            message = f"unknown compute {compute!r}: one of {', '.join(get_args(Compute))}"
            raise ValueError(message)
        self.program = program
        self.compute = compute
        try:
            self._plan = plan_program(program)
        except ConversionError as error:
            message = f"{program.path}: {error}"
            raise ConversionError(message) from error
        if compute == "fp16":
            self._plan = replace(self._plan, steps=tuple(_with_fp16_constants(step) for step in self._plan.steps))

    @classmethod
    def load(cls, path: Path, *, compute: Compute = "stated") -> "MilProgram":
        """Read and plan a package.

        Raises:
            BadInputError: The package is damaged or not an ML Program.
            ConversionError: An operation, attribute or dtype is not implemented; the message names it.
        """
        return cls(read_program(path), compute=compute)

    @property
    def inputs(self) -> tuple[NamedType, ...]:
        """What :meth:`predict` needs."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[NamedType, ...]:
        """What :meth:`predict` gives."""
        return self.program.outputs

    @property
    def takes_batches(self) -> bool:
        """Whether :meth:`predict_batch` runs several pictures at once."""
        return self._plan.takes_batches

    @property
    def uses_float16(self) -> bool:
        """Whether any value that is computed is rounded to float16."""
        return any(is_fp16(value.type.dtype, self.compute) for step in self._plan.steps for value in step.outputs)

    def predict(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the program.

        Args:
            inputs: Every input by name, in the shape the file states; values are converted to the file's dtype. An
                input that is an image takes uint8 pixels, ``[H, W, 3]`` RGB or ``[H, W]`` grey, of the file's size:
                Core ML would resize others, here they are refused.
            outputs: Names of values to give, also ones inside the program; the program's outputs if None.

        Returns:
            The values by name, in the file's own dtypes (float16 as float32 where ``compute`` is ``"fp32"``).

        Raises:
            BadInputError: An input is missing, unknown or of another shape; or a wanted value does not exist.
            ConversionError: An operation cannot run, or its result has not the shape the file states.
        """
        return self._predicted(inputs, self._wanted(outputs), batch=None)

    def predict_batch(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, *, at_once: int = 8
    ) -> dict[str, NDArray[Any]]:
        """Run a program that is written for one picture on N of them.

        Args:
            inputs: As for :meth:`predict`, with N entries along the first axis where the file states 1; of pictures
                uint8 ``[N, H, W, 3]`` or ``[N, H, W]``.
            outputs: As for :meth:`predict`.
            at_once: How many go through together, where the program keeps them apart; otherwise one by one.

        Returns:
            The values by name, stacked along their first axis.

        Raises:
            BadInputError: As :meth:`predict`, or the inputs have not the same number of entries.
            ConversionError: As :meth:`predict`.
        """
        counts = {len(array) if array.ndim else 0 for array in inputs.values()}
        if len(counts) != 1 or counts == {0}:
            message = f"{self.program.path}: a batch needs as many entries of each input, at least one"
            raise BadInputError(message)
        wanted, count = self._wanted(outputs), counts.pop()
        stacked = self._plan.takes_batches and not self._plan.known.keys() & set(wanted)
        step = at_once if stacked else 1
        parts = []
        for start in range(0, count, step):
            part = {name: array[start : start + step] for name, array in inputs.items()}
            if self.program.images:
                part = {name: array[0] if name in self.program.images else array for name, array in part.items()}
            parts.append(self._predicted(part, wanted, batch=min(step, count - start) if stacked else None))
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    def _wanted(self, outputs: Sequence[str] | None) -> list[str]:
        wanted = [value.name for value in self.outputs] if outputs is None else list(outputs)
        for name in wanted:
            if name not in self._plan.types:
                message = f"{self.program.path}: the program computes no value {name!r}"
                raise BadInputError(message)
        return wanted

    def _predicted(
        self, inputs: Mapping[str, NDArray[Any]], wanted: list[str], *, batch: int | None
    ) -> dict[str, NDArray[Any]]:
        values, types, known = self._fed(inputs, batch=batch), self._plan.types, self._plan.known
        for _ in self._walk(values, keep=frozenset(wanted), batch=batch):
            pass
        return {
            name: exported(known[name] if name in known else values[name], types[name].dtype, compute=self.compute)
            for name in wanted
        }

    def walk(
        self, inputs: Mapping[str, NDArray[Any]], *, given: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[Step, Mapping[str, Tensor]]]:
        """Run the program step by step.

        Args:
            inputs: As :meth:`predict` takes them.
            given: Values that take the place of computed ones, by name, once the step that made them was yielded.

        Yields:
            Each step just run, and the values alive then, its results among them; float values are float32.
        """
        values = self._fed(inputs)
        for step, alive in self._walk(values, keep=frozenset()):
            yield step, alive
            values.update({o.name: given[o.name] for o in step.outputs if given and o.name in given})

    def run_alone(self, step: Step, operands: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one step on the caller's values, rounded as this program does where float16 has their size.

        Its results are rounded too, also those of an operation that only passes its operands on.
        """
        values = {name: self._rounded(operands[name], name) for name in step.operands if isinstance(name, str)}
        self._run(step, values, batch=None)
        return {
            output.name: stored(values[output.name], output.type.dtype, rounds=True, compute=self.compute)
            for output in step.outputs
        }

    def _rounded(self, value: Tensor, name: str) -> Tensor:
        dtype = self._plan.types[name].dtype
        if not is_fp16(dtype, self.compute):
            return value
        held = stored(value, dtype, rounds=True, compute=self.compute)
        return torch.where(held.isfinite() & (held.abs() >= SMALLEST_NORMAL_FP16), held, value)

    def _walk(
        self, values: dict[str, Tensor], *, keep: frozenset[str], batch: int | None = None
    ) -> Iterator[tuple[Step, dict[str, Tensor]]]:
        for step in self._plan.steps:
            self._run(step, values, batch=batch)
            yield step, values
            for name in step.frees:
                if name not in keep:
                    del values[name]

    def _fed(self, inputs: Mapping[str, NDArray[Any]], *, batch: int | None = None) -> dict[str, Tensor]:
        expected = {value.name: value.type for value in self.inputs}
        if set(inputs) != set(expected):
            message = f"{self.program.path}: takes {sorted(expected)}, was given {sorted(inputs)}"
            raise BadInputError(message)
        values: dict[str, Tensor] = {}
        for name, kind in expected.items():
            image = self.program.images.get(name)
            given = inputs[name] if image is None else self._as_tensor(inputs[name], name, image)
            if not fits(given.shape, kind, batch=batch):
                message = f"{self.program.path}: {name!r} is {kind}, was given shape {list(given.shape)}"
                raise BadInputError(message)
            tensor = torch.from_numpy(np.array(given, order="C"))
            values[name] = stored(tensor, kind.dtype, rounds=True, compute=self.compute)
        return values

    def _as_tensor(self, pixels: NDArray[Any], name: str, image: ImageInput) -> NDArray[np.float32]:
        """Lay a picture out as Core ML does: channels first, in the file's colour order, values 0 to 255."""
        wanted = (image.height, image.width) if image.colour == "grey" else (image.height, image.width, 3)
        if pixels.dtype != np.uint8 or pixels.shape != wanted:
            given = f"{pixels.dtype} {list(pixels.shape)}"
            message = f"{self.program.path}: {name!r} is a picture, uint8 {list(wanted)}, was given {given}"
            raise BadInputError(message)
        planes = pixels[None] if image.colour == "grey" else pixels.transpose(2, 0, 1)
        ordered = planes[::-1] if image.colour == "bgr" else planes
        return ordered[None].astype(np.float32)

    def _run(self, step: Step, values: dict[str, Tensor], *, batch: int | None) -> None:
        operands = [values[operand] if isinstance(operand, str) else operand for operand in step.operands]
        try:
            results = run_step(step, operands, compute=self.compute, batch=batch)
        except ConversionError as error:
            message = f"{self.program.path}: {error}"
            raise ConversionError(message) from error
        values.update((value.name, result) for value, result in zip(step.outputs, results, strict=True))


def _with_fp16_constants(step: Step) -> Step:
    operands = (
        operand.half().float() if isinstance(operand, Tensor) and operand.is_floating_point() else operand
        for operand in step.operands
    )
    return replace(step, operands=tuple(operands))
