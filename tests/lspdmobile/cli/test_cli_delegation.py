"""``--min-delegated`` on real conversions of a network with an operator that XNNPACK does not take."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli


GATE_FAILED = 3
BAD_INPUT = 2
SIZE = 64
CONTRACT = f"""
skeleton = "lsp-14"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
input_size = [{SIZE}, {SIZE}]
head = "heatmap"
license = "MIT"
"""


class Summing(nn.Module):
    """Two convolutions with a running sum between them, which no delegate of XNNPACK has."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.after = nn.Conv2d(8, 14, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 14, H/4, W/4]``."""
        heatmaps: Tensor = self.after(torch.cumsum(torch.relu(self.before(x)), dim=3))
        return heatmaps


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The network as a program with its contract, as ``export`` takes them."""
    folder = tmp_path_factory.mktemp("summing")
    torch.manual_seed(0)
    program = torch.export.export(Summing().eval(), (torch.zeros(1, 3, SIZE, SIZE),))
    torch.export.save(program, folder / "summing.pt2")
    (folder / "contract.toml").write_text(CONTRACT, encoding="utf-8")
    return folder / "summing.pt2", "--contract", folder / "contract.toml"


def test_an_operator_that_stays_outside_fails_the_gate_and_is_named(
    cli: "Cli", summing: tuple[object, ...], people: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pictures = ("--data", people, "--calib", people, "--max-drop", 100)
    done = cli("export", *summing, *pictures, "-f", "tflite", "-p", "fp32", "-o", run, "--min-delegated", "0.98")
    assert done.code == GATE_FAILED
    assert "at least 98.0% of both are wanted" in done.out
    assert "CUMSUM" in done.out
    assert "XNNPACK's delegate does not have this operator" in done.out
    report = cli("verify", run, "--json")
    assert report.code == GATE_FAILED
    (artifact,) = report.json["artifacts"]
    assert [reason for reason in artifact["reasons"] if "CUMSUM" in reason] == artifact["reasons"], "nothing else fails"
    assert report.json["gate"]["min_delegated"] == {"partition": 0.98}
    delegation = artifact["delegation"]
    assert delegation["macs_fraction"] == 1.0
    assert [left["kind"] for left in delegation["left"]] == ["CUMSUM"]
    assert sum(artifact["operators"].values()) == delegation["total_macs"] == artifact["macs"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<caption>Operators left behind</caption>" in page
    assert "LiteRT GPU" in page
    assert "CUMSUM x1" in (run / "report.md").read_text(encoding="utf-8")
    file = run / "summing_float32.tflite"
    assert cli("inspect", file, "--min-delegated", "0.98").code == GATE_FAILED
    assert cli("inspect", file, "--min-delegated", "0.5,litert-gpu=0.5").code == 0


@pytest.mark.parametrize(("share", "code"), [("0.98", GATE_FAILED), ("0.5", 0)])
def test_a_dry_run_foretells_it_without_converting(
    share: str, code: int, cli: "Cli", summing: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("-f", "tflite,pte", "-p", "fp32", "-o", run, "--dry-run", "--min-delegated", share)
    done = cli("export", *summing, *arguments)
    assert done.code == code, done.err
    assert done.out.count("foretold ") == 2
    assert ("CUMSUM" in done.err) == (code != 0)
    assert ("the XNNPACK partitioner has no entry" in done.err) == (code != 0)
    assert not run.exists()


@pytest.mark.parametrize(
    ("limit", "formats"), [("0.98", "coreml"), ("coreml-ane=0.9", "tflite"), ("98", "tflite"), ("tpu=0.9", "tflite")]
)
def test_a_limit_that_cannot_be_meant_is_refused_before_any_work(
    limit: str, formats: str, cli: "Cli", summing: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = cli("export", *summing, "-f", formats, "-p", "fp32", "-o", run, "--min-delegated", limit)
    assert done.code == BAD_INPUT
    assert "--min-delegated" in done.err
    assert not run.exists()


@pytest.mark.slow
def test_executorch_and_the_forecast_of_the_neural_engine_are_gated_too(
    cli: "Cli", summing: tuple[object, ...], people: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pictures = ("--data", people, "--calib", people, "--max-drop", 100)
    limits = ("--min-delegated", "0.98,coreml-ane=1.0")
    done = cli("export", *summing, *pictures, "-f", "pte,coreml", "-p", "fp32", "-o", run, "--json", *limits)
    assert done.code == GATE_FAILED
    reasons = {each["format"]: " ".join(each["reasons"]) for each in done.json["artifacts"]}
    assert "aten::cumsum.out" in reasons["executorch"]
    assert "Neural Engine is foretold to take 0 of" in reasons["coreml"]
