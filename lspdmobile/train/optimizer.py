"""The optimizers of a run: AdamW for everything, or Muon for the dense convolutions inside the network.

Muon (Jordan et al., 2024; scaled to AdamW's update size as in Liu et al., arXiv 2502.16982) orthogonalises the momentum
of each weight matrix. PyTorch's takes matrices only, so a convolution's weight is handed to it as a matrix
``[C_out, C_in * k * k]`` that shares its memory.
"""

from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from lspdmobile.train.config import TrainConfig

__all__ = ["Optimizer", "optimizer_for"]

_PICTURE_CHANNELS: Final = 3


class Optimizer(Protocol):
    """What a run needs of an optimizer."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups whose ``lr`` the schedule sets."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Take a step."""

    def state_dict(self) -> dict[str, Any]:
        """Give all that a resumed run needs."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a :meth:`state_dict`."""


def optimizer_for(network: nn.Module, config: TrainConfig) -> Optimizer:
    """Build the run's optimizer for a network that stays where it is (its weights' memory is shared).

    Norms and biases are not decayed. With ``"muon"``, AdamW keeps the first and the last layers, the depthwise
    convolutions, norms and biases, as Muon's authors advise.
    """
    if config.optimizer == "adamw":
        return _adamw(list(network.parameters()), config)
    return _MuonAndAdamW(network, config)


class _MuonAndAdamW:
    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        self._weights = _hidden_matrices(network)
        self._matrices = [nn.Parameter(_as_matrix(w.detach())) for w in self._weights]
        if any(m.data_ptr() != w.data_ptr() for m, w in zip(self._matrices, self._weights, strict=True)):
            message = "a convolution's weight is neither contiguous nor channels_last"
            raise ValueError(message)
        self._muon = torch.optim.Muon(
            self._matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        taken = {id(w) for w in self._weights}
        self._adamw = _adamw([p for p in network.parameters() if id(p) not in taken], config)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self._weights:
            weight.grad = None
        self._adamw.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for matrix, weight in zip(self._matrices, self._weights, strict=True):
            # Columns in the order of the weight's memory, not of the gradient's.
            matrix.grad = None if weight.grad is None else _as_matrix(_laid_out_like(weight.grad, weight))
        self._muon.step()
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def _adamw(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )


def _hidden_matrices(network: nn.Module) -> list[Tensor]:
    """Give the weights of the dense convolutions that see neither the picture nor give heatmaps."""
    return [
        module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.in_channels != _PICTURE_CHANNELS
        and not name.endswith("heatmap")
    ]


def _as_matrix(weight: Tensor) -> Tensor:
    """View ``[C_out, C_in, k, k]`` as ``[C_out, C_in * k * k]``, columns in the order of memory."""
    if weight.is_contiguous():
        return weight.flatten(1)
    return weight.permute(0, 2, 3, 1).flatten(1)


def _laid_out_like(gradient: Tensor, weight: Tensor) -> Tensor:
    form = torch.contiguous_format if weight.is_contiguous() else torch.channels_last
    return gradient.contiguous(memory_format=form)
