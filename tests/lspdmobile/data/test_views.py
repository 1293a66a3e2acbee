"""Views: cut by the contract, labels by joint name, draws by seed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.coco import read_labelled_set
from lspdmobile.data.pictures import read_picture
from lspdmobile.data.views import Views, find_views, load_views, relabelled, view_of
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import COCO_17, LSP_14, MPII_16, Skeleton

CONTRACT = PreprocessContract(input_size=(64, 48), heatmap_stride=8)
Coco = dict[str, Any]
WriteSet = Callable[..., Path]


def shared(a: Skeleton, b: Skeleton) -> list[str]:
    return [name for name in a.keypoints if name in b.keypoints]


def test_a_labelled_set_gives_one_view_per_person(write_set: WriteSet) -> None:
    root = write_set()
    views = load_views(root, CONTRACT, LSP_14)
    assert (len(views), views.names, views.source) == (3, ("0.png", "1.png", "2.png"), str(root))
    assert views.pixels.shape == (3, 64, 48, 3)
    assert [p.annotation_id for p in views.persons] == [100, 101, 102]
    person = views.persons[2]
    crop = CONTRACT.crop_for((80, 60), keypoints=person.keypoints, box=person.box)
    assert views.crops[2] == crop
    assert np.array_equal(views.pixels[2], CONTRACT.cut(read_picture(person.picture), crop))


def test_a_label_file_is_as_good_as_its_folder(write_set: WriteSet) -> None:
    root = write_set()
    file = root / "annotations" / "person_keypoints_val.json"
    assert load_views(file, CONTRACT, LSP_14).sha256() == load_views(root, CONTRACT, LSP_14).sha256()


def test_the_bundled_pictures_can_be_seen() -> None:
    views = load_views(bundled_pictures(), CONTRACT, LSP_14, limit=2)
    assert len(views.persons) == len(views) == 2


def test_a_plain_folder_is_seen_whole_and_without_labels(pictures: Path) -> None:
    views = load_views(pictures, CONTRACT, LSP_14)
    assert views.names == ("0.png", "1.png", "2.png")
    assert views.persons == ()
    assert views.crops == tuple(CONTRACT.crop_for(size) for size in ((70, 64), (64, 90), (64, 64)))


def test_inputs_are_the_normalised_pixels(pictures: Path) -> None:
    views = load_views(pictures, CONTRACT, LSP_14)
    inputs = views.inputs()
    assert inputs.shape == (3, 3, 64, 48)
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs[1], CONTRACT.normalise(views.pixels[1]))
    assert np.array_equal(views.inputs(1, 3), inputs[1:])


def test_keypoints_go_to_each_views_own_picture(pictures: Path) -> None:
    views = load_views(pictures, CONTRACT, LSP_14)
    centre = np.tile(np.array([24, 32, 0.5], np.float32), (3, 2, 1))
    middles = [[32, 35], [45, 32], [32, 32]]
    found = views.to_pictures(centre)
    np.testing.assert_allclose(found[:, 0, :2], middles, atol=1e-4)
    assert (found[..., 2] == 0.5).all()


def test_a_draw_depends_on_the_seed_alone_and_keeps_the_order(write_set: WriteSet) -> None:
    root = write_set(pictures=12)

    def drawn(seed: int) -> tuple[str, ...]:
        return load_views(root, CONTRACT, LSP_14, limit=5, seed=seed).names

    assert drawn(1) == drawn(1)
    assert len(set(drawn(1))) == 5
    assert list(drawn(1)) == sorted(drawn(1), key=lambda name: int(name.removesuffix(".png")))
    assert len({drawn(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize("limit", [None, 3, 99])
def test_a_limit_that_does_not_bind_takes_all(pictures: Path, limit: int | None) -> None:
    assert len(load_views(pictures, CONTRACT, LSP_14, limit=limit)) == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_no_picture_is_too_few(pictures: Path, limit: int) -> None:
    with pytest.raises(BadInputError, match="at least 1 picture"):
        load_views(pictures, CONTRACT, LSP_14, limit=limit)


def test_the_split_is_passed_on(write_set: WriteSet) -> None:
    root = write_set(names=("person_keypoints_train.json", "person_keypoints_val.json"))
    (root / "annotations" / "person_keypoints_val.json").write_text("{", encoding="utf-8")
    assert len(load_views(root, CONTRACT, LSP_14, split="train")) == 3
    with pytest.raises(BadInputError, match="person_keypoints_val"):
        load_views(root, CONTRACT, LSP_14)


def test_one_bad_picture_is_named(pictures: Path) -> None:
    (pictures / "1.png").write_bytes(b"x")
    with pytest.raises(BadInputError, match=r"1\.png: not a readable picture"):
        load_views(pictures, CONTRACT, LSP_14)


@pytest.mark.parametrize("skeleton", [LSP_14, MPII_16])
def test_coco_labels_are_moved_by_joint_name(write_set: WriteSet, skeleton: Skeleton) -> None:
    labelled = read_labelled_set(write_set(skeleton=COCO_17))
    persons = relabelled(labelled, skeleton)
    assert len(persons) == 3
    names = shared(COCO_17, skeleton)
    assert len(names) == 12
    for before, after in zip(labelled.persons, persons, strict=True):
        assert after.keypoints.shape == (skeleton.count, 3)
        for name in names:
            source, target = COCO_17.keypoints.index(name), skeleton.keypoints.index(name)
            assert np.array_equal(after.keypoints[target], before.keypoints[source])
        for name in set(skeleton.keypoints) - set(names):
            assert after.keypoints[skeleton.keypoints.index(name)].tolist() == [0, 0, 0]


def test_labels_in_the_students_skeleton_stay_as_they_are(write_set: WriteSet) -> None:
    labelled = read_labelled_set(write_set())
    assert relabelled(labelled, LSP_14) is labelled.persons


def _only_the_face(coco: Coco, person: int) -> None:
    coco["annotations"][person]["keypoints"][5 * 3 :] = [0] * (12 * 3)


def test_a_person_that_keeps_no_joint_is_left_out(write_set: WriteSet) -> None:
    views = load_views(write_set(lambda c: _only_the_face(c, 1), skeleton=COCO_17), CONTRACT, LSP_14)
    assert [p.annotation_id for p in views.persons] == [100, 102]


def test_a_set_that_keeps_nobody_is_refused_and_not_taken_for_a_plain_folder(write_set: WriteSet) -> None:
    root = write_set(lambda c: _only_the_face(c, 0), skeleton=COCO_17, pictures=1)
    with pytest.raises(BadInputError, match="no joint that lsp-14 has is labelled"):
        load_views(root, CONTRACT, LSP_14)


def test_skeletons_with_too_little_in_common_are_refused(write_set: WriteSet) -> None:
    labelled = read_labelled_set(write_set(skeleton=COCO_17))
    face = replace(LSP_14, name="face", keypoints=("nose", "left_eye", "right_eye", "chin"))
    with pytest.raises(BadInputError, match=r"coco-17, which shares 3 joints with the student's face"):
        relabelled(labelled, face)


def test_the_hash_notices_names_pixels_and_order(pictures: Path) -> None:
    views = load_views(pictures, CONTRACT, LSP_14)
    pixels = views.pixels.copy()
    pixels[2, 0, 0, 0] ^= 1
    changed = [
        replace(views, pixels=pixels),
        replace(views, pixels=views.pixels[::-1]),
        replace(views, names=("0.png", "1.png", "3.png")),
    ]
    assert len({v.sha256() for v in (views, *changed)}) == 4
    assert replace(views, source="elsewhere").sha256() == views.sha256()


def one_view(box: tuple[float, float, float, float] | None) -> Views:
    return view_of(np.zeros((100, 80, 3), np.uint8), CONTRACT, name="a.png", box=box)


def test_one_picture_is_seen_around_a_box_or_whole() -> None:
    assert one_view(None).crops == (CONTRACT.crop_for((100, 80)),)
    boxed = one_view((10, 20, 30, 40))
    assert boxed.crops == (CONTRACT.crop_for((100, 80), box=(10, 20, 30, 40)),)
    assert (len(boxed), boxed.persons, boxed.inputs().shape) == (1, (), (1, 3, 64, 48))


@pytest.mark.parametrize("box", [(10, 10, 0, 5), (10, 10, 5, -5), (10, 10, float("nan"), 5)])
def test_a_box_that_holds_nobody_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadInputError, match="holds nobody"):
        one_view(box)


def test_found_views_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    found, read = find_views(tmp_path, CONTRACT, LSP_14), load_views(tmp_path, CONTRACT, LSP_14)
    assert (len(found), found.names, found.source) == (3, read.names, read.source)
    np.testing.assert_array_equal(np.stack(list(found)), read.pixels)
    np.testing.assert_array_equal(found.inputs(1, 3), read.inputs(1, 3))
    (tmp_path / "c.png").write_bytes(b"torn")
    pictures = iter(found)
    next(pictures), next(pictures)
    with pytest.raises(BadInputError, match=r"c\.png: not a readable picture"):
        next(pictures)
