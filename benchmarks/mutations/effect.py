"""What a fault changes, found without ``verify``: the broken package beside the sound one, on the same pictures.

Nothing of the gate, of the float student or of the plan is used, but for the limits the gate states:

* float packages: the heatmaps, as the file says to compute them, over the limit of their precision;
* ``w8``: the heatmaps, computed in float32, over the limit of quantized files;
* ``w8a8``: that, and the worst channel of each int8 tensor in steps of its grid, computed in float32 from the sound
  package's int8 tensors before it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.constants import Constant
from converters.coreml.mil.package import Program
from converters.coreml.mil.program import MilProgram
from lspdmobile.choices import Format, Precision
from lspdmobile.errors import LspdmobileError
from lspdmobile.parity import Gate

__all__ = ["Effect", "Sound"]

_GATE: Final = Gate()
_HEATMAPS: Final = "the heatmaps"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How much a fault changes.

    Attributes:
        share: The change over the limit the gate states; infinite where the package does not run or gives what is not
            finite or has another shape.
        margin: What the sound package uses of that limit itself: within it on either side of 1 both verdicts are right.
    """

    share: float
    margin: float

    @property
    def above(self) -> bool:
        """Whether the change is above the limit, whatever the sound package's own error."""
        return self.share > 1 + self.margin

    @property
    def below(self) -> bool:
        """Whether the change is below the limit, whatever the sound package's own error."""
        return self.share < 1 - self.margin


class Sound:
    """A package as it was emitted, run on a few pictures.

    Args:
        path: The package.
        precision: Sets the limit.
        pictures: Normalised inputs ``[N, 3, H, W]``.
        expected: What the float student gives for them, ``[N, K, h, w]``.
    """

    def __init__(
        self, path: Path, precision: Precision, pictures: NDArray[np.float32], expected: NDArray[np.float32]
    ) -> None:
        limit = _GATE.max_relative_error(precision, Format.COREML)
        self._quantized = limit is None
        self._limit = _GATE.max_relative_error_from_plan if limit is None else limit
        self._pictures = pictures
        program = self._loaded(path)
        self._steps = _steps(program.program) if precision is Precision.W8A8 else {}
        self._runs = [self._values(program, picture, {}) for picture in pictures]
        self._largest = float(np.abs(expected).max())
        error = max(np.abs(run[_HEATMAPS].numpy() - e).max() for run, e in zip(self._runs, expected, strict=True))
        self._margin = 0.0 if self._quantized else float(error) / self._largest / self._limit

    def effect(self, broken: Path) -> Effect:
        """Run a broken package."""
        try:
            program = self._loaded(broken)
            pairs = zip(self._pictures, self._runs, strict=True)
            found = [self._values(program, picture, run) for picture, run in pairs]
        except (LspdmobileError, StopIteration):
            return Effect(share=inf, margin=self._margin)
        shares = [self._heatmap_share(found), *(self._step_share(found, name) for name in self._steps)]
        return Effect(share=max(inf if np.isnan(share) else share for share in shares), margin=self._margin)

    def _loaded(self, path: Path) -> MilProgram:
        return MilProgram.load(path, compute="fp32" if self._quantized else "stated")

    def _values(
        self, program: MilProgram, picture: NDArray[np.float32], given: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Give the heatmaps and the int8 tensors' reals, each from those given."""
        output, found = program.outputs[0].name, {}
        for step, values in program.walk({program.inputs[0].name: picture[None]}, given=given):
            for name in (value.name for value in step.outputs):
                if name in self._steps:
                    found[name] = values[name]
                if name == output:
                    found[_HEATMAPS] = values[name]
        return found

    def _heatmap_share(self, found: list[dict[str, Tensor]]) -> float:
        errors = [_difference(f, run, _HEATMAPS) for f, run in zip(found, self._runs, strict=True)]
        return max(float(np.abs(error).max()) for error in errors) / self._largest / self._limit

    def _step_share(self, found: list[dict[str, Tensor]], name: str) -> float:
        errors = [_difference(f, run, name) / self._steps[name] for f, run in zip(found, self._runs, strict=True)]
        channels = np.mean([np.square(error).mean((0, 2, 3)) for error in errors], axis=0)
        return float(np.sqrt(channels.max())) / _GATE.max_steps_from_plan


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> NDArray[np.float64]:
    """Subtract; infinite where there is nothing to subtract, or of another shape."""
    if name not in found or found[name].shape != wanted[name].shape:
        return np.full((1, wanted[name].shape[1], 1, 1), inf)
    difference: NDArray[np.float64] = found[name].double().numpy() - wanted[name].double().numpy()
    return difference


def _steps(program: Program) -> dict[str, float]:
    """Give the step of every int8 activation, by the name of the value its ``dequantize`` makes."""
    makers = {value.name: operation for operation in program.operations for value in operation.outputs}
    steps = {}
    for operation in program.operations:
        if operation.kind == "dequantize":
            scale = operation.inputs["scale"][0]
            value = scale if isinstance(scale, Constant) else makers[scale].inputs["val"][0]
            assert isinstance(value, Constant)
            steps[operation.outputs[0].name] = float(np.asarray(value.value, np.float64).reshape(()))
    return steps
