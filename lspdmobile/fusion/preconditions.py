"""What a network must be before it is fused; every fault of one kind is named at once."""

from collections import defaultdict

import torch
from torch import nn

from lspdmobile.errors import BadInputError

__all__ = ["refuse_unfusable"]

_SHOWN = 5


def refuse_unfusable(network: nn.Module) -> None:
    """Raise unless the network can be fused exactly.

    Raises:
        BadInputError: It is in train mode; a tensor holds numbers that are not finite, a variance is negative, or its
            type is not float32 or float64; a batch norm has no running statistics; a convolution or norm is registered
            under two names, or two of them share a weight.
    """
    _refuse(_in_train_mode(network), "in train mode, where batch norms follow the batch; call network.eval()")
    _refuse(_of_other_dtype(network), "not float32 or float64; fuse the float network before any conversion")
    _refuse(
        _not_finite(network), "not finite numbers, or a negative variance; the checkpoint is damaged, train it again"
    )
    _refuse(_without_statistics(network), "batch norm without running statistics; train with track_running_stats=True")
    _refuse(_shared(network), "shared between two places; give each its own copy, a rewrite of one would change both")


def _refuse(names: list[str], reason: str) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        message = f"cannot fuse: {', '.join(names[:_SHOWN])}{more}: {reason}"
        raise BadInputError(message)


def _in_train_mode(network: nn.Module) -> list[str]:
    return [path or "the network" for path, module in network.named_modules() if module.training]


def _of_other_dtype(network: nn.Module) -> list[str]:
    return [
        f"{name} ({tensor.dtype})"
        for name, tensor in network.named_parameters()
        if tensor.dtype not in (torch.float32, torch.float64)
    ]


def _not_finite(network: nn.Module) -> list[str]:
    return [
        name
        for name, tensor in network.state_dict().items()
        if not bool(torch.isfinite(tensor).all()) or (name.endswith("running_var") and bool((tensor < 0).any()))
    ]


def _without_statistics(network: nn.Module) -> list[str]:
    return [
        path or "the network"
        for path, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.running_mean is None)
    ]


def _shared(network: nn.Module) -> list[str]:
    """Find convolutions and norms with two names, and tensors two of them hold, also as views of one storage."""
    places: defaultdict[int, list[str]] = defaultdict(list)
    for path, module in network.named_modules(remove_duplicate=False):
        if not isinstance(module, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm):
            continue
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.numel():
                places[tensor.untyped_storage().data_ptr()].append(f"{path}.{name}")
    return [" = ".join(names) for names in places.values() if len(names) > 1]
