"""The preprocess contract: crop values by formula, pixels by formula, and one error for what cannot be."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import Crop, PreprocessContract

SQUARE = PreprocessContract(input_size=(64, 64), heatmap_stride=8, joint_box_scale=1.5, person_box_scale=1.25)
TALL = replace(SQUARE, input_size=(256, 192), heatmap_stride=4)
BODY = np.array([(10, 20, 2), (50, 20, 1), (30, 100, 2), (20, 60, 2), (500, 500, 0)], np.float32)


def centre(crop: Crop) -> tuple[float, float]:
    return crop.x + crop.width / 2, crop.y + crop.height / 2


def grey(rows: int, columns: int, value: int = 128) -> Any:
    return np.full((rows, columns, 3), value, np.uint8)


def test_the_crop_is_the_box_of_the_labelled_joints_times_the_contracts_factor() -> None:
    """Joints span 40 x 80 around (30, 60); 1.5 x 80 = 120 is the side of the square; an unlabelled joint is unseen."""
    crop = SQUARE.crop_for((200, 200), keypoints=BODY)
    assert crop == Crop(x=30 - 60, y=60 - 60, width=120, height=120)


def test_the_crop_is_grown_to_the_aspect_of_the_input() -> None:
    tall = TALL.crop_for((200, 200), keypoints=BODY)
    assert (tall.width, tall.height) == (120 * 192 / 256, 120)
    wide = BODY.copy()
    wide[:4, :2] = [(0, 0), (100, 0), (0, 10), (100, 10)]
    grown = TALL.crop_for((200, 200), keypoints=wide)
    assert (grown.width, grown.height) == (150, 150 * 256 / 192)
    assert centre(grown) == pytest.approx((50, 5))


def test_with_under_four_joints_the_person_box_counts_times_its_own_factor() -> None:
    few = BODY.copy()
    few[3:, 2] = 0
    crop = SQUARE.crop_for((200, 200), keypoints=few, box=(10, 20, 40, 80))
    assert crop == Crop(x=30 - 50, y=60 - 50, width=100, height=100)


def test_a_widened_crop_has_the_same_centre() -> None:
    assert Crop(x=10, y=20, width=40, height=80).widened(1.5) == Crop(x=0, y=0, width=60, height=120)


def test_joints_come_before_the_box() -> None:
    with_box = SQUARE.crop_for((200, 200), keypoints=BODY, box=(0, 0, 7, 7))
    assert with_box == SQUARE.crop_for((200, 200), keypoints=BODY)


def test_without_labels_the_crop_is_the_whole_picture() -> None:
    assert SQUARE.crop_for((100, 60)) == Crop(x=-20, y=0, width=100, height=100)
    few = BODY[:3]
    assert SQUARE.crop_for((100, 60), keypoints=few) == SQUARE.crop_for((100, 60))


def test_joints_on_one_spot_still_give_a_window() -> None:
    spot = np.tile(np.array([5, 5, 2], np.float32), (4, 1))
    assert SQUARE.crop_for((10, 10), keypoints=spot) == Crop(x=5 - 0.75, y=5 - 0.75, width=1.5, height=1.5)


@pytest.mark.parametrize(
    "box",
    [(float("nan"), 0, 10, 10), (0, 0, float("inf"), 10), (0, 0, 1e7, 10), (1e308, 0, 1e308, 10)],
)
def test_a_box_that_no_picture_can_hold_is_refused_before_memory_is_taken(box: tuple[float, ...]) -> None:
    with pytest.raises(BadInputError, match="check its keypoints and box"):
        SQUARE.crop_for((100, 100), box=(box[0], box[1], box[2], box[3]))


def test_a_panorama_is_no_mistake() -> None:
    assert SQUARE.crop_for((3000, 30000)).width == 30000


def test_keypoints_go_to_the_picture_and_back() -> None:
    crop = TALL.crop_for((200, 200), keypoints=BODY)
    inside = BODY.copy()
    inside[:, 0] = (BODY[:, 0] - crop.x) * 192 / crop.width
    inside[:, 1] = (BODY[:, 1] - crop.y) * 256 / crop.height
    back = TALL.to_picture(inside, crop)
    np.testing.assert_allclose(back, BODY, rtol=1e-5, atol=1e-4)
    assert np.array_equal(back[:, 2], BODY[:, 2])


def test_the_corners_of_the_input_are_the_corners_of_the_crop() -> None:
    crop = Crop(x=-3.5, y=7.25, width=30, height=40)
    corners = np.array([[(0, 0, 1), (192, 256, 1)]], np.float32)
    assert TALL.to_picture(corners, crop)[0, :, :2].tolist() == [[-3.5, 7.25], [26.5, 47.25]]


def test_the_channel_order_is_what_the_contract_says() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 255
    plain = replace(SQUARE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    whole = Crop(x=0, y=0, width=64, height=64)
    red = [float(c.mean()) for c in plain.apply(picture, whole)]
    assert red == [1.0, 0.0, 0.0]
    assert [float(c.mean()) for c in replace(plain, colour_order="bgr").apply(picture, whole)] == red[::-1]


def test_mean_and_std_are_per_channel_in_the_order_of_the_tensor() -> None:
    picture = np.zeros((64, 64, 3), np.uint8) + np.array([51, 102, 204], np.uint8)
    contract = replace(SQUARE, colour_order="bgr", mean=(0.5, 0.4, 0.1), std=(0.1, 0.2, 0.4))
    inputs = contract.apply(picture, Crop(x=0, y=0, width=64, height=64))
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    np.testing.assert_allclose(inputs[:, 0, 0], [(0.8 - 0.5) / 0.1, 0, (0.2 - 0.1) / 0.4], atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2, 4])
def test_a_linear_ramp_stays_the_ramp_at_the_centres_of_the_new_pixels(scale: float) -> None:
    """Pixel i of the result has its centre at (i + 0.5) * scale; on a ramp of slope 1 that is its value plus a half."""
    picture = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    side = round(64 * scale)
    crop = Crop(x=(256 - side) / 2, y=0, width=side, height=side)
    row = SQUARE.cut(picture, crop)[32, :, 0].astype(float)
    expected = crop.x + (np.arange(64) + 0.5) * scale - 0.5
    # The filter is cut off at the crop's edges; half a grey level is rounding.
    np.testing.assert_allclose(row[2:-2], expected[2:-2], atol=0.51)


def test_a_crop_of_half_a_pixel_offset_averages_neighbours() -> None:
    picture = np.repeat((np.arange(64, dtype=np.uint8) * 2)[None, :, None], 64, axis=0).repeat(3, axis=2)
    row = SQUARE.cut(picture, Crop(x=-0.5, y=0, width=64, height=64))[10, :, 0]
    assert row[2:].tolist() == [2 * i - 1 for i in range(2, 64)]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_outside_the_picture_is_the_mean_colour(order: Literal["rgb", "bgr"]) -> None:
    contract = replace(SQUARE, colour_order=order)
    inputs = contract.apply(grey(10, 10, 255), Crop(x=500, y=-900, width=40, height=40))
    # The mean colour is rounded to a grey level: half of one over the smallest std.
    assert np.abs(inputs).max() <= 0.5 / 255 / min(contract.std) + 1e-6


def test_a_crop_over_the_edge_shows_the_picture_where_it_is() -> None:
    cut = SQUARE.cut(grey(64, 64, 200), Crop(x=32, y=-32, width=64, height=64))
    assert (cut[34:, :30] == 200).all()
    fill = np.rint(np.asarray(SQUARE.mean) * 255)
    assert (cut[:30] == fill).all()
    assert (cut[:, 34:] == fill).all()


def test_the_picture_is_not_changed() -> None:
    picture = grey(20, 20)
    SQUARE.apply(picture, Crop(x=2, y=2, width=10, height=10))
    assert (picture == 128).all()


@given(
    x=st.floats(-300, 5000),
    y=st.floats(-300, 300),
    width=st.floats(1, 300),
    size=st.sampled_from([(32, 32), (40, 24)]),
)
def test_any_window_can_be_cut(x: float, y: float, width: float, size: tuple[int, int]) -> None:
    contract = PreprocessContract(input_size=size, heatmap_stride=8)
    assert contract.cut(grey(16, 5000), Crop(x=x, y=y, width=width, height=width)).shape == (*size, 3)


def test_another_size_can_be_asked_for() -> None:
    assert SQUARE.cut(grey(20, 20), Crop(x=0, y=0, width=20, height=20), size=(30, 50)).shape == (30, 50, 3)


def test_the_heatmaps_are_the_input_over_the_stride() -> None:
    assert TALL.heatmap_size == (64, 48)


def test_a_contract_survives_its_dictionary() -> None:
    assert PreprocessContract.from_dict(TALL.to_dict()) == TALL
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in TALL.to_dict().items()}
    assert PreprocessContract.from_dict(lists) == TALL


def test_an_unknown_and_a_missing_field_are_named() -> None:
    with pytest.raises(BadInputError, match="gamma"):
        PreprocessContract.from_dict({**TALL.to_dict(), "gamma": 2.2})
    fields = TALL.to_dict()
    del fields["heatmap_stride"]
    with pytest.raises(BadInputError, match="heatmap_stride"):
        PreprocessContract.from_dict(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("colour_order", "rbg"),
        ("crop_rule", "centre"),
        ("joint_box_scale", 0.9),
        ("joint_box_scale", float("nan")),
        ("person_box_scale", "1.1"),
        ("person_box_scale", 40),
        ("resize", "nearest"),
        ("input_size", [64]),
        ("input_size", [64.0, 64.0]),
        ("input_size", 64),
        ("input_size", [0, 64]),
        ("heatmap_stride", 0),
        ("heatmap_stride", True),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, 0.5, float("nan")]),
        ("std", [0.2, 0.0, 0.2]),
        ("std", ["a", "b", "c"]),
    ],
)
def test_a_value_that_means_nothing_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadInputError, match=field):
        PreprocessContract.from_dict({**TALL.to_dict(), field: value})


def test_all_faults_are_listed() -> None:
    with pytest.raises(BadInputError, match=r"colour_order.*resize.*std"):
        PreprocessContract.from_dict({**TALL.to_dict(), "colour_order": "x", "resize": "y", "std": [0, 0, 0]})


@pytest.mark.parametrize("fields", [[], "text", None, 3])
def test_what_is_no_dictionary_is_refused(fields: Any) -> None:
    with pytest.raises(BadInputError, match="preprocess contract"):
        PreprocessContract.from_dict(fields)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixels_come_back_from_the_input_they_were_made_into(order: Literal["rgb", "bgr"]) -> None:
    contract = PreprocessContract(input_size=(16, 16), heatmap_stride=4, colour_order=order)
    pixels = np.arange(256 * 3, dtype=np.int64).astype(np.uint8).reshape(16, 16, 3)
    inputs = np.stack([contract.normalise(pixels)] * 2)
    np.testing.assert_array_equal(contract.pixels(inputs), np.stack([pixels] * 2))


@pytest.mark.parametrize("off", [0.5 / 255 / 0.229, 10.0])
def test_inputs_between_or_beyond_grey_levels_are_no_pixels(off: float) -> None:
    contract = PreprocessContract(input_size=(16, 16), heatmap_stride=4)
    inputs = contract.normalise(np.full((16, 16, 3), 7, np.uint8))
    inputs[0, 3, 3] += off
    with pytest.raises(ValueError, match="not pictures of 256 grey levels"):
        contract.pixels(inputs)
