"""What a step learns from: one random view of each picture, and what labels and offline teachers say of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton
from lspdmobile.student import load_student
from lspdmobile.train.augment import augment, gaussian_heatmaps
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.losses import Target, Targets
from lspdmobile.train.samples import MARGIN, Samples

__all__ = ["Lessons", "OfflineTeacher", "offline_network"]


@dataclass(frozen=True, kw_only=True)
class OfflineTeacher:
    """A network trained before.

    Attributes:
        network: In eval mode on the training device.
        input_size: Rows and columns of the pictures it was made for.
    """

    network: nn.Module
    input_size: tuple[int, int]

    @torch.no_grad()
    def heatmaps(self, inputs: Tensor, stride: int) -> Tensor:
        """Give what it sees in views ``[N, 3, h, w]``: float32 heatmaps ``[N, K, h/stride, w/stride]``.

        It sees them enlarged or reduced to its own size, and its heatmaps are brought back: people as large as those it
        learned from are what it can teach about (``benchmarks/teacher_views.py`` measures what that is worth).
        """
        grid = (inputs.shape[2] // stride, inputs.shape[3] // stride)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            found: Tensor = self.network(_resized(inputs, self.input_size))
        return _resized(found.float(), grid)


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a run's steps are made of.

    Attributes:
        config: The run.
        samples: Train set in memory.
        contract: Of the network that learns.
        skeleton: Of the samples.
        teacher: A network trained before, or None.
        device: ``"cpu"`` or ``"cuda"``.
    """

    config: TrainConfig
    samples: Samples
    contract: PreprocessContract
    skeleton: Skeleton
    teacher: OfflineTeacher | None
    device: str

    def draw(self, index: Any, *, size: int, generator: torch.Generator) -> tuple[Tensor, Targets]:
        """Draw a view of the pictures at ``index``.

        Returns:
            Inputs ``[N, 3, size, size]``, channels last, and the targets of heatmaps over them.
        """
        pixels, points, weights = (torch.from_numpy(a).to(self.device) for a in self._of(index))
        inputs, points, weights = augment(
            pixels,
            points,
            weights,
            size=size,
            contract=self.contract,
            skeleton=self.skeleton,
            config=self.config.augment,
            generator=generator,
            margin=MARGIN,
        )
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        stride, count = self.contract.heatmap_stride, self.skeleton.count
        maps = gaussian_heatmaps(points, size=(size // stride, size // stride), stride=stride, sigma=self.config.sigma)
        labels = Target(heatmaps=maps[:, :count], joints=weights[:, :count])
        offline: list[Target] = []
        if self._by_keypoints:
            share = self.config.offline.keypoints
            offline.append(Target(heatmaps=maps[:, count:], joints=weights[:, count:], weight=share))
        if self.teacher is not None:
            seen, joints = self.teacher.heatmaps(inputs, stride), torch.ones_like(labels.joints)
            offline.append(Target(heatmaps=seen, joints=joints, weight=self.config.offline.weight))
        return inputs, Targets(labels=labels, offline=tuple(offline))

    @property
    def _by_keypoints(self) -> bool:
        return self.config.offline.keypoints > 0 and self.samples.guesses is not None

    def _of(self, index: Any) -> tuple[Any, Any, Any]:
        """Give pixels, points and weights; the offline teacher's joints follow the labels'."""
        samples = self.samples
        points, weights = samples.points[index], samples.weights[index]
        if self._by_keypoints and samples.guesses is not None:
            guesses = samples.guesses[index]
            points = np.concatenate((points, guesses[..., :2]), axis=1)
            weights = np.concatenate((weights, guesses[..., 2]), axis=1)
        return samples.pixels[index], points, weights


def offline_network(
    config: TrainConfig, contract: PreprocessContract, skeleton: Skeleton, device: str
) -> OfflineTeacher | None:
    """Load the student that teaches offline, if the run names one.

    Raises:
        BadInputError: There is none, or it reads other pictures or gives other heatmaps than the network that learns.
    """
    source = config.offline.network
    if not source:
        return None
    teacher = load_student(source)
    ours, theirs = contract.to_dict(), teacher.contract.to_dict()
    odd = [key for key in ours if key != "input_size" and ours[key] != theirs[key]]
    if teacher.skeleton != skeleton:
        odd.append("skeleton")
    if odd:
        message = f"offline.network {source} cannot teach this network: another {', '.join(odd)}"
        raise BadInputError(message)
    network: nn.Module = teacher.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return OfflineTeacher(network=network.requires_grad_(False).eval(), input_size=teacher.contract.input_size)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    found = F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)
    return found.contiguous(memory_format=torch.channels_last)
