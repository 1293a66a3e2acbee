"""How well the weights of a fused site survive int8, beside those of the branches it was made from.

Weights are rounded as every emitter does: symmetric, 127 steps to the largest, one scale per output channel, or one for
the whole tensor where a runtime wants that. Signal to noise is that of the weights themselves, in decibels::

    sqnr(w) = 10 log10( sum w^2 / sum (w - rounded w)^2 )

Merging is exact in float and not in int8. Branches that stay apart have scales of their own; a merged kernel has one
per channel, set by its largest tap. So a strong identity or 1x1 branch, which lands on the centre tap, coarsens the
grid of the small taps around it. The sum's ``sqnr`` hides that (the strong tap is most of the signal); what shows it is
the noise of the merged kernel against the weakest branch's share of the signal::

    branch_sqnr(b) = 10 log10( sum w_b^2 / noise that falls to b )

where the energy of a tap's noise is shared equally by the branches that reach the tap. In the same way one scale for
all channels drowns weak channels, which the tensor's ``sqnr`` hides and that of its worst channel shows. Activations
are always quantized per tensor: output channels that are far stronger than others widen everybody's steps, which no
choice of weight scales mends, and equalisation (arXiv 1906.04721) does.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Advice", "SiteForecast", "WeightForecast", "forecast_site", "forecast_weight"]

Floats = NDArray[np.floating[Any]]

_STEPS: Final = 127
_LOW_DB: Final = 20.0
"""A tenth of the signal's amplitude is noise: below this a branch or a channel is as good as lost."""
_OUTLIER: Final = 8.0
"""A channel this many times the median costs the others three of their eight bits."""
_FEW: Final = 0.125
"""Largest share of channels that can be called outliers; more of them are simply a wide spread."""
_EXACT_DB: Final = 200.0
"""Stands for no noise at all, which JSON has no number for."""


class Advice(StrEnum):
    """What to do with a site before it is quantized."""

    FUSE = "fuse"
    KEEP_BRANCHES = "keep branches"
    EQUALISE = "equalise"
    PER_CHANNEL_ONLY = "per-channel only"


@dataclass(frozen=True, kw_only=True)
class WeightForecast:
    """One weight tensor in int8.

    Attributes:
        channels: Output channels.
        per_tensor_db: Signal to noise with one scale for all channels.
        per_channel_db: The same with one scale per output channel.
        worst_channel_per_tensor_db, worst_channel_db: That of the worst channel that is not dead, with one scale for
            all and with its own.
        range_ratio: Largest over smallest peak of a channel; channels of zeros do not count.
        outlier_channels: Numbers of the channels whose peak is over 8 times the median peak.
        dead_channels: Numbers of the channels that are all zero.
    """

    channels: int
    per_tensor_db: float
    per_channel_db: float
    worst_channel_per_tensor_db: float
    worst_channel_db: float
    range_ratio: float
    outlier_channels: tuple[int, ...]
    dead_channels: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give what a JSON file holds: decibels with a tenth, 200 where nothing is lost."""
        fields: dict[str, Any] = _rounded(asdict(self))
        return fields


@dataclass(frozen=True, kw_only=True)
class SiteForecast:
    """A fused site in int8, and its branches if they had stayed apart.

    Attributes:
        name: Of the site.
        branches: Each branch's own tensor.
        fused: The merged tensor.
        before_db: Signal to noise of the sum of the branches, each rounded by itself, per channel.
        weakest_before_db, weakest_after_db: Signal to noise of the branch that fares worst, apart and merged.
        advice: What to do.
        reason: Why, in one line.
    """

    name: str
    branches: tuple[WeightForecast, ...]
    fused: WeightForecast
    before_db: float
    weakest_before_db: float
    weakest_after_db: float
    advice: Advice
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Give what a JSON file holds: decibels with a tenth, 200 where nothing is lost."""
        fields: dict[str, Any] = _rounded(asdict(self))
        return {**fields, "advice": self.advice.value}


def forecast_weight(weight: Floats) -> WeightForecast:
    """Foretell one tensor.

    Args:
        weight: ``[C_out, ...]``, finite.

    Raises:
        ValueError: It is empty or not finite.
    """
    if weight.size == 0 or not np.isfinite(weight).all():
        message = f"weights must be finite and not empty; found shape {weight.shape}"
        raise ValueError(message)
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    peaks = np.abs(rows).max(axis=1)
    alive = peaks > 0
    median = float(np.median(peaks[alive])) if alive.any() else 0.0
    noise = _noise(rows)
    shared = rows - _rounded_rows(rows.reshape(1, -1)).reshape(rows.shape)
    return WeightForecast(
        channels=len(rows),
        per_tensor_db=_decibels(rows, shared),
        per_channel_db=_decibels(rows, noise),
        worst_channel_per_tensor_db=_worst_row(rows, shared),
        worst_channel_db=_worst_row(rows, noise),
        range_ratio=float(peaks[alive].max() / peaks[alive].min()) if alive.any() else 1.0,
        outlier_channels=tuple(int(i) for i in np.flatnonzero(peaks > _OUTLIER * median)),
        dead_channels=tuple(int(i) for i in np.flatnonzero(~alive)),
    )


