"""Students that are no LSPD chain go through the same commands, from their checkpoint to files that run."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lspdmobile.fusion import randomise_norms
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.ldcrn import LdcrnConfig
from lspdmobile.networks.okdhp import OkdhpMobilePoseConfig
from lspdmobile.networks.presets import preset
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student, save_student

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli


GATE_FAILED = 3


TINY: dict[str, NetworkConfig] = {
    "okdhp": OkdhpMobilePoseConfig(
        keypoints=14, input_size=(64, 64), stem=4, channels=(4, 6, 8, 10), blocks=(1, 1, 1, 1), features=8
    ),
    "ldcrn": LdcrnConfig(
        keypoints=14,
        input_size=(64, 64),
        stem=4,
        widths=(4, 6, 8, 10),
        first_modules=1,
        modules=(1, 1, 1),
        layers=1,
        growth=(2, 2, 2, 2),
        light=True,
    ),
}


def saved(config: NetworkConfig, path: Path) -> Path:
    """Save a student whose weights are random and whose norms are nowhere near the identity."""
    network = deployed_network(config)
    randomise_norms(network, torch.Generator().manual_seed(1))
    contract = PreprocessContract(input_size=config.input_size, heatmap_stride=config.heatmap_stride)
    save_student(Student(name=path.stem, network=network, config=config, contract=contract, skeleton=LSP_14), path)
    return path


@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_of_another_architecture_is_fused_and_evaluated(
    name: str, cli: "Cli", people: Path, tmp_path: Path
) -> None:
    student = saved(TINY[name], tmp_path / f"{name}.safetensors")
    fused = cli("fuse", student, "-o", tmp_path / "fused", "--json")
    assert fused.code == 0
    assert fused.json["passed"]
    assert fused.json["norms_left"] == []
    evaluated = cli("evaluate", student, "--data", people, "--json")
    assert evaluated.code == 0
    assert evaluated.json["images"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["okdhp-s", "ldcrn-s"])
def test_a_light_student_becomes_every_file_and_each_of_them_runs(
    name: str, cli: "Cli", people: Path, tmp_path: Path
) -> None:
    """With random weights the float files must agree; what int8 costs is for trained weights to say."""
    student = saved(preset(name), tmp_path / f"{name}.safetensors")
    pictures = ("--data", people, "--calib", people)
    done = cli("export", student, "-f", "all", "-p", "fp32,w8a8", *pictures, "-o", tmp_path / "run", "--json")
    assert done.code in (0, GATE_FAILED)
    found = {(a["format"], a["precision"]): a for a in done.json["artifacts"]}
    assert len(found) == 6
    assert all(a["executed_by"] and a["parity"]["images"] == 8 for a in found.values())
    assert all(a["verdict"] == "pass" for (_, precision), a in found.items() if precision == "fp32")
    for form in ("coreml", "tflite", "executorch"):
        assert found[form, "fp32"]["bytes"] + found[form, "w8a8"]["bytes"] < 6_000_000
