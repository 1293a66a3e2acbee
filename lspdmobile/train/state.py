"""Everything a resumed run needs: the network, its moving average, the optimizer, and where they came from."""

import copy
from pathlib import Path
from typing import Final

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lspdmobile.errors import BadInputError
from lspdmobile.student import bundled_students, load_checkpoint, load_student
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.optimizer import optimizer_for
from lspdmobile.train.recipes import RECIPES, Recipe, network_config

__all__ = ["CHECKPOINT", "TrainingState", "is_student"]

CHECKPOINT: Final = "checkpoint.pt"
_LONGEST_REASON: Final = 300
# What the trained network is called in the file: the first recipe's word, kept so that earlier runs can be resumed.
_NETWORK: Final = "chain"


class TrainingState:
    """A training run between two steps.

    Attributes:
        network: What is trained: the chain, the branches or the network, by recipe.
        ema: Moving average of the network, in eval mode; what is validated and shipped.
        optimizer: AdamW, or Muon and AdamW.
        pictures: Size of the train set, which fixes the schedule.
        step, smooth: Steps done, and the smoothed loss.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, *, pictures: int) -> None:
        self.network = network.train()
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = optimizer_for(network, config)
        self.pictures = pictures
        self.step, self.smooth = 0, 0.0

    @classmethod
    def fresh_or_resumed(
        cls, config: TrainConfig, folder: Path, *, pictures: int, device: str, init: Path | None
    ) -> "TrainingState":
        """Begin a run, from ``init`` where it is given, or take up the one whose checkpoint is in the folder.

        Raises:
            BadInputError: The checkpoint belongs to another run, or it or ``init`` cannot be used.
        """
        torch.manual_seed(config.seed)
        recipe = RECIPES[config.recipe]
        network = recipe.training_network(network_config(config))
        file = folder / CHECKPOINT
        if init is not None and not file.is_file():
            _start_from(recipe, network, init)
        state = cls(network.to(device, memory_format=torch.channels_last), config, pictures=pictures)  # type: ignore[call-overload]
        if file.is_file():
            state.resume(file, config, device)
        return state

    def resume(self, file: Path, config: TrainConfig, device: str) -> None:
        """Take up where the checkpoint stopped.

        Raises:
            BadInputError: It is damaged, or was made by another configuration or with another number of pictures.
        """
        saved = load_checkpoint(file, device=device)
        if not _is_of(saved.get("config"), config):
            message = f"{file}: belongs to another training configuration; choose another output folder"
            raise BadInputError(message)
        if saved.get("pictures", self.pictures) != self.pictures:
            message = (
                f"{file}: trained on {saved['pictures']} pictures, now there are {self.pictures}; give the same data"
            )
            raise BadInputError(message)
        try:
            self.network.load_state_dict(saved[_NETWORK])
            self.ema.load_state_dict(saved["ema"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.smooth = saved["step"], saved["smooth"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise BadInputError(_misfit(file, error)) from error

    def advance(self, loss: float, decay: float) -> None:
        """Count a step and move the average; its decay grows from 0.18 to ``decay`` over the first steps."""
        self.step += 1
        self.smooth = loss if self.step == 1 else 0.98 * self.smooth + 0.02 * loss
        keep = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for averaged, current in zip(_tensors(self.ema), _tensors(self.network), strict=True):
                if averaged.is_floating_point():
                    averaged.lerp_(current, 1 - keep)
                else:
                    averaged.copy_(current)

    def save(self, config: TrainConfig, folder: Path) -> None:
        """Replace the folder's checkpoint at once."""
        partial = folder / (CHECKPOINT + ".partial")
        torch.save(
            {
                "config": config.model_dump_json(),
                "pictures": self.pictures,
                _NETWORK: self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "smooth": self.smooth,
            },
            partial,
        )
        partial.replace(folder / CHECKPOINT)


def is_student(init: Path) -> bool:
    """Tell whether a starting point is a student (by name or file) and not a training checkpoint."""
    return init.suffix == ".safetensors" or str(init) in bundled_students()


def _is_of(saved: object, config: TrainConfig) -> bool:
    """Tell whether a checkpoint's configuration is this one; what an earlier version did not know has its default."""
    try:
        return isinstance(saved, str) and TrainConfig.model_validate_json(saved) == config
    except ValidationError:
        return False


def _start_from(recipe: Recipe, network: nn.Module, init: Path) -> None:
    """Load an earlier run's averaged network, or a student where the recipe puts it; all else then starts fresh."""
    try:
        if is_student(init):
            recipe.start(network, load_student(str(init)).network.state_dict())
        else:
            network.load_state_dict(load_checkpoint(init, device="cpu")["ema"])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise BadInputError(_misfit(init, error)) from error


def _misfit(file: Path, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
    return f"{file}: does not fit the network of this configuration ({reason})"


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
