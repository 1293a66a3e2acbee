"""Rewrite: a convolution followed by its batch norm becomes one convolution with a bias.

In eval mode a batch norm is an affine map of each channel ``c``, with constants learnt in training::

    norm(y)[c] = scale[c] * y[c] + shift[c]
    scale = gamma / sqrt(running_var + eps)
    shift = beta - scale * running_mean

and a convolution is linear in its weight, so for ``y = W * x + b`` (``*`` is the convolution, whatever its stride,
padding, dilation or groups)::

    norm(W * x + b) = (scale W) * x + (scale b + shift)

1. Only a norm that reads nothing but its convolution is folded: the two of a ``ConvNormAct``, and neighbours in a plain
   ``nn.Sequential``.
2. The arithmetic is done in float64 and rounded once, to the dtype of the weight.
3. The norm's place is taken by ``nn.Identity``, so that module paths stay what they were.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from lspdmobile.fusion.site import Site
from lspdmobile.networks.blocks import ConvNormAct

__all__ = ["affine_of", "fold_norms", "folded"]

REWRITE: Final = "fold norm"


def fold_norms(network: nn.Module) -> list[Site]:
    """Fold every foldable batch norm of the network in place; return where."""
    sites: list[Site] = []
    for owner_path, conv_name, norm_name in list(_pairs(network)):
        owner = network.get_submodule(owner_path)
        conv, norm = owner.get_submodule(conv_name), owner.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        setattr(owner, conv_name, folded(conv, norm))
        setattr(owner, norm_name, nn.Identity().eval())
        prefix = f"{owner_path}." if owner_path else ""
        conv_path, norm_path = prefix + conv_name, prefix + norm_name
        sites.append(
            Site(
                name=conv_path,
                rewrite=REWRITE,
                sources=(conv_path, norm_path),
                results=(conv_path, norm_path),
                in_channels=conv.in_channels,
            )
        )
    return sites


def affine_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Give scale and shift of a batch norm in eval mode, float64 ``[C]`` each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.detach().double(), norm.running_var.detach().double()
    gamma = norm.weight.detach().double() if norm.affine else torch.ones_like(mean)
    beta = norm.bias.detach().double() if norm.affine else torch.zeros_like(mean)
    scale = gamma / torch.sqrt(variance + norm.eps)
    return scale, beta - scale * mean


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Make one convolution with a bias that equals the convolution followed by the batch norm."""
    scale, shift = affine_of(norm)
    bias = torch.zeros_like(shift) if conv.bias is None else conv.bias.detach().double()
    result = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.padding if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1]),
        dilation=(conv.dilation[0], conv.dilation[1]),
        groups=conv.groups,
        padding_mode=conv.padding_mode,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    ).requires_grad_(requires_grad=False)
    assert result.bias is not None
    result.weight.copy_(conv.weight.detach().double() * scale[:, None, None, None])
    result.bias.copy_(bias * scale + shift)
    return result.eval()


def _pairs(network: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Give owner path, name of the convolution and name of the norm of every foldable pair."""
    for path, module in network.named_modules():
        if isinstance(module, ConvNormAct):
            names: list[str] = ["conv", "norm"]
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            names = list(dict(module.named_children()))
        else:
            continue
        for first, second in pairwise(names):
            conv, norm = getattr(module, first), getattr(module, second)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield path, first, second
