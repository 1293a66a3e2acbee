"""What a network must be before it is fused; every fault of one kind is named at once."""

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from lspdmobile.errors import BadInputError

__all__ = ["refuse_changing_buffers", "refuse_unfusable", "refuse_unfusable_program"]

_SHOWN = 5
_FLOATS = (torch.float32, torch.float64)
_TRAIN = "in train mode, where batch norms follow the batch; call network.eval()"
_NO_STATISTICS = "batch norm without running statistics; train with track_running_stats=True"
_NORM_MEAN, _NORM_TRAINING = 3, 5  # places among the arguments of aten::batch_norm
_DROPOUT_TRAINING = 2  # place among the arguments of aten::dropout


def refuse_unfusable(network: nn.Module) -> None:
    """Raise unless a module can be fused exactly.

    Raises:
        BadInputError: It is in train mode, or a batch norm has no running statistics.
    """
    _refuse([path or "the network" for path, module in network.named_modules() if module.training], _TRAIN)
    _refuse(_without_statistics(network), _NO_STATISTICS)


def refuse_unfusable_program(program: ExportedProgram) -> None:
    """Raise unless an exported program can be fused exactly.

    Raises:
        BadInputError: It was exported in train mode; a batch norm has no running statistics; a tensor holds numbers
            that are not finite, a variance is negative, or a parameter's type is not float32 or float64.
    """
    nodes = program.graph.nodes
    norms = [node for node in nodes if node.target is torch.ops.aten.batch_norm.default]
    _refuse([node.name for node in norms if node.args[_NORM_MEAN] is None], _NO_STATISTICS)
    dropouts = [
        node.name for node in nodes if "dropout" in str(node.target) and node.args[_DROPOUT_TRAINING:3] == (True,)
    ]
    _refuse([node.name for node in norms if node.args[_NORM_TRAINING]] + dropouts, _TRAIN + " and export again")
    tensors = {name: value for name, value in program.state_dict.items() if isinstance(value, Tensor)}
    other = [f"{name} ({value.dtype})" for name, value in program.named_parameters() if value.dtype not in _FLOATS]
    _refuse(other, "not float32 or float64; fuse the float network before any conversion")
    bad = [name for name, value in tensors.items() if _is_bad(name, value)]
    _refuse(bad, "not finite numbers, or a negative variance; the checkpoint is damaged, train it again")


def refuse_changing_buffers(functional: ExportedProgram) -> None:
    """Raise if a program without in-place operators writes to its own buffers.

    Raises:
        BadInputError: It does; what it gives depends on how often it ran.
    """
    _refuse(list(functional.graph_signature.buffers_to_mutate.values()), "changed while the network runs")


def _refuse(names: list[str], reason: str) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        message = f"cannot fuse: {', '.join(names[:_SHOWN])}{more}: {reason}"
        raise BadInputError(message)


def _is_bad(name: str, tensor: Tensor) -> bool:
    return not bool(torch.isfinite(tensor).all()) or (name.endswith("running_var") and bool((tensor < 0).any()))


def _without_statistics(network: nn.Module) -> list[str]:
    return [
        path or "the network"
        for path, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]
