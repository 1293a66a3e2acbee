"""Runs a ``.pte`` file with the ExecuTorch runtime, the one phones use."""

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from converters.executorch.inspect import inspect
from converters.executorch.program import missing
from lspdmobile.artifact import ArtifactFacts, Executor, PrecisionLoss
from lspdmobile.errors import BadInputError, ConversionError

__all__ = ["ExecuTorchExecutor", "check_borders", "open_executor", "precision_losses"]


def open_executor(path: Path, *, threads: int = 1) -> Executor:
    """Load a ``.pte`` file from a float32 picture ``[1, 3, H, W]`` to float32 heatmaps, keypoints perhaps beside them.

    Raises:
        BadInputError: The file is damaged, or its input or output is of another kind.
        ConversionError: The runtime refused the file.
        EnvironmentLacksError: executorch is absent.
    """
    if threads < 1:
        message = f"threads must be at least 1, not {threads}"
        raise ValueError(message)
    facts = inspect(path)
    check_borders(path, facts)
    return ExecuTorchExecutor(path, facts, threads)


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:  # noqa: ARG001
    """Give nothing: float16 is not offered in this format."""
    return ()


class ExecuTorchExecutor:
    """One loaded file.

    ExecuTorch has one thread pool per process and a loaded method keeps a pointer to it. So when executors with
    different numbers of threads take turns, the pool is replaced only after every loaded method was let go; each
    loads its file again at its next turn.
    """

    _loaded: Final[WeakSet["ExecuTorchExecutor"]] = WeakSet()

    def __init__(self, path: Path, facts: ArtifactFacts, threads: int) -> None:
        self._path = path
        self._facts = facts
        self._threads = threads
        self._method: Any = None
        self._load()

    @property
    def name(self) -> str:
        """Runtime, version and kernels, such as ``ExecuTorch 1.4.1 (XNNPACK)``."""
        delegation = self._facts.delegation
        kernels = [delegation.delegate] if delegation and delegation.delegated else []
        if delegation and delegation.not_delegated:
            kernels.append("portable kernels")
        return f"ExecuTorch {version('executorch')} ({' + '.join(kernels) or 'portable kernels'})"

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
        return self._results(pictures, 0)

    def keypoints(self, pictures: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Give what the file itself decodes, ``[N, K, 3]``; None where it gives heatmaps only.

        Raises:
            ValueError: The pictures do not have the file's size.
            ConversionError: The runtime failed.
        """
        return self._results(pictures, 1) if len(self._facts.outputs) > 1 else None

    def _results(self, pictures: NDArray[np.float32], output: int) -> NDArray[np.float32]:
        wanted = self._facts.inputs[0].shape
        if pictures.ndim != 4 or pictures.shape[1:] != wanted[1:]:
            message = f"{self._path.name} takes {list(wanted)}, not pictures {list(pictures.shape)}"
            raise ValueError(message)
        self._load()
        results = [self._run(picture[None], output) for picture in pictures]
        shape = self._facts.outputs[output].shape[1:]
        return np.concatenate(results) if results else np.empty((0, *shape), np.float32)

    def _run(self, picture: NDArray[np.float32], output: int) -> NDArray[np.float32]:
        import torch

        # The runtime reads memory in order whatever the strides say, so the tensor has to be contiguous.
        tensor = torch.from_numpy(np.array(picture, np.float32, order="C"))
        try:
            result: NDArray[np.float32] = self._method.execute([tensor])[output].numpy()
        except RuntimeError as error:
            message = f"{self._path.name}: ExecuTorch failed while running: {_first_line(error)}"
            raise ConversionError(message) from error
        return result

    def _load(self) -> None:
        """Load the method on a pool of this executor's number of threads, unless it already is."""
        try:
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime, Verification
        except ImportError as error:
            raise missing(error) from error
        if portable_lib._threadpool_get_thread_count() != self._threads:
            for executor in list(self._loaded):
                executor._method = None
            self._loaded.clear()
            portable_lib._unsafe_reset_threadpool(self._threads)
        if self._method is not None:
            return
        try:
            program = Runtime.get().load_program(self._path, verification=Verification.InternalConsistency)
            names = program.method_names
            self._method = program.load_method("forward" if "forward" in names else min(names))
        except RuntimeError as error:
            message = f"{self._path}: ExecuTorch cannot run this file: {_first_line(error)}"
            raise ConversionError(message) from error
        self._loaded.add(self)


def check_borders(path: Path, facts: ArtifactFacts) -> None:
    """Refuse files that do not take one picture and give one set of heatmaps, with a BadInputError.

    Keypoints ``[1, K, 3]`` behind the heatmaps are allowed.
    """
    decodes = len(facts.outputs) == 2 and facts.outputs[1].shape[::2] == (1, 3) and len(facts.outputs[1].shape) == 3
    for what, tensors in (("input", facts.inputs), ("output", facts.outputs[:1] if decodes else facts.outputs)):
        if len(tensors) != 1:
            message = f"{path}: has {len(tensors)} {what}s; only files with one {what} can be run"
            raise BadInputError(message)
        shape, dtype = tensors[0].shape, tensors[0].dtype
        if dtype != "float32":
            message = f"{path}: its {what} is {dtype}, not float32; export it with float32 borders"
            raise BadInputError(message)
        if len(shape) != 4 or shape[0] != 1:
            message = f"{path}: its {what} has shape {list(shape)}; four axes and batch 1 are needed"
            raise BadInputError(message)
    if facts.inputs[0].shape[1] != 3:
        message = f"{path}: its input {list(facts.inputs[0].shape)} is no picture of three channels in NCHW order"
        raise BadInputError(message)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
