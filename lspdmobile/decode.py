"""What a network gives to keypoints in input pixels.

Heatmaps ``[N, K, h, w]``: ``quarter`` is argmax plus a quarter cell toward the larger neighbour on each axis (papers of
the HRNet family, Newell et al. 2016); ``dark`` is a second-order Taylor step on the log of the Gaussian-smoothed
heatmap (Zhang et al., CVPR 2020); ``soft-argmax`` is the mean position in a window around the peak. Cell j's centre is
``(j + 0.5) * stride``. A peak on the border is not refined across it: what lies outside is unknown. For the same reason
the window of ``soft-argmax`` shrinks near the border, so that it stays centred on the peak.

``simcc`` (Li et al., ECCV 2022), ``[N, K, 1, X + Y]``: the scores of X vertical strips, then of Y horizontal ones, with
equally many to the pixel; the best of each, its centre; the lower of the two as score.

``regression``, ``[N, K, 1, 2 or 3]``: x and y as fractions of the input's width and height, and a score, 1 where there
is none; ``regression-pixels`` has x and y in input pixels.
"""

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lspdmobile.preprocess import PreprocessContract

__all__ = [
    "BLUR_SIGMA",
    "DECODE_RULES",
    "HEATMAP_RULES",
    "SOFT_WINDOW",
    "DecodeRule",
    "HeatmapRule",
    "decode",
    "decoded_flipped",
    "unflip",
]

HeatmapRule = Literal["quarter", "dark", "soft-argmax"]
DecodeRule = Literal["quarter", "dark", "soft-argmax", "simcc", "regression", "regression-pixels"]
HEATMAP_RULES: Final[tuple[str, ...]] = get_args(HeatmapRule)
DECODE_RULES: Final[tuple[str, ...]] = get_args(DecodeRule)

Maps = NDArray[np.float32]
BLUR_SIGMA: Final = 0.8
SOFT_WINDOW: Final = 2


def decode(maps: Maps, *, contract: PreprocessContract, rule: DecodeRule = "dark") -> Maps:
    """Find each joint.

    Args:
        maps: float32, finite; see above for each rule's shape.
        contract: Gives the input's size and the stride of heatmaps.
        rule: What the network gives, and how a peak is refined below one cell.

    Returns:
        float32 ``[N, K, 3]``: x and y in input pixels, score.

    Raises:
        ValueError: ``rule`` is none of :data:`DECODE_RULES`.
    """
    if rule not in DECODE_RULES:
        message = f"unknown decode rule {rule!r}: choose from {', '.join(DECODE_RULES)}"
        raise ValueError(message)
    if rule == "simcc":
        return _strips(maps[:, :, 0], contract.input_size)
    if rule in ("regression", "regression-pixels"):
        return _coordinates(maps[:, :, 0], contract.input_size if rule == "regression" else (1, 1))
    return _peaks(maps, contract.heatmap_stride, rule)


def decoded_flipped(
    maps: Maps, mirrored: Maps, *, flip: tuple[int, ...], contract: PreprocessContract, rule: DecodeRule
) -> Maps:
    """Find each joint by what a network gives for a picture and for its mirror image.

    Heatmaps and strips are turned back and averaged, coordinates after decoding.

    Args:
        maps: Of the picture.
        mirrored: Of the mirror image, the same shape.
        flip: Index of each joint's mirror image.
        contract: Gives the input's size and the stride of heatmaps.
        rule: As for :func:`decode`.

    Returns:
        float32 ``[N, K, 3]``: x and y in input pixels, score.
    """
    other = mirrored[:, list(flip)]
    if rule == "simcc":
        across = _strips_across(maps.shape[-1], contract.input_size)
        other = np.concatenate((other[..., :across][..., ::-1], other[..., across:]), axis=-1)
    elif rule in HEATMAP_RULES:
        other = unflip(mirrored, flip)
    else:
        both = [decode(each, contract=contract, rule=rule) for each in (maps, other)]
        both[1][..., 0] = contract.input_size[1] - both[1][..., 0]
        return np.float32(0.5) * (both[0] + both[1])
    return decode(np.float32(0.5) * (maps + other), contract=contract, rule=rule)


def unflip(heatmaps: Maps, flip: tuple[int, ...]) -> Maps:
    """Turn heatmaps ``[N, K, h, w]`` of a mirrored picture back: columns reversed, left and right joints exchanged."""
    return np.ascontiguousarray(heatmaps[:, list(flip), :, ::-1])


def _strips_across(length: int, input_size: tuple[int, int]) -> int:
    """Give the number X of vertical strips among X + Y."""
    rows, columns = input_size
    return round(length * columns / (rows + columns))


def _strips(scores: Maps, input_size: tuple[int, int]) -> Maps:
    across = _strips_across(scores.shape[-1], input_size)
    out = np.empty((*scores.shape[:2], 3), np.float32)
    best: list[Maps] = []
    for axis, part in enumerate((scores[..., :across], scores[..., across:])):
        place = part.argmax(axis=-1)
        out[..., axis] = (place + 0.5) * (input_size[1 - axis] / part.shape[-1])
        best.append(np.take_along_axis(part, place[..., None], axis=-1)[..., 0])
    out[..., 2] = np.minimum(*best)
    return out


