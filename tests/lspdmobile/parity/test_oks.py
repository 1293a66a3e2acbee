"""OKS-AP: hand-computed cases, and our weighted recomputation against pycocotools."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lspdmobile.data.coco import Person, read_labelled_set
from lspdmobile.parity.oks import OksMatches, match_by_oks, similarity, weighted_ap
from lspdmobile.skeleton import COCO_17, LSP_14

COCO_SAMPLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "coco-sample"


def _noisy(persons: list[Person], *, spread: float, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    points = np.stack([p.keypoints for p in persons])
    points[..., :2] += rng.normal(0, spread, points[..., :2].shape) * rng.uniform(0, 2, (len(persons), 1, 1))
    points[..., 2] = rng.random(points.shape[:2])
    return points


def _match(predicted: NDArray[np.float32], persons: list[Person]) -> OksMatches:
    picture = np.unique([p.image_id for p in persons], return_inverse=True)[1].astype(np.int64)
    return match_by_oks(predicted, persons, COCO_17, picture=picture)


def test_one_joint_moved_gives_the_oks_of_the_formula(person: Callable[..., Person]) -> None:
    points = np.column_stack([np.linspace(0, 100, 17), np.linspace(0, 200, 17), np.full(17, 2.0)]).astype(np.float32)
    one = person(points)
    predicted = points[None].copy()
    sigma = COCO_17.sigmas[0]
    for oks, levels in ((0.97, 10), (0.945, 9)):
        left = 17 * oks - 16
        predicted[0, 0, 0] = points[0, 0] + np.sqrt(-2 * one.area * (2 * sigma) ** 2 * np.log(left))
        assert _match(predicted, [one]).hit.sum() == levels


def test_unit_weights_reproduce_pycocotools(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(30, COCO_17.count, per_picture=3, labelled=0.7)
    matches = _match(_noisy(persons, spread=12.0), persons)
    assert 0.1 < matches.ap < 0.9
    assert weighted_ap(matches, np.ones((1, 30)))[0] == pytest.approx(matches.ap, abs=1e-12)


def _straight(
    annotations: list[dict[str, Any]], predicted: NDArray[np.float32], sigmas: tuple[float, ...]
) -> list[float]:
    """What pycocotools prints of keypoints, by its own way in: annotations, ``loadRes``, ``summarize``."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in sorted({note["image_id"] for note in annotations})],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }
    truth.createIndex()
    found = [
        {
            "image_id": note["image_id"],
            "category_id": 1,
            "keypoints": joints.ravel().tolist(),
            "score": joints[:, 2].mean(),
        }
        for note, joints in zip(annotations, predicted.astype(np.float64), strict=True)
    ]
    judge = COCOeval(truth, truth.loadRes(found), "keypoints")
    judge.params.kpt_oks_sigmas = np.asarray(sigmas)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return [float(judge.stats[i]) for i in (0, 1, 2, 5)]


def _notes(persons: Sequence[Person]) -> list[dict[str, Any]]:
    return [
        {
            "id": number + 1,
            "image_id": person.image_id,
            "category_id": 1,
            "keypoints": person.keypoints.astype(np.float64).ravel().tolist(),
            "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
            "bbox": list(person.box),
            "area": person.area,
            "iscrowd": 0,
        }
        for number, person in enumerate(persons)
    ]


@pytest.mark.parametrize(("pictures", "per_picture", "spread"), [(30, 3, 12.0), (12, 5, 4.0), (40, 1, 20.0)])
def test_precision_and_recall_are_those_that_pycocotools_summarizes(
    crowd: Callable[..., list[Person]], pictures: int, per_picture: int, spread: float
) -> None:
    persons = crowd(pictures, COCO_17.count, per_picture=per_picture, labelled=0.7)
    predicted = _noisy(persons, spread=spread)
    found = _match(predicted, persons)
    expected = _straight(_notes(persons), predicted, COCO_17.sigmas)
    assert [found.ap, found.ap50, found.ap75, found.ar] == pytest.approx(expected, abs=1e-12)
    assert len({round(value, 6) for value in expected}) == 4


