"""A network that was not made here, with any of three heads, goes through export, verify and evaluate as ours do."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Done


SIZE = 96
ROOM = 60  # points: eight pictures of which none changes leave room for 37, for more where some do
MODULE = Path(__file__).with_name("colours_of_mine.py")
OUTPUTS = {"heatmap": "", "simcc": 'outputs = ["across", "down"]', "regression": ""}


def built(**arguments: Any) -> nn.Module:
    """Make the network as its own module does."""
    spec = importlib.util.spec_from_file_location("colours_of_mine", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.build(**arguments)
    return network.eval()


def contract_file(folder: Path, head: str = "heatmap", **more: str) -> Path:
    """Write a contract file; ``more`` replaces or adds lines."""
    lines = {
        "skeleton": '"lsp-14"',
        "mean": "[0.485, 0.456, 0.406]",
        "std": "[0.229, 0.224, 0.225]",
        "input_size": f"[{SIZE}, {SIZE}]",
        "head": f'"{head}"',
        "license": '"MIT"',
    }
    text = "\n".join(f"{key} = {value}" for key, value in {**lines, **more}.items())
    path = folder / f"{head}.toml"
    path.write_text(f"{text}\n{OUTPUTS[head]}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each head's exported program and contract file."""
    folder = tmp_path_factory.mktemp("mine")
    found = {}
    for head in OUTPUTS:
        path = folder / f"mine-{head}.pt2"
        torch.export.save(torch.export.export(built(head=head), (torch.zeros(1, 3, SIZE, SIZE),)), path)
        found[head] = path, contract_file(folder, head)
    return found


def exported(cli: "Cli", source: object, contract: Path, people: Path, output: Path, *more: object) -> "Done":
    """Export with the test's pictures."""
    pictures = ("--data", people, "--calib", people, "--methods", "none")
    return cli("export", source, "--contract", contract, *pictures, "-o", output, "--json", *more)


def reasons(done: "Done") -> list[str]:
    """Say why an export failed."""
    return [reason for a in done.json["artifacts"] for reason in a["reasons"]] if done.out else [done.err]


@pytest.mark.parametrize("head", OUTPUTS)
def test_a_program_is_exported_verified_and_evaluated(
    head: str, cli: "Cli", programs: dict[str, tuple[Path, Path]], people: Path, tmp_path: Path
) -> None:
    program, contract = programs[head]
    run = tmp_path / "run"
    done = exported(cli, program, contract, people, run, "-f", "tflite", "-p", "fp32,w8a8", "--max-drop", ROOM)
    assert done.code == 0, reasons(done)
    report = done.json
    assert report["student"]["architecture"] == "exported program"
    assert report["reference"]["metrics"]["pck@0.2"] > 0.9
    assert {a["parity"]["images"] for a in report["artifacts"]} == {8}
    assert cli("verify", run).code == 0
    scores = [
        cli("evaluate", run / name, "--data", people, "--json").json["metrics"]["pck@0.2"]
        for name in (f"mine-{head}.pt2", f"mine-{head}_float32.tflite", f"mine-{head}_w8a8.tflite")
    ]
    assert min(scores) > 0.9
    flipped = cli("evaluate", run / f"mine-{head}.pt2", "--data", people, "--flip-test", "--json").json["metrics"]
    assert flipped["pck@0.2"] < 0.9  # colours are not exchanged in a mirrored picture, left and right joints are
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["decode_rule"] == {"heatmap": "dark"}.get(head, head)
    assert cli("inspect", run / f"mine-{head}_w8a8.tflite", "--json").json["metadata"]["license"] == "MIT"


@pytest.mark.slow
@pytest.mark.parametrize("head", OUTPUTS)
def test_a_program_becomes_every_file(
    head: str, cli: "Cli", programs: dict[str, tuple[Path, Path]], people: Path, tmp_path: Path
) -> None:
    """In int8 the divisor of the regression head is rounded to 0 in places: docs/bring_your_own.md."""
    program, contract = programs[head]
    run, precisions = tmp_path / "run", "fp32,fp16" if head == "regression" else "fp32,fp16,w8a8"
    done = exported(cli, program, contract, people, run, "-f", "all", "-p", precisions, "--max-drop", ROOM)
    assert done.code == 0, reasons(done)
    assert len(done.json["artifacts"]) == (5 if head == "regression" else 8)
    assert cli("verify", run).code == 0


