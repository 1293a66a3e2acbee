"""Training samples decoded once into memory, so that loading never holds the trainer up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.coco import LabelledSet
from lspdmobile.data.pictures import read_picture
from lspdmobile.data.render import render_picture
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14, Skeleton
from lspdmobile.train.labels import guessed, join_labels, read_teacher

__all__ = ["MARGIN", "STORED_SIZE", "Samples", "labelled_samples", "rendered_samples"]

STORED_SIZE: Final = 208
MARGIN: Final = 1.2
"""A stored crop is this much wider and higher than the contract's, so that turning it shows picture, not border."""

Report = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Crops and their targets.

    Attributes:
        pixels: uint8 ``[P, S, S, 3]`` RGB, ``MARGIN`` times as wide and high as the contract's crop.
        points: float32 ``[P, K, 2]`` x, y in crop pixels.
        weights: float32 ``[P, K]``; 0 where a joint has no target.
        lengths: float32 ``[P, 2]``: torso and head lengths in crop pixels; 0 where unlabelled.
        guesses: float32 ``[P, K, 3]``: a teacher's x, y in crop pixels, and weight; None where no teacher was asked.
    """

    pixels: NDArray[np.uint8]
    points: NDArray[np.float32]
    weights: NDArray[np.float32]
    lengths: NDArray[np.float32]
    guesses: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __add__(self, other: "Samples") -> "Samples":
        return Samples(
            pixels=np.concatenate((self.pixels, other.pixels)),
            points=np.concatenate((self.points, other.points)),
            weights=np.concatenate((self.weights, other.weights)),
            lengths=np.concatenate((self.lengths, other.lengths)),
            guesses=self._guesses_with(other),
        )

    def _guesses_with(self, other: "Samples") -> NDArray[np.float32] | None:
        if self.guesses is None and other.guesses is None:
            return None
        parts = (np.zeros((*s.weights.shape, 3), np.float32) if s.guesses is None else s.guesses for s in (self, other))
        return np.concatenate(list(parts))

    def at(self, index: NDArray[Any]) -> "Samples":
        """Give some of the samples."""
        return Samples(
            pixels=self.pixels[index],
            points=self.points[index],
            weights=self.weights[index],
            lengths=self.lengths[index],
            guesses=None if self.guesses is None else self.guesses[index],
        )


def labelled_samples(
    labelled: LabelledSet,
    contract: PreprocessContract,
    *,
    teacher: Path | None = None,
    join: bool = True,
    report: Report | None = None,
) -> Samples:
    """Cut every labelled person to ``STORED_SIZE``, with the margin.

    Args:
        labelled: The persons.
        contract: Crop rule of the network.
        teacher: Keypoints of the same pictures; they become the samples' guesses.
        join: Whether the labels are joined with them (``lspdmobile.train.labels``).
        report: Told how many persons of how many are cut.
    """
    count = len(labelled.persons)
    pixels = np.empty((count, STORED_SIZE, STORED_SIZE, 3), np.uint8)
    scale, offset = np.empty((count, 1, 2), np.float32), np.empty((count, 1, 2), np.float32)
    for i, person in enumerate(labelled.persons):
        picture = read_picture(person.picture)
        crop = contract.crop_for(
            (picture.shape[0], picture.shape[1]), keypoints=person.keypoints, box=person.box
        ).widened(MARGIN)
        pixels[i] = contract.cut(picture, crop, size=(STORED_SIZE, STORED_SIZE))
        scale[i] = STORED_SIZE / crop.width, STORED_SIZE / crop.height
        offset[i] = crop.x, crop.y
        if report:
            report(i + 1, count)
    labels = np.stack([p.keypoints for p in labelled.persons])
    guesses = read_teacher(teacher, labelled.persons) if teacher else None
    points, weights = join_labels(labels, guesses if join else None, labelled.skeleton)
    points = (points - offset) * scale
    taught = None
    if guesses is not None:
        guess, certain = guessed(guesses, labelled.skeleton)
        taught = np.concatenate(((guess - offset) * scale, certain[..., None]), axis=2)
    lengths = _lengths(points, weights, labelled.skeleton)
    return Samples(pixels=pixels, points=points, weights=weights, lengths=lengths, guesses=taught)


def rendered_samples(
    first_seed: int, count: int, contract: PreprocessContract, *, report: Report | None = None
) -> Samples:
    """Render figures with consecutive seeds, cut like labelled persons; their labels are exact."""
    pixels = np.empty((count, STORED_SIZE, STORED_SIZE, 3), np.uint8)
    points = np.empty((count, LSP_14.count, 2), np.float32)
    for i in range(count):
        rendered = render_picture(first_seed + i, size=STORED_SIZE)
        crop = contract.crop_for((STORED_SIZE, STORED_SIZE), keypoints=rendered.keypoints).widened(MARGIN)
        pixels[i] = contract.cut(rendered.pixels, crop, size=(STORED_SIZE, STORED_SIZE))
        scale = STORED_SIZE / np.array((crop.width, crop.height), np.float32)
        points[i] = (rendered.keypoints[:, :2] - np.array((crop.x, crop.y), np.float32)) * scale
        if report:
            report(i + 1, count)
    weights = np.ones(points.shape[:2], np.float32)
    return Samples(pixels=pixels, points=points, weights=weights, lengths=_lengths(points, weights, LSP_14))


def _lengths(points: NDArray[np.float32], weights: NDArray[np.float32], skeleton: Skeleton) -> NDArray[np.float32]:
    lengths = np.zeros((len(points), 2), np.float32)
    for column, pair in enumerate((skeleton.torso, skeleton.head)):
        if pair is not None:
            a, b = pair
            known = (weights[:, a] > 0) & (weights[:, b] > 0)
            lengths[:, column] = np.linalg.norm(points[:, a] - points[:, b], axis=1) * known
    return lengths