@pytest.mark.skipif(not COCO_SAMPLE.is_dir(), reason="../shared/data/coco-sample is not on this machine")
def test_precision_and_recall_on_real_labels_are_those_that_pycocotools_summarizes() -> None:
    """The label file's own annotations on the one side, ours of the same persons on the other."""
    file = next((COCO_SAMPLE / "annotations").glob("*.json"))
    persons = list(read_labelled_set(file).persons)
    kept = {person.annotation_id for person in persons}
    notes = [note for note in json.loads(file.read_text())["annotations"] if note["id"] in kept]
    predicted = _noisy(persons, spread=4.0)
    found = _match(predicted, persons)
    assert [note["id"] for note in notes] == [person.annotation_id for person in persons]
    assert [found.ap, found.ap50, found.ap75, found.ar] == pytest.approx(
        _straight(notes, predicted, COCO_17.sigmas), abs=1e-9
    )


def test_each_joints_part_in_oks_is_that_of_the_formula(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(4, COCO_17.count, labelled=0.8)
    predicted = _noisy(persons, spread=5.0)
    predicted[1, 2] = np.nan
    found = similarity(predicted, persons, COCO_17)
    for i, person in enumerate(persons):
        for k, (x, y, seen) in enumerate(person.keypoints.tolist()):
            square = (predicted[i, k, 0] - x) ** 2 + (predicted[i, k, 1] - y) ** 2
            expected = np.exp(-square / (2 * person.area * (2 * COCO_17.sigmas[k]) ** 2)) if seen else np.nan
            expected = 0.0 if seen and np.isnan(square) else expected
            assert found[i, k] == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_zero_weights_reproduce_pycocotools_on_the_pictures_that_remain(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(20, COCO_17.count, per_picture=2, labelled=0.8)
    predicted = _noisy(persons, spread=12.0)
    matches = _match(predicted, persons)
    keep = np.random.default_rng(3).random((4, 20)) < 0.6
    found = weighted_ap(matches, keep.astype(np.float64))
    for row, ap in zip(keep, found, strict=True):
        chosen = [i for i, p in enumerate(persons) if row[p.image_id]]
        assert ap == pytest.approx(_match(predicted[chosen], [persons[i] for i in chosen]).ap, abs=1e-12)


def test_persons_without_a_labelled_joint_are_ignored(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(8, COCO_17.count, per_picture=2)
    predicted = _noisy(persons, spread=8.0)
    for person in persons[::2]:
        person.keypoints[:, 2] = 0
    matches = _match(predicted, persons)
    assert matches.positives.tolist() == [1] * 8
    assert weighted_ap(matches, np.ones((1, 8)))[0] == pytest.approx(matches.ap, abs=1e-12)


def test_weights_that_leave_nobody_give_nan(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(3, COCO_17.count)
    matches = _match(_noisy(persons, spread=1.0), persons)
    assert np.isnan(weighted_ap(matches, np.zeros((1, 3)))).all()


def test_nan_predictions_never_match(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(4, COCO_17.count)
    predicted = np.full((4, COCO_17.count, 3), np.nan, np.float32)
    matches = _match(predicted, persons)
    assert matches.ap == 0.0
    assert not matches.hit.any()


def test_any_number_of_joints_is_scored(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(4, LSP_14.count)
    labels = np.stack([p.keypoints for p in persons])
    assert match_by_oks(labels, persons, LSP_14, picture=np.arange(4)).ap == pytest.approx(1.0)


def test_nothing_is_printed(crowd: Callable[..., list[Person]], capsys: pytest.CaptureFixture[str]) -> None:
    persons = crowd(2, COCO_17.count)
    _match(_noisy(persons, spread=1.0), persons)
    assert capsys.readouterr() == ("", "")
