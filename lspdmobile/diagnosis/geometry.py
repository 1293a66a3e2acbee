"""Hypotheses on where pictures lie: shifted by fractions of a pixel, stretched, or with bars at the sides.

Where the student finds a joint at p, an artifact of another geometry finds it at ``s * p + t`` on each axis. Both are
fitted to the joints (Theil and Sen's median of slopes, which a quarter of wild joints does not move), sharpened on the
heatmaps, and then tried on the student: on its inputs, and for a mere shift on its heatmaps as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lspdmobile.choices import Cause
from lspdmobile.diagnosis.evidence import Candidate, Evidence, Maps
from lspdmobile.parity.shift import Shift

__all__ = ["geometry_candidates", "shift_sentence"]

_LEAST_SHIFT_PX: Final = 0.05
_SAME_SIZE: Final = 0.02
_SIZES: Final = (0.2, 5.0)
_HALF: Final = 0.5
_NEAR_HALF: Final = 0.15
_CORNERS: Final = ": half a pixel, as where pixel corners are taken for centres (align_corners)"
_ROUNDS: Final = 3
_PAIRS: Final = 4000


@dataclass(frozen=True, kw_only=True)
class _Place:
    """``x -> size_x * x + shift_x`` and likewise y, in input pixels."""

    size_x: float
    size_y: float
    shift_x: float
    shift_y: float

    @property
    def is_shift(self) -> bool:
        return max(abs(self.size_x - 1), abs(self.size_y - 1)) < _SAME_SIZE

    def sentence(self) -> str:
        """Say it."""
        if self.is_shift:
            return shift_sentence(self.shift_x, self.shift_y)
        return (
            "another letterbox, crop or aspect rule than the contract's: inside, pictures are "
            f"{self.size_x:.2f} times as wide and {self.size_y:.2f} times as high, moved by "
            f"{self.shift_x:+.1f} and {self.shift_y:+.1f} px"
        )


def shift_sentence(x: float, y: float) -> str:
    """Say that everything is moved to the right by x and down by y input pixels."""
    half = any(abs(abs(each) - _HALF) < _NEAR_HALF for each in (x, y))
    return f"everything is shifted by {x:+.2f} px to the right and {y:+.2f} px down{_CORNERS if half else ''}"


def geometry_candidates(evidence: Evidence) -> Iterator[Candidate]:
    """Shift or stretch what the student sees, and shift what it gives, by what fits the joints."""
    before, after = evidence.points(evidence.expected), evidence.points(evidence.found)
    yield from _shifts(evidence, before, after)
    fitted = _fitted(before, after)
    sizes = (fitted.size_x, fitted.size_y)
    if fitted.is_shift or min(sizes) < _SIZES[0] or max(sizes) > _SIZES[1]:
        return
    for fill in (0.0, 1.0):
        yield _sharpened(evidence, fitted, fill)


def _shifts(evidence: Evidence, before: NDArray[np.float64], after: NDArray[np.float64]) -> Iterator[Candidate]:
    step = after - before
    middle = np.median(step.reshape(-1, 2), axis=0)
    shift = Shift.of(step - middle, cell_px=evidence.contract.heatmap_stride)
    place = _Place(size_x=1.0, size_y=1.0, shift_x=float(middle[0]) + shift.x, shift_y=float(middle[1]) + shift.y)
    if max(abs(place.shift_x), abs(place.shift_y)) < _LEAST_SHIFT_PX:
        return
    stride = evidence.contract.heatmap_stride
    cells = replace(place, shift_x=place.shift_x / stride, shift_y=place.shift_y / stride)
    if evidence.has_peaks:
        maps = _warped(evidence.expected, cells, mode="bicubic")
        yield Candidate(cause=Cause.SHIFT, sentence=place.sentence(), maps=maps)
    maps = evidence.run(_moved(evidence, place, 0.0))
    yield Candidate(cause=Cause.SHIFT, sentence=place.sentence(), maps=maps)


def _fitted(before: NDArray[np.float64], after: NDArray[np.float64]) -> _Place:
    (size_x, shift_x), (size_y, shift_y) = (
        _line(before[..., axis].ravel(), after[..., axis].ravel()) for axis in (0, 1)
    )
    return _Place(size_x=size_x, size_y=size_y, shift_x=shift_x, shift_y=shift_y)


def _line(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Fit ``after = slope * before + start`` by the median slope of pairs."""
    pairs = np.random.default_rng(0).integers(0, len(before), (2, _PAIRS))
    run, rise = before[pairs[0]] - before[pairs[1]], after[pairs[0]] - after[pairs[1]]
    far = np.abs(run) > np.median(np.abs(run))
    if not far.any():
        return 1.0, float(np.median(after - before))
    slope = float(np.median(rise[far] / run[far]))
    return slope, float(np.median(after - slope * before))


def _sharpened(evidence: Evidence, place: _Place, fill: float) -> Candidate:
    """Improve a place on the heatmaps by Gauss and Newton, with differences for derivatives."""
    steps = {"size_x": 0.01, "size_y": 0.01, "shift_x": 0.5, "shift_y": 0.5}

    def tried(at: _Place) -> Maps:
        return evidence.run(_moved(evidence, at, fill))

    maps = tried(place)
    for _ in range(_ROUNDS):
        slopes = [
            ((tried(replace(place, **{name: getattr(place, name) + step})) - maps) / np.float32(step)).ravel()
            for name, step in steps.items()
        ]
        basis = np.stack(slopes, axis=1).astype(np.float64)
        change = np.linalg.lstsq(basis, (evidence.found - maps).ravel().astype(np.float64), rcond=None)[0]
        better = replace(place, **{n: getattr(place, n) + float(c) for n, c in zip(steps, change, strict=True)})
        found = tried(better)
        if evidence.explained(found) <= evidence.explained(maps):
            break
        place, maps = better, found
    cause = Cause.SHIFT if place.is_shift else Cause.GEOMETRY
    return Candidate(cause=cause, sentence=place.sentence(), maps=maps)


def _moved(evidence: Evidence, place: _Place, fill: float) -> Maps:
    """Give the inputs with what they show elsewhere; bars are of the mean colour (``fill`` 0) or black (1)."""
    black = -evidence.mean / evidence.std * np.float32(fill)
    return _warped(evidence.inputs - black, place, mode="bilinear") + black


def _warped(maps: Maps, place: _Place, *, mode: str) -> Maps:
    """Resample maps ``[n, C, rows, columns]``; the place is in their own cells, whose centres are at 0.5."""
    count, _, rows, columns = maps.shape
    lines = [
        ((np.arange(length) + 0.5 - shift) / size / length * 2 - 1).astype(np.float32)
        for length, size, shift in ((columns, place.size_x, place.shift_x), (rows, place.size_y, place.shift_y))
    ]
    down, across = torch.meshgrid(torch.from_numpy(lines[1]), torch.from_numpy(lines[0]), indexing="ij")
    grid = torch.stack((across, down), dim=-1).expand(count, -1, -1, -1)
    source = torch.from_numpy(np.ascontiguousarray(maps))
    padding = "border" if mode == "bicubic" else "zeros"
    resampled = functional.grid_sample(source, grid, mode=mode, padding_mode=padding, align_corners=False)
    found: Maps = resampled.numpy()
    return found
