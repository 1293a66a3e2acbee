"""Networks that were not made here: what they are opened as, and what is said where that cannot be done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lspdmobile.decode import decode
from lspdmobile.errors import BadInputError
from lspdmobile.fusion import fuse
from lspdmobile.opening import open_student, write_student
from lspdmobile.program import save_program
from lspdmobile.student import Student, resized, save_student

SIZE = (64, 48)
CONTRACT = 'skeleton = "lsp-14"\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\nlicense = "MIT"\n'
MODULE = """
from torch import nn
def build(keypoints=14, kernel=3):
    return nn.Sequential(nn.Conv2d(3, keypoints, kernel, 4, kernel // 2), nn.BatchNorm2d(keypoints))
def nothing():
    return 7
"""


class Net(nn.Module):
    """Heatmaps of stride 4; with a channel shuffle, whose views hold the number of pictures."""

    def __init__(self, keypoints: int = 14, read: Callable[[Tensor], Any] = lambda maps: maps) -> None:
        super().__init__()
        self.stem, self.head, self.read = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, keypoints, 1), read

    def forward(self, pictures: Tensor) -> Any:
        """Map ``[N, 3, H, W]`` to what ``read`` makes of heatmaps ``[N, K, H/4, W/4]``."""
        x = torch.relu(self.stem(pictures))
        count, channels, rows, columns = x.shape
        pairs = x.view(count, 2, channels // 2, rows, columns).transpose(1, 2)
        return self.read(self.head(pairs.reshape(count, channels, rows, columns)))


def exported(
    folder: Path, network: nn.Module, *, inputs: tuple[Tensor, ...] | None = None, name: str = "net", **options: Any
) -> Path:
    torch.manual_seed(0)
    path = folder / f"{name}.pt2"
    save_program(torch.export.export(network.eval(), inputs or (torch.zeros(1, 3, *SIZE),), **options), path)
    return path


def contract(folder: Path, *lines: str) -> Path:
    path = folder / "contract.toml"
    path.write_text(CONTRACT + "\n".join(lines), encoding="utf-8")
    return path


def refusal(source: object, **options: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        open_student(str(source), **options)
    return str(caught.value)


def test_a_program_is_a_student_that_takes_any_number_of_pictures(tmp_path: Path) -> None:
    network = Net().eval()
    student = open_student(str(exported(tmp_path, network)), contract=contract(tmp_path))
    assert (student.name, student.architecture, student.licence) == ("net", "exported program", "MIT")
    assert student.contract.input_size == SIZE
    assert student.contract.heatmap_stride == 4
    pictures = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(student.network(pictures), network(pictures))
    fused = fuse(student.program or student.network, input_size=SIZE)
    with torch.no_grad():
        torch.testing.assert_close(fused.network(pictures), network(pictures))


def test_a_program_for_any_number_of_pictures_is_one_too(tmp_path: Path) -> None:
    network = Net().eval()
    batch = ({0: torch.export.Dim("count")},)
    path = exported(tmp_path, network, inputs=(torch.zeros(2, 3, *SIZE),), dynamic_shapes=batch)
    student = open_student(str(path), contract=contract(tmp_path))
    assert student.program is None
    pictures = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(student.network(pictures), network(pictures))
    assert fuse(student.network, input_size=SIZE).certificate.passed


def test_a_student_is_written_and_read_back_without_its_contract_file(tmp_path: Path) -> None:
    student = open_student(str(exported(tmp_path, Net())), contract=contract(tmp_path, "joint_box_scale = 1.5"))
    write_student(student, tmp_path / "run" / "net.pt2")
    back = open_student(str(tmp_path / "run" / "net.pt2"))
    for field in ("name", "contract", "skeleton", "decode_rule", "licence", "made_by", "provenance"):
        assert getattr(back, field) == getattr(student, field), field
    pictures = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(back.network(pictures), student.network(pictures))


def test_a_student_of_ours_is_written_as_ever(tmp_path: Path, student: Student) -> None:
    write_student(student, tmp_path / "a.safetensors")
    save_student(student, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_one_of_several_results_is_chosen_by_place_or_name(tmp_path: Path) -> None:
    network = Net(read=lambda maps: {"early": 0 * maps, "late": [maps, 2 * maps]}).eval()
    path = exported(tmp_path, network)
    pictures = torch.randn(1, 3, *SIZE)
    for output, factor in (("-1", 2), ("1", 1), ('"early"', 0)):
        student = open_student(str(path), contract=contract(tmp_path, f"outputs = [{output}]"))
        with torch.no_grad():
            torch.testing.assert_close(student.network(pictures), factor * network(pictures)["late"][0])
    said = refusal(path, contract=contract(tmp_path))
    assert "reads one of the network's 3 results" in said
    assert "0 (['early']): [1, 14, 16, 12]" in said
    assert "reads one" in refusal(path, contract=contract(tmp_path, "outputs = [3]"))
    assert "reads one" in refusal(path, contract=contract(tmp_path, 'outputs = ["last"]'))


@pytest.mark.parametrize("order", [("x", "y"), ("y", "x")])
def test_simcc_strips_are_read_across_first(tmp_path: Path, order: tuple[str, str]) -> None:
    def strips(maps: Tensor) -> Any:
        sides = {"x": maps.sum(2).repeat_interleave(8, -1), "y": maps.sum(3).repeat_interleave(8, -1)}
        return [sides[side] for side in order]

    path = exported(tmp_path, Net(read=strips))
    swapped = order == ("y", "x")
    student = open_student(
        str(path), contract=contract(tmp_path, 'head = "simcc"', f"outputs = {[1, 0] if swapped else [0, 1]}")
    )
    with torch.no_grad():
        found = student.network(torch.randn(2, 3, *SIZE))
    assert found.shape == (2, 14, 1, 2 * sum(SIZE))
    points = decode(found.numpy(), contract=student.contract, rule=student.decode_rule)
    assert (points[..., 0] < SIZE[1]).all()
    wrong = contract(tmp_path, 'head = "simcc"', f"outputs = {[0, 1] if swapped else [1, 0]}")
    assert "the strips across, then those down" in refusal(path, contract=wrong)


@pytest.mark.parametrize("shape", [(14, 2), (14, 3), (28,), (14, 1, 2)])
def test_coordinates_are_read_in_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.prod(shape) // 14

    def points(maps: Tensor) -> Tensor:
        return maps.flatten(2)[..., :values].reshape(-1, *shape)

    network = Net(read=points).eval()
    lines = ('head = "regression"', 'unit = "pixel"')
    student = open_student(str(exported(tmp_path, network)), contract=contract(tmp_path, *lines))
    pictures = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        found = student.network(pictures)
        assert found.shape == (2, 14, 1, values)
        torch.testing.assert_close(found[0].flatten(), network(pictures[:1]).flatten())
    points_px = decode(found.numpy(), contract=student.contract, rule=student.decode_rule)
    np.testing.assert_array_equal(points_px[..., :2], found[:, :, 0, :2].numpy())


def test_what_does_not_fit_the_contract_file_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path, Net(keypoints=17))
    assert "lsp-14 has 14 joints, so [1, 14, …] is needed" in refusal(path, contract=contract(tmp_path))
    path = exported(tmp_path, Net())
    assert "input_size is [32, 48]" in refusal(path, contract=contract(tmp_path, "input_size = [32, 48]"))
    said = refusal(path, contract=contract(tmp_path, "heatmap_stride = 8"))
    assert "heatmap_stride 8 does not take its 16x12 cells to 64x48 pixels" in said
    assert "joint_box_scale" in refusal(path, contract=contract(tmp_path, "joint_box_scale = 0.5"))
    assert "cannot begin the names of files" in refusal(path, contract=contract(tmp_path, 'name = "a/b"'))
    assert "give --contract FILE" in refusal(path)


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.zeros(1, 1, *SIZE),),
        (torch.zeros(1, *SIZE, 3),),
        (torch.zeros(1, 3, *SIZE), torch.zeros(1)),
        (torch.zeros(1, 3, *SIZE, dtype=torch.float64),),
    ],
)
def test_a_program_that_takes_no_picture_is_refused(tmp_path: Path, inputs: tuple[Tensor, ...]) -> None:
    class Sums(nn.Module):
        def forward(self, *given: Tensor) -> Tensor:
            return sum(each.sum() for each in given) + torch.zeros(1, 14, 16, 12)

    path = exported(tmp_path, Sums(), inputs=inputs)
    assert "not one float32 picture [1, 3, H, W]" in refusal(path, contract=contract(tmp_path))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's own in the current folder, and its state dict."""
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(MODULE, scope)
    torch.save(scope["build"](kernel=5).state_dict(), tmp_path / f"{name}.pth")
    return tmp_path / f"{name}.pth"


@pytest.mark.parametrize("arguments", ["kernel=5", '{"kernel": 5, "keypoints": 14}', " kernel = 5 , keypoints=14"])
def test_a_state_dict_is_opened_by_its_factory(weights: Path, arguments: str) -> None:
    size = contract(weights.parent, "input_size = [64, 48]")
    arch = f"{weights.stem}:build"
    student = open_student(str(weights), arch=arch, arch_args=arguments, contract=size)
    assert (student.architecture, student.program, student.config) == (arch, None, None)
    assert student.network(torch.zeros(2, 3, *SIZE)).shape == (2, 14, 16, 12)
    write_student(student, weights.parent / "kept.pt2")
    assert open_student(str(weights.parent / "kept.pt2")).architecture == arch
    with pytest.raises(BadInputError, match="was not made here"):
        resized(student, (96, 96))


def test_a_factory_that_gives_no_network_is_refused(weights: Path) -> None:
    size = contract(weights.parent, "input_size = [64, 48]")
    for arch, arguments, said in (
        (f"{weights.stem}:build", "kernel=3", "differences from the architecture"),
        (f"{weights.stem}:gone", "", "could not be imported and called"),
        ("no_such_package.at_all:build", "", "No module named"),
        (f"{weights.stem}:build", "colour=3", "unexpected keyword argument"),
        (f"{weights.stem}:nothing", "", "gives a int, not a torch.nn.Module"),
        (f"{weights.stem}:build", "kernel", "neither key=value,… nor a JSON object"),
        (f"{weights.stem}:build", "{kernel}", "neither key=value,… nor a JSON object"),
    ):
        assert said in refusal(weights, arch=arch, arch_args=arguments, contract=size)
    plain = contract(weights.parent)
    assert "input_size is missing" in refusal(weights, arch=f"{weights.stem}:build", contract=plain)


def test_options_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    assert "has its contract inside" in refusal("lspd-s", contract=contract(tmp_path))
    assert "name one with --arch package.module:factory" in refusal("lspd-s", arch_args="a=1")
    assert "no such file" in refusal(tmp_path / "gone.pt2", contract=contract(tmp_path))


@pytest.mark.parametrize("damage", [{"decode_rule": "guess"}, {"schema_version": 2}, {"skeleton": {}}, {"contract": 1}])
def test_a_note_that_cannot_be_read_is_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    student = open_student(str(exported(tmp_path, Net())), contract=contract(tmp_path))
    kept = tmp_path / "kept.pt2"
    write_student(student, kept)
    from lspdmobile.program import load_program, note_in

    note = json.loads(note_in(kept) or "")
    save_program(load_program(kept), tmp_path / "bad.pt2", note=json.dumps({**note, **damage}))
    assert "what it says of its own use cannot be read" in refusal(tmp_path / "bad.pt2")
