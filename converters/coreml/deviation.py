"""Whether a quantized package says what its plan says: the package in float32 beside the plan's network in PyTorch.

The package is run by the MIL executor without rounding anything to float16, on every system: what is looked at are the
file's statements, not an accelerator's arithmetic. Both sides use the same constants and the same sums, so that int8
values agree but for the rare one whose rounding hangs on the last bit.
"""

from collections.abc import Callable, Mapping
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converters.coreml.grids import sources
from converters.coreml.mil.package import Program, read_program
from converters.coreml.palettes import checked_weights
from lspdmobile.deviation import Deviation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantization.plan import QuantizationPlan
    from quantization.simulate import IntegerTensor

__all__ = ["deviation", "deviation_of"]


def deviation(
    path: Path, *, network: "nn.Module", plan: "QuantizationPlan", pictures: NDArray[np.float32]
) -> Deviation:
    """Compare a package with its plan.

    Args:
        path: The ``.mlpackage``.
        network: Fused float student in eval mode.
        plan: What the package was made from; its weights are quantized.
        pictures: Normalised pictures ``[N, 3, H, W]``, N at least 1.

    Returns:
        What separates them.

    Raises:
        BadInputError: The package is damaged, or the plan is another network's.
        ConversionError: The program holds something that cannot be executed here.
        EnvironmentLacksError: torchao or executorch is absent.
    """
    return deviation_of(read_program(path), network=network, plan=plan, pictures=pictures)


def deviation_of(
    program: Program,
    *,
    network: "nn.Module",
    plan: "QuantizationPlan",
    pictures: NDArray[np.float32],
    planned_name: Callable[[str], str] = str,
) -> Deviation:
    """Compare a program that was read with its plan; otherwise as :func:`deviation`.

    ``planned_name`` gives the plan's name of a tensor that Core ML Tools was given under another one.
    """
    import torch

    from quantization.simulate import layer_weights, simulation

    weights, faults = dict[str, "Tensor"](), frozenset[str]()
    size = (pictures.shape[2], pictures.shape[3])
    if plan.precision.palette_bits:
        wanted, last = layer_weights(network, size)
        found, faults = checked_weights(program, {name: weight.numpy() for name, weight in wanted.items()}, last)
        weights = {name: torch.from_numpy(weight) for name, weight in found.items()}
    exact = frozenset(v.name for op in program.operations for v in op.outputs if v.type.dtype.name == "float32")
    simulated = simulation(network, plan, size, stored=torch.float16, exact=exact, weights=weights)
    comparison = _Comparison(program, picture=simulated.picture, planned_name=planned_name, faults=faults)
    for picture in torch.from_numpy(pictures).split(1):
        comparison.add(picture, *simulated.run(picture))
    return comparison.result()


class _Comparison:
    """A package beside its plan's simulation, over pictures."""

    def __init__(
        self, program: Program, *, picture: str, planned_name: Callable[[str], str], faults: frozenset[str]
    ) -> None:
        from converters.coreml.mil.program import MilProgram

        self._program = MilProgram(program, compute="fp32")
        self._sources = {name: planned_name(source) for name, source in sources(program, picture).items()}
        self._integers: dict[str, _Tally] = {}
        self._heatmaps = _Tally()
        self._faults = set(faults)
        self._pictures = 0

    def add(self, picture: "Tensor", planned: "Mapping[str, IntegerTensor]", heatmaps: "Tensor") -> None:
        """Run one picture ``[1, 3, H, W]``, every int8 tensor from the plan's values of those before it."""
        self._pictures += 1
        inputs = {value.name: picture.numpy() for value in self._program.inputs}
        outputs = {value.name for value in self._program.outputs}
        wanted = {name: planned[source] for name, source in self._sources.items() if source in planned}
        given = {name: tensor.values for name, tensor in wanted.items()}
        for step, values in self._program.walk(inputs, given=given):
            for name in (value.name for value in step.outputs):
                if name in wanted:
                    tally = self._integers.setdefault(self._sources[name], _Tally())
                    self._compare(tally, self._sources[name], values[name], wanted[name].values, wanted[name].step)
                if name in outputs:
                    self._compare(self._heatmaps, "heatmaps", values[name], heatmaps, 1.0)
        self._faults.update(f"{name} is int8 in the plan, not in the file" for name in planned.keys() - self._integers)
        unplanned = set(self._sources.values()) - planned.keys()
        self._faults.update(f"{name} is int8 in the file, not in the plan" for name in unplanned)

    def _compare(self, tally: "_Tally", name: str, found: "Tensor", wanted: "Tensor", step: float) -> None:
        if found.shape == wanted.shape:
            tally.add(found, wanted, step)
        else:
            self._faults.add(f"{name} is {list(found.shape)} in the file, {list(wanted.shape)} in the plan")

    def result(self) -> Deviation:
        """Sum up."""
        if not self._heatmaps.largest:
            self._faults.add("the heatmaps are the same for every picture")
        steps = {name: tally.worst_channel for name, tally in self._integers.items()}
        tensor = max(steps, key=lambda name: inf if isnan(steps[name]) else steps[name], default="")
        return Deviation(
            pictures=self._pictures,
            tensor=tensor,
            steps=steps.get(tensor, 0.0),
            heatmaps=self._heatmaps.relative_error,
            faults=tuple(sorted(self._faults)),
        )


class _Tally:
    """Differences of one tensor ``[1, C, h, w]``; not a number where it holds one."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._error = 0.0
        self._squares: list[NDArray[np.float64]] = []

    def add(self, found: "Tensor", wanted: "Tensor", step: float) -> None:
        """Add one picture, in units of ``step``."""
        difference = (found - wanted).double().numpy() / step
        self.largest = max(self.largest, float(wanted.abs().max()))
        self._error = float(np.maximum(self._error, np.abs(difference).max()))
        self._squares.append(np.square(difference).mean((0, 2, 3)))

    @property
    def worst_channel(self) -> float:
        """Largest root mean square of a channel."""
        return float(np.sqrt(np.mean(self._squares, axis=0)).max())

    @property
    def relative_error(self) -> float:
        """Largest difference over the largest value."""
        return self._error / self.largest if self.largest else inf
