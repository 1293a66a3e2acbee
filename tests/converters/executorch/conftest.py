"""One fused tiny student, its calibration pictures and its files of both precisions, made once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from converters import executorch
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Layout, Precision
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

SIZE = (64, 64)
METADATA = {"version": "0.1.0", "skeleton": "tête, cou", "preprocess": '{"mean": [0.5]}'}

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class World:
    """A fused network, its plan, normalised pictures ``[4, 3, 64, 64]`` and the network's heatmaps for them.

    Attributes:
        folder: Where files go.
    """

    network: nn.Module
    pictures: Array
    heatmaps: Array
    plan: QuantizationPlan
    metadata: Mapping[str, str]
    folder: Path

    def run(self, network: nn.Module) -> Array:
        """Heatmaps of a PyTorch network for the pictures, one by one like the runtime."""
        return run_torch(network, self.pictures)

    def request(self, precision: Precision, name: str, *, network: nn.Module | None = None) -> EmitRequest:
        """Ask for a file of this name, of this network unless another is given."""
        return EmitRequest(
            network=self.network if network is None else network,
            plan=self.plan if precision is Precision.W8A8 else QuantizationPlan(precision=precision),
            input_size=SIZE,
            layout=Layout.NCHW,
            metadata=self.metadata,
            deployment_target="iOS17",
            path=self.folder / name,
        )


@pytest.fixture(scope="session")
def world(tiny_config: LspdConfig, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make the fused network; its norms and heatmap weights are nowhere near their defaults."""
    torch.manual_seed(0)
    config = replace(tiny_config, keypoints=5, input_size=SIZE)
    student = LspdStudent(config).eval()
    randomise_norms(student, torch.Generator().manual_seed(1))
    nn.init.normal_(student.stage.heatmap.weight, std=0.1)
    network = fuse(student, input_size=SIZE).network
    pictures = np.random.default_rng(0).normal(size=(4, 3, *SIZE)).astype(np.float32)
    return World(
        network=network,
        pictures=pictures,
        heatmaps=run_torch(network, pictures),
        plan=calibrate(network, pictures, precision=Precision.W8A8),
        metadata=METADATA,
        folder=tmp_path_factory.mktemp("executorch"),
    )


@pytest.fixture(scope="session")
def emitted(world: World) -> dict[Precision, Artifact]:
    """Emit a file of every precision."""
    return {p: executorch.emit(world.request(p, f"tiny_{p.file_suffix}.pte")) for p in executorch.supported()}


@pytest.fixture(scope="session")
def partly(world: World) -> tuple[nn.Module, Artifact]:
    """Emit a network that XNNPACK takes only in part."""
    network = RunningSum().eval()
    return network, executorch.emit(world.request(Precision.FP32, "partly.pte", network=network))


class RunningSum(nn.Module):
    """A convolution, a running sum, which XNNPACK has not, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 4, 3, padding=1)
        self.after = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, H, W]``."""
        y: torch.Tensor = self.after(torch.cumsum(self.before(x), dim=3))
        return y


def run_torch(network: nn.Module, pictures: Array) -> Array:
    """Run a PyTorch network on one picture at a time."""
    with torch.no_grad():
        return np.concatenate([network(torch.from_numpy(picture[None])).numpy() for picture in pictures])
