"""The drop and its paired bootstrap interval."""

from collections.abc import Callable

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
    drop = metric_drop(scores, scores, name, seed=3, resamples=50)
    assert (drop.drop, drop.ci95) == (0.0, (0.0, 0.0))


def test_the_drop_is_in_points_and_signed(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(10, LSP_14.count)
    wrong = np.zeros((10, LSP_14.count), np.bool_)
    good = _scores(persons, wrong=wrong)
    wrong[:, 4] = True
    bad = _scores(persons, wrong=wrong)
    assert metric_drop(good, bad, PCK).drop == pytest.approx(100 / 14)
    assert metric_drop(bad, good, PCK).drop == pytest.approx(-100 / 14)


def test_the_interval_matches_the_normal_approximation_of_the_paired_difference(
    crowd: Callable[..., list[Person]],
) -> None:
    persons = crowd(400, LSP_14.count)
    good = _scores(persons, wrong=_at_random(persons, 0.0, seed=1))
    wrong = _at_random(persons, 0.1, seed=2)
    drop = metric_drop(good, _scores(persons, wrong=wrong), PCK, seed=7)
    error = 100 * wrong.mean(axis=1).std() / np.sqrt(400)
    assert drop.ci95[0] == pytest.approx(drop.drop - 1.96 * error, abs=0.15 * error)
    assert drop.ci95[1] == pytest.approx(drop.drop + 1.96 * error, abs=0.15 * error)


def test_pairing_cancels_what_both_get_wrong(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(100, LSP_14.count)
    shared = _at_random(persons, 0.4, seed=1)
    extra = shared.copy()
    extra[:3, 0] = True
    drop = metric_drop(_scores(persons, wrong=shared), _scores(persons, wrong=extra), PCK)
    assert drop.ci95[1] - drop.ci95[0] < 1.0


def test_pictures_are_resampled_whole(crowd: Callable[..., list[Person]]) -> None:
    """Ten copies of each person in one picture carry no more evidence than one."""
    alone = crowd(40, LSP_14.count)
    together = [p for p in alone for _ in range(10)]
    wrong = _at_random(alone, 0.2, seed=4)
    perfect = np.zeros_like(wrong)
    single = metric_drop(_scores(alone, wrong=perfect), _scores(alone, wrong=wrong), PCK, seed=1)
    tenfold = metric_drop(
        _scores(together, wrong=perfect.repeat(10, axis=0)),
        _scores(together, wrong=wrong.repeat(10, axis=0)),
        PCK,
        seed=1,
    )
    assert tenfold.ci95 == pytest.approx(single.ci95, rel=1e-9)


@pytest.mark.parametrize("name", [PCK, OKS_AP])
def test_the_seed_decides_the_interval(crowd: Callable[..., list[Person]], name: str) -> None:
    persons = crowd(30, LSP_14.count)
    pair = [_scores(persons, wrong=_at_random(persons, share, seed=1)) for share in (0.0, 0.1)]
    first, again, other = (metric_drop(pair[0], pair[1], name, seed=s, resamples=100).ci95 for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0] <= metric_drop(pair[0], pair[1], name).drop <= first[1]


def test_one_picture_gives_an_interval_without_width(crowd: Callable[..., list[Person]]) -> None:
    persons = crowd(1, LSP_14.count)
    good = _scores(persons, wrong=np.zeros((1, 14), np.bool_))
    bad = _scores(persons, wrong=np.eye(1, 14, 2, dtype=np.bool_))
    drop = metric_drop(good, bad, PCK)
    assert drop.ci95 == pytest.approx((drop.drop, drop.drop))


def test_unpaired_scores_and_absent_metrics_are_refused(crowd: Callable[..., list[Person]]) -> None:
    few, many = crowd(3, LSP_14.count), crowd(4, LSP_14.count)
    scores = [_scores(p, wrong=np.zeros((len(p), 14), np.bool_)) for p in (few, many)]
    with pytest.raises(ValueError, match="paired"):
        metric_drop(scores[0], scores[1], PCK)
    with pytest.raises(ValueError, match="not measured on both"):
        metric_drop(scores[0], scores[0], "mAP")
