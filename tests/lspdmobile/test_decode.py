"""Sub-cell decoding against Gaussians whose place is known."""

from typing import cast, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lspdmobile.decode import HEATMAP_RULES, DecodeRule, HeatmapRule, decode, decoded_flipped, unflip
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14

ROWS, COLUMNS, SIGMA = 20, 24, 1.25
RULES: tuple[DecodeRule, ...] = get_args(HeatmapRule)
Maps = NDArray[np.float32]


def cells(stride: int) -> PreprocessContract:
    """Heatmaps of ROWS and COLUMNS cells; decoding them asks for no more than the stride."""
    return PreprocessContract(input_size=(ROWS * stride, COLUMNS * stride), heatmap_stride=stride)


def gaussian(x: float, y: float, *, sigma: float = SIGMA, peak: float = 1.0) -> Maps:
    """One heatmap ``[1, 1, ROWS, COLUMNS]`` of a joint at (x, y) in cells; cell j has its centre at j + 0.5."""
    across = np.exp(-0.5 * ((np.arange(COLUMNS) + 0.5 - x) / sigma) ** 2)
    down = np.exp(-0.5 * ((np.arange(ROWS) + 0.5 - y) / sigma) ** 2)
    maps: Maps = (peak * down[:, None] * across).astype(np.float32)[None, None]
    return maps


def found(maps: Maps, rule: DecodeRule, stride: int = 1) -> tuple[float, float]:
    x, y, _ = decode(maps, contract=cells(stride), rule=rule)[0, 0]
    return float(x), float(y)


def test_the_rules_are_what_the_type_says() -> None:
    assert HEATMAP_RULES == RULES == ("quarter", "dark", "soft-argmax")


@pytest.mark.parametrize("rule", RULES)
def test_a_joint_at_a_cells_centre_is_found_there(rule: DecodeRule) -> None:
    """Column 7, row 11 at stride 8: its centre is (7.5 * 8, 11.5 * 8) in input pixels."""
    assert found(gaussian(7.5, 11.5), rule, stride=8) == pytest.approx((60, 92), abs=1e-3)


@given(x=st.floats(4, COLUMNS - 4), y=st.floats(4, ROWS - 4), sigma=st.floats(1, 2), peak=st.floats(0.2, 1.5))
def test_dark_finds_a_joint_to_a_twentieth_of_a_cell(x: float, y: float, sigma: float, peak: float) -> None:
    assert found(gaussian(x, y, sigma=sigma, peak=peak), "dark") == pytest.approx((x, y), abs=0.05)


@given(x=st.floats(4, COLUMNS - 4), y=st.floats(4, ROWS - 4))
def test_quarter_moves_a_quarter_of_a_cell_toward_the_joint(x: float, y: float) -> None:
    """So the error is at most a quarter of a cell, and the result lies exactly a quarter from a centre."""
    at = found(gaussian(x, y), "quarter")
    assert at == pytest.approx((x, y), abs=0.2501)
    for coordinate, truth in zip(at, (x, y), strict=True):
        if abs(truth % 1 - 0.5) > 1e-3:
            assert coordinate % 1 in (0.25, 0.75)


@given(x=st.floats(4, COLUMNS - 4), y=st.floats(4, ROWS - 4))
def test_soft_argmax_is_the_mean_position_in_five_by_five_cells(x: float, y: float) -> None:
    maps = gaussian(x, y)
    at = found(maps, "soft-argmax")
    row, column = np.unravel_index(maps[0, 0].argmax(), maps[0, 0].shape)
    window = maps[0, 0, row - 2 : row + 3, column - 2 : column + 3].astype(float)
    rows, columns = np.mgrid[row - 2 : row + 3, column - 2 : column + 3]
    expected = [float((window * (axis + 0.5)).sum() / window.sum()) for axis in (columns, rows)]
    assert at == pytest.approx(expected, abs=1e-4)
    # A window of 2 cells on each side of a Gaussian of 1.25 loses at most a quarter of the half-cell offset.
    assert at == pytest.approx((x, y), abs=0.125)


