"""Skeletons: counts, mirror pairs and the joints that metrics divide by."""

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import COCO_17, LSP_14, MPII_16, SKELETONS, Skeleton, skeleton_named

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)


def test_the_skeletons_have_the_joints_their_data_sets_have() -> None:
    assert {s.name: s.count for s in SKELETONS.values()} == {"lsp-14": 14, "mpii-16": 16, "coco-17": 17}


@ALL
def test_every_field_has_one_entry_per_joint(skeleton: Skeleton) -> None:
    assert len(set(skeleton.keypoints)) == skeleton.count == len(skeleton.sigmas) == len(skeleton.flip)


@ALL
def test_mirroring_twice_is_doing_nothing(skeleton: Skeleton) -> None:
    flip = skeleton.flip
    assert [flip[flip[k]] for k in range(skeleton.count)] == list(range(skeleton.count))


@ALL
def test_mirroring_exchanges_left_and_right_and_nothing_else(skeleton: Skeleton) -> None:
    for name, mirror in zip(skeleton.keypoints, (skeleton.keypoints[k] for k in skeleton.flip), strict=True):
        sides = name.partition("_")[0], mirror.partition("_")[0]
        if sides[0] in ("left", "right"):
            assert set(sides) == {"left", "right"}
            assert name.partition("_")[2] == mirror.partition("_")[2]
        else:
            assert name == mirror


@ALL
def test_the_limbs_join_every_arm_and_leg_alike_on_both_sides(skeleton: Skeleton) -> None:
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert len(limbs) == len(skeleton.limbs)
    assert {frozenset(skeleton.flip[k] for k in limb) for limb in limbs} == limbs
    names = {frozenset(skeleton.keypoints[k] for k in limb) for limb in limbs}
    for side in ("left", "right"):
        for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            assert {f"{side}_{a}", f"{side}_{b}"} in names


@ALL
def test_mirror_images_share_their_sigma(skeleton: Skeleton) -> None:
    assert [skeleton.sigmas[k] for k in skeleton.flip] == list(skeleton.sigmas)


def test_cocos_sigmas_are_pycocotools_own() -> None:
    np.testing.assert_allclose(COCO_17.sigmas, Params("keypoints").kpt_oks_sigmas)


@ALL
def test_the_torso_runs_from_the_left_shoulder_to_the_right_hip(skeleton: Skeleton) -> None:
    assert [skeleton.keypoints[k] for k in skeleton.torso or ()] == ["left_shoulder", "right_hip"]


def test_the_head_is_what_the_labels_have() -> None:
    for skeleton in (LSP_14, MPII_16):
        assert skeleton.head is not None
        assert [skeleton.keypoints[k] for k in skeleton.head] == ["neck", "head_top"]
    assert COCO_17.head is None


def test_a_skeleton_is_found_by_its_name_and_an_unknown_one_lists_them() -> None:
    assert skeleton_named("mpii-16") is MPII_16
    with pytest.raises(BadInputError, match=r"'lsp'.*lsp-14, mpii-16, coco-17"):
        skeleton_named("lsp")
