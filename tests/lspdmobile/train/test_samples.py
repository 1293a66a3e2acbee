"""Samples: crops and labels in the same pixels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lspdmobile.data.coco import LabelledSet, read_labelled_set
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import COCO_17, LSP_14
from lspdmobile.train.samples import MARGIN, STORED_SIZE, Samples, labelled_samples, rendered_samples

SQUARE = PreprocessContract(input_size=(192, 192), heatmap_stride=8)
TALL = PreprocessContract(input_size=(256, 192), heatmap_stride=8)


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    """Two pictures with a white 9-pixel square on each labelled joint; joint 3 of the second is not labelled."""
    generator = np.random.default_rng(0)
    notes = []
    for i in range(2):
        places = generator.uniform((60, 40), (240, 360), (14, 2))
        pixels = np.zeros((400, 300, 3), np.uint8)
        for x, y in places:
            pixels[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5] = 255
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        centres = np.floor(places) + 0.5
        flags = np.full(14, 2)
        flags[3] = 0 if i else 2
        keypoints = np.column_stack((centres, flags)).ravel().tolist()
        notes.append({"id": i, "image_id": i, "keypoints": keypoints, "bbox": [60, 40, 180, 320], "area": 1.0})
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(2)],
        "annotations": notes,
        "categories": [{"id": 1, "keypoints": list(LSP_14.keypoints)}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco), encoding="utf-8")
    return read_labelled_set(tmp_path / "labels.json")


@pytest.mark.parametrize("contract", [SQUARE, TALL], ids=["square", "tall"])
def test_points_stand_on_their_pixels(labelled: LabelledSet, contract: PreprocessContract) -> None:
    """The stored crop is square whatever the contract's aspect: both axes have their own scale."""
    samples = labelled_samples(labelled, contract)
    assert samples.pixels.shape == (2, STORED_SIZE, STORED_SIZE, 3)
    for picture, points, weights in zip(samples.pixels, samples.points, samples.weights, strict=True):
        for (x, y), weight in zip(points, weights, strict=True):
            if weight:
                assert picture[int(y), int(x)].min() > 200


def test_lengths_are_those_of_torso_and_head_where_both_ends_are_labelled(labelled: LabelledSet) -> None:
    samples = labelled_samples(labelled, SQUARE)
    assert LSP_14.torso
    assert LSP_14.head
    for column, (a, b) in enumerate((LSP_14.torso, LSP_14.head)):
        expected = np.linalg.norm(samples.points[:, a] - samples.points[:, b], axis=1)
        np.testing.assert_allclose(samples.lengths[:, column], expected, rtol=1e-5)
    labelled.persons[1].keypoints[LSP_14.torso[0], 2] = 0
    assert labelled_samples(labelled, SQUARE).lengths[1, 0] == 0


def teacher_file(labelled: LabelledSet, folder: Path) -> Path:
    """A teacher that knows the second picture's joints exactly, the unlabelled one too, and is 0.9 sure of them."""
    keypoints = np.zeros((17, 3))
    for k, name in enumerate(COCO_17.keypoints):
        if name in LSP_14.keypoints:
            keypoints[k] = labelled.persons[1].keypoints[LSP_14.keypoints.index(name)]
            keypoints[k, 2] = 0.9
    teacher = folder / "teacher.json"
    results = [{"image_id": 1, "keypoints": keypoints.ravel().tolist()}]
    content = {"keypoint_names": list(COCO_17.keypoints), "results": results}
    teacher.write_text(json.dumps(content), encoding="utf-8")
    return teacher


def test_a_joint_without_a_label_has_no_weight_unless_the_teacher_knows_it(
    labelled: LabelledSet, tmp_path: Path
) -> None:
    assert labelled_samples(labelled, SQUARE).weights[1].tolist() == [0.0 if k == 3 else 1.0 for k in range(14)]
    teacher = teacher_file(labelled, tmp_path)
    joined = labelled_samples(labelled, SQUARE, teacher=teacher)
    assert 0 < joined.weights[1, 3] < 1
    plain = labelled_samples(labelled, SQUARE)
    np.testing.assert_allclose(joined.points[1], plain.points[1], atol=1e-2)
    np.testing.assert_array_equal(joined.points[0], plain.points[0])


def test_a_teachers_joints_are_kept_beside_labels_as_they_are(labelled: LabelledSet, tmp_path: Path) -> None:
    """In pixels of the stored crop; a picture that the teacher has no result for has no certain joint."""
    teacher = teacher_file(labelled, tmp_path)
    samples, plain = labelled_samples(labelled, SQUARE, teacher=teacher, join=False), labelled_samples(labelled, SQUARE)
    np.testing.assert_array_equal(samples.points, plain.points)
    np.testing.assert_array_equal(samples.weights, plain.weights)
    assert samples.guesses is not None
    known = [k for k, name in enumerate(LSP_14.keypoints) if name in COCO_17.keypoints]
    np.testing.assert_allclose(samples.guesses[1, known, :2], plain.points[1, known], atol=1e-2)
    sure = [0.9 if k in known else 0.0 for k in range(14)]
    np.testing.assert_allclose(samples.guesses[..., 2], [[0.0] * 14, sure], rtol=1e-6)
    assert plain.guesses is None


def test_progress_is_told(labelled: LabelledSet) -> None:
    told: list[tuple[int, int]] = []
    labelled_samples(labelled, SQUARE, report=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_rendered_samples_follow_from_their_seeds() -> None:
    both, second = rendered_samples(5, 2, SQUARE), rendered_samples(6, 1, SQUARE)
    assert np.array_equal(both.pixels[1], second.pixels[0])
    assert np.array_equal(both.points[1], second.points[0])
    assert (both.weights == 1).all()
    assert (both.lengths > 0).all()
    assert not np.array_equal(both.pixels[0], both.pixels[1])


def test_a_stored_crop_is_the_contracts_with_a_margin(labelled: LabelledSet) -> None:
    """The joints' box, grown by the contract and the margin, fills the stored crop: it is so many times smaller."""
    for samples in (labelled_samples(labelled, SQUARE), rendered_samples(5, 2, SQUARE)):
        for points, weights in zip(samples.points, samples.weights, strict=True):
            span = np.ptp(points[weights > 0], axis=0)
            assert span.max() == pytest.approx(STORED_SIZE / MARGIN / SQUARE.joint_box_scale, rel=1e-4)
            middle = points[weights > 0].min(axis=0) + span / 2
            assert middle == pytest.approx((STORED_SIZE / 2, STORED_SIZE / 2), abs=0.01)


def test_adding_puts_one_set_after_the_other(samples: Samples, held_out: Samples) -> None:
    total = samples + held_out
    assert len(total) == len(samples) + len(held_out)
    for name in ("pixels", "points", "weights", "lengths"):
        assert np.array_equal(getattr(total, name)[len(samples) :], getattr(held_out, name))


def test_some_of_the_samples_can_be_taken(samples: Samples) -> None:
    guesses = np.random.default_rng(0).uniform(size=(*samples.weights.shape, 3)).astype(np.float32)
    taken = replace(samples, guesses=guesses).at(np.array([5, 2]))
    for name in ("pixels", "points", "weights", "lengths"):
        assert np.array_equal(getattr(taken, name), getattr(samples, name)[[5, 2]])
    assert taken.guesses is not None
    assert np.array_equal(taken.guesses, guesses[[5, 2]])
    assert samples.at(np.arange(1)).guesses is None
