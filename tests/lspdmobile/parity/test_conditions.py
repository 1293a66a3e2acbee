"""Conditions: every person lands where the definition says, and an artifact that fails in one of them is found out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.data.coco import Person
from lspdmobile.parity.conditions import condition_drops, condition_groups, condition_scores, rotation
from lspdmobile.parity.task import PCK, PCK_BOX, evaluate
from lspdmobile.skeleton import COCO_17, LSP_14, MPII_16, Skeleton

Crowd = Callable[..., list[Person]]


def _grey(persons: list[Person], levels: NDArray[np.float64] | None = None) -> NDArray[np.uint8]:
    values = np.full(len(persons), 100.0) if levels is None else levels
    return np.broadcast_to(values[:, None, None, None], (len(persons), 8, 8, 3)).astype(np.uint8)


def _predicted(persons: list[Person]) -> NDArray[np.float32]:
    points = np.stack([p.keypoints for p in persons])
    points[..., 2] = 0.5
    return points


def _body(degrees: float, skeleton: Skeleton) -> NDArray[np.float32]:
    """A figure whose axis leans by an angle, to the right: hips at (50, 50), shoulders and neck 40 pixels along it."""
    lean = np.radians(degrees)
    along, across = np.array([np.sin(lean), -np.cos(lean)]), np.array([np.cos(lean), np.sin(lean)])
    points = np.full((skeleton.count, 3), 2.0, np.float32)
    places = {"hip": 0 * along, "shoulder": 40 * along, "neck": 40 * along}
    for name, place in places.items():
        for side, sign in (("left_", 1), ("right_", -1), ("", 0)):
            if side + name in skeleton.keypoints:
                points[skeleton.keypoints.index(side + name), :2] = 50 + place + 10 * sign * across
    return points


@pytest.mark.parametrize("skeleton", [LSP_14, MPII_16, COCO_17], ids=lambda s: s.name)
@pytest.mark.parametrize("degrees", [0, 30, 89, 91, 150, 179, -120])
def test_the_angle_is_that_of_the_body_from_upright(degrees: float, skeleton: Skeleton) -> None:
    assert rotation(_body(degrees, skeleton)[None], skeleton)[0] == pytest.approx(abs(degrees), abs=1e-3)


def test_bodies_without_hips_or_of_no_length_have_no_angle() -> None:
    labels = np.stack([_body(20, LSP_14), _body(20, LSP_14), _body(20, LSP_14)])
    labels[0, LSP_14.keypoints.index("left_hip"), 2] = 0
    labels[1, :, :2] = 50
    labels[2, LSP_14.keypoints.index("neck"), 2] = 0
    found = rotation(labels, LSP_14)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(20, abs=1e-3)


def test_persons_are_sorted_by_rotation_light_size_and_labels(person: Callable[..., Person]) -> None:
    angles = [10.0, 60.0, 100.0, 170.0, 44.0, 46.0]
    persons = [person(_body(angle, LSP_14), number=i) for i, angle in enumerate(angles)]
    persons = [replace(p, area=float(size)) for p, size in zip(persons, [100, 900, 500, 120, 480, 1000], strict=True)]
    persons[0].keypoints[:2, 2] = 0
    persons[1].keypoints[4:9, 2] = 0
    persons[2].keypoints[0, 2] = 1
    groups = condition_groups(persons, LSP_14, _grey(persons, np.array([10.0, 63, 64, 127, 128, 255])))
    members = {c: {n: np.flatnonzero(m.any(axis=1)).tolist() for n, m in g.items()} for c, g in groups.items()}
    assert members["rotation"] == {"0 to 45": [0, 4], "45 to 90": [1, 5], "90 to 135": [2], "135 to 180": [3]}
    assert members["light"] == {"dark, below 64": [0, 1], "64 to 128": [2, 3], "bright, above 128": [4, 5]}
    assert members["size"] == {"smallest third": [0, 3], "middle third": [2, 4], "largest third": [1, 5]}
    assert members["unlabelled"] == {"none": [2, 3, 4, 5], "1 to 3": [0], "4 and more": [1]}
    assert members["visibility"]["hidden"] == [2]
    assert groups["visibility"]["hidden"].sum() == 1
    assert groups["visibility"]["seen"].sum() == 6 * 14 - 8


def test_light_is_weighted_as_the_eye_does(crowd: Crowd) -> None:
    persons = crowd(3, LSP_14.count)
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    for colour in range(3):
        pixels[colour, ..., colour] = 255
    groups = condition_groups(persons, LSP_14, pixels)["light"]
    assert groups["64 to 128"].any(axis=1).tolist() == [True, False, False]
    assert groups["bright, above 128"].any(axis=1).tolist() == [False, True, False]


def test_the_scores_of_the_groups_add_up_to_the_score(crowd: Crowd) -> None:
    persons = crowd(40, LSP_14.count, labelled=0.9)
    points = _predicted(persons)
    points[..., 0] += np.random.default_rng(1).normal(0, 15, points.shape[:2])
    scores = evaluate(points, persons, LSP_14)
    found = condition_scores(scores, condition_groups(persons, LSP_14, _grey(persons)))
    for groups in (found["size"], found["visibility"], found["unlabelled"]):
        weights = [group["joints"] for group in groups.values()]
        by_group = [group["metrics"][PCK_BOX] for group in groups.values()]
        assert np.average(by_group, weights=weights) == pytest.approx(scores.metrics[PCK_BOX])
    assert sum(group["persons"] for group in found["size"].values()) == 40


def _upside_down(count: int, person: Callable[..., Person]) -> list[Person]:
    """Persons of whom every fifth stands on the head."""
    rng, persons = np.random.default_rng(3), []
    for number in range(count):
        points = _body(170.0 if number % 5 == 0 else 10.0, LSP_14)
        points[:, :2] += rng.uniform(0, 5, (LSP_14.count, 2))
        persons.append(person(points, number=number))
    return persons


def test_an_artifact_that_breaks_upside_down_people_only_is_found_there_and_nowhere_else(
    person: Callable[..., Person],
) -> None:
    persons = _upside_down(100, person)
    points, rng = _predicted(persons), np.random.default_rng(4)
    broken = points + 0
    broken[::5, :, 0] += np.where(rng.random((20, LSP_14.count)) < 0.5, 300, 0)
    before, after = (evaluate(each.astype(np.float32), persons, LSP_14) for each in (points, broken))
    groups = condition_groups(persons, LSP_14, _grey(persons))
    found = {(d.condition, d.group): d for d in condition_drops(before, after, groups, PCK)}
    wrong = found["rotation", "135 to 180"]
    assert wrong.drop.drop == pytest.approx(100 * (broken[::5] != points[::5])[..., 0].mean())
    assert wrong.beyond_chance
    assert wrong.persons == 20
    upright = found["rotation", "0 to 45"]
    assert (upright.drop.drop, upright.beyond_chance) == (0.0, False)


def test_churn_is_not_taken_for_a_loss(person: Callable[..., Person]) -> None:
    """Joints that come and go at random: of 20 artifacts hardly one has a group that is said to lose."""
    persons = _upside_down(100, person)
    points, rng = _predicted(persons), np.random.default_rng(5)
    groups = condition_groups(persons, LSP_14, _grey(persons))
    alarms = 0
    for _ in range(20):
        scores = []
        for _ in range(2):
            noisy = points.copy()
            noisy[..., 0] += np.where(rng.random(points.shape[:2]) < 0.03, 300, 0)
            scores.append(evaluate(noisy, persons, LSP_14))
        alarms += any(d.beyond_chance for d in condition_drops(scores[0], scores[1], groups, PCK))
    assert alarms <= 4


def test_a_metric_that_does_not_count_joints_is_replaced_by_one_that_does(crowd: Crowd) -> None:
    persons = crowd(10, COCO_17.count)
    scores = evaluate(_predicted(persons), persons, COCO_17)
    drops = condition_drops(scores, scores, condition_groups(persons, COCO_17, _grey(persons)), "oks_ap")
    assert {d.drop.name for d in drops} == {PCK_BOX}


def test_groups_without_a_joint_that_counts_are_left_out(crowd: Crowd) -> None:
    persons = crowd(12, LSP_14.count)
    for each in persons[:4]:
        each.keypoints[LSP_14.keypoints.index("right_hip"), 2] = 0
    scores = evaluate(_predicted(persons), persons, LSP_14)
    drops = condition_drops(scores, scores, condition_groups(persons, LSP_14, _grey(persons)), PCK)
    assert ("unlabelled", "1 to 3") not in {(d.condition, d.group) for d in drops}
    assert sum(d.persons for d in drops if d.condition == "light") == 8
