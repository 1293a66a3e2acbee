"""OKDHP: what ships equals what trained, bit for bit; branches keep their places; the unit weighs joint by joint."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from lspdmobile.fusion import cost_of, fuse, randomise_norms
from lspdmobile.fusion.cost import dtype_of
from lspdmobile.fusion.probes import relative_error
from lspdmobile.networks.feature_aggregation import Aggregation, BranchOutputs, FeatureAggregationUnit
from lspdmobile.networks.hourglass import Bottleneck, StackedHourglass
from lspdmobile.networks.mobile_pose import InvertedResidual, MobilePose
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpHourglass, OkdhpMobilePose, OkdhpMobilePoseConfig
from lspdmobile.networks.presets import preset

SIZE = (64, 128)
HOURGLASS = OkdhpConfig(keypoints=3, input_size=SIZE, channels=16, stacks=3, shared=1, helpers=(4, 2))
LIGHT = OkdhpMobilePoseConfig(
    keypoints=3, input_size=SIZE, stem=4, channels=(4, 6, 8, 8), blocks=(1, 2, 1, 1), features=8
)
NETWORKS: dict[str, Callable[[], OkdhpHourglass | OkdhpMobilePose]] = {
    "hourglass": lambda: OkdhpHourglass(HOURGLASS),
    "nothing shared": lambda: OkdhpHourglass(replace(HOURGLASS, shared=0)),
    "released unit": lambda: OkdhpHourglass(replace(HOURGLASS, aggregation="released")),
    "light": lambda: OkdhpMobilePose(LIGHT),
}
UNITS: tuple[Aggregation, ...] = ("paper", "released")


def trained(name: str) -> OkdhpHourglass | OkdhpMobilePose:
    """Make a network in eval mode none of whose weights is at its start."""
    network = NETWORKS[name]()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    randomise_norms(network, torch.Generator().manual_seed(1))
    return network.eval()


def pictures() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def outputs(network: nn.Module) -> BranchOutputs:
    with torch.no_grad():
        found = network(pictures().to(dtype_of(network)))
    assert isinstance(found, BranchOutputs)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_branch_ships_bit_for_bit(name: str) -> None:
    network = trained(name)
    finals = outputs(network).finals
    assert len(finals) == 3
    for branch, final in enumerate(finals):
        shipped = network.deployed(branch)
        assert not shipped.training
        with torch.no_grad():
            assert torch.equal(shipped(pictures()), final)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_ships_shares_no_memory_with_what_trains(name: str) -> None:
    network = trained(name)
    held = {t.data_ptr() for t in network.state_dict().values()}
    assert held.isdisjoint(t.data_ptr() for t in network.deployed().state_dict().values())


def test_a_deployed_branch_is_a_plain_hourglass_of_its_length() -> None:
    network = trained("hourglass")
    assert isinstance(network, OkdhpHourglass)
    for branch, stacks in enumerate((3, 4, 2)):
        shipped = network.deployed(branch)
        plain = StackedHourglass(replace(HOURGLASS, stacks=stacks))
        assert shipped.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("shared", [0, 1])
def test_outputs_are_kept_under_their_branch(shared: int) -> None:
    found = outputs(trained("hourglass" if shared else "nothing shared"))
    assert len(found.shared) == shared
    assert [len(branch) for branch in found.branches] == [count - shared for count in (3, 4, 2)]
    assert all(heatmaps.shape == (2, 3, 16, 32) for heatmaps in (*found.distilled, found.ensemble))
    assert len(found.distilled) == shared + 9 - 3 * shared


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ensemble_mixes_the_branches_results_and_nothing_else(name: str) -> None:
    found = outputs(trained(name).double())
    finals = torch.stack(found.finals)
    # The released code mixes an intermediate result in and leaves a branch out; here three weights per
    # picture and joint, found by least squares, give the whole map, and are a softmax's.
    for picture in range(2):
        for joint in range(3):
            columns = finals[:, picture, joint].flatten(1).T
            wanted = found.ensemble[picture, joint].flatten()
            weights = torch.linalg.lstsq(columns, wanted[:, None]).solution
            assert relative_error(wanted, (columns @ weights)[:, 0]) < 1e-9
            assert weights.sum().item() == pytest.approx(1.0, abs=1e-9)
            assert weights.min() > -1e-9


@pytest.mark.parametrize("form", UNITS)
def test_weights_sum_to_one_over_branches_and_differ_between_joints_and_pictures(form: Aggregation) -> None:
    unit = FeatureAggregationUnit(8, keypoints=5, branches=3, form=form).eval()
    weights = unit.weights(torch.randn(2, 8, 9, 9))
    assert weights.shape == (2, 3, 5)
    assert torch.allclose(weights.sum(dim=1), torch.ones(2, 5))
    assert (weights[0] - weights[1]).abs().min() > 0
    assert (weights[:, :, 0] - weights[:, :, 1]).abs().min() > 0


@pytest.mark.parametrize("form", UNITS)
def test_equal_branches_have_themselves_as_ensemble(form: Aggregation) -> None:
    unit = FeatureAggregationUnit(8, keypoints=5, branches=3, form=form).eval()
    heatmaps = torch.randn(2, 5, 9, 9)
    assert torch.allclose(unit(torch.randn(2, 8, 9, 9), [heatmaps] * 3), heatmaps, atol=1e-6)


def test_the_unit_is_trained_through_the_ensemble() -> None:
    network = NETWORKS["hourglass"]()
    network(torch.randn(2, 3, *SIZE)).ensemble.square().mean().backward()
    assert all(p.grad is not None for p in network.aggregate.parameters())


def test_a_unit_of_no_public_form_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown aggregation 'mean'"):
        FeatureAggregationUnit(8, keypoints=5, branches=3, form="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(("stacks", "shared", "helpers"), [(2, 2, (4,)), (4, 2, (2, 6)), (4, -1, (4,))])
def test_a_branch_without_a_stack_of_its_own_is_refused(stacks: int, shared: int, helpers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shared stacks"):
        OkdhpConfig(keypoints=3, input_size=SIZE, stacks=stacks, shared=shared, helpers=helpers)


def test_an_hourglass_stack_holds_13_bottlenecks_and_one_after_it() -> None:
    network = StackedHourglass(HOURGLASS)
    assert sum(isinstance(m, Bottleneck) for m in network.stacks[0].modules()) == 13 + 1


def test_a_bottleneck_is_pre_activated_around_its_input() -> None:
    block = Bottleneck(8, 8).eval()
    for parameter in block.body[-1].parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("channels", "stride", "kept"), [(8, 1, True), (8, 2, False), (6, 1, False)])
def test_an_inverted_residual_adds_its_input_where_the_shape_is_kept(channels: int, stride: int, kept: bool) -> None:
    block = InvertedResidual(8, channels, stride=stride).eval()
    nn.init.zeros_(block.body.get_parameter("2.conv.weight"))
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), x if kept else torch.zeros(1, channels, 6 // stride, 6 // stride))


def test_every_norm_of_the_light_form_folds() -> None:
    light = NETWORKS["light"]().deployed()
    assert fuse(light, input_size=(64, 64)).certificate.norms_left == ()


def test_the_light_student_is_for_phones() -> None:
    config = preset("okdhp-s")
    assert isinstance(config, OkdhpMobilePoseConfig)
    cost = cost_of(MobilePose(config), config.input_size)
    assert (config.input_size, config.heatmap_stride, config.keypoints) == ((192, 192), 4, 14)
    # One byte per parameter in int8 and four in fp32: both files together within 6 MB.
    assert cost.params * 5 < 6_000_000
    assert cost.macs < 200_000_000
