"""Rewrite: a factor and a summand per channel after a linear map go into its weights and bias.

In eval mode a batch norm is an affine map of each channel ``c``, with constants learnt in training::

    norm(y)[c] = scale[c] * y[c] + shift[c]
    scale = gamma / sqrt(running_var + eps)
    shift = beta - scale * running_mean

and a convolution is linear in its weight, so for ``y = W * x + b`` (``*`` is the convolution, whatever its stride,
padding, dilation or groups)::

    norm(W * x + b) = (scale W) * x + (scale b + shift)

The same holds for a transposed convolution, whose output channels are the second axis of each group of its weight, and
for a matrix product. Constant factors (LayerScale) and summands after a convolution are the same rewrite.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lspdmobile.fusion.linear import Linear

__all__ = ["Weighted", "affine_of", "folded", "scaled"]

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear


def affine_of(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Give scale and shift of a batch norm in eval mode, float64 ``[C]`` each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.detach().double(), norm.running_var.detach().double()
    gamma = norm.weight.detach().double() if norm.affine else torch.ones_like(mean)
    beta = norm.bias.detach().double() if norm.affine else torch.zeros_like(mean)
    scale = gamma / torch.sqrt(variance + norm.eps)
    return scale, beta - scale * mean


def scaled(linear: Linear, scale: Tensor, shift: Tensor | None) -> Linear:
    """Give one map that equals the map followed by ``scale[c] y[c] + shift[c]``."""
    bias = None if linear.bias is None else scale * linear.bias
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return replace(linear, weight=scale[:, None, None, None] * linear.weight, bias=bias)


def folded(module: nn.Module, scale: Tensor, shift: Tensor) -> nn.Module:
    """Give a copy of any layer with weights that equals the layer followed by ``scale[c] y[c] + shift[c]``."""
    assert isinstance(module, Weighted)
    bias = torch.zeros_like(shift) if module.bias is None else module.bias.detach().double()
    weight = module.weight.detach().double()
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        groups = module.groups
        by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        weight = (by_group * scale.reshape(groups, 1, -1, 1)).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return _with(module, weight, scale * bias + shift)


def _with(module: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    result = type(module).__new__(type(module))
    result.__dict__.update({k: v for k, v in module.__dict__.items() if k not in ("_parameters", "_buffers")})
    result._parameters = {
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": nn.Parameter(bias, requires_grad=False),
    }
    result._buffers = {}
    return result
