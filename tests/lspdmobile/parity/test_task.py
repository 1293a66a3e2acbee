"""PCK and its bookkeeping against hand-made persons and an independent loop over real labels."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.data.coco import Person, read_labelled_set
from lspdmobile.parity.task import OKS_AP, PCK, PCK_BOX, PCKH, evaluate, pck
from lspdmobile.skeleton import COCO_17, LSP_14, MPII_16, SKELETONS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
LSPET = SHARED / "lspet" / "annotations"
OKS = [OKS_AP, "oks_ap50", "oks_ap75", "oks_ar"]


def _labels(persons: list[Person]) -> NDArray[np.float32]:
    points = np.stack([p.keypoints for p in persons])
    points[..., 2] = 1.0
    return points


@pytest.mark.parametrize("name", SKELETONS)
def test_perfect_predictions_score_one_in_every_metric(crowd: Callable[..., list[Person]], name: str) -> None:
    skeleton = SKELETONS[name]
    persons = crowd(6, skeleton.count)
    scores = evaluate(_labels(persons), persons, skeleton)
    expected = {PCK, PCK_BOX, "pck-auc", *OKS} | ({PCKH, "pckh@0.1", "pckh-auc"} if skeleton.head else set())
    assert set(scores.metrics) == expected
    assert all(value == pytest.approx(1.0) for value in scores.metrics.values())
    assert set(scores.per_joint[PCK]) == set(skeleton.keypoints)


def test_the_threshold_is_inclusive_and_scales_with_the_reference() -> None:
    labels = np.zeros((2, 3, 3), np.float32)
    labels[..., 2] = 2
    predicted = labels.copy()
    predicted[:, :, 0] = [4.0, 4.01, 100.0]
    hits = pck(predicted, labels, reference=np.asarray([20.0, 40.0]), alpha=0.2).hits
    assert hits.tolist() == [[True, False, False], [True, True, False]]


def test_micro_average_is_correct_joints_over_labelled_joints() -> None:
    labels = np.zeros((2, 4, 3), np.float32)
    labels[0, :, 2] = 2
    labels[1, 0, 2] = 1
    predicted = labels.copy()
    predicted[0, 0, 0] = 50.0
    result = pck(predicted, labels, reference=np.asarray([10.0, 10.0]), alpha=0.5)
    assert result.fraction == pytest.approx(4 / 5)
    assert result.by_joint("abcd") == {"a": 0.5, "b": 1.0, "c": 1.0, "d": 1.0}


def test_persons_without_a_reference_length_are_left_out_and_counted(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(5, LSP_14.count)
    assert LSP_14.torso
    assert LSP_14.head
    persons[0].keypoints[LSP_14.torso[0], 2] = 0
    persons[1].keypoints[LSP_14.head[1], 2] = 0
    persons[2].keypoints[LSP_14.head[0]] = persons[2].keypoints[LSP_14.head[1]]
    predicted = _labels(persons)
    predicted[0, :, :2] += 500
    scores = evaluate(predicted, persons, LSP_14)
    assert scores.left_out == {PCK: 1, PCKH: 2, "pckh@0.1": 2, PCK_BOX: 0}
    assert scores.metrics[PCK] == 1.0
    assert scores.metrics[PCKH] < 1.0
    assert not scores.per_person[PCK].counted[0].any()


def test_metrics_the_labels_do_not_allow_are_absent(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(3, MPII_16.count)
    for person in persons:
        person.keypoints[[*(MPII_16.torso or ()), *(MPII_16.head or ())], 2] = 0
    persons = [replace(person, box=(5.0, 5.0, 0.0, 0.0)) for person in persons]
    scores = evaluate(_labels(persons), persons, MPII_16)
    assert set(scores.metrics) == set(OKS)
    assert scores.per_joint == {}
    assert scores.left_out == {PCK: 3, PCKH: 3, "pckh@0.1": 3, PCK_BOX: 3}


def test_a_set_without_any_visible_joint_has_no_metric(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(2, COCO_17.count, labelled=0.0)
    scores = evaluate(_labels(persons), persons, COCO_17)
    assert dict(scores.metrics) == {}
    assert scores.oks is None


def test_predictions_that_are_not_finite_are_misses(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(4, LSP_14.count)
    predicted = _labels(persons)
    predicted[:, 3] = np.nan
    scores = evaluate(predicted, persons, LSP_14)
    assert scores.per_joint[PCK]["left_hip"] == 0.0
    assert scores.metrics[PCK] == pytest.approx(13 / 14)
    predicted[:] = np.nan
    assert set(evaluate(predicted, persons, LSP_14).metrics.values()) == {0.0}


def test_a_swapped_pair_of_joints_is_seen_in_both_joints_only(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(40, LSP_14.count)
    predicted = _labels(persons)
    predicted[:, [6, 11]] = predicted[:, [11, 6]]
    scores = evaluate(predicted, persons, LSP_14).per_joint[PCK]
    wrong = {joint for joint, value in scores.items() if value < 1.0}
    assert wrong == {"right_wrist", "left_wrist"}


def _moved(persons: list[Person], joint: int, pixels: float) -> NDArray[np.float32]:
    predicted = _labels(persons)
    predicted[:, joint, 0] += pixels
    return predicted


def test_the_box_counts_by_its_longer_side(crowd: Callable[..., list[Person]]) -> None:
    persons = [
        replace(p, box=(0.0, 0.0, *side)) for p, side in zip(crowd(2, 14), [(80.0, 40.0), (10.0, 60.0)], strict=True)
    ]
    for pixels, share in ((2.9, 1.0), (3.5, 13.5 / 14), (4.1, 13 / 14)):
        assert evaluate(_moved(persons, 3, pixels), persons, LSP_14).metrics[PCK_BOX] == pytest.approx(share)


def test_mpii_heads_are_six_tenths_of_the_box_diagonal_and_its_two_inner_joints_do_not_count(
    crowd: Callable[..., list[Person]],
) -> None:
    persons = [replace(p, head_box=(10.0, 10.0, 30.0, 40.0)) for p in crowd(3, MPII_16.count)]
    for pixels, share in ((14.9, 1.0), (15.1, 13 / 14)):
        assert evaluate(_moved(persons, 0, pixels), persons, MPII_16).metrics[PCKH] == pytest.approx(share)
    assert evaluate(_moved(persons, 0, 3.1), persons, MPII_16).metrics["pckh@0.1"] == pytest.approx(13 / 14)
    for joint in (MPII_16.keypoints.index("pelvis"), MPII_16.keypoints.index("thorax")):
        scores = evaluate(_moved(persons, joint, 500.0), persons, MPII_16)
        assert scores.metrics[PCKH] == 1.0
        assert scores.metrics[PCK] < 1.0
        assert MPII_16.keypoints[joint] not in scores.per_joint[PCKH]


def test_persons_without_a_head_box_are_left_out_where_others_have_one(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(3, MPII_16.count)
    persons[0] = replace(persons[0], head_box=(0.0, 0.0, 30.0, 40.0))
    assert evaluate(_labels(persons), persons, MPII_16).left_out[PCKH] == 2


def test_the_area_under_the_curve_is_the_mean_of_pck_over_its_alphas(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(30, LSP_14.count, labelled=0.9)
    predicted = _labels(persons)
    predicted[..., :2] += np.random.default_rng(2).normal(0, 12, predicted[..., :2].shape)
    predicted[3, 3] = np.nan
    labels = np.stack([p.keypoints for p in persons])
    scores = evaluate(predicted, persons, LSP_14)
    for curve, pair in (("pck-auc", LSP_14.torso), ("pckh-auc", LSP_14.head)):
        assert pair is not None
        alphas = (np.arange(100) + 0.5) / 200
        by_loop = np.mean([_loop_pck(predicted, labels, pair, alpha, list(range(14))) for alpha in alphas])
        assert scores.metrics[curve] == pytest.approx(by_loop, abs=0.002)


def test_shapes_that_do_not_fit_are_refused(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(2, LSP_14.count)
    with pytest.raises(ValueError, match="do not fit 2 persons"):
        evaluate(_labels(persons)[:1], persons, LSP_14)
    with pytest.raises(ValueError, match="do not fit 0 persons"):
        evaluate(np.empty((0, 14, 3), np.float32), [], LSP_14)
    with pytest.raises(ValueError, match="shapes do not fit"):
        pck(_labels(persons), _labels(persons), reference=np.ones(3), alpha=0.2)


def test_to_dict_is_json_and_follows_the_contract(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(4, LSP_14.count, per_picture=2)
    fields = json.loads(json.dumps(evaluate(_labels(persons), persons, LSP_14).to_dict()))
    assert (fields["images"], fields["persons"]) == (4, 8)
    assert list(fields["metrics"]) == [PCK, PCKH, "pckh@0.1", PCK_BOX, "pck-auc", "pckh-auc", *OKS]
    assert fields["per_joint"][PCK]["head_top"] == 1.0


def _loop_pck(
    predicted: NDArray[np.float32], labels: NDArray[np.float32], pair: tuple[int, int], alpha: float, joints: list[int]
) -> float:
    """PCK once more, one joint at a time."""
    right = total = 0
    for guess, truth in zip(predicted.tolist(), labels.tolist(), strict=True):
        (ax, ay, av), (bx, by, bv) = truth[pair[0]], truth[pair[1]]
        length = ((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5
        if not (av and bv and length > 0):
            continue
        for joint in joints:
            if truth[joint][2]:
                total += 1
                dx, dy = guess[joint][0] - truth[joint][0], guess[joint][1] - truth[joint][1]
                right += (dx**2 + dy**2) ** 0.5 <= alpha * length
    return right / total


def _teacher(persons: tuple[Person, ...]) -> NDArray[np.float32]:
    """MoveNet Thunder's joints in LSP order; NaN where it has none (neck, head top)."""
    results = json.loads((LSPET / "teacher_movenet_thunder_val.json").read_text())["results"]
    by_picture = {r["image_id"]: np.asarray(r["keypoints"], np.float32).reshape(COCO_17.count, 3) for r in results}
    out = np.full((len(persons), LSP_14.count, 3), np.nan, np.float32)
    for joint, name in enumerate(LSP_14.keypoints):
        if name in COCO_17.keypoints:
            source = COCO_17.keypoints.index(name)
            out[:, joint] = [by_picture[p.image_id][source] for p in persons]
    return out


@pytest.mark.skipif(not LSPET.is_dir(), reason="../shared/data/lspet is not on this machine")
@pytest.mark.parametrize(
    ("metric", "pair", "alpha", "published"), [(PCK, LSP_14.torso, 0.2, 0.687), (PCKH, LSP_14.head, 0.5, 0.718)]
)
def test_movenet_on_real_labels_scores_what_is_published_of_it(
    metric: str, pair: tuple[int, int], alpha: float, published: float
) -> None:
    persons = read_labelled_set(LSPET / "person_keypoints_val.json").persons
    predicted = _teacher(persons)
    limbs = [j for j, name in enumerate(LSP_14.keypoints) if name in COCO_17.keypoints]
    hits = evaluate(predicted, persons, LSP_14).per_person[metric]
    ours = hits.hits[:, limbs].sum() / hits.counted[:, limbs].sum()
    labels = np.stack([p.keypoints for p in persons])
    assert ours == pytest.approx(_loop_pck(predicted, labels, pair, alpha, limbs), abs=1e-12)
    # Published over train, val and a test part together: val alone is 1 of 10 and lies 0.003 higher.
    assert ours == pytest.approx(published, abs=0.005)
