"""ExecuTorch files for Core ML through the command line: one is exported, judged again, damaged and refused."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lspdmobile.artifact import sha256_of
from lspdmobile.student import load_student

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Done

FILE = "colours_float16_coreml.pte"
BAD_INPUT, GATE_FAILED = 2, 3


@pytest.fixture(scope="module")
def exported(student_file: Path, people: Path, run_here: "Cli", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the student once."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    arguments = ["-f", "executorch", "--backend", "coreml", "-p", "fp16", "--data", people, "--calib", people]
    done = run_here("export", student_file, *arguments, "-o", folder, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return folder


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """Copy the run folder, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


def only_artifact(file: Path) -> dict[str, Any]:
    """Read the one artifact of a report or manifest."""
    (artifact,) = json.loads(file.read_text(encoding="utf-8"))["artifacts"]
    return dict(artifact)


def list_anew(run: Path) -> None:
    """Put the hash of the changed file into the manifest, so that only executing it can tell."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][FILE]["sha256"] = sha256_of(run / FILE)
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def flip_the_sign_of_a_weight(run: Path) -> None:
    """Change one bit of the Core ML weights: the first joint's channel now counts against it."""
    student: Any = load_student(str(run / "colours.safetensors"))
    row = student.network.stage.heatmap.weight[0].detach().half().numpy().tobytes()
    content = bytearray((run / FILE).read_bytes())
    assert content.count(row) == 1
    place = content.index(row)
    assert np.frombuffer(row[:2], np.float16)[0] == 3
    content[place + 1] ^= 0x80
    (run / FILE).write_bytes(content)


def cut_the_core_ml_part(run: Path) -> None:
    """Overwrite the end of the Core ML part, where its list of files starts."""
    content = bytearray((run / FILE).read_bytes())
    place = content.rindex(b'"sedon"{') + len(b'"sedon"{')
    content[place - 8 : place] = bytes(8)
    (run / FILE).write_bytes(content)


def test_the_report_and_the_manifest_say_the_backend_and_who_ran_it(exported: Path) -> None:
    entry = only_artifact(exported / "report.json")
    assert (entry["file"], entry["format"], entry["backend"]) == (FILE, "executorch", "coreml")
    assert "on the Core ML program inside the .pte" in entry["executed_by"]
    assert entry["weight_bytes_by_dtype"].keys() == {"float16"}
    assert (entry["delegation"]["delegate"], entry["delegation"]["fraction"]) == ("CoreMLBackend", 1)
    assert only_artifact(exported / "manifest.json")["backend"] == "coreml"


def test_the_run_verifies(exported: Path, cli: "Cli") -> None:
    done = cli("verify", exported)
    assert done.code == 0, done.err
    assert "executorch coreml fp16" in done.out
    assert done.out.rstrip().endswith("verdict: pass")


def test_a_flipped_weight_is_found_by_its_hash_and_not_executed(run: Path, cli: "Cli") -> None:
    flip_the_sign_of_a_weight(run)
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert done.json["tampered"] == [f"{FILE}: is not the file the manifest lists (its sha256 differs)"]
    assert done.json["artifacts"][0]["parity"] is None


def test_a_flipped_weight_whose_hash_holds_fails_by_its_heatmaps(run: Path, cli: "Cli") -> None:
    flip_the_sign_of_a_weight(run)
    list_anew(run)
    done = cli("verify", run, "--json")
    assert (done.code, done.json["tampered"]) == (GATE_FAILED, [])
    assert any("heatmaps differ by" in reason for reason in done.json["artifacts"][0]["reasons"])


def test_a_damaged_core_ml_part_is_refused_in_one_line(run: Path, cli: "Cli") -> None:
    cut_the_core_ml_part(run)
    done = cli("inspect", run / FILE)
    assert done.code == BAD_INPUT
    assert refusal(done) == f"{run / FILE}: its Core ML part is damaged or cut short"
    list_anew(run)
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    assert "its Core ML part is damaged or cut short" in done.json["artifacts"][0]["reasons"][0]


def test_inspect_shows_what_is_inside(exported: Path, cli: "Cli") -> None:
    done = cli("inspect", exported / FILE)
    assert done.code == 0, done.err
    assert "coreml::conv x" in done.out
    assert "delegate CoreMLBackend:" in done.out


def test_predict_and_evaluate_take_it_like_any_artifact(exported: Path, people: Path, cli: "Cli") -> None:
    done = cli("evaluate", exported / FILE, "--data", people, "--json")
    assert done.code == 0, done.err
    assert done.json["metrics"]["pckh@0.5"] > 0.9


def test_a_backend_without_its_format_is_refused_in_one_line(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    done = cli("export", student_file, "-f", "coreml,tflite", "--backend", "coreml", "-o", tmp_path / "out")
    assert done.code == BAD_INPUT
    assert refusal(done) == "--backend coreml is for ExecuTorch artifacts"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (
            ["-p", "w8a16"],
            "no chosen format takes w8a16: executorch takes fp32, fp16, w8, w8a8; Core ML computes with no",
        ),
        (["-p", "w4"], "ExecuTorch's compile specs know one dtype for the weights of all layers"),
        (
            ["-p", "w8a8", "--minimum-deployment-target", "iOS16"],
            "w8a8 needs a minimum deployment target of iOS17",
        ),
        (["-p", "fp16", "--layout", "nhwc"], "ExecuTorch artifacts take and give NCHW"),
    ],
)
def test_what_the_backend_cannot_give_is_refused_before_any_work(
    student_file: Path, tmp_path: Path, cli: "Cli", more: list[str], fault: str
) -> None:
    done = cli("export", student_file, "-f", "pte", "--backend", "coreml", *more, "-o", tmp_path / "out")
    assert done.code == BAD_INPUT
    assert fault in done.err
    assert list(tmp_path.iterdir()) == []


def refusal(done: "Done") -> str:
    """Give the refusal, which must be one line, without its advice."""
    (line,) = done.err.strip().splitlines()
    return line.removeprefix("error: ").split(" (")[0].rsplit(": add", 1)[0]
