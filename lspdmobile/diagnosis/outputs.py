"""Hypotheses on what becomes of the heatmaps behind the network: the float student's are changed, nothing is run."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from lspdmobile.choices import Cause
from lspdmobile.diagnosis.evidence import Candidate, Evidence, Maps

__all__ = ["output_candidates"]

_TOLD_PAIRS: Final = 3
_SAME_SCALE: Final = 0.02
_NOTABLE: Final = 1e-9


def output_candidates(evidence: Evidence) -> Iterator[Candidate]:
    """Mirror, transpose, reorder and scale the float student's heatmaps."""
    if evidence.has_peaks:
        yield from _mirrors(evidence)
        yield from _layouts(evidence)
    yield from _orders(evidence)
    yield from _scales(evidence)


def _mirrors(evidence: Evidence) -> Iterator[Candidate]:
    maps, flip = evidence.expected, list(evidence.skeleton.flip)
    for sentence, mirrored in (
        ("the heatmaps are mirrored left to right", maps[..., ::-1]),
        (
            "the heatmaps are mirrored left to right and left and right joints exchanged, as of a mirrored picture",
            maps[:, flip, :, ::-1],
        ),
        ("the heatmaps are upside down", maps[..., ::-1, :]),
        ("the heatmaps are turned by half a turn", maps[..., ::-1, ::-1]),
    ):
        yield Candidate(cause=Cause.MIRROR, sentence=sentence, maps=mirrored)


def _layouts(evidence: Evidence) -> Iterator[Candidate]:
    maps = evidence.expected
    count, joints, rows, columns = maps.shape
    told = "the output's layout is mixed up: heatmaps that lie as {} are read as {}, without a transposition"
    as_nchw = maps.transpose(0, 2, 3, 1).reshape(maps.shape)
    as_nhwc = maps.reshape(count, rows, columns, joints).transpose(0, 3, 1, 2)
    turned = np.ascontiguousarray(maps.swapaxes(2, 3)).reshape(maps.shape)
    for sentence, changed in (
        (told.format("NHWC", "NCHW"), as_nchw),
        (told.format("NCHW", "NHWC"), as_nhwc),
        ("rows and columns of the heatmaps are exchanged", turned),
    ):
        yield Candidate(cause=Cause.LAYOUT, sentence=sentence, maps=changed)


def _orders(evidence: Evidence) -> Iterator[Candidate]:
    """Find the order of joints that fits best."""
    order = _best_order(evidence.expected, evidence.found)
    names = evidence.skeleton.keypoints
    moved = [k for k, source in enumerate(order) if source != k]
    if not moved:
        return
    if order == list(evidence.skeleton.flip):
        sentence = "left and right joints are exchanged"
    elif all(order[order[k]] == k for k in moved):
        pairs = [f"{names[k]} and {names[order[k]]}" for k in moved if k < order[k]]
        sentence = f"joints are exchanged: {_list(pairs)}"
    else:
        sentence = f"joints are in another order: {_list([f'{names[k]} holds {names[order[k]]}' for k in moved])}"
    yield Candidate(cause=Cause.JOINTS, sentence=sentence, maps=evidence.expected[:, order])


def _best_order(expected: Maps, found: Maps) -> list[int]:
    """Give for each channel of ``found`` the one of ``expected`` it holds; equal ones stay in place."""
    from scipy.optimize import linear_sum_assignment

    a, b = (maps.astype(np.float64).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1) for maps in (expected, found))
    cost = np.square(b).sum(1)[:, None] + np.square(a).sum(1)[None] - 2 * b @ a.T
    cost += _NOTABLE * np.abs(cost).max() * (1 - np.eye(len(cost)))
    return [int(k) for k in linear_sum_assignment(cost)[1]]


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - _TOLD_PAIRS} more" if len(items) > _TOLD_PAIRS else ""
    return ", ".join(items[:_TOLD_PAIRS]) + more


def _scales(evidence: Evidence) -> Iterator[Candidate]:
    a, b = evidence.expected.astype(np.float64), evidence.found.astype(np.float64)
    gain = float((a * b).sum() / max((a * a).sum(), 1e-30))
    if abs(gain - 1) > _SAME_SCALE:
        told = f"the heatmaps are {gain:.3g} times as large as the student's: a scale of the output is off"
        yield Candidate(cause=Cause.SCALE, sentence=told, maps=np.float32(gain) * evidence.expected)
    offset = float((b - a).mean())
    if abs(offset) > _SAME_SCALE * float(np.abs(a).max()):
        told = f"the heatmaps are {offset:+.3g} off throughout: a zero point or bias of the output is off"
        yield Candidate(cause=Cause.SCALE, sentence=told, maps=evidence.expected + np.float32(offset))
