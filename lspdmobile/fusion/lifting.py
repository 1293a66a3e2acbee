"""One node of an exported program as a layer with weights: which operators there are, and how each one is read.

Every operator that carries weights, and every activation that was a module, becomes a module again, float64, so that
the fused graph reads like the network it came from: convolutions are ``nn.Conv2d`` at their old paths.
"""

import operator
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import Node

__all__ = ["Constants", "arguments_of", "layer_of"]

Constants = Callable[[Any], Tensor | None]
"""Gives the float64 tensor behind a ``get_attr`` argument; None for anything else."""

_ATEN: Final = torch.ops.aten
_CONVS: Final[dict[Any, type[nn.Module]]] = {
    _ATEN.conv1d.default: nn.Conv1d,
    _ATEN.conv2d.default: nn.Conv2d,
    _ATEN.conv2d.padding: nn.Conv2d,
    _ATEN.conv3d.default: nn.Conv3d,
}
_TRANSPOSED: Final[dict[Any, type[nn.Module]]] = {
    _ATEN.conv_transpose1d.default: nn.ConvTranspose1d,
    _ATEN.conv_transpose2d.input: nn.ConvTranspose2d,
    _ATEN.conv_transpose3d.input: nn.ConvTranspose3d,
}
_NORMS: Final = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_ACTIVATIONS: Final[dict[Any, tuple[type[nn.Module], ...]]] = {
    _ATEN.relu.default: (nn.ReLU,),
    _ATEN.hardtanh.default: (nn.ReLU6, nn.Hardtanh),
    _ATEN.elu.default: (nn.ELU,),
    _ATEN.leaky_relu.default: (nn.LeakyReLU,),
    _ATEN.hardswish.default: (nn.Hardswish,),
    _ATEN.hardsigmoid.default: (nn.Hardsigmoid,),
    _ATEN.silu.default: (nn.SiLU,),
    _ATEN.gelu.default: (nn.GELU,),
    _ATEN.mish.default: (nn.Mish,),
    _ATEN.sigmoid.default: (nn.Sigmoid,),
    _ATEN.tanh.default: (nn.Tanh,),
}


def layer_of(node: Node, constants: Constants) -> tuple[nn.Module, list[str]] | None:
    """Read a node as a module in eval mode, float64.

    Args:
        node: Of an exported program without in-place operators.
        constants: Gives the tensors behind ``get_attr`` arguments.

    Returns:
        The module and the paths it may have, best first; None where the node carries no constant weights and was no
        activation module.
    """
    if node.target in _ACTIVATIONS:
        return _activation(node)
    given = arguments_of(node)
    weight = constants(given.get("weight"))
    if node.target is _ATEN.batch_norm.default or _gives_the_norm_alone(node):
        return _norm(node, given, constants)
    if weight is None or (given.get("bias") is not None and constants(given["bias"]) is None):
        return None
    module: nn.Module | None = None
    if node.target is _ATEN.linear.default:
        module = _filled(
            nn.Linear(weight.shape[1], weight.shape[0], device="meta"), weight, constants(given.get("bias"))
        )
    elif node.target in _CONVS or node.target in _TRANSPOSED or node.target is _ATEN.convolution.default:
        module = _convolution(node, given, weight, constants(given.get("bias")))
    return None if module is None else (module, [_owner(given["weight"])])


def _gives_the_norm_alone(node: Node) -> bool:
    """Whether a norm operator that also gives its batch's statistics is read for the normalised value only."""
    return node.target is _ATEN._native_batch_norm_legit_no_training.default and all(
        user.target is operator.getitem and user.args[1] == 0 for user in node.users
    )


