"""Float student against artifact on the same pictures, without labels: heatmap error and keypoint drift.

Drift is the distance, in input pixels, between a joint decoded from the float heatmaps and from the artifact's. N is
pictures, K joints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.decode import HEATMAP_RULES, DecodeRule, decode
from lspdmobile.errors import BadInputError
from lspdmobile.parity.metrics import TENSOR_METRICS, TensorMetric
from lspdmobile.parity.shift import Shift
from lspdmobile.preprocess import PreprocessContract

__all__ = ["Drift", "Parity", "compare"]

Maps = NDArray[np.float32]
_NAN: Final = float("nan")
_AGREEMENT_CELLS: Final = 0.5
_AGREEMENT_ALPHAS: Final = (0.01, 0.05)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Keypoint distances in input pixels, over all pictures and joints.

    Attributes:
        mean, p95, max: Of all N x K distances; NaN where the artifact's heatmaps cannot be decoded.
        worst_image: Index of the picture with the largest distance, or of the first that cannot be decoded.
        agreement: Share of joints that moved by at most half a heatmap cell, 0 to 1.
        agreement_pck: ``agreement@0.05`` and the like to the share of joints that moved by at most that part of the
            crop's longer side: a PCK against the float student, where nothing is labelled.
        per_image: float32 ``[N]``: largest distance in each picture.
        per_joint: float32 ``[K]``: mean distance of each joint.
    """

    mean: float
    p95: float
    max: float
    worst_image: int
    agreement: float
    agreement_pck: Mapping[str, float]
    per_image: Maps = field(compare=False, repr=False)
    per_joint: Maps = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What separates an artifact from its float student.

    Attributes:
        images: Number of pictures N.
        heatmap_snr_db, heatmap_max_abs, heatmap_relative_error: See :mod:`lspdmobile.parity.metrics`; NaN where there
            is a fault.
        drift_px: Keypoint drift in input pixels.
        cell_px: Input pixels per heatmap cell.
        faults: Sentences that make the artifact unusable, such as heatmaps with NaN; empty in a sound artifact.
        shift: What all joints moved by; None where there is a fault, and for coordinates that no peak holds in place.
    """

    images: int
    heatmap_snr_db: float
    heatmap_max_abs: float
    heatmap_relative_error: float
    drift_px: Drift
    cell_px: int
    faults: tuple[str, ...] = ()
    shift: Shift | None = None


def compare(
    float_heatmaps: Maps, artifact_heatmaps: Maps, *, contract: PreprocessContract, rule: DecodeRule = "dark"
) -> Parity:
    """Compare the two on the same pictures.

    Args:
        float_heatmaps: float32 ``[N, K, h, w]`` of the float student.
        artifact_heatmaps: float32, the same shape, of the artifact. A wrong shape or values that are not finite become
            a fault of the answer, never an exception.
        contract: Gives the stride.
        rule: How both are decoded.

    Raises:
        BadInputError: The float student's own heatmaps are not finite.
        ValueError: There is no picture.
    """
    if float_heatmaps.size == 0:
        message = "parity needs at least one picture"
        raise ValueError(message)
    if not np.isfinite(float_heatmaps).all():
        message = "the float student gives heatmaps with NaN or infinite values: its checkpoint is damaged"
        raise BadInputError(message)
    fault = _fault(float_heatmaps, artifact_heatmaps)
    if fault is not None:
        return _unusable(float_heatmaps, artifact_heatmaps, fault, contract)
    tensor = {name: metric(float_heatmaps, artifact_heatmaps) for name, metric in TENSOR_METRICS.items()}
    before, after = (decode(maps, contract=contract, rule=rule) for maps in (float_heatmaps, artifact_heatmaps))
    step = after[..., :2].astype(np.float64) - before[..., :2]
    return Parity(
        images=len(float_heatmaps),
        heatmap_snr_db=tensor[TensorMetric.HEATMAP_SNR_DB],
        heatmap_max_abs=tensor[TensorMetric.HEATMAP_MAX_ABS],
        heatmap_relative_error=tensor[TensorMetric.HEATMAP_RELATIVE_ERROR],
        drift_px=_drift(step, cell_px=contract.heatmap_stride, side=max(contract.input_size)),
        cell_px=contract.heatmap_stride,
        shift=Shift.of(step, cell_px=contract.heatmap_stride) if rule in HEATMAP_RULES else None,
    )


def _drift(step: NDArray[np.float64], *, cell_px: int, side: int) -> Drift:
    distance = np.hypot(step[..., 0], step[..., 1])
    per_image = distance.max(axis=1)
    return Drift(
        mean=float(distance.mean()),
        p95=float(np.percentile(distance, 95)),
        max=float(distance.max()),
        worst_image=int(per_image.argmax()),
        agreement=float((distance <= _AGREEMENT_CELLS * cell_px).mean()),
        agreement_pck={f"agreement@{alpha:g}": float((distance <= alpha * side).mean()) for alpha in _AGREEMENT_ALPHAS},
        per_image=per_image.astype(np.float32),
        per_joint=distance.mean(axis=0).astype(np.float32),
    )


def _fault(float_heatmaps: Maps, artifact_heatmaps: Maps) -> str | None:
    if artifact_heatmaps.shape != float_heatmaps.shape:
        return f"the artifact gives heatmaps {list(artifact_heatmaps.shape)}, the student {list(float_heatmaps.shape)}"
    bad = _not_finite(artifact_heatmaps)
    if bad.size:
        return (
            f"{bad.size} of {len(artifact_heatmaps)} pictures have NaN or infinite heatmap values, "
            f"the first is picture {bad[0]}"
        )
    return None


def _not_finite(heatmaps: Maps) -> NDArray[np.intp]:
    return np.flatnonzero(~np.isfinite(heatmaps.reshape(len(heatmaps), -1)).all(axis=1))


def _unusable(float_heatmaps: Maps, artifact_heatmaps: Maps, fault: str, contract: PreprocessContract) -> Parity:
    same_shape = artifact_heatmaps.shape == float_heatmaps.shape
    count, joints = float_heatmaps.shape[:2]
    return Parity(
        images=count,
        heatmap_snr_db=_NAN,
        heatmap_max_abs=_NAN,
        heatmap_relative_error=_NAN,
        drift_px=Drift(
            mean=_NAN,
            p95=_NAN,
            max=_NAN,
            worst_image=int(_not_finite(artifact_heatmaps)[0]) if same_shape else 0,
            agreement=0.0,
            agreement_pck={},
            per_image=np.full(count, np.nan, np.float32),
            per_joint=np.full(joints, np.nan, np.float32),
        ),
        cell_px=contract.heatmap_stride,
        faults=(fault,),
    )
