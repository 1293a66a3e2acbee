"""Disagreement of shares of the pictures, against numbers worked out by hand and against simulated maxima."""

import numpy as np
import pytest

from quantization.observe import SHARES, Seen
from quantization.stability import LARGEST_DISAGREEMENT, MOST_PICTURES, disagreement, enough_pictures


def seen(lows: list[float], highs: list[float]) -> Seen:
    return Seen(lows=np.asarray(lows), highs=np.asarray(highs))


def drawn(pictures: int, seed: int) -> dict[str, Seen]:
    """Tensors behind a ReLU whose largest value on each picture is the size of a normal one."""
    peaks = np.abs(np.random.default_rng(seed).normal(size=(400, pictures)))
    shares = np.stack([peaks[:, start::SHARES].max(axis=1) for start in range(SHARES)], axis=1)
    return {f"t{i}": seen([0.0] * SHARES, list(tops)) for i, tops in enumerate(shares)}


def test_halves_are_compared_by_the_range_of_both() -> None:
    # Halves 0, 2 and 1, 3: -1..4 and -2..8, 4 apart at the top of a range of 10; then 0..2 and 0..2; then nothing.
    found = disagreement(
        {
            "wide": seen([-1.0, -2.0, 0.0, 0.0], [4.0, 8.0, 3.0, 1.0]),
            "same": seen([0.0, 0.0, 0.5, 0.0], [2.0, 1.0, 0.5, 2.0]),
            "dead": seen([0.0] * 4, [0.0] * 4),
        }
    )
    assert found.by_tensor == {"wide": 0.4, "same": 0.0, "dead": 0.0}
    assert found.mean == pytest.approx(0.4 / 3)


def test_ranges_are_widened_to_hold_zero() -> None:
    found = disagreement({"high": seen([5.0, 6.0, 5.0, 6.0], [10.0, 10.0, 9.0, 9.0])})
    assert found.by_tensor == {"high": 0.0}


def test_shares_without_a_picture_are_passed_over() -> None:
    empty = float("inf")
    found = disagreement({"two pictures": seen([0.0, 0.0, empty, empty], [4.0, 3.0, -empty, -empty])})
    assert found.by_tensor == {"two pictures": 0.25}


def test_pictures_whose_halves_agree_are_enough() -> None:
    assert enough_pictures({"t": seen([0.0] * 4, [4.0, 4.0, 3.9, 4.1])}, 48) == 48


def test_about_the_number_that_would_do_does() -> None:
    wanted = enough_pictures(drawn(16, seed=0), 16)
    assert disagreement(drawn(wanted, seed=1)).mean <= 1.2 * LARGEST_DISAGREEMENT
    assert disagreement(drawn(wanted // 4, seed=1)).mean > LARGEST_DISAGREEMENT


def test_a_number_out_of_reach_is_the_largest_that_is_said() -> None:
    assert enough_pictures({"t": seen([0.0] * 4, [1.0, 100.0, 1.0, 1.0])}, 5000) == MOST_PICTURES