def forecast_site(name: str, branches: Sequence[Floats], fused: Floats) -> SiteForecast:
    """Foretell a site and say what to do with it.

    Args:
        name: For the report.
        branches: The kernels that were merged, with their norms folded in and embedded into the merged kernel's shape,
            each ``[C_out, C_in / groups, h, w]``; at least one.
        fused: Their sum.

    Raises:
        ValueError: There is no branch, or the fused kernel is not the sum of the branches.
    """
    parts = [np.asarray(branch, np.float64) for branch in branches]
    if not parts or any(part.shape != fused.shape for part in parts):
        message = f"{name}: branches must have the fused kernel's shape {fused.shape}, and there must be one"
        raise ValueError(message)
    if not np.allclose(sum(parts), fused, rtol=1e-4, atol=1e-5 * float(np.abs(fused).max())):
        message = f"{name}: the fused kernel is not the sum of its {len(parts)} branches"
        raise ValueError(message)
    apart = [_noise(part) for part in parts]
    merged = _noise(np.asarray(fused, np.float64))
    reached = np.maximum(sum((part != 0).astype(np.float64) for part in parts), 1.0)
    after = [_decibels(part, np.where(part != 0, merged / np.sqrt(reached), 0.0)) for part in parts if part.any()]
    before = [_decibels(part, noise) for part, noise in zip(parts, apart, strict=True) if part.any()]
    fused_forecast = forecast_weight(fused)
    weakest = min(before, default=_EXACT_DB), min(after, default=_EXACT_DB)
    advice, reason = _advice(fused_forecast, *weakest)
    return SiteForecast(
        name=name,
        branches=tuple(forecast_weight(part) for part in parts),
        fused=fused_forecast,
        before_db=_decibels(fused, sum(apart, start=np.zeros(fused.shape))),
        weakest_before_db=weakest[0],
        weakest_after_db=weakest[1],
        advice=advice,
        reason=reason,
    )


def _advice(fused: WeightForecast, before: float, after: float) -> tuple[Advice, str]:
    """Choose by what is lost: a branch, then the activations' steps, then the tensor's."""
    if after < _LOW_DB <= before:
        return Advice.KEEP_BRANCHES, (
            f"merged, the weakest branch keeps {after:.0f} dB of {before:.0f} dB: another branch is so strong that its "
            "taps round away"
        )
    outliers = len(fused.outlier_channels)
    if 0 < outliers <= max(1.0, _FEW * fused.channels):
        return Advice.EQUALISE, (
            f"{outliers} of {fused.channels} channels are over {_OUTLIER:.0f} times stronger than most and widen the "
            "steps of all activations"
        )
    if fused.worst_channel_per_tensor_db < _LOW_DB:
        return Advice.PER_CHANNEL_ONLY, (
            f"one scale for all leaves the worst channel {fused.worst_channel_per_tensor_db:.0f} dB, one per channel "
            f"{fused.worst_channel_db:.0f} dB"
        )
    return Advice.FUSE, f"{fused.per_channel_db:.0f} dB per channel; no branch and no channel is lost"


def _rounded_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round each row of ``[C, n]`` to its own 255 steps; rows of zeros stay."""
    scales = np.abs(rows).max(axis=1, keepdims=True) / _STEPS
    rounded: NDArray[np.float64] = np.rint(np.divide(rows, scales, out=np.zeros_like(rows), where=scales > 0)) * scales
    return rounded


def _noise(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give what is lost of ``[C_out, ...]`` with one scale per channel."""
    rows = weight.reshape(len(weight), -1)
    lost: NDArray[np.float64] = (rows - _rounded_rows(rows)).reshape(weight.shape)
    return lost


def _worst_row(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    return min((_decibels(kept, lost) for kept, lost in zip(signal, noise, strict=True)), default=_EXACT_DB)


def _decibels(signal: Floats, noise: Floats) -> float:
    """Give ten times the logarithm of the ratio of energies, at most 200."""
    lost, kept = float(np.sum(np.square(noise))), float(np.sum(np.square(signal)))
    if lost == 0 or kept == 0:
        return _EXACT_DB
    return min(_EXACT_DB, 10 * float(np.log10(kept / lost)))


def _rounded(value: Any) -> Any:
    """Round every number of a nested value to a tenth."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 1) if isinstance(value, float) else value
