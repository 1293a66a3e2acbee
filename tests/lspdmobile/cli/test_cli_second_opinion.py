"""``verify --executor``: what other kernels make of a run's files."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converters.tflite import execute
from lspdmobile.second_opinions import Witness, parse_witnesses

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


def test_reference_kernels_agree_with_the_files_of_a_sound_run(cli: "Cli", exported: "Exported") -> None:
    done = cli("verify", exported.folder, "--executor", "litert-reference", "--json")

    assert done.code == 0, done.err
    for artifact in done.json["artifacts"]:
        (opinion,) = artifact["second_opinions"]
        assert opinion["agrees"]
        assert opinion["pictures"] == 8
        assert opinion["witness"] == "litert-reference"
        assert opinion["executed_by"].endswith("(reference kernels)")
        assert artifact["executed_by"] != opinion["executed_by"]


def test_executors_that_disagree_are_reported(
    cli: "Cli", exported: "Exported", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain loops are given pictures upside down."""
    usual = execute.LiteRtExecutor.heatmaps

    def upside_down(self: Any, pictures: Any) -> Any:
        turned = "reference" in self.name
        return usual(self, np.ascontiguousarray(pictures[:, :, ::-1]) if turned else pictures)

    monkeypatch.setattr(execute.LiteRtExecutor, "heatmaps", upside_down)

    done = cli("verify", exported.folder, "--executor", "litert-reference")

    assert done.code == 3
    assert "(reference kernels) disagrees on 8 pictures" in done.out
    assert "the file alone is not to blame" in done.out


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="the tensorflow extra is installed")
def test_an_absent_tensorflow(cli: "Cli", exported: "Exported") -> None:
    done = cli("verify", exported.folder, "--executor", "tensorflow")

    assert done.code == 5
    assert "pip install 'lspdmobile[tensorflow]'" in done.err


def test_a_witness_with_nothing_to_be_asked_about(cli: "Cli", exported: "Exported") -> None:
    done = cli("verify", exported.folder, "--executor", "portable")

    assert (done.code, done.out) == (2, "")
    assert "--executor portable is for executorch artifacts, and this run has none" in done.err


@pytest.mark.parametrize("text", ["tenserflow", "", "portable,nothing"])
def test_an_unknown_witness(cli: "Cli", exported: "Exported", text: str) -> None:
    done = cli("verify", exported.folder, "--executor", text)

    assert (done.code, done.out) == (2, "")
    assert "choose from litert-reference, tensorflow, portable, mil" in done.err


def test_names_are_read_once_and_in_their_order() -> None:
    assert parse_witnesses("portable, litert-reference,portable") == (Witness.PORTABLE, Witness.REFERENCE)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs Core ML itself")
def test_portable_kernels_agree_with_xnnpack(cli: "Cli", exported: "Exported", people: Path, tmp_path: Path) -> None:
    student, run = exported.folder / "colours.safetensors", tmp_path / "run"
    arguments = ["-f", "executorch", "-p", "fp32,w8a8", "--data", people, "--calib", people, "--max-drop", 40]
    assert cli("export", student, *arguments, "-o", run).code == 0

    done = cli("verify", run, "--executor", "portable", "--json")

    assert done.code == 0, done.err
    assert [len(artifact["second_opinions"]) for artifact in done.json["artifacts"]] == [1, 1]
    assert all(artifact["second_opinions"][0]["agrees"] for artifact in done.json["artifacts"])
