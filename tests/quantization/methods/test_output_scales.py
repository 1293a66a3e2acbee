"""What one output scale costs: worked out by hand."""

import numpy as np
import pytest

from quantization.methods.output_scales import forecast_output


def test_joints_of_equal_peaks_lose_nothing_by_one_scale() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    found = forecast_output(np.concatenate([ramp, ramp[..., ::-1]], 1))
    assert found.peak_ratio == 1
    assert found.shared_db == pytest.approx(found.own_db)


def test_a_weak_joint_pays_for_a_strong_one() -> None:
    # Peaks 25.5 and 0.1: steps of 0.1 for both; the weak one's values of 0.04 become 0, its own steps hold them.
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, 0], maps[0, 1] = 25.5, 0.04
    maps[0, 1, 0, 0] = 0.1
    found = forecast_output(maps)
    assert found.peak_ratio == pytest.approx(255.0)
    assert found.worst_shared_db == pytest.approx(10 * np.log10((0.1**2 + 3 * 0.04**2) / (3 * 0.04**2)), rel=1e-3)
    assert found.worst_own_db > 40
    assert set(found.to_dict()) == {"peak_ratio", "shared_db", "own_db", "worst_shared_db", "worst_own_db"}


def test_empty_heatmaps_are_exact() -> None:
    found = forecast_output(np.zeros((1, 2, 4, 4), np.float32))
    assert (found.peak_ratio, found.shared_db, found.worst_own_db) == (1.0, 200.0, 200.0)
