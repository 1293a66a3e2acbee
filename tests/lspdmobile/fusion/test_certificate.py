"""What the comparison sees, and what it is made on."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from lspdmobile.fusion import randomise_norms
from lspdmobile.fusion.certifying import Finished, compared
from lspdmobile.fusion.graph import Captured
from lspdmobile.fusion.largest_kernel import LargestKernel
from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.probes import INPUTS, probe_inputs, relative_error, ulps
from lspdmobile.fusion.rewriting import rewritten
from lspdmobile.fusion.work import Work

PLANNER = Planner(model=LargestKernel())
Capture = Callable[..., Captured]


def rewrite(graph: GraphModule) -> Finished:
    return rewritten(graph, PLANNER).finished


def test_two_norms_swapped_between_capture_and_rewrite_show_in_randomised_statistics_alone(captured: Capture) -> None:
    original = captured(fresh=True)

    def swapping(graph: GraphModule) -> Finished:
        twin = GraphModule(graph, graph.graph)
        values = dict(twin.named_buffers())
        first, second = values["dense.1.running_mean"], values["wide.1.running_mean"]
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)
        finished = rewritten(twin, PLANNER).finished
        second.copy_(first)
        first.copy_(kept)
        return finished

    with torch.no_grad():
        fused, sites = swapping(original.graph)(torch.float32)
        found = compared(original, fused, sites, rewrite=swapping, seed=0)
    trained = [check.error for check in found.checks if check.statistics == "as trained"]
    assert max(trained) < 1e-5
    randomised = [c.error for c in found.checks if c.statistics == "randomised" and c.input == "random"]
    assert min(randomised) > 1e-3


def test_a_fault_in_the_delivered_copy_alone_is_caught(captured: Capture) -> None:
    original = captured()
    with torch.no_grad():
        fused, sites = rewrite(original.graph)(torch.float32)
        fused.get_parameter("dense.0.bias").data += 0.1
        found = compared(original, fused, sites, rewrite=rewrite, seed=0)
    worst = max(found.sites, key=lambda site: site.error_fp32)
    assert worst.name == "dense.0"
    assert {check.precision for check in found.checks if check.error > 1e-5} == {"fp32"}


def test_a_site_that_claims_another_value_is_caught(captured: Capture) -> None:
    original = captured()
    with torch.no_grad():
        work: Work = rewritten(original.graph, PLANNER)
        relus = [n for n in work.graph.nodes if n.meta.get("rewrites") == ("fold norm",)]
        relus[0].meta["value"] = original.graph.graph.find_nodes(op="placeholder")[0].name
        fused, sites = work.finished(torch.float32)
        found = compared(original, fused, sites, rewrite=lambda _graph: work.finished, seed=0)
    assert any(site.fault or site.error_fp64 > 1e-3 for site in found.sites)


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([2.0, -4.0], [2.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-30], float("inf")),
        ([1.0, 2.0], [1.0, float("nan")], float("inf")),
        ([float("inf"), 2.0], [float("inf"), 2.0], float("inf")),
        ([1.0, 2.0], [1.0], float("inf")),
    ],
)
def test_relative_error_is_the_largest_distance_over_the_largest_value(
    expected: list[float], found: list[float], error: float
) -> None:
    assert relative_error(torch.tensor(expected), torch.tensor(found)) == error


def test_ulps_count_float32_neighbours_of_the_largest_value() -> None:
    largest = torch.tensor(3.0)
    after = largest
    for steps in range(1, 4):
        after = torch.nextafter(after, torch.tensor(math.inf))
        assert ulps(torch.stack((largest, -largest / 9)), torch.stack((after, -largest / 9)), torch.float32) == steps
    assert ulps(torch.zeros(2), torch.zeros(2), torch.float32) == 0.0


def test_inputs_are_of_every_kind_named() -> None:
    inputs = probe_inputs((1, 2, 6, 7), torch.Generator().manual_seed(0))
    assert tuple(inputs) == INPUTS
    assert inputs["border"][:, :, 1:-1, 1:-1].abs().max() == 0
    assert (inputs["border"][:, :, 0] != 0).all()
    assert inputs["huge"].abs().max() > 1e6
    assert 0 < inputs["tiny"].abs().max() < 1e-5
    assert all(torch.equal(values, values.float().double()) for values in inputs.values())


@pytest.mark.parametrize("exported", [False, True], ids=["module", "program"])
def test_randomised_norms_leave_no_tensor_where_it_was(
    exported: bool, everything: type[nn.Module], captured: Capture
) -> None:
    module = copy.deepcopy(captured(fresh=True).graph) if exported else everything().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    norms = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    randomise_norms(module, torch.Generator().manual_seed(0))
    moved = 0
    for name, tensor in module.state_dict().items():
        if name.rpartition(".")[0] in norms and "num_batches" not in name:
            assert not torch.isclose(tensor, before[name], rtol=1e-4, atol=1e-4).all(), name
            assert torch.isfinite(tensor).all()
            moved += 1
    assert moved == 4 * 7
    assert all((v > 0).all() for name, v in module.state_dict().items() if name.endswith("running_var"))
