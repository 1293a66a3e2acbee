"""``export --decode`` and ``--image-input`` through the whole command line, on the format that converts fastest."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converters.coreml.mil.package import specification_path
from lspdmobile.artifact import sha256_of

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World

BAD_INPUT, GATE_FAILED = 2, 3
FILE = "colours_float16.mlpackage"


@pytest.fixture(scope="module")
def exported(student_file: Path, people: Path, run_here: "Cli", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose package takes an image and gives keypoints."""
    run = tmp_path_factory.mktemp("decode") / "run"
    pictures = ["--calib", people, "--data", people]
    done = run_here(
        "export", student_file, "-f", "coreml", "-p", "fp16", *pictures, "--decode", "--image-input", "-o", run
    )
    assert done.code == 0, done.err
    return run


def test_the_run_says_what_the_package_takes_and_gives(exported: Path, cli: "Cli") -> None:
    (listed,) = json.loads((exported / "manifest.json").read_text())["artifacts"]
    assert listed["input"]["dtype"] == "image_rgb"
    assert listed["keypoints"] == {"name": "keypoints", "shape": [1, 14, 3], "dtype": "float32"}
    (entry,) = json.loads((exported / "report.json").read_text())["artifacts"]
    assert 0 <= entry["decode_px"] < 1e-3
    assert entry["verdict"] == "pass"
    shown = " ".join(cli("inspect", exported / FILE).out.split())
    assert "values 0 to 255, normalised inside" in shown
    assert "For each joint x and y in input pixels" in shown


def test_verify_passes_and_the_package_can_be_evaluated(exported: Path, people: Path, cli: "Cli") -> None:
    assert cli("verify", exported).code == 0
    done = cli("evaluate", exported / FILE, "--data", people, "--json")
    assert done.json["metrics"]["pckh@0.5"] > 0.9


def test_keypoints_that_are_not_the_heatmaps_fail_the_gate(exported: Path, cli: "Cli", tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(exported, run)
    scale_by(1.02, run / FILE, constant=8.0)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][FILE]["sha256"] = sha256_of(run / FILE)
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = cli("verify", run, "--json")
    assert done.code == GATE_FAILED
    reason = done.json["artifacts"][0]["reasons"][-1]
    assert reason.startswith("its own keypoints are up to ")


def scale_by(factor: float, package: Path, *, constant: float) -> None:
    """Change the constants of this value in the program: the stride, which only the decoding multiplies by."""
    from coremltools.proto import Model_pb2

    file = specification_path(package)
    model = Model_pb2.Model.FromString(file.read_bytes())
    function = model.mlProgram.functions["main"]
    changed = 0
    for operation in function.block_specializations[function.opset].operations:
        for value in [*operation.attributes.values(), *_bound(operation)]:
            floats = value.immediateValue.tensor.floats.values
            if list(floats) == [constant]:
                floats[0] *= factor
                changed += 1
    assert changed
    file.write_bytes(model.SerializeToString(deterministic=True))


def _bound(operation: Any) -> list[Any]:
    return [binding.value for argument in operation.inputs.values() for binding in argument.arguments]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-f", "tflite", "--image-input"], "--image-input is for Core ML packages: add coreml to --format"),
        (["-f", "pte", "-p", "fp16", "--backend", "coreml", "--decode"], "--decode is not made for --backend coreml"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    student_file: Path, tmp_path: Path, cli: "Cli", options: list[str], said: str
) -> None:
    done = cli("export", student_file, *options, "-o", tmp_path / "run")
    assert done.code == BAD_INPUT
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_coordinates_are_not_decoded_again(world: "World", cli: "Cli") -> None:
    source = world.rewrite(lambda _, header: header.update(decode_rule="regression"))
    done = cli("export", source, "-f", "tflite", "--decode", "-o", world.output)
    assert done.code == BAD_INPUT
    assert "--decode is for networks that give heatmaps; colours's rule is regression" in done.err
