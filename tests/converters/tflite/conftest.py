"""One fused tiny student, its calibration pictures and its files of every precision, made once."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from converters import tflite
from converters.tflite.flatbuffer import operators, read_model, to_bytes
from lspdmobile.artifact import Artifact, EmitRequest
from lspdmobile.choices import Layout, Precision
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.preprocess import PreprocessContract
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

SIZE = (64, 64)
CONTRACT = PreprocessContract(input_size=SIZE, heatmap_stride=8, mean=(0.5, 0.25, 0.125), std=(0.25, 0.5, 1.0))
METADATA = {
    "student": "tiny",
    "short_description": "Finds five joints",
    "version": "0.1.0",
    "author": "somebody",
    "license": "MIT",
    "input_description": "a person",
    "heatmaps_description": "five heatmaps",
    "skeleton": json.dumps({"name": "five", "keypoints": ["tête", "cou", "a", "b", "c"]}, ensure_ascii=False),
    "preprocess": json.dumps(CONTRACT.to_dict()),
}


Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class World:
    """A fused network, normalised pictures ``[4, 3, 64, 64]`` and the network's heatmaps for them.

    Attributes:
        folder: Where files go.
    """

    network: nn.Module
    pictures: Array
    heatmaps: Array
    folder: Path

    @property
    def metadata(self) -> dict[str, str]:
        """What is asked to be written into every file."""
        return METADATA

    def plan(self, precision: Precision) -> QuantizationPlan:
        """Calibrate on the pictures."""
        return calibrate(self.network, self.pictures, precision=precision)

    def request(self, precision: Precision, name: str, *, layout: Layout = Layout.NHWC) -> EmitRequest:
        """Ask for a file of this name."""
        return EmitRequest(
            network=self.network,
            plan=self.plan(precision),
            input_size=SIZE,
            layout=layout,
            metadata=self.metadata,
            deployment_target="iOS17",
            path=self.folder / name,
        )

    def emit_network(self, network: nn.Module, name: str) -> Artifact:
        """Emit another network of the same input size as float32."""
        return tflite.emit(replace(self.request(Precision.FP32, name), network=network.eval()))

    def run(self, network: nn.Module) -> Array:
        """Heatmaps of a PyTorch network for the pictures, one by one like the runtimes."""
        return run_torch(network, self.pictures)

    def error(self, found: Array, wanted: Array | None = None) -> float:
        """Largest difference over the largest wanted value; wanted is the network's heatmaps unless given."""
        wanted = self.heatmaps if wanted is None else wanted
        return float(np.abs(found - wanted).max() / np.abs(wanted).max())

    def loss(self, found: Array) -> float:
        """Root mean square of the differences to the network's heatmaps."""
        return float(np.sqrt(np.square(found - self.heatmaps).mean()))


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
        folder=tmp_path_factory.mktemp("tflite"),
    )


@pytest.fixture(scope="session")
def emitted(world: World) -> dict[Precision, Artifact]:
    """Emit a file of every precision, NHWC."""
    return {p: tflite.emit(world.request(p, f"tiny_{p.file_suffix}.tflite")) for p in tflite.supported()}


@pytest.fixture(scope="session")
def nchw(world: World) -> Artifact:
    """Emit a w8a8 file with NCHW borders."""
    return tflite.emit(world.request(Precision.W8A8, "tiny_nchw.tflite", layout=Layout.NCHW))


class HalfElu(nn.Module):
    """A convolution and an ELU with alpha 0.5, which TFLite lacks: it stays in pieces that XNNPACK takes in part."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ELU(alpha=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 4, H, W]``."""
        y: torch.Tensor = self.act(self.conv(x))
        return y


@pytest.fixture(scope="session")
def half_elu(world: World) -> tuple[nn.Module, Artifact]:
    """Emit a network that XNNPACK can take only in part."""
    network = HalfElu().eval()
    return network, world.emit_network(network, "half_elu.tflite")


@pytest.fixture
def with_custom_operator(emitted: dict[Precision, Artifact], tmp_path: Path) -> Path:
    """Turn every ADD of a file into an operator no runtime knows."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    model = read_model(emitted[Precision.FP32].path)
    for code in {operator.opcodeIndex for name, operator, _ in operators(model) if name == "ADD"}:
        entry = model.operatorCodes[code]
        entry.builtinCode = entry.deprecatedBuiltinCode = BuiltinOperator.CUSTOM
        entry.customCode = b"NobodyKnows"
    path = tmp_path / "custom.tflite"
    path.write_bytes(to_bytes(model))
    return path


def run_torch(network: nn.Module, pictures: Array) -> Array:
    """Run a PyTorch network on one picture at a time."""
    with torch.no_grad():
        return np.concatenate([network(torch.from_numpy(picture[None])).numpy() for picture in pictures])
