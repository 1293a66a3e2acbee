"""Ranges from pictures: what every float tensor of the network does over all calibration pictures.

Pictures are read and go through one by one, and of each tensor only a few numbers or a histogram is kept, so memory
does not grow with their number. Tensors are named by their node in the exported program
(``quantization.graph.exported_module``); every emitter maps these names to its own.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Estimator, Precision
from lspdmobile.errors import BadInputError
from quantization.estimators import entropy_range, mse_range, percentile_range
from quantization.graph import exported_module
from quantization.observe import Observer, Seen
from quantization.pictures import Pictures, one_by_one
from quantization.plan import Estimation, QuantizationPlan, TensorRange

__all__ = ["Calibration", "calibrate", "calibration_hash", "observe"]

_FINE_GRIDS: Final = (Estimator.MSE, Estimator.ENTROPY)
"""Estimators that weigh clipping against the coarseness of int8; the histogram is coarser than int16."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the network did over the calibration pictures; :meth:`plan` makes the ranges of a precision of it.

    Attributes:
        seen: Node name to what was seen of its tensor, in program order.
        pictures: How many there were.
        sha256: Hash of the inputs.
        estimation: How ranges are made.
    """

    seen: Mapping[str, Seen]
    pictures: int
    sha256: str
    estimation: Estimation = field(default_factory=Estimation)

    def plan(self, precision: Precision) -> QuantizationPlan:
        """Give the plan of a precision; float activations need no ranges.

        ``mse`` and ``entropy`` are for int8: int16 is finer than the histogram, nothing is gained by clipping, and the
        plan is that of min-max.
        """
        if not precision.is_static_integer:
            return QuantizationPlan(precision=precision)
        estimation = self.estimation
        if precision is Precision.W8A16 and estimation.estimator in _FINE_GRIDS:
            estimation = replace(estimation, estimator=Estimator.MIN_MAX)
        return QuantizationPlan(
            precision=precision,
            ranges={name: _range(seen, estimation) for name, seen in self.seen.items()},
            estimation=estimation,
            calibration_pictures=self.pictures,
            calibration_sha256=self.sha256,
        )


def calibrate(
    network: nn.Module,
    pictures: Pictures,
    *,
    precision: Precision,
    estimation: Estimation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> QuantizationPlan:
    """Give the plan of a precision, with the range of every float tensor where it needs one.

    Args:
        network: Fused float student in eval mode.
        pictures: Normalised inputs, at least one; not looked at for precisions with float activations.
        precision: What the artifact will hold; precisions with float activations need no ranges and give an empty plan.
        estimation: How ranges are made; None takes the smallest and largest value.
        progress: Called with pictures done and M after each picture.

    Raises:
        BadInputError: There is no picture, or a picture or an activation is not finite.
        ValueError: The pictures are of another type or shape, or fewer or more than they said.
    """
    if not precision.is_static_integer:
        return QuantizationPlan(precision=precision)
    return observe(network, pictures, estimation=estimation, progress=progress).plan(precision)


def observe(
    network: nn.Module,
    pictures: Pictures,
    *,
    estimation: Estimation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Run the pictures through the network once, for plans of any precision; arguments as for :func:`calibrate`."""
    estimation = estimation or Estimation()
    if len(pictures) == 0:
        message = "no calibration picture: static integer precisions need at least one; pass --calib with pictures"
        raise BadInputError(message)
    digest, observer = None, None
    for picture in one_by_one(pictures):
        if observer is None or digest is None:
            digest = _started(len(pictures), picture)
            observer = Observer(exported_module(network, (picture.shape[2], picture.shape[3])), estimation)
        digest.update(np.ascontiguousarray(picture, "<f4").tobytes())
        observer.see(picture)
        if progress is not None:
            progress(observer.pictures, len(pictures))
    if observer is None or digest is None or observer.pictures != len(pictures):
        message = f"{len(pictures)} calibration pictures were said, {observer.pictures if observer else 0} given"
        raise ValueError(message)
    return Calibration(
        seen=observer.seen(), pictures=observer.pictures, sha256=digest.hexdigest(), estimation=estimation
    )


def calibration_hash(pictures: Pictures) -> str:
    """Hash calibration inputs ``[M, 3, H, W]``: their shape, then their bytes in C order, little-endian."""
    digest = None
    for picture in one_by_one(pictures):
        digest = digest or _started(len(pictures), picture)
        digest.update(np.ascontiguousarray(picture, "<f4").tobytes())
    return digest.hexdigest() if digest else hashlib.sha256(b"0").hexdigest()


def _started(count: int, picture: NDArray[np.float32]) -> "hashlib._Hash":
    return hashlib.sha256("x".join(map(str, (count, *picture.shape[1:]))).encode())


def _range(seen: Seen, estimation: Estimation) -> TensorRange:
    """Make the range of one tensor; what the estimator does not choose takes its smallest and largest value."""
    estimator = estimation.estimator
    if seen.averaged is not None and estimator is Estimator.MOVING_AVERAGE:
        low, high = seen.averaged
    elif seen.histogram is not None and estimator is Estimator.PERCENTILE:
        low, high = percentile_range(seen.histogram, estimation.percentile)
    elif seen.histogram is not None and estimator is Estimator.MSE:
        low, high = mse_range(seen.histogram)
    elif seen.histogram is not None and estimator is Estimator.ENTROPY:
        low, high = entropy_range(seen.histogram)
    else:
        other = None if estimator is Estimator.MIN_MAX else Estimator.MIN_MAX
        return TensorRange(low=seen.low, high=seen.high, estimator=other)
    return TensorRange(low=low, high=high)
