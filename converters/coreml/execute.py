"""Running a ``.mlpackage``: Core ML itself on macOS, our MIL executor everywhere else."""

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.coreml.image_input import contract_of
from converters.coreml.keypoints import KEYPOINTS
from converters.coreml.mil.features import NamedType
from converters.coreml.mil.package import Program, read_program
from lspdmobile import __version__
from lspdmobile.artifact import Executor
from lspdmobile.errors import BadInputError, ConversionError, EnvironmentLacksError

__all__ = ["CoreMlExecutor", "MilExecutor", "decodes", "open_executor", "picture_to_heatmaps"]


def open_executor(path: Path, *, threads: int = 1) -> Executor:
    """Load a package from disk for execution.

    Args:
        path: The ``.mlpackage``.
        threads: For the MIL executor; Core ML chooses for itself.

    Raises:
        BadInputError: The package is damaged or not an ML Program from one picture to one set of heatmaps.
        ConversionError: The program holds something that cannot be executed here.
    """
    if sys.platform == "darwin":
        return CoreMlExecutor(path)
    return MilExecutor(read_program(path), threads=threads)


class MilExecutor:
    """Runs a program with our own interpreter, several pictures at once where the program keeps them apart.

    Args:
        program: Read from disk.
        threads: Of torch.
        what: What of the file is run, for the name; empty where it is the whole file.
    """

    def __init__(self, program: Program, *, threads: int = 1, what: str = "") -> None:
        from converters.coreml.mil.program import MilProgram

        self._threads = threads
        self._what = what
        self._program = MilProgram(program)
        self._input, self._output = picture_to_heatmaps(self._program.program)
        self._contract = contract_of(program) if program.images else None

    @property
    def name(self) -> str:
        """What runs the package, with its version."""
        arithmetic = "emulated fp16" if self._program.uses_float16 else "fp32"
        name = f"MIL executor {__version__} ({arithmetic}; not the Neural Engine)"
        return f"{name} on {self._what}" if self._what else name

    @property
    def caveat(self) -> str:
        """What this run cannot show."""
        return (
            "Core ML programs were run from their files by the MIL executor, not by Core ML: this shows what the file "
            "says, not what the Neural Engine or a GPU makes of it"
        )

    def heatmaps(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``.

        A program that takes images is given the pixels that the pictures were made of.

        Raises:
            ValueError: It takes images, and the pictures were not made of pixels by its contract.
        """
        return self._results(pictures, self._output)

    def keypoints(self, pictures: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Give what the program itself decodes, ``[N, K, 3]``; None where it gives heatmaps only."""
        return self._results(pictures, self._program.program.outputs[1]) if decodes(self._program.program) else None

    def _results(self, pictures: NDArray[np.float32], output: NamedType) -> NDArray[np.float32]:
        import torch

        given = self._contract.pixels(pictures) if self._contract and len(pictures) else pictures
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            results = [self._program.predict_batch({self._input.name: given}, [output.name])] if len(pictures) else []
        finally:
            torch.set_num_threads(before)
        return _stacked([result[output.name] for result in results], len(pictures), output)


class CoreMlExecutor:
    """Runs a package with Core ML, on whichever of CPU, GPU and Neural Engine it chooses (macOS only)."""

    def __init__(self, path: Path) -> None:
        program = read_program(path)
        self._input, self._output = picture_to_heatmaps(program)
        self._keypoints = program.outputs[1] if decodes(program) else None
        self._contract = contract_of(program) if program.images else None
        try:
            import coremltools
        except ImportError as error:
            message = f"running Core ML needs the package {error.name}: pip install coremltools"
            raise EnvironmentLacksError(message) from error
        self._model: Any = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.ALL)

    @property
    def name(self) -> str:
        """What runs the package, with its version."""
        return f"Core ML (macOS {platform.mac_ver()[0]}, all compute units)"

    @property
    def caveat(self) -> str:
        """Nothing: this is the runtime that phones use, though on a Mac."""
        return ""

    def heatmaps(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``."""
        return self._results(pictures, self._output)

    def keypoints(self, pictures: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Give what the program itself decodes, ``[N, K, 3]``; None where it gives heatmaps only."""
        return self._results(pictures, self._keypoints) if self._keypoints else None

    def _results(self, pictures: NDArray[np.float32], output: NamedType) -> NDArray[np.float32]:
        results = [self._model.predict({self._input.name: self._given(picture)}) for picture in pictures]
        return _stacked([result[output.name] for result in results], len(pictures), output)

    def _given(self, picture: NDArray[np.float32]) -> Any:
        """Give what Core ML is handed: an image where it wants one, else the normalised picture."""
        if self._contract is None:
            return picture[None]
        from PIL import Image

        return Image.fromarray(self._contract.pixels(picture))


def picture_to_heatmaps(program: Program) -> tuple[NamedType, NamedType]:
    """Give the one input and the heatmaps of a pose program, which may give keypoints too.

    Raises:
        BadInputError: It has others.
    """
    outputs = program.outputs[:1] if decodes(program) else program.outputs
    shapes = [value.type.shape for value in (*program.inputs, *outputs)]
    if len(program.inputs) != 1 or len(outputs) != 1 or any(len(shape) != 4 for shape in shapes):
        named = ", ".join(f"{value.name}: {value.type}" for value in (*program.inputs, *program.outputs))
        message = f"{program.path}: not a program from one picture [1, 3, H, W] to heatmaps [1, K, h, w] ({named})"
        raise BadInputError(message)
    return program.inputs[0], program.outputs[0]


def decodes(program: Program) -> bool:
    """Tell whether a program's second and last output is keypoints ``[1, K, 3]``."""
    names = [value.name for value in program.outputs]
    return names[1:] == [KEYPOINTS] and program.outputs[1].type.shape[::2] == (1, 3)


def _stacked(results: list[NDArray[Any]], count: int, output: NamedType) -> NDArray[np.float32]:
    if not results:
        return np.empty((0, *(size or 0 for size in output.type.shape[1:])), np.float32)
    heatmaps = np.concatenate(results).astype(np.float32, copy=False)
    if heatmaps.shape[0] != count:
        message = f"{output.name!r} has {heatmaps.shape[0]} entries for {count} pictures"
        raise ConversionError(message)
    return heatmaps
