"""Labels joined with a teacher: swaps repaired, gaps filled, agreement averaged, disagreement weighted down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.data.coco import Person
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import COCO_17, LSP_14
from lspdmobile.train.labels import CONFIDENT, DISAGREE_WEIGHT, FILLED_WEIGHT, guessed, join_labels, read_teacher

Floats = NDArray[np.float32]
SHARED = [k for k, name in enumerate(LSP_14.keypoints) if name in COCO_17.keypoints]
ONLY_LABELLED = [k for k in range(LSP_14.count) if k not in SHARED]
FLIP = list(LSP_14.flip)
KNEE, WRIST = LSP_14.keypoints.index("left_knee"), LSP_14.keypoints.index("right_wrist")


def body(seed: int = 0) -> Floats:
    """LSP joints ``[14, 2]`` of a figure 100 x 200 pixels large, left and right well apart."""
    generator = np.random.default_rng(seed)
    points = np.empty((LSP_14.count, 2), np.float32)
    for k, name in enumerate(LSP_14.keypoints):
        side = -50 if name.startswith("right") else 50 if name.startswith("left") else 0
        points[k] = 200 + side, 100 + 200 * k / (LSP_14.count - 1)
    return points + generator.uniform(-1, 1, points.shape).astype(np.float32)


def labels_of(points: Floats) -> Floats:
    return np.concatenate((points, np.full((len(points), 1), 2, np.float32)), axis=1)[None]


def teacher_of(points: Floats, score: float = 0.9) -> Floats:
    teacher = np.zeros((1, COCO_17.count, 3), np.float32)
    for k in SHARED:
        teacher[0, COCO_17.keypoints.index(LSP_14.keypoints[k])] = (*points[k], score)
    return teacher


def coco(joint: int) -> int:
    return COCO_17.keypoints.index(LSP_14.keypoints[joint])


def test_without_a_teacher_labels_stay_as_they_are() -> None:
    labels = labels_of(body())
    labels[0, KNEE] = 0
    points, weights = join_labels(labels, None, LSP_14)
    assert np.array_equal(points, labels[..., :2])
    assert weights[0].tolist() == [0.0 if k == KNEE else 1.0 for k in range(14)]


def test_a_teacher_that_agrees_is_averaged_with_the_labels() -> None:
    truth = body()
    points, weights = join_labels(labels_of(truth), teacher_of(truth + 4), LSP_14)
    np.testing.assert_allclose(points[0, SHARED], truth[SHARED] + 2, atol=1e-4)
    np.testing.assert_array_equal(points[0, ONLY_LABELLED], truth[ONLY_LABELLED])
    assert (weights == 1).all()


def test_agreement_ends_at_a_tenth_of_the_longer_side() -> None:
    """The figure is 200 high within 2 pixels: 19 pixels off is agreement, 21.5 is not."""
    truth = body()
    for away, agrees in ((19.0, True), (21.5, False)):
        points, weights = join_labels(labels_of(truth), teacher_of(truth + np.array([away, 0], np.float32)), LSP_14)
        moved = 0.5 * away if agrees else 0.0
        np.testing.assert_allclose(points[0, SHARED, 0], truth[SHARED, 0] + moved, atol=1e-3)
        assert (weights[0, SHARED] == np.float32(1 if agrees else DISAGREE_WEIGHT)).all()


def test_a_joint_on_which_they_disagree_keeps_the_label_with_less_weight() -> None:
    truth = body()
    teacher = teacher_of(truth)
    teacher[0, coco(WRIST), :2] += 60
    points, weights = join_labels(labels_of(truth), teacher, LSP_14)
    np.testing.assert_array_equal(points[0, WRIST], truth[WRIST])
    assert weights[0].tolist() == [np.float32(DISAGREE_WEIGHT) if k == WRIST else 1.0 for k in range(14)]


def test_an_unlabelled_joint_is_filled_by_a_confident_teacher_only() -> None:
    truth = body()
    labels = labels_of(truth)
    labels[0, [KNEE, WRIST]] = 0
    teacher = teacher_of(truth)
    teacher[0, coco(WRIST), 2] = 0.3
    points, weights = join_labels(labels, teacher, LSP_14)
    np.testing.assert_array_equal(points[0, KNEE], truth[KNEE])
    assert weights[0, KNEE] == np.float32(FILLED_WEIGHT)
    assert weights[0, WRIST] == 0


def test_joints_a_teacher_does_not_know_are_never_filled() -> None:
    labels = labels_of(body())
    labels[0, ONLY_LABELLED] = 0
    _, weights = join_labels(labels, teacher_of(body()), LSP_14)
    assert (weights[0, ONLY_LABELLED] == 0).all()


def test_a_teacher_that_is_not_confident_changes_nothing() -> None:
    labels = labels_of(body())
    labels[0, KNEE] = 0
    for found, plain in zip(
        join_labels(labels, teacher_of(body() + 70, 0.3), LSP_14), join_labels(labels, None, LSP_14), strict=True
    ):
        assert np.array_equal(found, plain)


def test_a_body_whose_sides_are_exchanged_as_a_whole_is_repaired() -> None:
    truth = body()
    swapped = truth[FLIP]
    points, weights = join_labels(labels_of(swapped), teacher_of(truth), LSP_14)
    np.testing.assert_allclose(points[0], truth, atol=1e-4)
    assert (weights == 1).all()


def test_the_gaps_of_an_exchanged_body_are_exchanged_too() -> None:
    truth = body()
    labels = labels_of(truth[FLIP])
    labels[0, KNEE] = 0  # so the true right knee is the one without a label
    teacher = teacher_of(truth)
    teacher[0, coco(FLIP[KNEE]), 2] = 0.0
    _, weights = join_labels(labels, teacher, LSP_14)
    assert [k for k in range(14) if weights[0, k] == 0] == [FLIP[KNEE]]


def test_one_exchanged_pair_is_no_reason_to_exchange_the_body() -> None:
    truth = body()
    labels = truth.copy()
    pair = [WRIST, FLIP[WRIST]]
    labels[pair] = truth[pair[::-1]]
    points, weights = join_labels(labels_of(labels), teacher_of(truth), LSP_14)
    others = [k for k in range(14) if k not in pair]
    np.testing.assert_allclose(points[0, others], truth[others], atol=1e-4)
    assert (weights[0, pair] == np.float32(DISAGREE_WEIGHT)).all()


def test_too_few_confident_joints_exchange_nothing() -> None:
    truth = body()
    teacher = teacher_of(truth)
    teacher[0, [coco(k) for k in SHARED[5:]], 2] = 0.1
    points, _ = join_labels(labels_of(truth[FLIP]), teacher, LSP_14)
    np.testing.assert_array_equal(points[0], truth[FLIP])


def test_each_person_is_judged_alone_and_the_input_is_kept() -> None:
    truth = body()
    labels = np.concatenate((labels_of(truth), labels_of(truth[FLIP])))
    teacher = np.concatenate((teacher_of(truth), teacher_of(truth)))
    before = labels.copy(), teacher.copy()
    points, weights = join_labels(labels, teacher, LSP_14)
    np.testing.assert_allclose(points, np.stack((truth, truth)), atol=1e-4)
    assert points.dtype == weights.dtype == np.float32
    assert np.array_equal(labels, before[0])
    assert np.array_equal(teacher, before[1])


def test_a_person_without_a_label_is_filled_without_a_warning() -> None:
    labels = np.zeros((1, 14, 3), np.float32)
    with np.errstate(all="raise"):
        _, weights = join_labels(labels, teacher_of(body()), LSP_14)
    assert (weights[0, SHARED] == np.float32(FILLED_WEIGHT)).all()


def person(image_id: int) -> Person:
    return Person(
        picture=Path("x.png"),
        keypoints=labels_of(body())[0],
        box=(0, 0, 1, 1),
        area=1.0,
        annotation_id=image_id,
        image_id=image_id,
    )


def teacher_file(folder: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
    content: dict[str, Any] = {
        "keypoint_names": list(COCO_17.keypoints),
        "results": [{"image_id": i, "keypoints": [float(i)] * 51} for i in (5, 3)],
    }
    if change is not None:
        change(content)
    path = folder / "teacher.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_teacher_keypoints_come_in_the_order_of_the_persons(tmp_path: Path) -> None:
    found = read_teacher(teacher_file(tmp_path), [person(3), person(4), person(5)])
    assert found.shape == (3, 17, 3)
    assert found.dtype == np.float32
    assert [float(row.max()) for row in found] == [3, 0, 5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("results"), "KeyError"),
        (lambda c: c["results"][0].pop("image_id"), "KeyError"),
        (lambda c: c["results"][0].update(keypoints=["a"] * 51), "ValueError"),
        (lambda c: c["results"][0].update(keypoints=[[1.0], [1.0, 2.0]]), "ValueError"),
        (lambda c: c.update(results=[1]), "TypeError"),
        (lambda c: c["results"][0]["keypoints"].pop(), "picture 5 has others"),
        (lambda c: c["results"][1]["keypoints"].__setitem__(7, float("nan")), "picture 3 has others"),
        (lambda c: c["keypoint_names"].reverse(), "COCO's 17 joints in order"),
        (lambda c: c["keypoint_names"].pop(), "COCO's 17 joints in order"),
    ],
)
def test_teacher_keypoints_that_cannot_be_used_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = teacher_file(tmp_path, change)
    with pytest.raises(BadInputError) as caught:
        read_teacher(path, [person(3)])
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_teacher_file_that_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "teacher.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="cannot be read as teacher keypoints"):
        read_teacher(path, [person(3)])
    with pytest.raises(BadInputError, match="cannot be read as teacher keypoints"):
        read_teacher(tmp_path / "gone.json", [person(3)])


def test_one_result_for_several_persons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="1 hold several persons, first 3"):
        read_teacher(teacher_file(tmp_path), [person(3), person(3), person(5)])


def test_a_teacher_is_a_target_as_far_as_it_is_sure() -> None:
    truth = body()
    teacher = teacher_of(truth, 0.8)
    teacher[0, coco(KNEE), 2] = CONFIDENT - 0.01
    points, weights = guessed(teacher, LSP_14)
    np.testing.assert_array_equal(points[0, SHARED], truth[SHARED])
    expected = [0.8 if k in SHARED and k != KNEE else 0.0 for k in range(14)]
    np.testing.assert_allclose(weights[0], expected, rtol=1e-6)