def test_a_state_dict_and_its_factory_give_the_same_files(
    cli: "Cli",
    programs: dict[str, tuple[Path, Path]],
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = built(head="heatmap", keypoints=14)
    wrapped = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "mine-heatmap.pth")
    shutil.copy(MODULE, tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ("--arch", "colours_of_mine:build", "--arch-args", "keypoints=14,head=heatmap", "-f", "tflite")
    contract = programs["heatmap"][1]
    done = exported(cli, "mine-heatmap.pth", contract, people, tmp_path / "a", *arguments, "-p", "fp32")
    assert done.code == 0, reasons(done)
    assert done.json["student"]["architecture"] == "colours_of_mine:build"
    assert (
        exported(cli, programs["heatmap"][0], contract, people, tmp_path / "b", "-f", "tflite", "-p", "fp32").code == 0
    )
    files = [(tmp_path / run / "mine-heatmap_float32.tflite") for run in ("a", "b")]
    values = [cli("evaluate", file, "--data", people, "--json").json for file in files]
    assert values[0] == values[1]
    assert cli("verify", tmp_path / "a").code == 0


def test_another_skeleton_is_judged_by_its_own_names(cli: "Cli", people: Path, tmp_path: Path) -> None:
    """Three joints with names of their own; labels that name the same ones are found by name."""
    program = tmp_path / "dots.pt2"
    torch.export.save(torch.export.export(built(keypoints=3), (torch.zeros(1, 3, SIZE, SIZE),)), program)
    contract = contract_file(tmp_path)
    text = contract.read_text(encoding="utf-8").replace('skeleton = "lsp-14"\n', "")
    table = '[skeleton]\nname = "dots-3"\nkeypoints = ["red", "green", "blue"]\ntorso = ["red", "blue"]\n'
    contract.write_text(f'{text}{table}mirror = [["red", "green"]]\nsigmas = [0.1, 0.1, 0.1]\n', encoding="utf-8")
    labels = shutil.copytree(people, tmp_path / "dots")
    file = labels / "annotations" / "person_keypoints_val.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["categories"][0]["keypoints"] = ["blue", "red", "green"]
    for note in content["annotations"]:
        red, green, blue = (note["keypoints"][3 * k : 3 * k + 3] for k in range(3))
        note["keypoints"] = [*blue, *red, *green]
    file.write_text(json.dumps(content), encoding="utf-8")
    run = tmp_path / "run"
    done = exported(cli, program, contract, labels, run, "-f", "tflite", "-p", "fp32")
    assert done.code == 0, reasons(done)
    assert done.json["reference"]["metrics"]["pck@0.2"] > 0.9
    assert set(done.json["reference"]["per_joint"]["pck@0.2"]) == {"red", "green", "blue"}
    assert cli("evaluate", run / "dots_float32.tflite", "--data", labels, "--json").json["metrics"]["oks_ap"] > 0.5
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["skeleton"]["flip"] == [1, 0, 2]
    assert cli("verify", run).code == 0


def test_several_students_are_exported_in_one_go(
    cli: "Cli", student_file: Path, programs: dict[str, tuple[Path, Path]], people: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    assert exported(cli, *programs["heatmap"], people, first, "-f", "tflite", "-p", "fp32").code == 0
    both = (student_file, first / "mine-heatmap.pt2")
    arguments = ("-f", "tflite", "-p", "fp32", "--methods", "none", "--data", people, "-o", tmp_path / "both")
    done = cli("export", *both, *arguments)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith(("colours", "mine"))][:2] == [
        "colours",
        "mine-heatmap",
    ]
    for name in ("colours", "mine-heatmap"):
        assert cli("verify", tmp_path / "both" / name).code == 0
    again = cli("export", *both, *arguments)
    assert again.code == 2
    assert "colours: already exists" in again.err


def test_what_stops_one_student_does_not_stop_the_others(
    cli: "Cli", student_file: Path, people: Path, tmp_path: Path, programs: dict[str, tuple[Path, Path]]
) -> None:
    from lspdmobile.opening import open_student, write_student

    network = built()
    with torch.no_grad():
        network.heatmap.bias.fill_(3e38)  # type: ignore[union-attr, operator]
        network.heatmap.weight.mul_(1e38)  # type: ignore[union-attr, operator]
    path = tmp_path / "hot.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, SIZE, SIZE),)), path)
    write_student(open_student(str(path), contract=programs["heatmap"][1]), tmp_path / "noted" / "hot.pt2")
    hot = tmp_path / "noted" / "hot.pt2"
    arguments = ("-f", "tflite", "-p", "fp32", "--data", people, "-o", tmp_path / "both")
    done = cli("export", hot, student_file, *arguments)
    assert done.code == 2
    assert "error: hot: " in done.err
    assert "tflite fp32" in done.out
    assert cli("verify", tmp_path / "both" / "colours").code == 0
    assert not (tmp_path / "both" / "hot").exists()
