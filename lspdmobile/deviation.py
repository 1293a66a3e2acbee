"""What separates a quantized file from its plan: not how good the plan is, but whether the file says what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["CompareWithPlan", "Deviation"]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A file beside its plan's own network in PyTorch, on the same pictures and without rounding in between.

    End to end the two cannot be compared sharply: one int8 value that rounds the other way, which any change of
    arithmetic brings about, tips others behind it. So every int8 tensor is computed from the plan's values of the int8
    tensors before it, and the heatmaps from the last of them.

    Attributes:
        pictures: How many pictures were looked at.
        tensor: The int8 tensor that is farthest off; empty where activations are float.
        steps: Root mean square difference of its worst channel, in steps of its grid.
        heatmaps: Relative error of the heatmaps, ``max|a - b| / max|a|``.
        faults: Sentences on tensors that cannot be compared; empty in a sound file.
    """

    pictures: int
    tensor: str
    steps: float
    heatmaps: float
    faults: tuple[str, ...] = ()


class CompareWithPlan(Protocol):
    """Compares a file with its plan."""

    def __call__(
        self, path: Path, *, network: "nn.Module", plan: "QuantizationPlan", pictures: NDArray[np.float32]
    ) -> Deviation:
        """Compare.

        Args:
            path: The file.
            network: Fused float student in eval mode.
            plan: What the file was made from.
            pictures: Normalised pictures ``[N, 3, H, W]``, N at least 1.

        Raises:
            BadInputError: The file is damaged, or the plan is another network's.
            ConversionError: The file holds something that cannot be executed here.
            EnvironmentLacksError: A package is absent.
        """
        ...
