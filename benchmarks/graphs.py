"""Exported networks in PyTorch, brought to the shape that Core ML Tools gives them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.nn.utils import fuse_conv_bn_weights

__all__ = ["dequantize_scalars", "exported", "folded"]


def exported(network: nn.Module, picture: Tensor) -> ExportedProgram:
    """Export a network for pictures of one shape."""
    with torch.no_grad():
        return torch.export.export(network, (picture,))


def folded(network: nn.Module, picture: Tensor) -> GraphModule:
    """Export a network; batch norms and multiplications by a constant are folded into the convolutions they read.

    Core ML Tools does the same, so each weight of its package has its parameter here.
    """
    module: GraphModule = exported(network, picture).module(check_guards=False)
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.dropout.default:  # in eval mode it does nothing but stand in between
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target is torch.ops.aten.batch_norm.default and _is_only_for_this(node.args[0]):
            _fold_norm(module, node.args[0], node)
        elif node.target is torch.ops.aten.mul.Tensor:
            for conv, factor in (node.args, node.args[::-1]):
                if _is_only_for_this(conv) and (scale := _constant(module, factor)) is not None:
                    _fold_scale(module, conv, node, scale)
                    break
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def dequantize_scalars(module: GraphModule) -> None:
    """Replace each int8 number that is dequantized, such as the 3 of ``x + 3``, by the float it stands for.

    Core ML Tools 9.0 subtracts the zero point in int8, where 127 - -128 is -1, and would write another number.
    """
    dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor.default
    for node in list(module.graph.nodes):
        if node.target is dequantize and (value := _constant(module, node)) is not None:
            module.register_buffer(node.name, value)
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(module.graph.get_attr(node.name))
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_only_for_this(node: Any) -> bool:
    """Whether a node is a convolution that one other node reads."""
    return isinstance(node, Node) and ".conv" in str(node.target) and len(node.users) == 1


def _constant(module: GraphModule, node: Any) -> Tensor | None:
    """Give the value of a node that depends on constants only; None of others."""
    if not isinstance(node, Node):
        return None
    if node.op == "get_attr":
        owner, _, name = str(node.target).rpartition(".")
        tensor: Tensor = getattr(module.get_submodule(owner), name)
        return tensor.detach()
    if node.op != "call_function" or not node.all_input_nodes:
        return None
    inputs: dict[Node, Tensor] = {}
    for each in node.all_input_nodes:
        known = _constant(module, each)
        if known is None:  # at once: with the others' ways up to the picture the time would be exponential
            return None
        inputs[each] = known
    function: Any = node.target
    value: Tensor = function(*(inputs[each] if isinstance(each, Node) else each for each in node.args))
    return value


def _fold_norm(module: GraphModule, conv: Node, norm: Node) -> None:
    gamma, beta, mean, variance = (_constant(module, each) for each in norm.args[1:5])
    epsilon: Any = norm.args[7]
    assert mean is not None
    assert variance is not None
    weight, bias = _weight_and_bias(module, conv)
    transposed = "transpose" in str(conv.target)
    fused = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, gamma, beta, transpose=transposed)
    _replace(module, conv, norm, *fused)


def _fold_scale(module: GraphModule, conv: Node, product: Node, scale: Tensor) -> None:
    """Fold a factor per output channel, ``[C, 1, 1]`` or a single number."""
    weight, bias = _weight_and_bias(module, conv)
    factors = scale.reshape(-1, *[1] * (weight.dim() - 1))
    if "transpose" in str(conv.target):
        factors = factors.transpose(0, 1)
    _replace(module, conv, product, weight * factors, None if bias is None else bias * scale.reshape(-1))


def _weight_and_bias(module: GraphModule, conv: Node) -> tuple[Tensor, Tensor | None]:
    weight, bias = (*conv.args[1:3], None)[:2]
    value = _constant(module, weight)
    assert value is not None
    return value, _constant(module, bias)


def _replace(module: GraphModule, conv: Node, replaced: Node, *tensors: Tensor | None) -> None:
    """Give a convolution another weight and bias, and let it stand for the node after it."""
    nodes: list[Node | None] = []
    for kind, tensor in zip(("weight", "bias"), tensors, strict=True):
        name = f"{replaced.name}_{kind}"
        if tensor is not None:
            module.register_parameter(name, nn.Parameter(tensor.detach(), requires_grad=False))
            with module.graph.inserting_before(conv):
                nodes.append(module.graph.get_attr(name))
        else:
            nodes.append(None)
    conv.args = (conv.args[0], *nodes, *conv.args[3:])
    replaced.replace_all_uses_with(conv)
    module.graph.erase_node(replaced)
