"""The desktop app on a run of its own: it draws, it tests itself, and it agrees with the tool about every step."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lspdmobile
from lspdmobile.choices import Format, Precision
from lspdmobile.decode import HEATMAP_RULES, DecodeRule, decode
from lspdmobile.fusion import randomise_norms
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.run import ExportRequest, export
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student

ROOT = Path(lspdmobile.__file__).parent.parent
APP = ROOT / "apps_demo" / "desktop" / "pose_app.py"
ARTIFACT = "tiny_float32.tflite"
SIZES = ((70, 64), (64, 90), (64, 64))


@pytest.fixture(scope="module")
def app() -> ModuleType:
    """Import the app as a module."""
    spec = importlib.util.spec_from_file_location("pose_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three noisy pictures of different shapes, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(tiny_config: LspdConfig, pictures_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export an untrained student whose joints are all over the place."""
    torch.manual_seed(0)
    config = replace(tiny_config, input_size=(64, 96), detail=8)
    network = LspdStudent(config).eval()
    randomise_norms(network, torch.Generator().manual_seed(1))
    nn.init.normal_(network.stage.heatmap.weight, std=0.5)
    student = Student(
        name="tiny",
        network=network,
        config=config,
        contract=PreprocessContract(input_size=config.input_size, heatmap_stride=config.heatmap_stride),
        skeleton=LSP_14,
    )
    request = ExportRequest(
        student=student,
        formats=(Format.TFLITE,),
        precisions=(Precision.FP32,),
        output_dir=tmp_path_factory.mktemp("runs") / "tiny",
        calibration=pictures_folder,
        data=pictures_folder,
    )
    export(request, lambda *_: None)
    return request.output_dir


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """Copy the run, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


def start(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run the app as its README says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(APP), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def change(path: Path, key: str, value: Any) -> None:
    """Replace one entry of a JSON file."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields[key] = value
    path.write_text(json.dumps(fields), encoding="utf-8")


def test_a_folder_is_drawn_and_never_drawn_over(exported: Path, pictures_folder: Path, tmp_path: Path) -> None:
    done = start(exported, pictures_folder, "-o", "drawn", "--threshold", -9, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "self-test: largest difference 0.0" in done.stdout
    drawn = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "drawn").iterdir()}
    assert set(drawn) == {"0_pose.png", "1_pose.png", "2_pose.png"}
    for index, size in enumerate(SIZES):
        before = np.asarray(Image.open(pictures_folder / f"{index}.png"))
        assert drawn[f"{index}_pose.png"].shape == (*size, 3)
        assert (drawn[f"{index}_pose.png"] != before).any()
    (tmp_path / "drawn" / "0_pose.png").write_bytes(b"mine")
    done = start(exported, pictures_folder, "-o", "drawn", cwd=tmp_path)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (tmp_path / "drawn" / "0_pose.png").read_bytes() == b"mine"


def test_two_joints_exchanged_in_the_expected_keypoints_stop_the_app(
    run: Path, pictures_folder: Path, tmp_path: Path
) -> None:
    file = run / "golden" / "expected.json"
    points = json.loads(file.read_text(encoding="utf-8"))["keypoints"]
    sure = [k for k, (_, _, score) in enumerate(points) if score >= 0.2]
    first, second = max(((a, b) for a in sure for b in sure), key=lambda pair: np.hypot(*_apart(points, *pair)))
    points[first], points[second] = points[second], points[first]
    change(file, "keypoints", points)
    done = start(run, pictures_folder, cwd=tmp_path)
    assert done.returncode == 3
    assert "the self-test failed" in done.stderr
    assert not (tmp_path / "poses").exists()


def _apart(points: list[list[float]], a: int, b: int) -> tuple[float, float]:
    return points[a][0] - points[b][0], points[a][1] - points[b][1]


def test_faults_are_found_by_the_self_test(app: ModuleType, run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    network = app.open_network(run, manifest["artifacts"][0])
    assert app.self_test(run, manifest, network) is None
    faults = {
        "mirrored": lambda x: network(x)[:, :, ::-1],
        "upside down": lambda x: network(x[:, :, ::-1]),
        "joints in another order": lambda x: network(x)[::-1],
        "NaN": lambda x: np.full_like(network(x), np.nan),
        "too few joints": lambda x: network(x)[:5],
    }
    for fault in faults.values():
        assert app.self_test(run, manifest, fault) is not None
    golden = run / "golden" / "expected.json"
    points = json.loads(golden.read_text(encoding="utf-8"))["keypoints"]
    change(golden, "keypoints", [[x, y, 0.1] for x, y, _ in points])
    assert "nothing to compare" in app.self_test(run, manifest, network)


def test_wrong_use_is_answered_in_one_line(exported: Path, pictures_folder: Path, tmp_path: Path) -> None:
    for arguments in (
        (tmp_path, pictures_folder),
        (exported, tmp_path / "nowhere.png"),
        (exported, tmp_path),
        (exported, pictures_folder / "notes.txt"),
        (exported, pictures_folder, "--artifact", "tiny.onnx"),
    ):
        done = start(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        assert len(errors) == 1
        assert errors[0].startswith("error: ")
    assert not (tmp_path / "poses").exists()


@pytest.mark.parametrize("rule", get_args(DecodeRule))
def test_the_app_decodes_as_the_tool_does(app: ModuleType, rule: DecodeRule) -> None:
    contract = PreprocessContract(input_size=(64, 96), heatmap_stride=8)
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:8, 0:12]
    for _ in range(20):
        y, x = generator.uniform(-1, 9, (14, 1, 1)), generator.uniform(-1, 13, (14, 1, 1))
        bump = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 3)
        maps = (bump + generator.normal(0, 0.02, bump.shape)).astype(np.float32)
        if rule not in HEATMAP_RULES:
            maps = maps.reshape(14, 1, -1)[..., : 80 if rule == "simcc" else 3]
        found = app.decode(maps, contract.to_dict(), rule)
        np.testing.assert_allclose(found, decode(maps[None], contract=contract, rule=rule)[0], atol=1e-3)


@pytest.mark.parametrize("colour_order", ["rgb", "bgr"])
def test_the_app_cuts_as_the_tool_does(app: ModuleType, colour_order: Any) -> None:
    contract = PreprocessContract(input_size=(64, 96), heatmap_stride=8, colour_order=colour_order)
    points = np.asarray([[0, 0, 1], [48, 32, 0.5], [96, 64, 0]], np.float32)
    for rows, columns in ((70, 64), (33, 201), (500, 301)):
        picture = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        crop = contract.crop_for((rows, columns))
        inputs, to_picture = app.preprocess(Image.fromarray(picture), contract.to_dict())
        np.testing.assert_allclose(inputs[0], contract.apply(picture, crop), atol=1e-6)
        np.testing.assert_allclose(to_picture(points), contract.to_picture(points, crop), rtol=1e-5, atol=1e-4)


def test_the_app_does_not_lean_on_the_tool() -> None:
    lines = APP.read_text(encoding="utf-8").splitlines()
    imported = {
        line.split()[1].split(".")[0] for line in map(str.strip, lines) if line.startswith(("import ", "from "))
    }
    assert "numpy" in imported
    assert "lspdmobile" not in imported
