"""A plan with operators in float: the simulation is the quantized graph itself, bit for bit."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.errors import BadInputError
from quantization.graph import activation_grids, quantized_module, weight_scales_by_node
from quantization.mixed import MixedNetwork
from quantization.plan import QuantizationPlan

SIZE = (16, 16)
UNITS = {
    "relu": (("conv2d", "relu"), ("pictures",), "stem", 216),
    "conv2d_1": (("conv2d_1",), ("relu",), "down", 576),
    "relu_1": (("conv2d_2", "relu_1"), ("conv2d_1",), "depthwise", 200),
    "relu_2": (("add", "relu_2"), ("relu", "upsample_bilinear2d"), "", 0),
    "conv2d_3": (("conv2d_3",), ("relu_2",), "head", 32),
}


@pytest.fixture
def mixed(branched: nn.Module, branched_plan: QuantizationPlan) -> MixedNetwork:
    return MixedNetwork(branched, branched_plan, SIZE)


def test_the_units_are_what_becomes_an_integer_operator(mixed: MixedNetwork) -> None:
    found = {name: (unit.nodes, unit.inputs, unit.layer, unit.weights) for name, unit in mixed.units.items()}
    assert found == UNITS
    assert mixed.readers["relu"] == ("conv2d_1", "relu_2")
    assert mixed.readers["conv2d_3"] == ()


@pytest.mark.parametrize("kept", [pair for n in (0, 1, 2, 5) for pair in combinations(UNITS, n)])
def test_it_gives_what_the_quantized_graph_gives(
    kept: tuple[str, ...],
    mixed: MixedNetwork,
    branched: nn.Module,
    branched_plan: QuantizationPlan,
    few_pictures: NDArray[np.float32],
) -> None:
    plan = replace(branched_plan, kept_float=frozenset(kept))
    if len(kept) == len(UNITS):
        graph: nn.Module = branched
    else:
        graph = module = quantized_module(branched, plan, SIZE)
        integer = [unit for name, unit in mixed.units.items() if name not in kept and unit.weights]
        assert weight_scales_by_node(module).keys() == {unit.nodes[0] for unit in integer}
        assert activation_grids(module).items() <= mixed.grids.items()
    for picture in few_pictures:
        with torch.no_grad():
            wanted = graph(torch.from_numpy(picture[None])).numpy()
        assert np.array_equal(mixed.heatmaps(picture[None], kept=kept), wanted)


def test_running_from_an_earlier_run_changes_nothing(mixed: MixedNetwork, few_pictures: NDArray[np.float32]) -> None:
    inputs = torch.from_numpy(few_pictures)
    earlier = mixed.run(inputs, kept=["relu_2"])
    for kept in ([], ["relu"], ["relu_2", "conv2d_3"], list(UNITS)):
        again = mixed.run(inputs, kept=kept, like=(earlier, ["relu_2"]))
        assert torch.equal(mixed.result(again), mixed.result(mixed.run(inputs, kept=kept)))
    assert mixed.run(inputs, kept=["relu_2"], like=(earlier, ["relu_2"])) == earlier


def test_a_name_that_is_not_in_the_network_is_refused(branched: nn.Module, branched_plan: QuantizationPlan) -> None:
    with pytest.raises(BadInputError, match="keeps elsewhere in float, which the network does not have"):
        quantized_module(branched, replace(branched_plan, kept_float=frozenset(["elsewhere"])), SIZE)


def test_what_stays_in_float_survives_plan_json(branched_plan: QuantizationPlan) -> None:
    plan = replace(branched_plan, kept_float=frozenset(["relu", "conv2d_3"]))
    assert plan.to_dict()["kept_float"] == ["conv2d_3", "relu"]
    assert QuantizationPlan.from_dict(plan.to_dict()).kept_float == plan.kept_float
