"""Networks that are hard to quantize: they compute what they did, int8 spoils them, and equalisation mends them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from benchmarks.hostile_networks import RESIDUAL_BLOCKS, with_outliers, without_shortcuts
from lspdmobile.choices import Precision
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.fusion import fuse
from lspdmobile.measuring import Reference, reference_of
from lspdmobile.mixed_drops import drops_of
from lspdmobile.parity import Gate
from lspdmobile.repairing import Judging
from lspdmobile.student import load_student
from quantization.calibrate import calibrate
from quantization.graph import quantized_module
from quantization.methods import Method, prepare
from quantization.mixed import MixedNetwork
from quantization.plan import QuantizationPlan
from quantization.promotion import promoted
from quantization.sensitivity import sensitivity

SPOILED_POINTS = 5.0
MENDED_POINTS = 0.5
MOST_GROWTH = 0.05


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The bundled student over the bundled pictures."""
    student = load_student("lspd-s")
    views = load_views(bundled_pictures(), student.contract, student.skeleton)
    return reference_of(student, views, lambda *_: None)


@pytest.fixture(scope="module")
def fused(reference: Reference) -> GraphModule:
    return fuse(reference.student.network, input_size=reference.student.contract.input_size).network


@pytest.fixture(scope="module")
def calibration(reference: Reference) -> NDArray[np.float32]:
    student = reference.student
    return load_views(bundled_calibration_pictures(), student.contract, student.skeleton, split="train").inputs()


def hostile(fused: GraphModule, name: str) -> nn.Module:
    if name == "outliers":
        return with_outliers(fused, factor=100.0)
    if name == "one bottleneck":
        return without_shortcuts(fused, gain=64.0, blocks=["stage.blocks.0."])
    return without_shortcuts(fused, gain=16.0, blocks=RESIDUAL_BLOCKS)


def drop(network: nn.Module, plan: QuantizationPlan, reference: Reference) -> float:
    module = quantized_module(network, plan, reference.student.contract.input_size)
    with torch.no_grad():
        maps = [module(each).numpy() for each in torch.from_numpy(reference.views.inputs()).split(1)]
    found = reference.compared_with(np.concatenate(maps)).drop
    assert found is not None
    return found.drop


@pytest.mark.parametrize("name", ["outliers", "shortcuts", "one bottleneck"])
def test_a_hostile_network_computes_what_it_did(
    fused: GraphModule, calibration: NDArray[np.float32], name: str
) -> None:
    changed, picture = hostile(fused, name), torch.from_numpy(calibration[:1])
    with torch.no_grad():
        torch.testing.assert_close(changed(picture), fused(picture), rtol=0, atol=1e-5)
    assert any(not torch.equal(a, b) for a, b in zip(changed.parameters(), fused.parameters(), strict=False))


def test_only_the_blocks_named_lose_their_shortcut(fused: GraphModule) -> None:
    before, after = (dict(net.named_modules()) for net in (fused, hostile(fused, "one bottleneck")))
    wider = [name for name, layer in before.items() if str(layer) != str(after[name]) and isinstance(layer, nn.Conv2d)]
    assert sorted(wider) == [f"stage.blocks.0.{part}" for part in ("multiscale", "project.conv", "reduce.conv")]


def test_a_network_without_such_a_block_is_refused() -> None:
    plain = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()))
    with pytest.raises(ValueError, match="no residual block"):
        without_shortcuts(plain)


@pytest.mark.slow
def test_int8_spoils_one_bottleneck_which_is_named_first_and_mended_within_five_percent(
    reference: Reference, fused: GraphModule, calibration: NDArray[np.float32]
) -> None:
    network = hostile(fused, "one bottleneck")
    plan = calibrate(network, calibration, precision=Precision.W8A8)
    mixed = MixedNetwork(network, plan, reference.student.contract.input_size)
    judging = Judging(mixed, reference, Gate(max_drop=MENDED_POINTS), lambda *_: None)
    candidates = sensitivity(mixed, calibration[:8]).candidates
    assert all(mixed.units[unit].layer.startswith("stage.blocks.0.") for unit in candidates[0].units)
    growth = int(MOST_GROWTH * sum(unit.weights for unit in mixed.units.values()))
    found = promoted(
        candidates,
        judging.outcome,
        extra_bytes=growth,
        rank_beside=lambda kept: sensitivity(mixed, calibration[:8], kept=kept).candidates,
    )
    whole, mended = drops_of(mixed, reference, [frozenset(), found.kept])
    assert whole is not None
    assert mended is not None
    assert whole.drop >= SPOILED_POINTS
    assert found.passed
    assert mended.drop <= MENDED_POINTS
    assert found.trial.extra_bytes <= growth


@pytest.mark.slow
@pytest.mark.parametrize("name", ["outliers", "shortcuts"])
def test_int8_spoils_it_and_equalisation_mends_it(
    reference: Reference, fused: GraphModule, calibration: NDArray[np.float32], name: str
) -> None:
    network = hostile(fused, name)
    plan = calibrate(network, calibration, precision=Precision.W8A8)
    assert drop(network, plan, reference) >= SPOILED_POINTS
    found = prepare(network, plan, calibration, methods=[Method.EQUALIZATION])
    assert drop(found.network, found.plan, reference) <= MENDED_POINTS