def arguments_of(node: Node) -> dict[str, Any]:
    """Give a node's arguments by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    given = {argument.name: argument.default_value for argument in schema.arguments}
    given.update({a.name: value for a, value in zip(schema.arguments, node.args, strict=False)})
    given.update(node.kwargs)
    return given


def _owner(node: Any) -> str:
    """Give the path of the module that owns a weight: its name without the last part where that is ``weight``."""
    name = str(node.target)
    return name.removesuffix(".weight") if name.endswith(".weight") else name


def _convolution(node: Node, given: dict[str, Any], weight: Tensor, bias: Tensor | None) -> nn.Module | None:
    dims = weight.ndim - 2
    transposed = node.target in _TRANSPOSED or bool(given.get("transposed"))
    kinds: list[type[nn.Module]] = (
        [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
        if transposed
        else [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    )
    groups = int(given["groups"])
    channels = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    options: dict[str, Any] = {
        "stride": _per_axis(given["stride"], dims),
        "dilation": _per_axis(given["dilation"], dims),
        "groups": groups,
        "bias": bias is not None,
        "device": "meta",
    }
    padding = _padding(given["padding"], weight, options["dilation"], options["stride"])
    if padding is None:
        return None
    if transposed:
        options["output_padding"] = _per_axis(given["output_padding"], dims)
    kind: Any = kinds[dims - 1]
    return _filled(kind(*channels, tuple(weight.shape[2:]), padding=padding, **options), weight, bias)


def _padding(
    padding: Any, weight: Tensor, dilation: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Give padding as numbers; None where ``same`` pads opposite sides differently."""
    if padding == "valid":
        return (0,) * (weight.ndim - 2)
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        return tuple(r // 2 for r in reach) if all(r % 2 == 0 for r in reach) and set(stride) == {1} else None
    return _per_axis(padding, weight.ndim - 2)


def _per_axis(value: Any, dims: int) -> tuple[int, ...]:
    numbers = tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)
    return numbers * dims if len(numbers) == 1 else numbers


def _norm(node: Node, given: dict[str, Any], constants: Constants) -> tuple[nn.Module, list[str]] | None:
    mean, variance = constants(given["running_mean"]), constants(given["running_var"])
    weight, bias = constants(given["weight"]), constants(given["bias"])
    shape = node.meta["shape"] or _input_shape(node)
    if mean is None or variance is None or shape is None:
        return None
    norm = _NORMS[len(shape)](len(mean), eps=float(given["eps"]), affine=weight is not None or bias is not None)
    norm = norm.double().eval().requires_grad_(requires_grad=False)
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    if weight is not None:
        norm.weight.copy_(weight)
    if bias is not None:
        norm.bias.copy_(bias)
    return norm, [str(given["running_mean"].target).removesuffix(".running_mean")]


def _input_shape(node: Node) -> tuple[int, ...] | None:
    source = node.args[0]
    shape: tuple[int, ...] | None = source.meta["shape"] if isinstance(source, Node) else None
    return shape


def _activation(node: Node) -> tuple[nn.Module, list[str]] | None:
    """Read an activation that was a module as that module; ELU always, since TFLite needs it as one."""
    kinds = {kind.__name__: kind for kind in _ACTIVATIONS[node.target]}
    path, name = (node.meta["modules"] or (("", ""),))[-1]
    kind: Any = kinds.get(name.rpartition(".")[2])
    if kind is None:
        if node.target is not _ATEN.elu.default:
            return None
        kind, path = nn.ELU, f"{path}.{node.name}".lstrip(".")
    given = arguments_of(node)
    module = _activation_module(kind, given)
    return None if module is None else (module.eval(), [path or node.name])


def _activation_module(kind: Any, given: dict[str, Any]) -> nn.Module | None:
    """Make an activation module from its operator's arguments; None where the module cannot say them."""
    if kind is nn.ReLU6:
        return nn.ReLU6() if (given["min_val"], given["max_val"]) == (0, 6) else None
    if kind is nn.Hardtanh:
        return nn.Hardtanh(float(given["min_val"]), float(given["max_val"]))
    if kind is nn.ELU:
        return nn.ELU(float(given["alpha"])) if (given["scale"], given["input_scale"]) == (1, 1) else None
    if kind is nn.LeakyReLU:
        return nn.LeakyReLU(float(given["negative_slope"]))
    if kind is nn.GELU:
        return nn.GELU(approximate=str(given["approximate"]))
    module: nn.Module = kind()
    return module


def _filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    module._parameters["weight"] = nn.Parameter(weight.clone(), requires_grad=False)
    module._parameters["bias"] = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
    return module.eval()
