"""Programs, other inputs, preprocess, and networks that change values in place."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.errors import BadInputError
from lspdmobile.fusion import fuse, randomise_norms

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def small(padding: int = 1) -> nn.Sequential:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=padding, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)
    )
    randomise_norms(network, torch.Generator().manual_seed(1))
    return network.eval()


def test_a_program_is_fused_on_its_own_example_inputs() -> None:
    program = torch.export.export(small(), (torch.randn(1, 3, 9, 10),))
    found = fuse(program)
    assert found.certificate.input_size == (9, 10)
    assert [site.name for site in found.certificate.sites] == ["0"]
    assert not any(check.precision == "export" for check in found.certificate.checks)
    again = found.program()
    x = torch.randn(1, 3, 9, 10)
    with torch.no_grad():
        assert torch.equal(again.module()(x), found.network(x))


def test_a_decomposed_program_is_fused_too() -> None:
    program = torch.export.export(small(), (torch.randn(1, 3, 9, 10),)).run_decompositions()
    found = fuse(program)
    assert found.certificate.norms_left == ()
    assert [site.rewrite for site in found.certificate.sites] == ["fold norm"]


def test_a_program_of_any_batch_still_takes_any_batch() -> None:
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(small(), (torch.randn(2, 3, 9, 10),), dynamic_shapes=({0: batch},))
    found = fuse(program)
    assert found.network(torch.randn(5, 3, 9, 10)).shape[0] == 5


def test_a_network_without_example_inputs_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="example inputs"):
        fuse(small())


class TwoInputs(nn.Module):
    """Two pictures and a number come in, a dictionary goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = small(), small()

    def forward(self, a: Tensor, b: Tensor, factor: int = 1) -> dict[str, Any]:
        """See the class."""
        return {"sum": self.left(a) + self.right(b) * factor, "both": [self.left(b)]}


def test_several_inputs_and_nested_outputs_are_certified() -> None:
    found = fuse(TwoInputs().eval(), inputs=(torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8), 3))
    assert found.certificate.passed
    assert found.certificate.before.macs > 0
    out = found.network(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), 3)
    assert out.keys() == {"sum", "both"}


class InPlace(nn.Module):
    """Additions and activations that overwrite what another branch has read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.norm(self.first(x))
        y += self.second(x)
        z = y * 2.0
        y.relu_()
        z += y
        out: Tensor = z
        return out


def test_operators_in_place_do_not_confuse_the_branches() -> None:
    network = InPlace().eval()
    randomise_norms(network, torch.Generator().manual_seed(1))
    found = fuse(network, input_size=(9, 9))
    assert any(site.rewrite == "merge branches" for site in found.certificate.sites)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        assert torch.allclose(found.network(x), network(x.clone()), atol=1e-5)


def test_layers_keep_their_paths_and_classes() -> None:
    found = fuse(small(), input_size=(8, 8)).network
    assert isinstance(found.get_submodule("0"), nn.Conv2d)
    assert isinstance(found.get_submodule("2"), nn.ReLU)
    assert set(found.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_functional_elu_becomes_a_module_because_tflite_needs_one() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.elu(x) + 1.0

    assert any(isinstance(m, nn.ELU) for m in fuse(Functional().eval(), input_size=(8, 8)).network.modules())


def test_the_preprocess_goes_into_an_unpadded_first_convolution() -> None:
    network = small(padding=0)
    found = fuse(network, input_size=(9, 9), preprocess=(MEAN, STD))
    assert sum(isinstance(m, nn.Conv2d) for m in found.network.modules()) == 2
    raw = torch.rand(1, 3, 9, 9)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        assert torch.allclose(found.network(raw), network((raw - mean) / std), atol=1e-5)


def test_before_a_padded_first_convolution_the_preprocess_stays_one_small_operator() -> None:
    network = small(padding=1)
    found = fuse(network, input_size=(9, 9), preprocess=(MEAN, STD))
    convs = [m for m in found.network.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(conv.kernel_size[0] for conv in convs) == [1, 1, 3]
    assert any("border" in refusal.reason for refusal in found.certificate.refused)
    raw = torch.rand(1, 3, 9, 9)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        assert torch.allclose(found.network(raw), network((raw - mean) / std), atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.2,)), (MEAN, (0.2, 0.0, 0.2)), (MEAN, (0.2,))])
def test_a_preprocess_that_does_not_fit_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(BadInputError):
        fuse(small(), input_size=(8, 8), preprocess=(mean, std))


def test_real_pictures_are_tried_too() -> None:
    found = fuse(small(), input_size=(8, 8), pictures=torch.rand(2, 3, 8, 8)).certificate
    assert found.inputs[-2:] == ("picture 0", "picture 1")
    assert {check.input for check in found.checks} >= {"picture 0", "picture 1"}
    assert found.passed


def test_inputs_on_which_the_original_itself_overflows_are_named_and_not_judged() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = (self.conv(x) * 1e6) ** 4
            return out

    found = fuse(Square().eval(), input_size=(8, 8)).certificate
    assert any("fp32" in name and "huge" in name for name in found.skipped)
    assert found.passed