@pytest.mark.parametrize("rule", RULES)
@given(x=st.floats(0, COLUMNS), y=st.floats(0, ROWS))
def test_no_joint_is_found_outside_or_more_than_a_cell_away(rule: DecodeRule, x: float, y: float) -> None:
    at = found(gaussian(x, y), rule)
    assert 0 <= at[0] <= COLUMNS
    assert 0 <= at[1] <= ROWS
    assert at == pytest.approx((x, y), abs=0.501)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("corner", [(0.5, 0.5), (COLUMNS - 0.5, 0.5), (0.5, ROWS - 0.5), (COLUMNS - 0.5, ROWS - 0.5)])
def test_a_joint_in_a_corner_cell_is_found_at_its_centre(rule: DecodeRule, corner: tuple[float, float]) -> None:
    """Nothing is known beyond the border, so no rule may step across it."""
    assert found(gaussian(*corner), rule) == corner


@pytest.mark.parametrize("rule", RULES)
def test_on_the_border_the_other_axis_is_still_refined(rule: DecodeRule) -> None:
    x, y = found(gaussian(0.5, 10.8), rule)
    assert x == 0.5
    assert 10.6 < y < 10.9


@pytest.mark.parametrize(("cells", "error"), [(1.5, 0.12), (2.5, 0.01)])
def test_dark_is_hardly_moved_by_a_border_near_it(cells: float, error: float) -> None:
    """The smoothing reaches over the border; repeated edges there would pull the joint 0.3 cells outward."""
    assert found(gaussian(cells, 10.5), "dark") == pytest.approx((cells, 10.5), abs=error)
    assert found(gaussian(10.5, ROWS - cells), "dark") == pytest.approx((10.5, ROWS - cells), abs=error)


