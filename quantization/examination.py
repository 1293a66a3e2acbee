"""What a set of inputs looks like: a few numbers of each picture, taken as it passes, for ``quantization.doctor``.

Pixels are told from inputs by the preprocess contract: ``pixel = 255 (input * std + mean)``, in its colour order.
About 1.2 kB are kept of a picture.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.preprocess import PreprocessContract

__all__ = ["Examination", "PictureFacts"]

_GRID: Final = 16
_GREY: Final = np.asarray([0.299, 0.587, 0.114])
_FLAT: Final = 16.0
"""Length of a thumbnail whose cells are one grey level off their mean: too flat to compare."""
_BLANK_SPREAD: Final = 1.0
_QUARTER_LEVEL: Final = 0.25
_MOST_HASH_DISTANCE: Final = 64
_LEAST_CORRELATION: Final = 0.93
_CHUNK: Final = 64


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """One input picture.

    Attributes:
        name: For messages.
        digest: Of its values; equal where every value is.
        difference_hash: 256 bits as uint64 ``[4]``: whether each cell of a 16 x 17 grid of mean grey levels is brighter
            than its left neighbour (dHash).
        thumbnail: Grey levels of a 16 x 16 grid, less their mean, of length 1: float32 ``[256]``; zeros where flat.
        colour: Mean red, green and blue, in grey levels.
        spread: Standard deviation within the channels, in grey levels; 0 where the picture has one colour.
        clipped: Share of values at 0 or at 255.
        lows, highs: Smallest and largest input of each channel, in the input's order.
    """

    name: str
    digest: bytes
    difference_hash: NDArray[np.uint64]
    thumbnail: NDArray[np.float32]
    colour: NDArray[np.float64]
    spread: float
    clipped: float
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    @property
    def blank(self) -> bool:
        """Whether the picture has one colour, or nearly so."""
        return self.spread < _BLANK_SPREAD


class Examination:
    """The facts of a set of inputs.

    Attributes:
        contract: What the inputs should have been made by.
        pictures: Facts of each finite picture, in order.
        not_finite: Names of the others.
    """

    def __init__(self, contract: PreprocessContract) -> None:
        self.contract = contract
        self.pictures: list[PictureFacts] = []
        self.not_finite: list[str] = []

    def see(self, picture: NDArray[np.float32], name: str) -> None:
        """Take the facts of one input float32 ``[3, rows, columns]``."""
        if np.isfinite(picture).all():
            self.pictures.append(_facts(picture, name, self.contract))
        else:
            self.not_finite.append(name)

    def __len__(self) -> int:
        return len(self.pictures) + len(self.not_finite)

    def repeated(self) -> list[tuple[int, int, bool]]:
        """Find pictures that an earlier one resembles: later, earlier, and whether every value is equal."""
        found = _alike(self.pictures, self.pictures, earlier_only=True)
        return [(later, earlier, _same(self, later, self, earlier)) for later, earlier in found]

    def shared_with(self, other: "Examination") -> list[tuple[int, int, bool]]:
        """Find pictures that one of another set resembles: ours, theirs, and whether every value is equal."""
        found = _alike(self.pictures, other.pictures, earlier_only=False)
        return [(ours, theirs, _same(self, ours, other, theirs)) for ours, theirs in found]


def _same(ours: Examination, one: int, theirs: Examination, another: int) -> bool:
    return ours.pictures[one].digest == theirs.pictures[another].digest


def _facts(picture: NDArray[np.float32], name: str, contract: PreprocessContract) -> PictureFacts:
    flat = picture.reshape(3, -1)
    mean, std = np.asarray(contract.mean), np.asarray(contract.std)
    rgb = slice(None) if contract.colour_order == "rgb" else slice(None, None, -1)
    levels = 255 * (flat.mean(axis=1, dtype=np.float64) * std + mean)
    spread = 255 * float(np.sqrt(np.mean((flat.std(axis=1, dtype=np.float64) * std) ** 2)))
    weights = (255 * std * _GREY[rgb]).astype(np.float32)
    grey = np.tensordot(weights, picture, 1)
    cells = _cells(grey, _GRID, _GRID + 1)
    thumbnail = _cells(grey, _GRID, _GRID).ravel()
    thumbnail -= thumbnail.mean()
    length = float(np.linalg.norm(thumbnail))
    return PictureFacts(
        name=name,
        digest=hashlib.blake2b(picture.tobytes(), digest_size=16).digest(),
        difference_hash=np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64),
        thumbnail=(thumbnail / length if length > _FLAT else np.zeros_like(thumbnail)).astype(np.float32),
        colour=levels[rgb],
        spread=spread,
        clipped=_clipped(flat, mean, std),
        lows=flat.min(axis=1).astype(np.float64),
        highs=flat.max(axis=1).astype(np.float64),
    )


def _clipped(flat: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]) -> float:
    """Give the share of values that stand for the darkest or the brightest pixel, or lie beyond."""
    dark = ((_QUARTER_LEVEL / 255 - mean) / std).astype(np.float32)[:, None]
    bright = (((255 - _QUARTER_LEVEL) / 255 - mean) / std).astype(np.float32)[:, None]
    return float(((flat <= dark) | (flat >= bright)).mean())


def _cells(grey: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float64]:
    """Average a picture over a grid of cells; the cells of a picture smaller than the grid are its pixels, repeated."""
    height, width = grey.shape
    tops, lefts = (np.linspace(0, size, n + 1).astype(int)[:-1] for size, n in ((height, rows), (width, columns)))
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), tops, axis=0), lefts, axis=1)
    tall, wide = (np.maximum(np.diff(np.append(e, size)), 1) for e, size in ((tops, height), (lefts, width)))
    return np.asarray(sums / (tall[:, None] * wide), np.float64)


def _alike(ours: list[PictureFacts], theirs: list[PictureFacts], *, earlier_only: bool) -> list[tuple[int, int]]:
    """Pair each picture with the first one that it resembles.

    Two pictures are alike where every value is equal, or where at most a quarter of their hash's bits differ and their
    thumbnails correlate; either rule by itself is met by strangers now and then.
    """
    if not ours or not theirs:
        return []
    hashes, thumbnails = _stacked(theirs)
    digests = [facts.digest for facts in theirs]
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(ours), _CHUNK):
        some = ours[start : start + _CHUNK]
        own_hashes, own_thumbnails = _stacked(some)
        distance = np.bitwise_count(own_hashes[:, None] ^ hashes[None]).sum(axis=2)
        alike = (distance <= _MOST_HASH_DISTANCE) & (own_thumbnails @ thumbnails.T >= _LEAST_CORRELATION)
        for offset, facts in enumerate(some):
            last = start + offset if earlier_only else len(theirs)
            found = alike[offset, :last].copy()
            found |= np.asarray([digest == facts.digest for digest in digests[:last]], bool)
            if found.any():
                pairs.append((start + offset, int(found.argmax())))
    return pairs


def _stacked(pictures: list[PictureFacts]) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    return np.stack([p.difference_hash for p in pictures]), np.stack([p.thumbnail for p in pictures])
