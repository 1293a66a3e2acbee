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


def shared_refusals(bad: nn.Module) -> list[str]:
    """Fuse a network that shares a layer; nothing of that layer may be rewritten, and the reason is given."""
    certificate = fuse(bad, input_size=(8, 8)).certificate
    assert certificate.passed
    return [refusal.reason for refusal in certificate.refused if "shared weights" in refusal.reason]


def test_a_norm_is_not_folded_into_a_convolution_that_is_used_twice() -> None:
    conv = nn.Conv2d(3, 3, 1)
    twice = nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3), nn.ReLU(), ConvNormAct(3, 4, 3)).eval()
    assert len(shared_refusals(twice)) >= 2
    certificate = fuse(twice, input_size=(8, 8)).certificate
    assert [(site.name, site.rewrite) for site in certificate.sites] == [
        ("1", "affine to 1x1"),
        ("3", "affine to 1x1"),
        ("5.conv", "fold norm"),
    ]


def test_tied_weights_are_not_rewritten_and_stay_tied() -> None:
    tied = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    tied.get_submodule("2").weight = tied.get_submodule("0").weight
    assert len(shared_refusals(tied)) >= 2


def test_views_of_one_storage_are_not_rewritten() -> None:
    views = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    ).eval()
    first, second = views.get_submodule("0"), views.get_submodule("2")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    second.weight = nn.Parameter(first.weight.detach().view(3, 3, 1, 1))
    assert len(shared_refusals(views)) >= 2


def test_a_branch_that_shares_its_convolution_is_not_merged() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x) + self.other(x)
            out: torch.Tensor = y + self.conv(torch.relu(y))
            return out

    certificate = fuse(Shared().eval(), input_size=(8, 8)).certificate
    assert not any(site.rewrite == "merge branches" for site in certificate.sites)
    assert any("shared weights" in refusal.reason for refusal in certificate.refused)


@pytest.mark.parametrize("training", [True, False])
def test_a_program_exported_in_train_mode_is_refused(training: bool) -> None:
    program = torch.export.export(network().train(training), (torch.randn(2, 3, 8, 8),))
    if not training:
        assert fuse(program).certificate.passed
        return
    with pytest.raises(BadInputError, match=r"train mode.*export again"):
        fuse(program)


def test_a_program_with_dropout_left_on_is_refused() -> None:
    bad = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout())
    program = torch.export.export(bad, (torch.randn(1, 3, 8, 8),))
    with pytest.raises(BadInputError, match="train mode"):
        fuse(program)


def test_a_program_without_running_statistics_is_refused() -> None:
    bad = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    program = torch.export.export(bad, (torch.randn(1, 3, 8, 8),))
    with pytest.raises(BadInputError, match="running statistics"):
        fuse(program)


def test_a_network_that_counts_its_calls_is_refused() -> None:
    class Counting(nn.Module):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls.add_(1)
            return x * self.calls

    with pytest.raises(BadInputError, match=r"calls: changed while the network runs"):
        fuse(Counting().eval(), input_size=(8, 8))


def test_a_network_that_cannot_be_exported_says_so_in_one_line() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if bool(x.sum() > 0) else -x

    assert "torch.export refused" in refusal(Branching().eval())


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
