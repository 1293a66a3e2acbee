"""COCO-keypoint files: what is read, what is left out, and one clear error for the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lspdmobile.data.coco import read_labelled_set
from lspdmobile.data.views import relabelled
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import LSP_14, SKELETONS, Skeleton

Coco = dict[str, Any]
Change = Callable[[Coco], object]
WriteSet = Callable[..., Path]
NAN, INFINITY = float("nan"), float("inf")


def refusal(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        read_labelled_set(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


def test_a_person_is_what_the_file_says(write_set: WriteSet) -> None:
    root = write_set()
    labelled = read_labelled_set(root)
    assert labelled.annotations == root / "annotations" / "person_keypoints_val.json"
    assert labelled.skeleton is LSP_14
    person = labelled.persons[1]
    assert person.picture == root / "images" / "1.png"
    assert (person.annotation_id, person.image_id, person.area, person.box) == (101, 11, 900.0, (5, 6, 30, 50))
    assert person.keypoints.dtype == np.float32
    assert person.keypoints[3].tolist() == [11 + 3, 11 + 6, 2]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_skeleton_is_known_by_its_joint_names(write_set: WriteSet, skeleton: Skeleton) -> None:
    labelled = read_labelled_set(write_set(skeleton=skeleton))
    assert labelled.skeleton is skeleton
    assert labelled.persons[0].keypoints.shape == (skeleton.count, 3)


def test_pictures_may_lie_beside_the_label_file(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set()
    flat = tmp_path / "flat"
    (root / "images").rename(flat)
    (root / "annotations" / "person_keypoints_val.json").rename(flat / "labels.json")
    assert read_labelled_set(flat / "labels.json").persons[0].picture == flat / "0.png"


@pytest.mark.parametrize(
    ("names", "split", "chosen"),
    [
        (("person_keypoints_train.json", "person_keypoints_val.json"), "val", "person_keypoints_val.json"),
        (("person_keypoints_train.json", "person_keypoints_val.json"), "train", "person_keypoints_train.json"),
        (("person_keypoints_train2017.json", "person_keypoints_val2017.json"), "val", "person_keypoints_val2017.json"),
        (("a-train.json", "b-val.json"), "val", "b-val.json"),
        (("person_keypoints_trainval.json", "person_keypoints_val.json"), "val", "person_keypoints_val.json"),
        (("a_val.json", "person_keypoints_train.json"), "val", "person_keypoints_train.json"),
        (("person_keypoints_a.json", "person_keypoints_b.json"), "val", "person_keypoints_a.json"),
    ],
)
def test_the_split_picks_the_label_file(write_set: WriteSet, names: tuple[str, ...], split: str, chosen: str) -> None:
    assert read_labelled_set(write_set(names=names), split=split).annotations.name == chosen


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"images": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "binary", "deep", "long number"],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.json"
    file.write_bytes(content)
    assert "not readable as JSON" in refusal(file)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ([], "the whole"),
        ({}, "images"),
        ({"images": {}, "annotations": [], "categories": []}, "images"),
        ({"images": [{"id": "x", "file_name": "a"}], "annotations": [], "categories": []}, "images.0.id"),
        ({"images": [], "annotations": [{"id": 1}], "categories": []}, "annotations.0.image_id"),
        (
            {"images": [], "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3]}], "categories": []},
            "annotations.0.bbox",
        ),
    ],
)
def test_json_of_another_kind_is_refused_with_the_place(tmp_path: Path, content: object, where: str) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    message = refusal(file)
    assert "not a COCO-keypoint file" in message
    assert where in message


def test_missing_pictures_are_counted_and_the_first_is_named(write_set: WriteSet) -> None:
    root = write_set(pictures=4)
    for name in ("1.png", "3.png"):
        (root / "images" / name).unlink()
    message = refusal(root)
    assert "2 of 4 pictures are missing" in message
    assert message.endswith("1.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["annotations"][1]["keypoints"].pop(), "annotation 101 has 41 keypoint numbers, 42 expected"),
        (lambda c: c["annotations"][1]["keypoints"].extend([1, 1, 2]), "45 keypoint numbers"),
        (lambda c: c["annotations"][1]["keypoints"].__setitem__(4, NAN), "annotation 101 has a keypoint"),
        (lambda c: c["annotations"][1]["keypoints"].__setitem__(5, NAN), "annotation 101 has a keypoint"),
        (lambda c: c["annotations"][1]["keypoints"].__setitem__(0, INFINITY), "annotation 101 has a keypoint"),
        (lambda c: c["annotations"][1]["bbox"].__setitem__(0, NAN), "annotation 101 has a keypoint, box or area"),
        (lambda c: c["annotations"][1].update(area=INFINITY), "annotation 101 has a keypoint, box or area"),
        (lambda c: c["annotations"][1].update(image_id=77), "annotation 101 names picture 77"),
        (lambda c: c["categories"][0]["keypoints"].pop(), "42 keypoint numbers, 39 expected for 13 joints of its own"),
        (lambda c: c["categories"].clear(), "categories[].keypoints names no joints"),
        (lambda c: c["annotations"].clear(), "holds no labelled person"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(write_set: WriteSet, change: Change, said: str) -> None:
    assert said in refusal(write_set(change) / "annotations" / "person_keypoints_val.json")


def test_joints_of_no_known_skeleton_keep_their_names(write_set: WriteSet) -> None:
    def change(coco: Coco) -> None:
        coco["categories"][0]["keypoints"].reverse()

    labelled = read_labelled_set(write_set(change))
    assert labelled.skeleton.keypoints == LSP_14.keypoints[::-1]
    as_named = relabelled(labelled, LSP_14)
    for person, kept in zip(labelled.persons, as_named, strict=True):
        assert np.array_equal(kept.keypoints, person.keypoints[::-1])


def test_crowds_and_persons_without_a_labelled_joint_are_left_out(write_set: WriteSet) -> None:
    def change(coco: Coco) -> None:
        coco["annotations"][0]["iscrowd"] = 1
        coco["annotations"][1]["keypoints"] = [0] * 42
        coco["annotations"][2]["keypoints"][2::3] = [0] * 14  # places, but none of them labelled
        coco["annotations"][2]["bbox"] = None
        coco["annotations"][3].pop("keypoints")

    labelled = read_labelled_set(write_set(change, pictures=5))
    assert [p.annotation_id for p in labelled.persons] == [104]


@pytest.mark.parametrize("box", [None, [0, 0, 0, 0], [5, 5, -3, 10]])
def test_a_missing_or_empty_box_is_that_of_the_labelled_joints(write_set: WriteSet, box: list[float] | None) -> None:
    def change(coco: Coco) -> None:
        coco["annotations"][0]["bbox"] = box
        coco["annotations"][0]["keypoints"][:3] = [900, 900, 0]

    assert read_labelled_set(write_set(change)).persons[0].box == (11, 12, 12, 24)


@pytest.mark.parametrize("area", [None, 0, -4])
def test_a_missing_or_empty_area_is_that_of_the_box(write_set: WriteSet, area: float | None) -> None:
    labelled = read_labelled_set(write_set(lambda c: c["annotations"][0].update(area=area)))
    assert labelled.persons[0].area == 30 * 50


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    assert "no such label file or folder" in refusal(tmp_path / "gone")
    assert "no annotations/*.json" in refusal(tmp_path)
