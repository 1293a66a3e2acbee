"""The recipes by name. A recipe is a module: what trains, its loss, and what of it ships."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from lspdmobile.errors import BadInputError
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.lspd import LspdConfig
from lspdmobile.networks.presets import PRESETS, preset
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.train import ldcrn, lspd, okdhp
from lspdmobile.train.config import DistillConfig, RecipeName, TrainConfig
from lspdmobile.train.losses import Targets

__all__ = ["RECIPES", "Recipe", "contract_for", "network_config"]


class Recipe(Protocol):
    """What the training loop asks of a recipe; ``outputs`` is whatever its training network gives."""

    @property
    def CONFIGS(self) -> tuple[type[NetworkConfig], ...]:  # noqa: N802 - a module's constant
        """Kinds of networks it trains."""

    def training_network(self, config: Any) -> nn.Module:
        """Make what trains, of one of ``CONFIGS``."""

    def loss(
        self, outputs: Any, targets: Targets, config: DistillConfig, *, ramp: float, averaged: Any | None = None
    ) -> Tensor:
        """Give the loss of a step; ``averaged`` holds the averaged network's outputs where it is the teacher."""

    def candidates(self, outputs: Any) -> Sequence[Tensor]:
        """Give the heatmaps ``[N, K, h, w]`` of every network that may ship."""

    def teacher(self, outputs: Any) -> Tensor | None:
        """Give the heatmaps of what teaches, where it is another."""

    def deployed(self, network: nn.Module, candidate: int) -> nn.Module:
        """Give the candidate that ships, as its architecture builds it."""

    def start(self, network: nn.Module, student: Mapping[str, Tensor]) -> None:
        """Load a student's state dict where the first candidate comes from."""


RECIPES: Final[Mapping[RecipeName, Recipe]] = {"lspd": lspd, "okdhp": okdhp, "ldcrn": ldcrn}


def network_config(config: TrainConfig) -> NetworkConfig:
    """Give the network configuration the run trains: the preset, with what the run replaces of it.

    Raises:
        BadInputError: No preset has that name, the recipe does not train it, a replaced field is unknown or has a
            wrong value (all are listed), or the network cannot take pictures as large as the phases'.
    """
    base = preset(config.preset)
    kinds = RECIPES[config.recipe].CONFIGS
    if type(base) not in kinds:
        trained = ", ".join(name for name, found in PRESETS.items() if type(found) in kinds)
        message = f"preset {config.preset}: the recipe {config.recipe!r} trains the presets {trained}"
        raise BadInputError(message)
    known = asdict(base)
    faults = [f"{name}: no such field" for name in config.network if name not in known]
    try:
        network = TypeAdapter(type(base)).validate_python({**known, **config.network})
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, e['loc'])) or 'together'}: {e['msg']}" for e in error.errors()]
    if faults:
        message = f"[network]: {'; '.join(faults)}"
        raise BadInputError(message)
    if isinstance(network, LspdConfig):
        network = replace(network, stages=config.stages or network.stages)
    odd = [str(phase.size) for phase in config.phases if phase.size % network.size_step]
    if odd:
        message = f"phases: {', '.join(odd)} is no multiple of {network.size_step}, as preset {config.preset} needs"
        raise BadInputError(message)
    return network


def contract_for(network: NetworkConfig) -> PreprocessContract:
    """Give the preprocess contract that pictures of this network follow."""
    return PreprocessContract(input_size=network.input_size, heatmap_stride=network.heatmap_stride)
