"""Whether a quantized package says what its plan says: the package in float32 beside the plan's network in PyTorch.

The package is run by the MIL executor without rounding anything to float16, on every system: what is looked at are the
file's statements, not an accelerator's arithmetic. Both sides use the same constants and the same sums, so that int8
values agree but for the rare one whose rounding hangs on the last bit.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from converters.coreml.grids import sources
from converters.coreml.integers import integer_faults
from converters.coreml.keypoints import network_alone
from converters.coreml.mil.package import Program, read_program
from converters.coreml.palettes import checked_weights
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation, Tally

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantization.plan import QuantizationPlan
    from quantization.simulate import IntegerTensor, Simulation

__all__ = ["deviation", "deviation_of"]


def deviation(
    path: Path, *, network: "nn.Module", plan: "QuantizationPlan", pictures: NDArray[np.float32], forced: bool = True
) -> Deviation:
    """Compare a package with its plan.

    Args:
        path: The ``.mlpackage``.
        network: Fused float student in eval mode.
        plan: What the package was made from; its weights are quantized.
        pictures: Normalised pictures ``[N, 3, H, W]``, N at least 1.
        forced: Compute every tensor from the plan's values before it, otherwise from the package's own.

    Returns:
        What separates them.

    Raises:
        BadInputError: The package is damaged, or the plan is another network's.
        ConversionError: The program holds something that cannot be executed here.
        EnvironmentLacksError: torchao or executorch is absent.
    """
    program = network_alone(read_program(path))
    return deviation_of(program, network=network, plan=plan, pictures=pictures, forced=forced)


def deviation_of(
    program: Program,
    *,
    network: "nn.Module",
    plan: "QuantizationPlan",
    pictures: NDArray[np.float32],
    planned_name: Callable[[str], str] = str,
    forced: bool = True,
) -> Deviation:
    """Compare a program that was read with its plan; otherwise as :func:`deviation`.

    ``planned_name`` gives the plan's name of a tensor that Core ML Tools was given under another one.
    """
    import torch

    from quantization.simulate import layer_weights, simulation

    weights, faults = dict[str, "Tensor"](), frozenset[str]()
    size = (pictures.shape[2], pictures.shape[3])
    if plan.precision is Precision.W4 or plan.precision.palette_bits:
        named, last = layer_weights(network, size)
        wanted = {name: weight.numpy() for name, weight in named.items()}
        if plan.precision is Precision.W4:
            faults = integer_faults(program, wanted, last)
        else:
            found, faults = checked_weights(program, wanted, last)
            weights = {name: torch.from_numpy(weight) for name, weight in found.items()}
    exact = frozenset(v.name for op in program.operations for v in op.outputs if v.type.dtype.name == "float32")
    simulated = simulation(network, plan, size, stored=torch.float16, exact=exact, weights=weights)
    comparison = _Comparison(program, simulated, planned_name=planned_name, faults=faults, forced=forced)
    for picture in torch.from_numpy(pictures).split(1):
        comparison.add(picture, *simulated.run(picture))
    return comparison.result()


class _Comparison:
    """A package beside its plan's simulation, over pictures."""

    def __init__(
        self,
        program: Program,
        simulated: "Simulation",
        *,
        planned_name: Callable[[str], str],
        faults: frozenset[str],
        forced: bool,
    ) -> None:
        from converters.coreml.mil.program import MilProgram

        self._program = MilProgram(program, compute="fp32")
        self._sources = sources(program, simulated.picture, simulated.moves, simulated.names, planned_name)
        self._moves = simulated.moves
        self._integers: dict[str, Tally] = {}
        self._heatmaps = Tally()
        self._faults = set(faults)
        self._pictures, self._forced = 0, forced

    def add(self, picture: "Tensor", planned: "Mapping[str, IntegerTensor]", heatmaps: "Tensor") -> None:
        """Run one picture ``[1, 3, H, W]``, int8 tensors from the plan's values of those before them if forced."""
        self._pictures += 1
        inputs = {value.name: picture.numpy() for value in self._program.inputs}
        outputs = {value.name for value in self._program.outputs}
        wanted = {name: planned[source] for name, source in self._sources.items() if source in planned}
        given = {name: tensor.values for name, tensor in wanted.items()} if self._forced else {}
        for step, values in self._program.walk(inputs, given=given):
            for name in (value.name for value in step.outputs):
                if name in wanted:
                    tally = self._integers.setdefault(self._sources[name], Tally())
                    self._compare(tally, self._sources[name], values[name], wanted[name].values, wanted[name].step)
                if name in outputs:
                    self._compare(self._heatmaps, "heatmaps", values[name], heatmaps, 1.0)
        seen = self._integers.keys() | {move.source for move in self._moves.values()}
        self._faults.update(f"{name} is int8 in the plan, not in the file" for name in planned.keys() - seen)
        unplanned = set(self._sources.values()) - planned.keys()
        self._faults.update(f"{name} is int8 in the file, not in the plan" for name in unplanned)

    def _compare(self, tally: Tally, name: str, found: "Tensor", wanted: "Tensor", step: float) -> None:
        if found.shape == wanted.shape:
            tally.add(found.numpy(), wanted.numpy(), step)
        else:
            self._faults.add(f"{name} is {list(found.shape)} in the file, {list(wanted.shape)} in the plan")

    def result(self) -> Deviation:
        """Sum up."""
        return Deviation.of(self._pictures, self._integers, self._heatmaps, self._faults)
