"""Rewrite: parallel linear depthwise branches become one depthwise convolution with a bias.

Branch ``i`` of a :class:`LinearBranches` is a depthwise k_i x k_i convolution at dilation d_i, zero-padded by its reach
``r_i = d_i (k_i - 1) / 2``, followed by its batch norm, an affine map (``fold_norm``). A 1x1 has reach 0; the identity
branch is the 1x1 of weight one. All branches read the same picture, which zero padding continues by zeros in each of
them alike, and every norm comes after its padding, so the sum is one affine map::

    sum_i (scale_i (w_i * x) + shift_i) = (sum_i scale_i embed(w_i)) * x + sum_i shift_i

1. The merged kernel has side ``2 R + 1`` with ``R = max r_i`` and is zero-padded by ``R``. Tap ``j`` of branch ``i``
   lands at ``R - r_i + d_i j``, on each axis by itself; taps that coincide add up.
2. The arithmetic is done in float64 and rounded once, to the dtype of the weights.
3. A branch whose own side is over ``largest_kernel`` stays apart (its norm is folded): one runtime has a fast depthwise
   kernel up to 5x5 only, and a 7x7 there costs ten times the branches it replaces. The other branches are merged.
4. A branch of another form (not depthwise, strided, padded otherwise, with an activation) stays apart as well.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lspdmobile.fusion.fold_norm import affine_of, folded
from lspdmobile.fusion.site import Site
from lspdmobile.networks.blocks import ConvNormAct, LinearBranches

__all__ = ["LARGEST_KERNEL", "merge_linear_branches", "merged"]

REWRITE: Final = "merge branches"
LARGEST_KERNEL: Final = 5


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """One branch as an undilated kernel float64 ``[C, 2 r_y + 1, 2 r_x + 1]`` and a shift float64 ``[C]``."""

    kernel: Tensor
    shift: Tensor


def merge_linear_branches(network: nn.Module, *, largest_kernel: int = LARGEST_KERNEL) -> list[Site]:
    """Merge the branches of every :class:`LinearBranches` inside the network in place; return where."""
    sites: list[Site] = []
    for path, module in list(network.named_modules()):
        if not (path and isinstance(module, LinearBranches)):
            continue
        result = merged(module, largest_kernel=largest_kernel)
        if result is None:
            continue
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, result)
        channels = next(m.in_channels for m in result.modules() if isinstance(m, nn.Conv2d))
        sites.append(Site(name=path, rewrite=REWRITE, sources=(path,), results=(path,), in_channels=channels))
    return sites


def merged(module: LinearBranches, *, largest_kernel: int) -> nn.Module | None:
    """Give one module's merged form: a convolution, or fewer branches where some stay apart; None if none merge."""
    joined: list[_Linear] = []
    apart: list[ConvNormAct] = []
    for branch in module.branches:
        linear = _linear(branch)
        if linear is not None and max(linear.kernel.shape[1:]) <= largest_kernel:
            joined.append(linear)
        elif isinstance(branch, ConvNormAct):
            apart.append(branch)
        else:
            return None
    if not joined:
        return None
    conv = _sum(joined, like=next(module.parameters()))
    if not apart:
        return conv
    for branch in apart:
        if isinstance(branch.norm, nn.BatchNorm2d):
            branch.conv, branch.norm = folded(branch.conv, branch.norm), nn.Identity().eval()
    module.branches = nn.ModuleList((conv, *apart)).eval()
    return module


def _linear(branch: nn.Module) -> _Linear | None:
    """Write a branch as an undilated kernel and a shift; None if it has another form."""
    if isinstance(branch, nn.BatchNorm2d):
        scale, shift = affine_of(branch)
        return _Linear(kernel=scale[:, None, None], shift=shift)
    if not isinstance(branch, ConvNormAct) or not isinstance(branch.norm, nn.BatchNorm2d):
        return None
    conv = branch.conv
    if not (_is_depthwise_same(conv) and isinstance(branch.act, nn.Identity)):
        return None
    scale, shift = affine_of(branch.norm)
    if conv.bias is not None:
        shift = shift + scale * conv.bias.detach().double()
    return _Linear(kernel=scale[:, None, None] * _undilated(conv), shift=shift)


def _is_depthwise_same(conv: nn.Conv2d) -> bool:
    reach = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and all(k % 2 == 1 for k in conv.kernel_size)
        and tuple(conv.stride) == (1, 1)
        and tuple(conv.padding) == reach
        and conv.padding_mode == "zeros"
    )


def _undilated(conv: nn.Conv2d) -> Tensor:
    """Spread a dilated kernel over the taps it really reads: float64 ``[C, d (k - 1) + 1, d (k - 1) + 1]``."""
    weight = conv.weight.detach().double()[:, 0]
    sides = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    kernel = weight.new_zeros(len(weight), *sides)
    kernel[:, :: conv.dilation[0], :: conv.dilation[1]] = weight
    return kernel


def _sum(branches: list[_Linear], *, like: Tensor) -> nn.Conv2d:
    """Add branches up into one depthwise convolution with a bias, in dtype and place of ``like``."""
    channels = len(branches[0].shift)
    height, width = (max(branch.kernel.shape[axis] for branch in branches) for axis in (1, 2))
    kernel = branches[0].kernel.new_zeros(channels, height, width)
    shift = torch.zeros_like(branches[0].shift)
    for branch in branches:
        rows, columns = branch.kernel.shape[1:]
        top, left = (height - rows) // 2, (width - columns) // 2
        kernel[:, top : top + rows, left : left + columns] += branch.kernel
        shift += branch.shift
    conv = nn.Conv2d(
        channels,
        channels,
        (height, width),
        padding=((height - 1) // 2, (width - 1) // 2),
        groups=channels,
        device=like.device,
        dtype=like.dtype,
    ).requires_grad_(requires_grad=False)
    assert conv.bias is not None
    conv.weight.copy_(kernel[:, None])
    conv.bias.copy_(shift)
    return conv.eval()
