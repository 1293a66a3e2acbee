"""Runs a ``.tflite`` file with LiteRT, the runtime phones use, with its default XNNPACK delegate."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import missing, read_model
from converters.tflite.matching import layout_of, to_layout
from lspdmobile.artifact import Executor, PrecisionLoss
from lspdmobile.choices import Layout
from lspdmobile.errors import BadInputError, ConversionError, EnvironmentLacksError

__all__ = ["Kernels", "LiteRtExecutor", "open_executor", "precision_losses"]


class Kernels(StrEnum):
    """What computes a file's operators."""

    DEFAULT = "default"
    """What phones use: XNNPACK, and LiteRT's optimised kernels for what it leaves."""
    REFERENCE = "reference"
    """LiteRT's plain loops."""
    TENSORFLOW = "tensorflow"
    """TensorFlow's own copy of the interpreter with its plain loops."""


def open_executor(path: Path, *, threads: int = 1, kernels: Kernels = Kernels.DEFAULT) -> Executor:
    """Load a ``.tflite`` file with one float32 picture input and float32 heatmaps as output, keypoints perhaps beside.

    Args:
        path: The file.
        threads: Of the interpreter.
        kernels: What computes; other ones than phones use are for second opinions.

    Raises:
        BadInputError: The file is damaged, or its input or output is of another kind.
        ConversionError: The runtime refused the file.
        EnvironmentLacksError: ai-edge-litert, or the TensorFlow that was asked for, is absent.
    """
    read_model(path)
    make, name = _interpreter(kernels)
    try:
        interpreter = make(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        message = f"{path}: LiteRT cannot run this file: {str(error).strip().splitlines()[0]}"
        raise ConversionError(message) from error
    picture, keypoints = _only(path, inputs, "input"), _keypoints(outputs)
    heatmaps = _only(path, outputs[:1] if keypoints else outputs, "output")
    return LiteRtExecutor(path, interpreter, picture, heatmaps, keypoints, name=name)


def _interpreter(kernels: Kernels) -> tuple[Callable[..., Any], str]:
    """Give what makes an interpreter with such kernels, and its name with version."""
    if kernels is Kernels.TENSORFLOW:
        try:
            import tensorflow
        except ImportError as error:
            message = "TensorFlow's own interpreter needs the package tensorflow: pip install 'lspdmobile[tensorflow]'"
            raise EnvironmentLacksError(message) from error
        lite = tensorflow.lite
        resolver = lite.experimental.OpResolverType.BUILTIN_REF
        name = f"TensorFlow {tensorflow.__version__} (reference kernels)"
        return partial(lite.Interpreter, experimental_op_resolver_type=resolver), name
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise missing(error) from error
    name = f"LiteRT {version('ai-edge-litert')}"
    if kernels is Kernels.REFERENCE:
        resolver = OpResolverType.BUILTIN_REF
        return partial(Interpreter, experimental_op_resolver_type=resolver), f"{name} (reference kernels)"
    return Interpreter, name


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:  # noqa: ARG001
    """Give nothing: LiteRT computes in float32 on a CPU, whatever type the weights are stored in."""
    return ()


class LiteRtExecutor:
    """One loaded file.

    Args:
        path: For messages.
        interpreter: Loaded, with its tensors allocated.
        input_detail, output_detail: The interpreter's description of its one input, and of the heatmaps.
        keypoints_detail: Of the keypoints, where the file decodes.
        name: What runs it; default kernels are added.
    """

    def __init__(
        self,
        path: Path,
        interpreter: Any,
        input_detail: dict[str, Any],
        output_detail: dict[str, Any],
        keypoints_detail: dict[str, Any] | None = None,
        *,
        name: str,
    ) -> None:
        self._name = name
        self._path = path
        self._interpreter = interpreter
        self._input = input_detail
        self._output = output_detail
        self._keypoints = keypoints_detail
        self._layout = layout_of(path, tuple(int(n) for n in self._input["shape"]))

    @property
    def name(self) -> str:
        """Runtime, version and kernels, such as ``LiteRT 2.3.0 (XNNPACK)``."""
        if "kernels" in self._name:
            return self._name
        delegated = any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())
        return f"{self._name} ({'XNNPACK' if delegated else 'built-in kernels'})"

    @property
    def caveat(self) -> str:
        """Nothing: this is the runtime that phones use."""
        return ""

    def heatmaps(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, h, w]``, one by one.

        Raises:
            ValueError: The pictures do not have the file's size.
            ConversionError: The runtime failed.
        """
        stacked = self._results(pictures, self._output)
        back = stacked.transpose(0, 3, 1, 2) if self._layout is Layout.NHWC else stacked
        return np.ascontiguousarray(back)

    def keypoints(self, pictures: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Give what the file itself decodes, ``[N, K, 3]``; None where it gives heatmaps only.

        Raises:
            ValueError: The pictures do not have the file's size.
            ConversionError: The runtime failed.
        """
        return None if self._keypoints is None else self._results(pictures, self._keypoints)

    def _results(self, pictures: NDArray[np.float32], output: dict[str, Any]) -> NDArray[np.float32]:
        ordered = to_layout(pictures, self._layout)
        if ordered.shape[1:] != tuple(self._input["shape"][1:]):
            message = f"{self._path.name} takes {self._input['shape'].tolist()}, not pictures {list(ordered.shape)}"
            raise ValueError(message)
        results = [self._run(picture[None], output) for picture in ordered]
        shape = tuple(int(n) for n in output["shape"][1:])
        return np.concatenate(results) if results else np.empty((0, *shape), np.float32)

    def _run(self, picture: NDArray[np.float32], output: dict[str, Any]) -> NDArray[np.float32]:
        try:
            self._interpreter.set_tensor(self._input["index"], picture)
            self._interpreter.invoke()
            result: NDArray[np.float32] = self._interpreter.get_tensor(output["index"])
        except (ValueError, RuntimeError) as error:
            message = f"{self._path.name}: LiteRT failed while running: {str(error).strip().splitlines()[0]}"
            raise ConversionError(message) from error
        return result


def _keypoints(outputs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Give the second of two outputs where it is float32 ``[1, K, 3]``."""
    if len(outputs) != 2 or outputs[1]["dtype"] is not np.float32:
        return None
    shape = tuple(map(int, outputs[1]["shape"]))
    return outputs[1] if len(shape) == 3 and shape[::2] == (1, 3) else None


def _only(path: Path, details: list[dict[str, Any]], what: str) -> dict[str, Any]:
    """Give the one input or output, which must be a float32 tensor of rank 4."""
    if len(details) != 1:
        message = f"{path}: has {len(details)} {what}s; only files with one {what} can be run"
        raise BadInputError(message)
    detail = details[0]
    if detail["dtype"] is not np.float32:
        message = f"{path}: its {what} is {np.dtype(detail['dtype']).name}, not float32; export it with float32 borders"
        raise BadInputError(message)
    if len(detail["shape"]) != 4 or detail["shape"][0] != 1:
        message = f"{path}: its {what} has shape {list(map(int, detail['shape']))}; four axes and batch 1 are needed"
        raise BadInputError(message)
    return detail
