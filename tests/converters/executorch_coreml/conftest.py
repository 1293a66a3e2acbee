"""One fused tiny student as a Core ML ``.pte`` in every precision, and a way to change what is inside one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converters import executorch_coreml
from converters.executorch_coreml.memory_files import packed, unpacked
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Layout, Precision
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

METADATA = {"skeleton": "tête, cou", "preprocess": '{"mean": [0.5]}'}

Array = NDArray[np.float32]
Files = dict[str, bytes]
Repack = Callable[[Path, Callable[[bytes], bytes]], Path]
Lower = Callable[..., Path]
Refile = Callable[[Path, Callable[[Files], Files]], Path]


@dataclass(frozen=True, kw_only=True)
class World:
    """A fused network, its plan, normalised pictures ``[3, 3, H, W]`` and the network's heatmaps for them.

    Attributes:
        folder: Where files go.
    """

    network: nn.Module
    pictures: Array
    heatmaps: Array
    plan: QuantizationPlan
    folder: Path

    def request(self, precision: Precision, name: str) -> EmitRequest:
        """Ask for a file of this name."""
        return EmitRequest(
            network=self.network,
            plan=self.plan if precision is Precision.W8A8 else QuantizationPlan(precision=precision),
            input_size=(self.pictures.shape[2], self.pictures.shape[3]),
            layout=Layout.NCHW,
            metadata=METADATA,
            deployment_target="iOS17",
            path=self.folder / name,
        )

    def error(self, found: Array) -> float:
        """Norm of the difference to the network's heatmaps over theirs."""
        return float(np.linalg.norm(found - self.heatmaps) / np.linalg.norm(self.heatmaps))


class Block(nn.Module):
    """A convolution, an activation and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, H, W]``."""
        y: Tensor = self.second(torch.relu(self.first(x)))
        return y


@pytest.fixture(scope="session")
def block() -> nn.Module:
    """A network of two convolutions, for files whose content hardly matters."""
    return Block().eval()


@pytest.fixture(scope="session")
def world(tiny_config: LspdConfig, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make the fused network; its norms and heatmap weights are nowhere near their defaults."""
    torch.manual_seed(0)
    config = replace(tiny_config, keypoints=5)
    student = LspdStudent(config).eval()
    randomise_norms(student, torch.Generator().manual_seed(1))
    nn.init.normal_(student.stage.heatmap.weight, std=0.1)
    network = fuse(student, input_size=config.input_size).network
    pictures = np.random.default_rng(0).normal(size=(3, 3, *config.input_size)).astype(np.float32)
    with torch.inference_mode():
        heatmaps = network(torch.from_numpy(pictures)).numpy()
    return World(
        network=network,
        pictures=pictures,
        heatmaps=heatmaps,
        plan=calibrate(network, pictures, precision=Precision.W8A8),
        folder=tmp_path_factory.mktemp("executorch_coreml"),
    )


@pytest.fixture(scope="session")
def emitted(world: World, core_ml_tools: Any) -> Mapping[Precision, Artifact]:  # noqa: ARG001 - imported as it should be
    """Emit a file of every precision; not to be changed."""
    made = executorch_coreml.supported()
    return {p: executorch_coreml.emit(world.request(p, f"tiny_{p.file_suffix}_coreml.pte")) for p in made}


@pytest.fixture
def repack(tmp_path: Path) -> Repack:
    """Give a function that copies a ``.pte`` with its only delegate's blob changed."""

    def repacked(path: Path, change: Callable[[bytes], bytes]) -> Path:
        from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

        file = deserialize_pte_binary(path.read_bytes())
        (part,) = file.program.backend_delegate_data
        part.data = change(bytes(part.data))
        copy = tmp_path / "changed.pte"
        copy.write_bytes(bytes(serialize_pte_binary(file, extract_delegate_segments=True)))
        return copy

    return repacked


@pytest.fixture
def refile(repack: Repack) -> Refile:
    """Give a function that copies a ``.pte`` with the files inside its only delegate changed."""
    return lambda path, change: repack(path, lambda blob: packed(change(unpacked(blob))))


@pytest.fixture
def lower(tmp_path: Path, core_ml_tools: Any) -> Lower:  # noqa: ARG001 - imported as it should be
    """Give a function that lowers a network to Core ML as ExecuTorch's own texts do it, without our emitter."""

    def lowered(network: nn.Module, **options: Any) -> Path:
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner
        from executorch.exir import to_edge_transform_and_lower

        exported = torch.export.export(network, (torch.zeros(1, 3, 16, 24),))
        edge = to_edge_transform_and_lower(exported, partitioner=[CoreMLPartitioner(**options)])
        path = tmp_path / "theirs.pte"
        path.write_bytes(edge.to_executorch().buffer)
        return path

    return lowered
