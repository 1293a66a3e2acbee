"""The quantization plan: precision, calibrated ranges and the calibration pictures every emitter applies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError

__all__ = ["QuantizationPlan", "TensorRange"]


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """Smallest and largest value a tensor took over the calibration pictures."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """One plan for three runtimes.

    Static integer precisions quantize weights per output channel, symmetric int8, and activations per tensor,
    asymmetric int8 (``w8a8``) or symmetric int16 (``w8a16``); input and output stay float32.

    Attributes:
        precision: How weights and activations are stored.
        ranges: Node name in the exported program of the fused network to its calibrated range; the input's name is
            the program's own placeholder name. Empty for float precisions.
        calibration: Normalised calibration inputs float32 ``[M, 3, H, W]``; empty for float precisions. Not written
            to ``plan.json``, which holds its hash.
        calibration_sha256: Hash of the calibration inputs; empty where none were used.
    """

    precision: Precision
    ranges: Mapping[str, TensorRange] = field(default_factory=dict)
    calibration: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 3, 1, 1), np.float32), compare=False, repr=False
    )
    calibration_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return {
            "schema_version": 1,
            "precision": self.precision.value,
            "weights": {"bits": 8, "granularity": "per-channel", "symmetric": True} if self._integer else None,
            "activations": self._activations(),
            "calibration_pictures": len(self.calibration),
            "calibration_sha256": self.calibration_sha256,
            "ranges": {name: [r.low, r.high] for name, r in self.ranges.items()},
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`; the calibration inputs are not in it and stay empty.

        Raises:
            BadInputError: A field is missing or of a wrong kind.
        """
        try:
            return cls(
                precision=Precision(fields["precision"]),
                ranges={
                    k: TensorRange(low=float(low), high=float(high)) for k, (low, high) in fields["ranges"].items()
                },
                calibration_sha256=str(fields["calibration_sha256"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"not a quantization plan ({type(error).__name__}: {error}); export again"
            raise BadInputError(message) from error

    def _activations(self) -> dict[str, Any] | None:
        """Describe the activations: int8 asymmetric, int16 symmetric, or None for float."""
        if not self._integer:
            return None
        wide = self.precision is Precision.W8A16
        return {"bits": 16 if wide else 8, "granularity": "per-tensor", "symmetric": wide, "estimator": "min-max"}

    @property
    def _integer(self) -> bool:
        return self.precision.is_static_integer
