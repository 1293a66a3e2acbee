"""Networks that compute what they did and are hard to quantize: what quantization methods are tried on.

Both take a fused network and give another one whose heatmaps are the same but for float32 rounding.

* :func:`with_outliers` multiplies one channel of some layers by a number and divides what reads it by the same. Its
  tensor's range, and with it everybody's step, grows as many times.
* :func:`without_shortcuts` re-parameterises residual blocks into plain convolutions (Meng et al., "RMNet: Equivalently
  Removing Residual Connection from Networks", arXiv 2111.00687): ``relu(x + W2 relu(W1 x))`` with ``x >= 0`` becomes
  ``relu([I W2] relu([I; W1] x))``. Every kernel now holds an identity of 1.0 beside small weights, in one row of one
  scale, and ``x`` and the block's inner channels share the scale of one activation. A ``gain`` above 1 multiplies the
  inner channels and divides their weights ``W2``, as a batch norm without weight decay leaves them.
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

__all__ = ["OUTLIER_LAYERS", "with_outliers", "without_shortcuts"]

OUTLIER_LAYERS: Final = (
    ("backbone.stem.conv", "backbone.levels.0.0.conv"),
    ("backbone.smooth.conv", "stage.entry.conv"),
    ("stage.refine.conv", "stage.heatmap"),
)
"""Pairs of layers of ``lspd-s``, each the only reader of the one before it, a ReLU in between."""


@torch.no_grad()
def with_outliers(
    network: nn.Module, pairs: Sequence[tuple[str, str]] = OUTLIER_LAYERS, *, factor: float = 40.0
) -> nn.Module:
    """Plant one channel ``factor`` times as strong as it was between the layers of each pair: the strongest one.

    Args:
        network: Fused, its layers modules.
        pairs: Paths of a layer and of the only layer that reads it, with nothing but a ReLU in between.
        factor: Above 0.
    """
    planted = copy.deepcopy(network)
    for before, after in pairs:
        maker, reader = planted.get_submodule(before), planted.get_submodule(after)
        assert isinstance(maker, nn.Conv2d)
        assert isinstance(reader, nn.Conv2d)
        assert maker.bias is not None
        channel = int(maker.weight.flatten(1).norm(dim=1).argmax())
        maker.weight[channel] *= factor
        maker.bias[channel] *= factor
        reader.weight[:, channel] /= factor
    return planted


@torch.no_grad()
def without_shortcuts(network: GraphModule, *, gain: float = 1.0) -> GraphModule:
    """Turn every ``relu(x + conv(relu(conv(x))))`` with ``x >= 0`` and 3x3 convolutions into two convolutions.

    Args:
        network: Fused, its layers modules.
        gain: Of the inner channels.

    Raises:
        ValueError: The network has no such block.
    """
    plain = copy.deepcopy(network)
    blocks = [found for node in list(plain.graph.nodes) if (found := _block(plain, node)) is not None]
    if not blocks:
        message = "the network has no residual block of two 3x3 convolutions"
        raise ValueError(message)
    for total, first, second in blocks:
        inner, outer = (plain.get_submodule(str(node.target)) for node in (first, second))
        plain.set_submodule(str(first.target), _beside_identity(inner, gain))
        plain.set_submodule(str(second.target), _onto_identity(outer, gain))
        total.replace_all_uses_with(second)
        plain.graph.erase_node(total)
    plain.recompile()
    return plain


def _block(network: GraphModule, total: Node) -> tuple[Node, Node, Node] | None:
    """Give addition, first and second convolution of a residual block that an addition ends."""
    if total.op != "call_function" or total.target not in (operator.add, torch.add, torch.ops.aten.add.Tensor):
        return None
    shortcut, second = total.args[:2]
    if not (isinstance(shortcut, Node) and isinstance(second, Node) and _is_3x3(network, second)):
        return None
    middle = second.all_input_nodes[0]
    first = middle.all_input_nodes[0] if _is_relu(network, middle) else middle
    alone = len(second.users) == len(middle.users) == len(first.users) == 1
    fits = alone and first is not middle and _is_3x3(network, first) and first.all_input_nodes[0] is shortcut
    return (total, first, second) if fits and _is_relu(network, shortcut) else None


def _is_3x3(network: GraphModule, node: Node) -> bool:
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.stride == (1, 1)


def _is_relu(network: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.ReLU)
    return "relu" in str(node.target)


def _identity(channels: int) -> Tensor:
    kernel = torch.zeros(channels, channels, 3, 3)
    nn.init.dirac_(kernel)
    return kernel


def _beside_identity(layer: Any, gain: float) -> nn.Conv2d:
    """Give a layer that hands its input on in its first channels."""
    channels = layer.in_channels
    made = nn.Conv2d(channels, channels + layer.out_channels, 3, padding=1)
    assert made.bias is not None
    made.weight.copy_(torch.cat([_identity(channels), layer.weight * gain]))
    made.bias.copy_(torch.cat([torch.zeros(channels), layer.bias * gain]))
    return made.eval()


def _onto_identity(layer: Any, gain: float) -> nn.Conv2d:
    """Give a layer that adds the first channels of its input to what it computes of the others."""
    made = nn.Conv2d(layer.out_channels + layer.in_channels, layer.out_channels, 3, padding=1)
    assert made.bias is not None
    made.weight.copy_(torch.cat([_identity(layer.out_channels), layer.weight / gain], dim=1))
    made.bias.copy_(layer.bias)
    return made.eval()
