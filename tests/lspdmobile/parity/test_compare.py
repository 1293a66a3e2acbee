"""Drift and heatmap errors on heatmaps with known peaks."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.decode import DecodeRule, HeatmapRule
from lspdmobile.errors import BadInputError
from lspdmobile.parity.compare import compare
from lspdmobile.preprocess import PreprocessContract

Maps = NDArray[np.float32]
Draw = Callable[[NDArray[np.float64]], Maps]


def test_identical_heatmaps_do_not_drift(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw
) -> None:
    maps = gaussians(centres)
    parity = compare(maps, maps, contract=contract)
    assert (parity.images, parity.cell_px, parity.faults) == (12, 8, ())
    assert (parity.heatmap_snr_db, parity.heatmap_max_abs, parity.heatmap_relative_error) == (math.inf, 0.0, 0.0)
    assert (parity.drift_px.mean, parity.drift_px.p95, parity.drift_px.max) == (0.0, 0.0, 0.0)
    assert parity.drift_px.agreement == 1.0


def test_a_planted_move_is_found_in_size_picture_and_joint(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw
) -> None:
    moved = centres.copy()
    centres[7, 9] = (5.0, 5.0)
    moved[7, 9] = (8.0, 9.0)
    parity = compare(gaussians(centres), gaussians(moved), contract=contract)
    drift = parity.drift_px
    assert drift.worst_image == 7
    assert drift.max == pytest.approx(5.0 * 8, rel=0.02)
    assert int(drift.per_joint.argmax()) == 9
    assert drift.mean == pytest.approx(drift.max / (12 * 14), rel=1e-6)
    assert drift.p95 == 0.0
    assert drift.agreement == pytest.approx(1 - 1 / (12 * 14))


def test_agreement_is_a_pck_by_the_side_of_the_crop(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw
) -> None:
    """Of 192 pixels a hundredth is 1.92 and a twentieth 9.6, which is 1.2 cells."""
    moved = centres.copy()
    moved[0, 0, 0] += 0.5
    moved[1, 1, 1] += 2
    agreement = compare(gaussians(centres), gaussians(moved), contract=contract).drift_px.agreement_pck
    total = 12 * 14
    assert agreement == pytest.approx({"agreement@0.01": 1 - 2 / total, "agreement@0.05": 1 - 1 / total})


def test_drift_is_measured_in_input_pixels_of_the_contract(centres: NDArray[np.float64], gaussians: Draw) -> None:
    a, b = gaussians(centres), gaussians(centres + 0.25)
    found = [
        compare(a, b, contract=PreprocessContract(input_size=(24 * s, 24 * s), heatmap_stride=s)).drift_px.mean
        for s in (4, 8)
    ]
    assert found[1] == pytest.approx(2 * found[0], rel=1e-5)
    assert found[1] == pytest.approx(8 * 0.25 * math.sqrt(2), rel=0.03)


@pytest.mark.parametrize("rule", get_args(HeatmapRule))
def test_every_decode_rule_sees_a_whole_cell(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw, rule: DecodeRule
) -> None:
    a = gaussians(centres)
    b = np.roll(a, 1, axis=3)
    parity = compare(a, b, contract=contract, rule=rule)
    assert parity.drift_px.mean == pytest.approx(8.0, rel=0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_become_a_fault(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw, bad: float
) -> None:
    a = gaussians(centres)
    b = a.copy()
    b[4:6, 2, 3, 3] = bad
    parity = compare(a, b, contract=contract)
    assert parity.faults == ("2 of 12 pictures have NaN or infinite heatmap values, the first is picture 4",)
    assert parity.drift_px.worst_image == 4
    assert math.isnan(parity.heatmap_snr_db)
    assert math.isnan(parity.drift_px.p95)


def test_a_wrong_shape_becomes_a_fault(
    contract: PreprocessContract, centres: NDArray[np.float64], gaussians: Draw
) -> None:
    a = gaussians(centres)
    parity = compare(a, a[:, :, :12], contract=contract)
    assert parity.faults == ("the artifact gives heatmaps [12, 14, 12, 24], the student [12, 14, 24, 24]",)


def test_a_damaged_float_student_is_the_users_fault(contract: PreprocessContract) -> None:
    bad = np.full((1, 14, 24, 24), np.nan, np.float32)
    with pytest.raises(BadInputError, match="checkpoint is damaged"):
        compare(bad, bad, contract=contract)


def test_no_picture_is_refused(contract: PreprocessContract) -> None:
    none = np.empty((0, 14, 24, 24), np.float32)
    with pytest.raises(ValueError, match="at least one picture"):
        compare(none, none, contract=contract)