@pytest.mark.parametrize("lean", [-0.5, 0.5])
def test_dark_finds_a_joint_whose_gaussian_leans(lean: float) -> None:
    """Its axes are not the picture's, so the step needs the mixed derivative; smoothing changes its shape a little."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS] + 0.5
    x, y = columns - 10.8, rows - 9.3
    maps = np.exp(-0.5 * (x**2 + y**2 - 2 * lean * x * y) / 2).astype(np.float32)[None, None]
    assert found(maps, "dark") == pytest.approx((10.8, 9.3), abs=0.03)


@pytest.mark.parametrize("rule", RULES)
def test_decoding_is_mirror_symmetric(rule: DecodeRule) -> None:
    generator = np.random.default_rng(0)
    maps = generator.random((2, 14, ROWS, COLUMNS)).astype(np.float32)
    straight = decode(maps, contract=cells(4), rule=rule)
    mirrored = decode(np.ascontiguousarray(maps[..., ::-1]), contract=cells(4), rule=rule)
    np.testing.assert_allclose(mirrored[..., 0], 4 * COLUMNS - straight[..., 0], atol=1e-3)
    np.testing.assert_allclose(mirrored[..., 1:], straight[..., 1:], atol=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_each_joint_of_each_picture_is_its_own(rule: DecodeRule) -> None:
    places = [[(5.5, 5.5), (9.5, 12.5)], [(17.5, 6.5), (12.5, 13.5)]]
    maps = np.stack([np.concatenate([gaussian(*p)[0] for p in row]) for row in places])
    points = decode(maps, contract=cells(2), rule=rule)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[..., :2] / 2, places, atol=1e-3)


def test_the_score_is_the_peaks_value() -> None:
    maps = np.concatenate((gaussian(5.5, 5.5, peak=0.3), gaussian(8.5, 9.5, peak=1.7)))
    np.testing.assert_allclose(decode(maps, contract=cells(8))[:, 0, 2], [0.3, 1.7], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, -1.0, 1.0])
def test_a_flat_heatmap_gives_finite_numbers(rule: DecodeRule, value: float) -> None:
    assert np.isfinite(decode(np.full((1, 2, 6, 6), value, np.float32), contract=cells(8), rule=rule)).all()


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from quarter, dark, soft-argmax"):
        decode(gaussian(5, 5), contract=cells(8), rule=cast("DecodeRule", "argmax"))


def test_unflip_turns_mirrored_heatmaps_back() -> None:
    """What a perfect network says of the mirrored picture: left joints in right channels, columns reversed."""
    maps = np.concatenate([gaussian(4.3 + k, 5.1)[0] for k in range(LSP_14.count)])[None]
    said = np.stack([maps[0, LSP_14.flip[k], :, ::-1] for k in range(LSP_14.count)])[None]
    back = unflip(np.ascontiguousarray(said), LSP_14.flip)
    assert np.array_equal(back, maps)
    assert back.flags.c_contiguous
    for rule in RULES:
        assert np.array_equal(decode(back, contract=cells(8), rule=rule), decode(maps, contract=cells(8), rule=rule))


def test_unflip_notices_exchanged_sides() -> None:
    """A network that mixes left and right up is not repaired by it."""
    maps = np.concatenate([gaussian(4.3 + k, 5.1)[0] for k in range(LSP_14.count)])[None]
    wrong = unflip(np.ascontiguousarray(maps[..., ::-1]), LSP_14.flip)
    assert not np.array_equal(wrong, maps)
    assert np.array_equal(wrong[:, list(LSP_14.flip)], maps)


INPUT = PreprocessContract(input_size=(64, 48), heatmap_stride=1)


def strips(points: NDArray[np.float32], *, per_pixel: int) -> Maps:
    """SimCC scores ``[1, K, 1, X + Y]`` with their peaks at points ``[K, 2]`` in input pixels."""
    rows, columns = INPUT.input_size
    sides = [(np.arange(side * per_pixel) + 0.5) / per_pixel for side in (columns, rows)]
    parts = [-np.abs(centres - points[:, axis, None]) for axis, centres in enumerate(sides)]
    return np.concatenate(parts, axis=1).astype(np.float32)[None, :, None]


@pytest.mark.parametrize("per_pixel", [1, 2, 3])
def test_simcc_gives_the_centres_of_the_best_strips(per_pixel: int) -> None:
    asked = np.array([[0.5, 0.5], [47.5, 63.5], [20.3, 41.9]], np.float32)
    found = decode(strips(asked, per_pixel=per_pixel), contract=INPUT, rule="simcc")[0]
    assert np.abs(found[:, :2] - asked).max() <= 0.5 / per_pixel + 1e-5
    assert np.array_equal(found[:2, :2], asked[:2]) == (per_pixel % 2 == 1)


def test_simcc_scores_a_joint_by_the_worse_of_its_two_peaks() -> None:
    maps = strips(np.array([[10.5, 20.5]], np.float32), per_pixel=1)
    maps[..., :48] += 7
    assert decode(maps, contract=INPUT, rule="simcc")[0, 0, 2] == 0


def test_regression_scales_fractions_and_leaves_pixels() -> None:
    fractions = np.array([[[[0.25, 0.5]], [[1.0, 0.0]]]], np.float32)
    expected = np.array([[[12, 32, 1], [48, 0, 1]]], np.float32)
    assert np.array_equal(decode(fractions, contract=INPUT, rule="regression"), expected)
    pixels = expected[:, :, None].copy()
    pixels[..., 2] = 0.7
    assert np.array_equal(decode(pixels, contract=INPUT, rule="regression-pixels"), pixels[:, :, 0])


@pytest.mark.parametrize("rule", ["dark", "simcc", "regression", "regression-pixels"])
def test_flipped_results_are_turned_back(rule: DecodeRule) -> None:
    points = np.array([[10.5, 20.5], [40.5, 5.5]], np.float32)
    mirrored = points[::-1].copy()  # the two joints are each other's mirror image
    mirrored[:, 0] = 48 - mirrored[:, 0]

    def said(of: NDArray[np.float32]) -> Maps:
        if rule == "simcc":
            return strips(of, per_pixel=1)
        if rule == "dark":
            maps = np.zeros((1, 2, 64, 48), np.float32)
            maps[0, [0, 1], of[:, 1].astype(int), of[:, 0].astype(int)] = 1
            return maps
        return (of / (np.array([48, 64], np.float32) if rule == "regression" else 1))[None, :, None].astype(np.float32)

    found = decoded_flipped(said(points), said(mirrored), flip=(1, 0), contract=INPUT, rule=rule)
    np.testing.assert_allclose(found[0, :, :2], points, atol=1e-4)
    wrong = decoded_flipped(said(points), said(mirrored), flip=(0, 1), contract=INPUT, rule=rule)
    assert np.abs(wrong - found).max() > 1
