"""The drop and what each picture brings to it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.data.coco import Person
from lspdmobile.parity.drop import metric_drop
from lspdmobile.parity.task import OKS_AP, PCK, PCKH, TaskMetrics, evaluate
from lspdmobile.skeleton import LSP_14


def _scores(persons: list[Person], *, wrong: NDArray[np.bool_]) -> TaskMetrics:
    """Score predictions that are perfect but for the joints ``wrong [P, K]``, which lie far off."""
    points = np.stack([p.keypoints for p in persons])
    points[wrong, 0] += 1000
    points[..., 2] = 0.5
    return evaluate(points, persons, LSP_14)


def _at_random(persons: list[Person], share: float, *, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((len(persons), LSP_14.count)) < share


@pytest.mark.parametrize("name", [PCK, PCKH, OKS_AP])
def test_a_network_does_not_drop_against_itself(crowd: Callable[..., list[Person]], name: str) -> None:
    persons = crowd(20, LSP_14.count)
    scores = _scores(persons, wrong=_at_random(persons, 0.05, seed=1))
    drop = metric_drop(scores, scores, name)
    assert (drop.drop, drop.moved, drop.ci95[0]) == (0.0, 0, 0.0)
    assert drop.joints == 20 * LSP_14.count
    assert drop.ci95[1] > 100 / 20


def test_the_drop_is_in_points_and_signed(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(10, LSP_14.count)
    wrong = np.zeros((10, LSP_14.count), np.bool_)
    good = _scores(persons, wrong=wrong)
    wrong[:, 4] = True
    bad = _scores(persons, wrong=wrong)
    assert metric_drop(good, bad, PCK).drop == pytest.approx(100 / 14)
    assert metric_drop(bad, good, PCK).drop == pytest.approx(-100 / 14)


def test_each_picture_brings_its_own_loss_where_pictures_count_alike(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(40, LSP_14.count)
    wrong = _at_random(persons, 0.1, seed=2)
    perfect = _scores(persons, wrong=np.zeros_like(wrong))
    drop = metric_drop(perfect, _scores(persons, wrong=wrong), PCK)
    assert drop.per_picture == pytest.approx(100 * wrong.mean(axis=1), abs=1e-9)


@pytest.mark.parametrize("name", [PCK, OKS_AP])
def test_the_spread_of_the_pictures_is_that_of_drawing_them_again(
    crowd: Callable[..., list[Person]], name: str
) -> None:
    """Standard error from the jackknife values beside a bootstrap of the whole metric, made anew for every draw."""
    persons = crowd(30, LSP_14.count, per_picture=2, labelled=0.8)
    wrong = [_at_random(persons, share, seed=seed) for share, seed in ((0.05, 1), (0.2, 2))]
    before, after = (_scores(persons, wrong=each) for each in wrong)
    drop = metric_drop(before, after, name)
    rng, drops = np.random.default_rng(0), []
    for _ in range(150):
        chosen = [person for number in rng.integers(0, 30, 30) for person in (2 * number, 2 * number + 1)]
        again = [replace(persons[i], image_id=place // 2) for place, i in enumerate(chosen)]
        scores = [_scores(again, wrong=each[chosen]).metrics[name] for each in wrong]
        drops.append(100 * (scores[0] - scores[1]))
    error = drop.per_picture.std(ddof=1) / np.sqrt(drop.pictures)
    assert drop.per_picture.mean() == pytest.approx(drop.drop)
    assert error == pytest.approx(np.std(drops), rel=0.25)


def test_pairing_cancels_what_both_get_wrong(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(100, LSP_14.count)
    shared = _at_random(persons, 0.4, seed=1)
    extra = shared.copy()
    extra[:3, 0] = True
    drop = metric_drop(_scores(persons, wrong=shared), _scores(persons, wrong=extra), PCK)
    assert drop.per_picture.std() < 1.3


def test_pictures_count_whole(crowd: Callable[..., list[Person]]) -> None:
    """Ten copies of each person in one picture carry no more evidence than one."""
    alone = crowd(40, LSP_14.count)
    together = [p for p in alone for _ in range(10)]
    wrong = _at_random(alone, 0.2, seed=4)
    perfect = np.zeros_like(wrong)
    single = metric_drop(_scores(alone, wrong=perfect), _scores(alone, wrong=wrong), PCK)
    tenfold = metric_drop(
        _scores(together, wrong=perfect.repeat(10, axis=0)),
        _scores(together, wrong=wrong.repeat(10, axis=0)),
        PCK,
    )
    assert tenfold.ci95 == pytest.approx(single.ci95, rel=1e-9)


def test_one_picture_says_nothing(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(1, LSP_14.count)
    good = _scores(persons, wrong=np.zeros((1, 14), np.bool_))
    bad = _scores(persons, wrong=np.eye(1, 14, 2, dtype=np.bool_))
    for name in (PCK, OKS_AP):
        assert metric_drop(good, bad, name).ci95 == (-100.0, 100.0)


def test_pictures_without_a_joint_that_counts_are_no_evidence(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(12, LSP_14.count)
    for person in persons[:5]:
        person.keypoints[LSP_14.keypoints.index("right_hip"), 2] = 0
    wrong = _at_random(persons, 0.2, seed=1)
    drop = metric_drop(_scores(persons, wrong=np.zeros_like(wrong)), _scores(persons, wrong=wrong), PCK)
    assert drop.pictures == 7
    assert drop.per_picture == pytest.approx(100 * wrong[5:].mean(axis=1), abs=1e-9)


@pytest.mark.parametrize("name", [PCK, OKS_AP])
def test_joints_that_moved_are_counted_by_what_decides_about_them(
    crowd: Callable[..., list[Person]], name: str
) -> None:
    persons = crowd(5, LSP_14.count)
    points = np.stack([p.keypoints for p in persons])
    scores = []
    for step in (0.0, 1e-3, 30.0):
        moved = points.copy()
        moved[2, :4, 0] += step
        scores.append(evaluate(moved, persons, LSP_14))
    assert [metric_drop(scores[0], each, name).moved for each in scores] == [0, 0, 4]


def test_unpaired_scores_and_absent_metrics_are_refused(crowd: Callable[..., list[Person]]) -> None:
    few, many = crowd(3, LSP_14.count), crowd(4, LSP_14.count)
    scores = [_scores(p, wrong=np.zeros((len(p), 14), np.bool_)) for p in (few, many)]
    with pytest.raises(ValueError, match="paired"):
        metric_drop(scores[0], scores[1], PCK)
    with pytest.raises(ValueError, match="not measured on both"):
        metric_drop(scores[0], scores[0], "mAP")
