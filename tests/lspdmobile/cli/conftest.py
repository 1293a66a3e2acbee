"""A student that works, in a few thousand parameters, pictures it can read, and the command line run in this process.

The student's weights are set by hand: joint k is wherever the picture is reddest, greenest or bluest (k modulo 3). Its
heatmaps have one clear peak, as a trained student's have, so that quantization is judged fairly.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import lspdmobile
from lspdmobile.artifact import sha256_of
from lspdmobile.cli import main
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student, save_student

ROOT = Path(lspdmobile.__file__).parent.parent
SIZE = 96
ROOM = 40
COLOURS = ((230, 40, 40), (40, 230, 40), (40, 40, 230))


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, all of it, as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A run folder and what the command that made it said."""

    folder: Path
    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Run ``lspdmobile ARGUMENTS`` in this process, through ``main``."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["lspdmobile", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        sys.stdout.flush()
        out, err = capfd.readouterr()
        code = stop.value.code
        assert code is None or isinstance(code, int)
        return Done(code=code or 0, out=out, err=err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _ran_here(*arguments: object) -> Done:
    """Run ``lspdmobile ARGUMENTS`` in this process; for what a whole file of tests looks at."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = os.dup(1), os.dup(2)
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lspdmobile", *map(str, arguments)])
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)
            for signal_number, handler in handlers.items():
                signal.signal(signal_number, handler)
        out.seek(0)
        err.seek(0)
        code = stop.value.code
        assert code is None or isinstance(code, int)
        return Done(code=code or 0, out=out.read(), err=err.read())


@pytest.fixture(scope="session")
def run_here() -> Cli:
    """Run ``lspdmobile ARGUMENTS`` in this process; may be used by fixtures that are made once."""
    return _ran_here


def _started(*arguments: object) -> subprocess.Popen[str]:
    """Start ``lspdmobile ARGUMENTS`` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "lspdmobile", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="session")
def start_process() -> Callable[..., "subprocess.Popen[str]"]:
    """Start ``lspdmobile ARGUMENTS`` as a process of its own."""
    return _started


