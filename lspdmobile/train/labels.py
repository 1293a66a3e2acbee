"""Labels and teacher keypoints joined into training targets.

Crowd-sourced labels sometimes exchange left and right for a whole body, and leave joints out. Where a confident teacher
disagrees as a whole but agrees after the exchange, the labels are exchanged; unlabelled joints are filled from the
teacher; where both agree the target is their mean; where they disagree the label keeps a reduced weight. Only train
labels are ever changed.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.data.coco import Person
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import COCO_17, Skeleton

__all__ = ["guessed", "join_labels", "read_teacher"]

AGREE: Final = 0.1
CONFIDENT: Final = 0.35
DISAGREE_WEIGHT: Final = 0.4
FILLED_WEIGHT: Final = 0.7
SWAP_GAIN: Final = 0.4
SWAP_MIN_JOINTS: Final = 6


def read_teacher(path: Path, persons: Sequence[Person]) -> NDArray[np.float32]:
    """Read teacher keypoints in the order of ``persons``.

    Returns:
        float32 ``[P, 17, 3]``: x, y in picture pixels, score; zeros where the teacher has no result.

    Raises:
        BadInputError: The file is missing, its joints are not COCO's 17, or a picture holds several persons, so that it
            is not known whose result the file's is.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(content["keypoint_names"])
        by_image = {r["image_id"]: np.asarray(r["keypoints"], np.float32) for r in content["results"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: cannot be read as teacher keypoints ({type(error).__name__}: {error})"
        raise BadInputError(message) from error
    size = 3 * COCO_17.count
    wrong = [image for image, row in by_image.items() if row.shape != (size,) or not np.isfinite(row).all()]
    if names != COCO_17.keypoints or wrong:
        where = f"; picture {wrong[0]} has others" if wrong else ""
        message = f"{path}: expected COCO's 17 joints in order, {size} finite numbers per picture{where}"
        raise BadInputError(message)
    images = Counter(p.image_id for p in persons)
    crowded = [image for image, count in images.items() if count > 1 and image in by_image]
    if crowded:
        message = f"{path}: has one result per picture, and {len(crowded)} hold several persons, first {crowded[0]}"
        raise BadInputError(message)
    empty = np.zeros(size, np.float32)
    rows = [by_image.get(p.image_id, empty) for p in persons]
    return np.stack(rows).reshape(-1, COCO_17.count, 3)


def join_labels(
    labels: NDArray[np.float32], teacher: NDArray[np.float32] | None, skeleton: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Join labels with the teacher's joints of the same name.

    Args:
        labels: ``[P, K, 3]`` x, y, visibility.
        teacher: ``[P, 17, 3]`` x, y, score, or None.
        skeleton: Skeleton of the labels.

    Returns:
        Points ``[P, K, 2]`` and weights ``[P, K]`` (0: no target).
    """
    points, weights = labels[..., :2].copy(), (labels[..., 2] > 0).astype(np.float32)
    if teacher is None:
        return points, weights
    guess, score = _in_skeleton(teacher, skeleton)
    points, weights = _unswap(points, weights, guess, score, skeleton)
    near = _distance(points, guess, weights) < AGREE
    confident, labelled = score > CONFIDENT, weights > 0
    both = confident & labelled & near
    points[both] = 0.5 * (points[both] + guess[both])
    weights[confident & labelled & ~near] = DISAGREE_WEIGHT
    filled = confident & ~labelled
    points[filled] = guess[filled]
    weights[filled] = FILLED_WEIGHT
    return points, weights


def guessed(teacher: NDArray[np.float32], skeleton: Skeleton) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the teacher's joints as targets of their own.

    Args:
        teacher: ``[P, 17, 3]`` x, y, score.
        skeleton: Skeleton of the targets.

    Returns:
        Points ``[P, K, 2]`` and weights ``[P, K]``: the score where the teacher is confident, else 0; joints it does
        not have have none.
    """
    guess, score = _in_skeleton(teacher, skeleton)
    return guess, np.where(score > CONFIDENT, score, np.float32(0))


def _in_skeleton(teacher: NDArray[np.float32], skeleton: Skeleton) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    guess = np.zeros((len(teacher), skeleton.count, 2), np.float32)
    score = np.zeros((len(teacher), skeleton.count), np.float32)
    for joint, name in enumerate(skeleton.keypoints):
        if name in COCO_17.keypoints:
            source = COCO_17.keypoints.index(name)
            guess[:, joint], score[:, joint] = teacher[:, source, :2], teacher[:, source, 2]
    return guess, score


def _distance(
    points: NDArray[np.float32], guess: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distance as a fraction of the longer side of each person's box of labelled joints."""
    hidden = weights[..., None] <= 0
    high = np.where(hidden, -np.inf, points).max(axis=1)
    low = np.where(hidden, np.inf, points).min(axis=1)
    side = np.maximum((high - low).max(axis=1), 1.0)
    distance: NDArray[np.float32] = np.linalg.norm(points - guess, axis=2) / side[:, None]
    return distance


def _unswap(
    points: NDArray[np.float32],
    weights: NDArray[np.float32],
    guess: NDArray[np.float32],
    score: NDArray[np.float32],
    skeleton: Skeleton,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    flip = list(skeleton.flip)
    swapped_points, swapped_weights = points[:, flip], weights[:, flip]

    def agreement(p: NDArray[np.float32], w: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        judged = (w > 0) & (score > CONFIDENT)
        hits = (_distance(p, guess, w) < AGREE) & judged
        return hits.sum(axis=1) / np.maximum(judged.sum(axis=1), 1), judged.sum(axis=1)

    straight, _ = agreement(points, weights)
    exchanged, judged = agreement(swapped_points, swapped_weights)
    swap = (exchanged - straight > SWAP_GAIN) & (judged >= SWAP_MIN_JOINTS)
    return (
        np.where(swap[:, None, None], swapped_points, points),
        np.where(swap[:, None], swapped_weights, weights),
    )
