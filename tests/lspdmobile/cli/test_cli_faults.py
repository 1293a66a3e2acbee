"""Files with a mistake in them, in a run whose hashes hold: they fail, and what is said first is what is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.faults.kinds import FAULTS, faulty
from benchmarks.faults.trial import exchange, plant, tried
from benchmarks.mutations.world import silent, world
from lspdmobile import emission
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.run import ExportRequest, export
from lspdmobile.student import load_student

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


GATE_FAILED = 3


@pytest.fixture
def run(exported: "Exported", tmp_path: Path) -> Path:
    """Copy the run folder, to be damaged."""
    return Path(shutil.copytree(exported.folder, tmp_path / "run"))


@pytest.mark.parametrize(
    ("fault", "precision", "told"),
    [
        ("not normalised", Precision.FP32, "tflite fp32: normalisation is missing: the network is given pixels of 0 "),
        pytest.param(
            "swapped pair",
            Precision.W8A8,
            "tflite w8a8: joints are exchanged: right_ankle and right_knee",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_file_with_a_fault_fails_and_the_first_line_names_it(
    run: Path, people: Path, tmp_path: Path, cli: "Cli", *, fault: str, precision: Precision, told: str
) -> None:
    student = load_student(str(run / "colours.safetensors"))
    request = ExportRequest(
        student=student,
        formats=(Format.TFLITE,),
        precisions=(precision,),
        output_dir=tmp_path / "unused",
        data=people,
        calibration=people,
    )
    (file,) = plant(fault, student, request, tmp_path).values()
    exchange(run, f"colours_{precision.file_suffix}.tflite", file)
    done = cli("verify", run)
    assert done.code == GATE_FAILED
    assert done.out.startswith(f"likeliest cause: {told}")
    assert "tampered" not in done.out
    assert done.out.count("likeliest cause") == 1


def test_a_stale_file_is_told_by_the_checkpoint_it_was_made_from(run: Path, cli: "Cli") -> None:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["checkpoint_sha256"] = "0" * 64
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert "it was made from another checkpoint" in done.json["likeliest_cause"]
    assert {each["diagnosis"]["cause"] for each in done.json["artifacts"]} == {"another checkpoint"}


@pytest.mark.slow
def test_a_conversion_that_mirrors_is_named_by_every_report(
    student_file: Path, people: Path, tmp_path: Path, cli: "Cli", monkeypatch: pytest.MonkeyPatch
) -> None:
    student, sound = load_student(str(student_file)), emission._emit_request

    def broken(*arguments: Any) -> EmitRequest:
        return replace(sound(*arguments), network=faulty("mirrored heatmaps", student))

    monkeypatch.setattr(emission, "_emit_request", broken)
    output = tmp_path / "out"
    done = cli("export", student_file, "-f", "tflite", "-p", "fp32", "--data", people, "--calib", people, "-o", output)
    told = "tflite fp32: the heatmaps are mirrored left to right (explains 100.0% of the difference)"
    assert done.code == GATE_FAILED
    assert done.out.startswith(f"likeliest cause: {told}")
    assert json.loads((output / "report.json").read_text(encoding="utf-8"))["likeliest_cause"] == told
    first = (output / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# colours: FAIL, likeliest cause: {told}"
    assert f"<strong>Likeliest cause</strong>: {told}." in (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_fault_is_caught_in_every_format_and_precision(tmp_path: Path) -> None:
    checkpoint, pictures = world(tmp_path, "pyramid", pictures=64)
    student = load_student(str(checkpoint))
    request = ExportRequest(
        student=student,
        formats=(Format.COREML, Format.TFLITE, Format.EXECUTORCH),
        precisions=(Precision.FP32, Precision.FP16, Precision.W8A8),
        output_dir=tmp_path / "run",
        data=pictures,
        calibration=pictures,
        methods=(),
    )
    export(request, silent)
    planted = tried(tmp_path / "run", student, request, tmp_path, list(FAULTS))
    assert {each.fault for each in planted} == set(FAULTS)
    assert [each for each in planted if not each.caught] == []
    assert [each for each in planted if not each.right] == []
