"""What is left out of the lowering changes no byte, and comes back where a network needs it."""

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from converters.executorch.lowering import _idle_passes, _lean, lower
from quantization.graph import quantized_module

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World


class Attention(nn.Module):
    """Every pixel attends to all."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, C, H, W]`` to ``[1, H * W, C]``."""
        y = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(y, y, y)


def test_passes_a_network_needs_are_kept(world: "World") -> None:
    attention = torch.export.export(Attention().eval(), (torch.zeros(1, 3, 8, 8),))
    student = torch.export.export(world.network, (torch.zeros(1, *world.pictures.shape[1:]),))
    assert _idle_passes(student) - _idle_passes(attention) == {"ConvertToSDPAPass"}


def test_executorch_is_as_it_was_afterwards() -> None:
    from executorch.backends.xnnpack import xnnpack_preprocess

    exported = torch.export.export(nn.ReLU(), (torch.zeros(1, 3, 8, 8),))
    before = dict(vars(xnnpack_preprocess))

    def fail_inside() -> None:
        with _lean(exported, enabled=True):
            assert dict(vars(xnnpack_preprocess)) != before
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    assert dict(vars(xnnpack_preprocess)) == before


@pytest.mark.slow
def test_the_bytes_are_those_of_the_whole_lowering(world: "World") -> None:
    example = (torch.zeros(1, *world.pictures.shape[1:]),)
    for network in (world.network, quantized_module(world.network, world.plan, world.pictures.shape[2:])):
        with torch.no_grad():
            programs = [torch.export.export(network, example) for _ in range(2)]
        lean, whole = (
            lower(each, {"a": "b"}, keep_all_passes=keep) for each, keep in zip(programs, (False, True), strict=True)
        )
        assert lean == whole
