"""What separates a quantized file from its plan: not how good the plan is, but whether the file says what it says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from quantization.plan import QuantizationPlan

__all__ = ["CompareWithPlan", "Deviation", "Tally", "TensorSteps"]


_SAME: Final = 1e-3
"""Steps; Core ML's numbers are reals on a grid, equal but for their last bits."""


@dataclass(frozen=True, kw_only=True)
class TensorSteps:
    """How far one integer tensor is from the plan's, in steps of its grid, over all pictures.

    Attributes:
        name: As the plan names it.
        rms: Root mean square difference.
        worst_channel: The same of the channel where it is largest, of what goes beyond the runtime's own rounding.
        largest: Largest difference.
        equal: Share of the values that are the same, 0 to 1.
    """

    name: str
    rms: float
    worst_channel: float
    largest: float
    equal: float


class Tally:
    """Differences of one tensor ``[1, C, ...]`` over pictures; not a number where it holds one.

    Args:
        allowed: Steps that the runtime's own rounding may make.
    """

    def __init__(self, allowed: float = 0.0) -> None:
        self._allowed = allowed
        self._largest_value = 0.0
        self._largest = 0.0
        self._squares: list[float] = []
        self._beyond: list[NDArray[np.float64]] = []
        self._equal: list[float] = []

    def add(self, found: NDArray[Any], wanted: NDArray[Any], step: float = 1.0) -> None:
        """Add one picture, in units of ``step``."""
        difference = (found - wanted).astype(np.float64) / step
        self._largest_value = max(self._largest_value, float(np.abs(wanted).max()))
        self._largest = float(np.maximum(self._largest, np.abs(difference).max()))
        self._squares.append(float(np.square(difference).mean()))
        beyond = np.maximum(np.abs(difference) - self._allowed, 0.0)
        self._beyond.append(np.square(beyond).mean((0, *range(2, difference.ndim))))
        self._equal.append(float((np.abs(difference) < _SAME).mean()))

    def steps(self, name: str) -> TensorSteps:
        """Sum up."""
        return TensorSteps(
            name=name,
            rms=float(np.sqrt(np.mean(self._squares))),
            worst_channel=float(np.sqrt(np.mean(self._beyond, axis=0)).max()),
            largest=self._largest,
            equal=float(np.mean(self._equal)),
        )

    @property
    def is_zero(self) -> bool:
        """Whether nothing but zeros was wanted."""
        return not self._largest_value

    @property
    def relative_error(self) -> float:
        """Largest difference over the largest wanted value."""
        return self._largest / self._largest_value if self._largest_value else inf


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A file beside its plan's own network in PyTorch, on the same pictures and without rounding in between.

    End to end the two cannot be compared sharply: one int8 value that rounds the other way, which any change of
    arithmetic brings about, tips others behind it. So every int8 tensor is computed from the plan's values of the int8
    tensors before it, and the heatmaps from the last of them.

    Attributes:
        pictures: How many pictures were looked at; 0 where only numbers in the file were.
        tensor: The int8 tensor that is farthest off; empty where activations are float.
        steps: Root mean square difference of its worst channel, in steps of its grid; where the runtime has a rounding
            of its own, of what goes beyond one step.
        heatmaps: Relative error of the heatmaps, ``max|a - b| / max|a|``.
        faults: Sentences on tensors that cannot be compared; empty in a sound file.
        tensors: Every int8 tensor in the order they are computed in.
        layers: How many layers were compared number by number, each with at most one fault; 0 where tensors were.
    """

    pictures: int
    tensor: str
    steps: float
    heatmaps: float
    faults: tuple[str, ...] = ()
    tensors: tuple[TensorSteps, ...] = ()
    layers: int = 0

    @classmethod
    def of(cls, pictures: int, tallies: Mapping[str, Tally], heatmaps: Tally, faults: Iterable[str]) -> Self:
        """Sum tallies up: those of int8 tensors by name, in the order they are computed in, and the heatmaps'."""
        tensors = tuple(tally.steps(name) for name, tally in tallies.items())
        worst = max(tensors, key=lambda t: inf if isnan(t.worst_channel) else t.worst_channel, default=None)
        silent = ("the heatmaps are the same for every picture",) if heatmaps.is_zero else ()
        return cls(
            pictures=pictures,
            tensor=worst.name if worst else "",
            steps=worst.worst_channel if worst else 0.0,
            heatmaps=heatmaps.relative_error,
            faults=tuple(sorted({*faults, *silent})),
            tensors=tensors,
        )


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
