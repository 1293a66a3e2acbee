import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lspdmobile.fusion.fold_norm import affine_of, fold_norms, folded
from lspdmobile.fusion.probes import relative_error
from lspdmobile.networks.blocks import ConvNormAct


@st.composite
def conv_and_norm(draw: st.DrawFn) -> tuple[nn.Conv2d, nn.BatchNorm2d, torch.Tensor]:
    """A convolution of any form, a norm with statistics of any magnitude, and an input, in float64."""
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 3))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, 3)),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "replicate"])),
        dtype=torch.float64,
    )
    norm = nn.BatchNorm2d(
        conv.out_channels, eps=draw(st.sampled_from([1e-5, 1e-3])), affine=draw(st.booleans()), dtype=torch.float64
    ).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(std=10.0 ** draw(st.integers(-3, 3)))
    norm.running_var.uniform_(0.1, 2.0).mul_(10.0 ** draw(st.integers(-8, 6)))
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    side = dilation * (kernel - 1) + draw(st.integers(1, 6))
    return conv.eval(), norm, torch.randn(1, conv.in_channels, side, side + 1, dtype=torch.float64)


@given(conv_and_norm())
def test_folding_keeps_every_value(case: tuple[nn.Conv2d, nn.BatchNorm2d, torch.Tensor]) -> None:
    conv, norm, picture = case
    with torch.no_grad():
        assert relative_error(norm(conv(picture)), folded(conv, norm)(picture)) < 1e-12


def test_affine_of_is_the_formula_by_hand() -> None:
    norm = nn.BatchNorm2d(1, eps=0.25)
    norm.load_state_dict(
        {
            "weight": torch.tensor([3.0]),
            "bias": torch.tensor([5.0]),
            "running_mean": torch.tensor([2.0]),
            "running_var": torch.tensor([2.0]),
            "num_batches_tracked": torch.tensor(1),
        }
    )
    scale, shift = affine_of(norm)
    assert (scale.item(), shift.item()) == (2.0, 1.0)  # 3 / sqrt(2 + 0.25); 5 - 2 * 2


def test_only_neighbours_in_a_plain_sequential_are_folded() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self[0](self[1](x))
            return y

    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        Backwards(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        ConvNormAct(4, 2, 3),
    ).eval()
    with torch.no_grad():
        sites = fold_norms(network)
    assert [site.name for site in sites] == ["0", "6.conv"]
    assert isinstance(network[1], nn.Identity)
    assert isinstance(network[4], nn.BatchNorm2d)


def test_the_fused_network_keeps_its_module_paths_but_for_the_norms() -> None:
    network = ConvNormAct(3, 4, 3).eval()
    before = set(network.state_dict())
    with torch.no_grad():
        fold_norms(network)
    assert set(network.state_dict()) == {name for name in before if name.startswith("conv.")} | {"conv.bias"}
