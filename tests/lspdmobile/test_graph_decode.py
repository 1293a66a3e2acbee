"""Decoding in the network against decoding on the host: peaks anywhere, ties, plateaus, borders."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lspdmobile.decode import HeatmapRule, decode
from lspdmobile.graph_decode import GraphDecode, WithKeypoints
from lspdmobile.preprocess import PreprocessContract

RULES: tuple[HeatmapRule, ...] = ("quarter", "dark", "soft-argmax")
SIZE = (24, 20)
CONTRACT = PreprocessContract(input_size=(96, 80), heatmap_stride=4)
Maps = NDArray[np.float32]


def maps(step: float = 0.0, count: int = 20) -> Maps:
    """Noisy peaks inside, on and beyond the border ``[count, 5, 24, 20]``, rounded to a step as int8 files do."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    made = np.empty((count, 5, *SIZE))
    for index in np.ndindex(count, 5):
        y, x, height = generator.uniform(-1, SIZE[0]), generator.uniform(-1, SIZE[1]), generator.uniform(0.05, 1)
        peak = height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4.5)
        made[index] = peak + generator.normal(0, 0.02, SIZE)
    return (np.round(made / step) * step if step else made).astype(np.float32)


def in_graph(heatmaps: Maps, rule: HeatmapRule) -> Maps:
    network = GraphDecode(rule, CONTRACT.heatmap_stride, CONTRACT.heatmap_size)
    found: Maps = np.concatenate([network(torch.from_numpy(each[None])).numpy() for each in heatmaps])
    return found


def one(change: Callable[[Maps], None], background: float = 0.0) -> Maps:
    made = np.full((1, 1, *SIZE), background, np.float32)
    change(made[0, 0])
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("step", [0.0, 0.008, 0.2])
def test_it_is_what_the_host_decodes(rule: HeatmapRule, step: float) -> None:
    heatmaps = maps(step)
    wanted = decode(heatmaps, contract=CONTRACT, rule=rule)
    if step == 0.2:
        flat = heatmaps.reshape(-1, SIZE[0] * SIZE[1])
        assert ((flat == flat.max(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.5  # most have ties
    found = in_graph(heatmaps, rule)
    np.testing.assert_allclose(found[..., :2], wanted[..., :2], atol=1e-4)
    np.testing.assert_array_equal(found[..., 2], wanted[..., 2])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("at", [(0, 0), (0, 19), (23, 0), (23, 19), (0, 7), (23, 7), (9, 0), (9, 19), (1, 1), (22, 18)])
def test_peaks_on_the_border_are_not_refined_across_it(rule: HeatmapRule, at: tuple[int, int]) -> None:
    def peak(cells: Maps) -> None:
        cells[max(at[0] - 1, 0) : at[0] + 2, max(at[1] - 1, 0) : at[1] + 2] = 0.5
        cells[at] = 1.0

    heatmaps = one(peak, background=0.1)
    wanted = decode(heatmaps, contract=CONTRACT, rule=rule)
    np.testing.assert_allclose(in_graph(heatmaps, rule), wanted, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, -1.5, 3.0, 1e-6, 300.0])
def test_of_equal_cells_the_first_is_taken_as_the_host_takes_it(rule: HeatmapRule, value: float) -> None:
    flat = np.full((1, 2, *SIZE), value, np.float32)
    np.testing.assert_allclose(in_graph(flat, rule), decode(flat, contract=CONTRACT, rule=rule), rtol=1e-6)
    twice = np.full((1, 1, *SIZE), value, np.float32)
    twice[0, 0, 5, 12] = twice[0, 0, 5, 3] = twice[0, 0, 9, 1] = value + 1
    found = in_graph(twice, "quarter")
    assert tuple(found[0, 0, :2]) == (4 * 3.5, 4 * 5.5)


def test_a_difference_of_one_bit_decides() -> None:
    def peak(cells: Maps) -> None:
        cells[3, 3] = 0.7
        cells[8, 15] = np.nextafter(np.float32(0.7), np.float32(1))

    found = in_graph(one(peak), "quarter")
    assert tuple(found[0, 0, :2]) == (4 * 15.5, 4 * 8.5)


def test_a_network_gives_heatmaps_and_keypoints() -> None:
    network = WithKeypoints(torch.nn.Identity(), GraphDecode("dark", CONTRACT.heatmap_stride, CONTRACT.heatmap_size))
    heatmaps = maps(count=1)
    given, found = network(torch.from_numpy(heatmaps))
    np.testing.assert_array_equal(given.numpy(), heatmaps)
    np.testing.assert_allclose(found.numpy(), decode(heatmaps, contract=CONTRACT), atol=1e-4)
