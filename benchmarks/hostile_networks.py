"""Networks that compute what they did and are hard to quantize: what quantization methods are tried on.

Both take a fused network and give another one whose heatmaps are the same but for float32 rounding.

* :func:`with_outliers` multiplies one channel of some layers by a number and divides what reads it by the same. Its
  tensor's range, and with it everybody's step, grows as many times.
* :func:`without_shortcuts` re-parameterises residual blocks into plain convolutions (Meng et al., "RMNet: Equivalently
  Removing Residual Connection from Networks", arXiv 2111.00687): ``relu(x + W2 relu(W1 x))`` with ``x >= 0`` becomes
  ``relu([I W2] relu([I; W1] x))``, and likewise with more layers on the way. The last kernel now holds an identity of
  1.0 beside small weights, in one row of one scale, and ``x`` and the block's inner channels share the scale of one
  activation. A ``gain`` above 1 multiplies the channels that the last kernel reads and divides its weights, as a batch
  norm without weight decay leaves them.
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

__all__ = ["OUTLIER_LAYERS", "RESIDUAL_BLOCKS", "with_outliers", "without_shortcuts"]

OUTLIER_LAYERS: Final = (
    ("backbone.stem.conv", "backbone.levels.0.0.conv"),
    ("backbone.smooth.conv", "stage.entry.conv"),
    ("stage.refine.conv", "stage.heatmap"),
)
"""Pairs of layers of ``lspd-s``, each the only reader of the one before it, a ReLU in between."""
RESIDUAL_BLOCKS: Final = ("backbone.levels.",)
"""Where the blocks of ``lspd-s`` are that have two 3x3 convolutions."""


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
def without_shortcuts(network: GraphModule, *, gain: float = 1.0, blocks: Sequence[str] = ("",)) -> GraphModule:
    """Turn every ``relu(x + conv(relu(... conv(x))))`` with ``x >= 0`` into a chain of convolutions.

    The convolutions keep the picture's size; those between the first and the last may be depthwise.

    Args:
        network: Fused, its layers modules.
        gain: Of the channels that a block's last convolution reads.
        blocks: Only blocks of which the layers' paths begin with one of these.

    Raises:
        ValueError: The network has no such block.
    """
    plain = copy.deepcopy(network)
    found = [(node, chain) for node in plain.graph.nodes if (chain := _chain(plain, node))]
    found = [(total, chain) for total, chain in found if str(chain[0].target).startswith(tuple(blocks))]
    if not found:
        message = "the network has no residual block of convolutions that keep the picture's size"
        raise ValueError(message)
    for total, chain in found:
        layers: list[Any] = [plain.get_submodule(str(node.target)) for node in chain]
        first, *inner, last = layers
        carried = first.in_channels
        wider = [_carrying(first, torch.cat([_identity(first, carried), first.weight]), carried)]
        wider += [_carrying(each, _beside_identity(each, carried), carried) for each in inner]
        wider[-1].weight[carried:] *= gain
        wider[-1].bias[carried:] *= gain
        onto = torch.cat([_identity(last, carried), last.weight / gain], dim=1)
        for node, layer in zip(chain, [*wider, _carrying(last, onto, 0)], strict=True):
            plain.set_submodule(str(node.target), layer)
        total.replace_all_uses_with(chain[-1])
        plain.graph.erase_node(total)
    plain.recompile()
    return plain


def _chain(network: GraphModule, total: Node) -> list[Node]:
    """Give the convolutions of a residual block that an addition ends, in order; none where it ends no such block."""
    if total.op != "call_function" or total.target not in (operator.add, torch.add, torch.ops.aten.add.Tensor):
        return []
    shortcut, node = total.args[:2]
    if not (isinstance(shortcut, Node) and isinstance(node, Node) and _is_relu(network, shortcut)):
        return []
    chain: list[Node] = []
    while len(node.users) == 1 and _keeps_size(network, node):
        chain.insert(0, node)
        node = node.all_input_nodes[0]
        if node is shortcut:
            return chain if len(chain) > 1 and _is_dense(network, chain[0]) and _is_dense(network, chain[-1]) else []
        if len(node.users) > 1 or not _is_relu(network, node):
            break
        node = node.all_input_nodes[0]
    return []


def _keeps_size(network: GraphModule, node: Node) -> bool:
    """Tell a convolution whose kernel has a middle and whose result is as large as its input."""
    layer = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.Conv2d) or layer.stride != (1, 1) or isinstance(layer.padding, str):
        return False
    reach = zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
    return layer.groups in (1, layer.in_channels) and all(2 * pad == step * (size - 1) for pad, step, size in reach)


def _is_dense(network: GraphModule, node: Node) -> bool:
    return bool(network.get_submodule(str(node.target)).groups == 1)


def _is_relu(network: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.ReLU)
    return "relu" in str(node.target)


def _identity(layer: Any, channels: int) -> Tensor:
    """Give the kernel, of a layer's size, that hands so many channels on."""
    kernel = torch.zeros(channels, channels, *layer.kernel_size)
    nn.init.dirac_(kernel)
    return kernel


def _beside_identity(layer: Any, channels: int) -> Tensor:
    """Give the kernel that hands so many channels on and computes what the layer does of the others."""
    if layer.groups > 1:
        hands_on = torch.zeros(channels, 1, *layer.kernel_size)
        nn.init.dirac_(hands_on, groups=channels)
        return torch.cat([hands_on, layer.weight])
    both = torch.zeros(channels + layer.out_channels, channels + layer.in_channels, *layer.kernel_size)
    both[:channels, :channels] = _identity(layer, channels)
    both[channels:, channels:] = layer.weight
    return both


def _carrying(layer: Any, weight: Tensor, channels: int) -> Any:
    """Give a layer like another one with other weights, which hands so many channels on, and so needs no bias there."""
    makes, reads = weight.shape[:2]
    groups = makes if layer.groups > 1 else 1
    size, padding, dilation = layer.kernel_size, layer.padding, layer.dilation
    made = nn.Conv2d(reads * groups, makes, size, padding=padding, dilation=dilation, groups=groups)
    assert made.bias is not None
    made.weight.copy_(weight)
    made.bias.copy_(torch.cat([torch.zeros(channels), layer.bias]))
    return made.eval()
