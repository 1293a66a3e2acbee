"""Skeletons drawn on pictures."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.drawing import draw_skeleton
from lspdmobile.skeleton import LSP_14

GREEN = (0, 255, 0)


def _person() -> NDArray[np.float32]:
    points = np.full((14, 3), np.nan, np.float32)
    points[8] = (20, 30, 0.9)
    points[7] = (80, 30, 0.9)
    return points


def _is_green(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = (np.abs(picture.astype(np.int64) - GREEN) < 60).all(axis=2)
    return near


def test_joints_and_limb_lie_where_the_keypoints_say() -> None:
    before = np.full((60, 100, 3), 200, np.uint8)
    drawn = draw_skeleton(before, _person(), LSP_14, colour=GREEN)
    green = _is_green(drawn)
    rows, columns = np.nonzero(green)
    assert green[29:31, 20:80].any(axis=0).all()
    assert (rows.min(), rows.max()) == pytest.approx((29.5, 29.5), abs=2.5)
    assert (columns.min(), columns.max()) == pytest.approx((19.5, 79.5), abs=2.5)
    assert (before == 200).all()


def test_a_dark_edge_shows_the_limb_on_its_own_colour() -> None:
    picture = np.empty((60, 100, 3), np.uint8)
    picture[:] = GREEN
    drawn = draw_skeleton(picture, _person(), LSP_14, colour=GREEN)
    assert (drawn.sum(axis=2) < 60).any()


def test_a_joint_below_the_threshold_takes_its_limbs_along() -> None:
    points = _person()
    points[7, 2] = 0.1
    drawn = draw_skeleton(np.zeros((60, 100, 3), np.uint8), points, LSP_14, colour=GREEN, threshold=0.2)
    assert np.nonzero(_is_green(drawn))[1].max() < 30


def test_nothing_known_leaves_the_picture_as_it_was() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    points = np.full((14, 3), np.inf, np.float32)
    assert (draw_skeleton(picture, points, LSP_14, colour=GREEN) == picture).all()


def test_joints_far_outside_do_no_harm() -> None:
    points = _person()
    points[7, 0] = 1e30
    drawn = draw_skeleton(np.zeros((60, 100, 3), np.uint8), points, LSP_14, colour=GREEN)
    assert _is_green(drawn)[29:31, 25:].any(axis=0).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="lsp-14"):
        draw_skeleton(np.zeros((60, 100, 3), np.uint8), np.zeros((17, 3), np.float32), LSP_14, colour=GREEN)
    with pytest.raises(ValueError, match="do not fit"):
        draw_skeleton(np.zeros((60, 100), np.uint8), _person(), LSP_14, colour=GREEN)
