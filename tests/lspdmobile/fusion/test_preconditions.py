import pytest
import torch
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.fusion import fuse
from lspdmobile.networks.blocks import ConvNormAct


def network() -> nn.Sequential:
    return nn.Sequential(ConvNormAct(3, 4, 3), ConvNormAct(4, 4, 3)).eval()


def refusal(bad: nn.Module) -> str:
    with pytest.raises(BadInputError) as caught:
        fuse(bad, input_size=(8, 8))
    return str(caught.value)


def test_a_network_in_train_mode_is_refused() -> None:
    assert "the network" in refusal(network().train())
    assert "eval()" in refusal(network().train())


def test_a_single_norm_left_in_train_mode_is_refused_by_name() -> None:
    bad = network()
    bad.get_submodule("1.norm").train()
    assert "1.norm" in refusal(bad)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["0.conv.weight", "1.norm.running_mean", "1.norm.bias"])
def test_tensors_that_are_not_finite_are_listed(name: str, number: float) -> None:
    bad = network()
    bad.state_dict()[name].view(-1)[0] = number
    assert name in refusal(bad)


def test_all_bad_tensors_are_listed_at_once() -> None:
    bad = network()
    for name in ("0.conv.weight", "1.conv.weight"):
        bad.state_dict()[name].fill_(float("nan"))
    assert "0.conv.weight, 1.conv.weight" in refusal(bad)


def test_a_negative_variance_is_refused() -> None:
    bad = network()
    bad.state_dict()["0.norm.running_var"][0] = -1.0
    assert "0.norm.running_var" in refusal(bad)


def test_a_norm_without_running_statistics_is_refused() -> None:
    bad = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    message = refusal(bad)
    assert "1:" in message
    assert "running statistics" in message


def test_a_convolution_registered_twice_is_refused() -> None:
    conv = nn.Conv2d(3, 3, 1)
    bad = nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3)).eval()
    assert "0.weight = 2.weight" in refusal(bad)


def test_tied_weights_are_refused() -> None:
    bad = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    bad.get_submodule("2").weight = bad.get_submodule("0").weight
    assert "0.weight = 2.weight" in refusal(bad)


def test_views_of_one_storage_are_refused() -> None:
    bad = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)).eval()
    first, second = bad
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    second.weight = nn.Parameter(first.weight.detach().view(3, 3, 1, 1))
    assert "0.weight = 1.weight" in refusal(bad)


def test_a_half_precision_network_is_refused() -> None:
    assert "0.conv.weight (torch.float16)" in refusal(network().half())


def test_a_shared_activation_is_fine() -> None:
    act = nn.ReLU()
    good = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), act, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), act).eval()
    assert len(fuse(good, input_size=(8, 8)).certificate.sites) == 2


def test_the_check_reads_and_never_writes() -> None:
    good = network()
    before = {name: tensor.clone() for name, tensor in good.state_dict().items()}
    fuse(good, input_size=(8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in good.state_dict().items())
    assert isinstance(good.get_submodule("0.norm"), nn.BatchNorm2d)
