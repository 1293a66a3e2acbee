"""Average precision under object keypoint similarity (OKS), as COCO defines it, for any skeleton.

Every labelled person yields one detection, made on its ground-truth box; its score is the mean keypoint score. Matching
is pycocotools'; the matches are kept, so that AP can be recomputed under any weighting of the pictures (a bootstrap)
without matching again.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.errors import EnvironmentLacksError
from lspdmobile.skeleton import Skeleton

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from lspdmobile.data.coco import Person

__all__ = ["OksMatches", "match_by_oks", "similarity", "weighted_ap"]

_RECALL_LEVELS: Final = np.linspace(0.0, 1.0, 101)
_OFF_PICTURE: Final = 1e7
_CATEGORY: Final = 1
_WEIGHTS_AT_ONCE: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class OksMatches:
    """Detections of a labelled set by falling score, with what each one matched; T is the 10 thresholds 0.50 to 0.95.

    Attributes:
        ap: OKS-AP by pycocotools, 0 to 1; NaN where no person counts.
        ap50, ap75: The same at the one threshold 0.50 or 0.75.
        ar: OKS-AR by pycocotools: recall, meant over the thresholds.
        picture: int ``[D]``: picture number of each detection.
        hit: bool ``[T, D]``: matched a labelled person.
        counted: bool ``[T, D]``: false where the match is a person that COCO ignores.
        positives: int ``[pictures]``: labelled persons that count, per picture.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    picture: NDArray[np.int64]
    hit: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    positives: NDArray[np.int64]


def match_by_oks(
    predicted: NDArray[np.float32], persons: "Sequence[Person]", skeleton: Skeleton, *, picture: NDArray[np.int64]
) -> OksMatches:
    """Match predictions to labels at every OKS threshold.

    Args:
        predicted: float32 ``[P, K, 3]``: x, y in picture pixels, score. A joint that is not finite lies far away with
            score 0.
        persons: The P labelled persons.
        skeleton: Gives the sigmas.
        picture: int ``[P]``: picture number of each person, 0 to n - 1.

    Raises:
        EnvironmentLacksError: pycocotools is not installed.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        message = "OKS-AP needs pycocotools: pip install pycocotools"
        raise EnvironmentLacksError(message) from error
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(_labels(persons, picture), _detections(_finite(predicted), persons, picture), "keypoints")
        judge.params.kpt_oks_sigmas = np.asarray(skeleton.sigmas)
        judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
        judge.evaluate()
        judge.accumulate()
    return _matches(judge)


def similarity(predicted: NDArray[np.float32], persons: "Sequence[Person]", skeleton: Skeleton) -> NDArray[np.float64]:
    """Give each joint's part in OKS, ``exp(-d^2 / (2 area (2 sigma)^2))``, ``[P, K]``; NaN where it is not labelled."""
    labels = np.stack([person.keypoints for person in persons]).astype(np.float64)
    area = np.array([person.area for person in persons])[:, None]
    step = _finite(predicted)[..., :2] - labels[..., :2]
    exponent = np.square(step).sum(axis=2) / (2 * (area + np.spacing(1)) * np.square(2 * np.asarray(skeleton.sigmas)))
    return np.where(labels[..., 2] > 0, np.exp(-exponent), np.nan)


def weighted_ap(matches: OksMatches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give OKS-AP with each picture counted as often as its weight says.

    Args:
        matches: From :func:`match_by_oks`.
        weights: ``[R, pictures]``, at least 0: R weightings at once.

    Returns:
        float64 ``[R]``, 0 to 1; NaN where a weighting leaves no labelled person.
    """
    step = max(1, _WEIGHTS_AT_ONCE // max(matches.picture.size, 1))
    parts = [_weighted_ap(matches, weights[i : i + step]) for i in range(0, len(weights), step)]
    return np.concatenate(parts) if parts else np.empty(0)


def _weighted_ap(matches: OksMatches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    positives = (weights @ matches.positives)[:, None]
    each = weights[:, matches.picture]
    at_threshold = [
        _ap_at(each, hit & counted, counted, positives)
        for hit, counted in zip(matches.hit, matches.counted, strict=True)
    ]
    return np.where(positives[:, 0] > 0, np.mean(at_threshold, axis=0), np.nan)


def _ap_at(
    each: NDArray[np.float64], right: NDArray[np.bool_], counted: NDArray[np.bool_], positives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AP at one threshold for detection weights ``[R, D]``; precision only falls between hits, so these suffice."""
    true = np.cumsum(each[:, right], axis=1)
    total = np.cumsum(each * counted, axis=1)[:, right]
    precision = true / (total + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(_RECALL_LEVELS, true / np.maximum(positives, np.spacing(1)), side="right")
    ap: NDArray[np.float64] = (precision * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(_RECALL_LEVELS)
    return ap


def _finite(predicted: NDArray[np.float32]) -> NDArray[np.float64]:
    """Put joints that are not finite far away with score 0: pycocotools would count NaN as a match."""
    clean = predicted.astype(np.float64)
    clean[~np.isfinite(clean).all(axis=2)] = (_OFF_PICTURE, _OFF_PICTURE, 0.0)
    return clean


def _labels(persons: "Sequence[Person]", picture: NDArray[np.int64]) -> "COCO":
    return _coco(
        [
            {
                "id": i + 1,
                "image_id": int(picture[i]),
                "category_id": _CATEGORY,
                "keypoints": person.keypoints.astype(np.float64).ravel().tolist(),
                "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
                "bbox": list(person.box),
                "area": person.area,
                "iscrowd": 0,
            }
            for i, person in enumerate(persons)
        ]
    )


def _detections(predicted: NDArray[np.float64], persons: "Sequence[Person]", picture: NDArray[np.int64]) -> "COCO":
    return _coco(
        [
            {
                "id": i + 1,
                "image_id": int(picture[i]),
                "category_id": _CATEGORY,
                "keypoints": joints.ravel().tolist(),
                "score": float(joints[:, 2].mean()),
                "area": person.area,
            }
            for i, (joints, person) in enumerate(zip(predicted, persons, strict=True))
        ]
    )


def _coco(annotations: list[dict[str, Any]]) -> "COCO":
    from pycocotools.coco import COCO

    coco = COCO()
    pictures = sorted({note["image_id"] for note in annotations})
    coco.dataset = {
        "images": [{"id": i} for i in pictures],
        "categories": [{"id": _CATEGORY, "name": "person"}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _matches(judge: "COCOeval") -> OksMatches:
    """Lay the per-picture matches out by falling score, exactly as ``COCOeval.accumulate`` does."""
    pictures = [e for e in judge.evalImgs if e is not None]
    order = np.argsort(-np.concatenate([e["dtScores"] for e in pictures]), kind="mergesort")
    number = np.concatenate([np.full(len(e["dtScores"]), i, np.int64) for i, e in enumerate(pictures)])
    precision, recall = judge.eval["precision"], judge.eval["recall"]
    return OksMatches(
        ap=_mean(precision),
        ap50=_mean(precision[0]),
        ap75=_mean(precision[5]),
        ar=_mean(recall),
        picture=number[order],
        hit=np.concatenate([e["dtMatches"] > 0 for e in pictures], axis=1)[:, order],
        counted=np.concatenate([e["dtIgnore"] == 0 for e in pictures], axis=1)[:, order],
        positives=np.asarray([np.count_nonzero(e["gtIgnore"] == 0) for e in pictures], np.int64),
    )


def _mean(values: NDArray[np.float64]) -> float:
    """Mean; NaN where pycocotools has nothing to say, which it writes as -1."""
    return float(values.mean()) if (values > -1).any() else float("nan")