def _coordinates(values: Maps, scale: tuple[int, int]) -> Maps:
    out = np.ones((*values.shape[:2], 3), np.float32)
    out[..., : values.shape[-1]] = values
    out[..., 0] *= scale[1]
    out[..., 1] *= scale[0]
    return out


def _peaks(heatmaps: Maps, stride: int, rule: DecodeRule) -> Maps:
    count, joints, rows, columns = heatmaps.shape
    flat = heatmaps.reshape(count, joints, -1)
    peak = flat.argmax(axis=2)
    y, x = np.divmod(peak, columns)
    score = np.take_along_axis(flat, peak[..., None], axis=2)[..., 0]
    if rule == "quarter":
        dx, dy = _quarter(heatmaps, x, y)
    elif rule == "dark":
        dx, dy = _dark(_blur(heatmaps), x, y)
    else:
        dx, dy = _soft(heatmaps, x, y)
    out = np.empty((count, joints, 3), np.float32)
    out[..., 0] = np.clip(x + 0.5 + dx, 0, columns) * stride
    out[..., 1] = np.clip(y + 0.5 + dy, 0, rows) * stride
    out[..., 2] = score
    return out


def _neighbours(maps: Maps, x: NDArray[np.intp], y: NDArray[np.intp], radius: int) -> Maps:
    """Values around each peak, ``[N, K, 2r+1, 2r+1]``, edges repeated (no rule reads the repeated ones)."""
    padded = np.pad(maps, ((0, 0), (0, 0), (radius, radius), (radius, radius)), mode="edge")
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    span = np.arange(2 * radius + 1)
    rows = (y[..., None] + span)[..., :, None]
    columns = (x[..., None] + span)[..., None, :]
    patch: Maps = padded[n[..., None, None], k[..., None, None], rows, columns]
    return patch


def _to_border(maps: Maps, x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cells between each peak and the nearest border, on each axis."""
    return np.minimum(x, maps.shape[3] - 1 - x), np.minimum(y, maps.shape[2] - 1 - y)


def _quarter(maps: Maps, x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[Maps, Maps]:
    patch = _neighbours(maps, x, y, 1)
    inside_x, inside_y = (cells > 0 for cells in _to_border(maps, x, y))
    dx = 0.25 * np.sign(patch[..., 1, 2] - patch[..., 1, 0]) * inside_x
    dy = 0.25 * np.sign(patch[..., 2, 1] - patch[..., 0, 1]) * inside_y
    return dx.astype(np.float32), dy.astype(np.float32)


def _dark(maps: Maps, x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[Maps, Maps]:
    log = np.log(np.maximum(_neighbours(maps, x, y, 1).astype(np.float64), 1e-6))
    inside_x, inside_y = (cells > 0 for cells in _to_border(maps, x, y))
    gx = np.where(inside_x, 0.5 * (log[..., 1, 2] - log[..., 1, 0]), 0.0)
    gy = np.where(inside_y, 0.5 * (log[..., 2, 1] - log[..., 0, 1]), 0.0)
    hxx = np.where(inside_x, log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0], -1.0)
    hyy = np.where(inside_y, log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1], -1.0)
    hxy = 0.25 * (log[..., 2, 2] - log[..., 2, 0] - log[..., 0, 2] + log[..., 0, 0])
    hxy = np.where(inside_x & inside_y, hxy, 0.0)
    det = hxx * hyy - hxy**2
    good = (det > 1e-9) & (hxx < 0)
    safe = np.where(good, det, 1.0)
    dx = np.where(good, -(hyy * gx - hxy * gy) / safe, 0.0)
    dy = np.where(good, -(hxx * gy - hxy * gx) / safe, 0.0)
    return np.clip(dx, -0.75, 0.75).astype(np.float32), np.clip(dy, -0.75, 0.75).astype(np.float32)


def _soft(maps: Maps, x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[Maps, Maps]:
    offset = np.arange(-SOFT_WINDOW, SOFT_WINDOW + 1, dtype=np.float32)
    room_x, room_y = (cells[..., None] >= np.abs(offset) for cells in _to_border(maps, x, y))
    window = room_y[..., :, None] & room_x[..., None, :]
    weight = np.maximum(_neighbours(maps, x, y, SOFT_WINDOW), 0) * window
    total = np.maximum(weight.sum(axis=(2, 3)), 1e-6)
    dx = (weight * offset).sum(axis=(2, 3)) / total
    dy = (weight * offset[:, None]).sum(axis=(2, 3)) / total
    return dx.astype(np.float32), dy.astype(np.float32)


def _blur(maps: Maps) -> Maps:
    """Smooth with a 5-tap Gaussian of 0.8 cells; zeros outside, as in the paper's own code."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / BLUR_SIGMA) ** 2).astype(np.float32)
    taps /= taps.sum()
    padded = np.pad(maps, ((0, 0), (0, 0), (2, 2), (2, 2)))
    width, height = maps.shape[3], maps.shape[2]
    across = np.zeros((*padded.shape[:3], width), np.float32)
    for i, tap in enumerate(taps):
        across += tap * padded[..., i : i + width]
    down = np.zeros(maps.shape, np.float32)
    for i, tap in enumerate(taps):
        down += tap * across[..., i : i + height, :]
    return down