@pytest.fixture(scope="session")
def student_file(tiny_config: LspdConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student as a checkpoint."""
    path = tmp_path_factory.mktemp("student") / "colours.safetensors"
    save_student(colour_student(tiny_config), path)
    return path


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set of eight pictures in the form ``--data`` takes."""
    folder = tmp_path_factory.mktemp("people")
    write_people(folder, count=8)
    return folder


@pytest.fixture(scope="session")
def exported(
    student_file: Path,
    people: Path,
    start_process: Callable[..., "subprocess.Popen[str]"],
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    """Export the student once, as a user would; it passes, so that there is nothing to repair.

    Eight pictures of which none changes leave room for a drop of 37 points.
    """
    folder = tmp_path_factory.mktemp("runs") / "colours"
    arguments = ["--format", "tflite", "--precision", "fp32,int8", "--data", people, "--calib", people]
    arguments += ["--repair", "--max-drop", ROOM]
    process = start_process("export", student_file, *arguments, "--output-dir", folder, "--json")
    out, err = process.communicate(timeout=600)
    return Exported(folder=folder, code=process.returncode, out=out, err=err)


class World:
    """A folder with good things in it, some of which a test damages.

    Attributes:
        folder: Everything below it is compared before and after a command.
        student: A good checkpoint.
        people: A good labelled set.
        output: Where commands are told to write; does not exist.
    """

    def __init__(self, folder: Path, student: Path, people: Path) -> None:
        self.folder = folder
        self.student = Path(shutil.copy(student, folder / "student.safetensors"))
        self.people = Path(shutil.copytree(people, folder / "people"))
        self.output = folder / "out"

    def export(self, *more: object, student: object = None) -> list[object]:
        """Give the arguments of a small export."""
        start = ["export", student or self.student, "-f", "tflite", "-p", "w8a8", "--data", self.people]
        return [*start, "--calib", self.people, "--methods", "none", "-o", self.output, *more]

    def labels(self) -> tuple[Path, dict[str, Any]]:
        """Give the label file and what is in it."""
        file = self.people / "annotations" / "person_keypoints_val.json"
        return file, json.loads(file.read_text(encoding="utf-8"))

    def rewrite(self, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> Path:
        """Write a copy of the student whose tensors or header were changed."""
        with safe_open(self.student, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            header = json.loads(file.metadata()["lspdmobile"])
        change(tensors, header)
        path = self.folder / "changed.safetensors"
        save_file(tensors, path, metadata={"lspdmobile": json.dumps(header)})
        return path

    def tree(self) -> dict[str, str]:
        """Hash every file, hidden ones too; folders are listed as well."""
        found = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*")}
        return {name: sha256_of(path) if path.is_file() else "folder" for name, path in found.items()}


@pytest.fixture
def world(tmp_path: Path, student_file: Path, people: Path) -> World:
    """Make the folder."""
    return World(tmp_path, student_file, people)


def colour_student(config: LspdConfig) -> Student:
    """Build the student that looks for colours."""
    torch.manual_seed(0)
    contract = PreprocessContract(input_size=config.input_size, heatmap_stride=config.heatmap_stride)
    network = LspdStudent(config).eval()
    with torch.no_grad():
        _set_weights(network, contract)
    return Student(name="colours", network=network, config=config, contract=contract, skeleton=LSP_14)


def _set_weights(network: LspdStudent, contract: PreprocessContract) -> None:
    """Faint noise everywhere, and three channels that carry the colours from the picture to the heatmaps."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(0.02)
    trunk: Any = network.backbone
    std, mean = torch.tensor(contract.std), torch.tensor(contract.mean)
    mix = 1.5 * torch.eye(3) - 0.5
    blur = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16
    trunk.stem.conv.weight[:3] = (mix * std)[:, :, None, None] * blur
    trunk.stem.norm.bias[:3] = mix @ mean
    for conv in (trunk.levels[0][0].conv, trunk.levels[1][0].conv, trunk.smooth.conv):
        _carry(conv, blur)
    for conv in (trunk.laterals[0].conv, network.stage.entry.conv, network.stage.exit.conv):
        _carry(conv, torch.ones(1, 1))
    head = network.stage.heatmap
    head.weight.normal_(std=0.001)
    for joint in range(LSP_14.count):
        head.weight[joint, joint % 3] = 3.0


def _carry(conv: nn.Conv2d, kernel: torch.Tensor) -> None:
    conv.weight[:3] = 0.0
    for channel in range(3):
        conv.weight[channel, channel] = kernel


def write_people(folder: Path, *, count: int) -> None:
    """Draw pictures with one red, one green and one blue dot, and label joint k at dot k modulo 3."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    generator = np.random.default_rng(0)
    images, notes = [], []
    for i in range(count):
        dots = _dots(generator)
        Image.fromarray(_picture(dots, generator)).save(folder / "images" / f"{i}.png")
        joints = [[*dots[k % 3], 2] for k in range(LSP_14.count)]
        images.append({"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE})
        notes.append(
            {"id": i, "image_id": i, "category_id": 1, "keypoints": [value for joint in joints for value in joint]}
        )
    category = {"id": 1, "name": "person", "keypoints": list(LSP_14.keypoints)}
    content = {"images": images, "annotations": notes, "categories": [category]}
    (folder / "annotations" / "person_keypoints_val.json").write_text(json.dumps(content), encoding="utf-8")


def _dots(generator: np.random.Generator) -> list[list[float]]:
    """Place three dots, each in its own third of a circle, so that they never meet."""
    angles = generator.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(3) + generator.uniform(-0.2, 0.2, 3)) / 3
    radii = SIZE * generator.uniform(0.25, 0.35, 3)
    return [
        [round(float(SIZE / 2 + r * f(a)), 2) for f in (np.cos, np.sin)] for a, r in zip(angles, radii, strict=True)
    ]


def _picture(dots: list[list[float]], generator: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    ground = Image.new("RGB", (SIZE, SIZE), (90, 90, 90))
    canvas = ImageDraw.Draw(ground)
    for (x, y), colour in zip(dots, COLOURS, strict=True):
        canvas.ellipse((x - 9, y - 9, x + 9, y + 9), fill=colour)
    noise = generator.normal(0, 4, (SIZE, SIZE, 3))
    return np.clip(np.asarray(ground) + noise, 0, 255).astype(np.uint8)
