"""Students: what is saved comes back bit for bit; what cannot be used is one clear error and runs nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lspdmobile.artifact import sha256_of
from lspdmobile.errors import BadInputError
from lspdmobile.fusion import randomise_norms
from lspdmobile.networks.architectures import ARCHITECTURES, deployed_network
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.hrnet import HrNetConfig
from lspdmobile.networks.ldcrn import LdcrnConfig
from lspdmobile.networks.okdhp import OkdhpConfig, OkdhpMobilePoseConfig
from lspdmobile.networks.presets import PRESETS
from lspdmobile.student import (
    Student,
    bundled_students,
    load_student,
    resized,
    save_student,
    student_from_preset,
)

Header = dict[str, Any]


@pytest.fixture
def file(student: Student, tmp_path: Path) -> Path:
    save_student(student, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def rewritten(file: Path, change: Callable[[Header], object] | None = None, **tensors: Tensor | None) -> Path:
    """Write the file again with its header and some of its tensors changed (None removes one)."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads((opened.metadata() or {})["lspdmobile"])
    if change is not None:
        header = change(header) or header
    kept = {**load_file(file), **tensors}
    present = {k: v for k, v in kept.items() if v is not None}
    save_file(present, file, metadata={"lspdmobile": json.dumps(header)})
    return file


def refusal(file: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        load_student(str(file))
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_saved_student_comes_back_bit_for_bit(student: Student, file: Path) -> None:
    back = load_student(str(file))
    assert same_weights(back.network, student.network)
    assert replace(back, network=student.network, sha256="") == student
    assert back.sha256 == sha256_of(file)
    assert not back.network.training
    pictures = torch.randn(2, 3, *student.contract.input_size)
    with torch.no_grad():
        assert torch.equal(back.network(pictures), student.network(pictures))


def test_saving_twice_gives_the_same_bytes_and_nothing_else(student: Student, file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    save_student(student, file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_a_student_that_cannot_be_written_is_one_clear_error(student: Student, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be written"):
        save_student(student, tmp_path / "file" / "tiny.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(BadInputError, match="cannot be written"):
        save_student(student, tmp_path / "folder.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_says_so(file: Path, kept: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    assert "truncated" in refusal(file)


def test_a_file_without_our_metadata_is_refused(file: Path) -> None:
    save_file(load_file(file), file)
    assert "architecture is unknown" in refusal(file)


def _without(key: str) -> Callable[[Header], object]:
    return lambda header: header.pop(key) and None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.update(schema_version=99), "schema 99"),
        (lambda h: h.update(architecture="posenet"), "unknown architecture 'posenet': this version reads lspd, okdhp"),
        (lambda h: h.update(architecture=["lspd"]), "metadata"),
        (lambda h: h.update(architecture="ldcrn"), "metadata"),
        (lambda h: h.update(decode_rule="argmax"), "argmax"),
        (lambda h: h.update(decode_rule=["dark"]), "metadata"),
        (lambda h: h.update(skeleton="lsp"), "unknown skeleton"),
        (lambda h: h.update(skeleton="mpii-16"), "14 heatmaps do not fit mpii-16's 16 joints"),
        (lambda h: h["contract"].update(input_size=[64, 96]), "its preprocess contract gives"),
        (lambda h: h["contract"].update(heatmap_stride=4), "preprocess contract"),
        (lambda h: h["contract"].update(gamma=1), "gamma"),
        (lambda h: h["config"].update(surprise=1), "surprise"),
        (lambda h: h["config"].update(features=-1), "metadata"),
        (lambda h: h["config"].update(features="many"), "metadata"),
        (lambda h: h["config"].update(pyramid_blocks=[1]), "metadata"),
        (lambda h: h["config"].update(pyramid_channels=[]), "metadata"),
        (lambda h: h["config"].update(branches=["3x3dx"]), "metadata"),
        (lambda h: h.update(provenance=3), "metadata"),
        (lambda h: h.update(name="../../evil"), "cannot begin the names of files"),
        (lambda h: h.update(name=".."), "cannot begin the names of files"),
        (lambda h: h.update(name=""), "cannot begin the names of files"),
        (lambda h: h.update(name=7), "metadata"),
        (lambda _: ["a", "list"], "metadata"),
        (lambda _: "text", "metadata"),
        *[
            (_without(key), key)
            for key in ("schema_version", "name", "config", "contract", "skeleton", "decode_rule", "metrics")
        ],
    ],
)
def test_metadata_that_makes_no_student_is_refused(file: Path, change: Callable[[Header], object], said: str) -> None:
    assert said in refusal(rewritten(file, change))


def test_metadata_that_is_no_json_is_refused(file: Path) -> None:
    save_file(load_file(file), file, metadata={"lspdmobile": "{"})
    assert "metadata cannot be used" in refusal(file)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(file: Path, bad: float) -> None:
    weight = load_file(file)["stage.heatmap.weight"]
    weight[3, 2] = bad
    message = refusal(rewritten(file, None, **{"stage.heatmap.weight": weight}))
    assert "not finite" in message
    assert "stage.heatmap.weight" in message


def test_weights_too_large_for_the_network_are_refused(file: Path) -> None:
    bias = load_file(file)["stage.heatmap.bias"].double() + 1e300
    assert "not finite" in refusal(rewritten(file, None, **{"stage.heatmap.bias": bias}))


def test_all_differences_from_the_architecture_are_listed(file: Path) -> None:
    tensors: dict[str, Tensor | None] = {
        "stage.heatmap.bias": None,
        "stage.surprise": torch.zeros(2),
        "stage.heatmap.weight": torch.zeros(16, 16, 1, 1),
    }
    message = refusal(rewritten(file, None, **tensors))
    assert "3 differences" in message
    assert "missing stage.heatmap.bias" in message
    assert "unexpected stage.surprise" in message
    assert "stage.heatmap.weight is (16, 16, 1, 1), (14, 16, 1, 1) expected" in message


def test_many_differences_are_counted_and_the_first_shown(file: Path) -> None:
    count = len(load_file(file))
    message = refusal(rewritten(file, None, **dict.fromkeys(load_file(file))))
    assert f"{count} differences" in message
    assert message.count("missing ") == 12
    assert message.endswith("…")


@pytest.mark.parametrize("name", ["net.onnx", "net"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert ".safetensors file of ours or a .pth" in refusal(tmp_path / name)


def test_an_unknown_name_lists_the_bundled_students(tmp_path: Path) -> None:
    known = ", ".join(bundled_students()) or "none"
    with pytest.raises(BadInputError, match=rf"lspd-xxl: neither a bundled student \({known}\) nor a file"):
        load_student("lspd-xxl")
    with pytest.raises(BadInputError, match="nor a file"):
        load_student(str(tmp_path))


TINY: dict[str, NetworkConfig] = {
    "okdhp": OkdhpConfig(keypoints=14, input_size=(64, 128), channels=8, stacks=2, shared=1, helpers=(2, 3)),
    "okdhp-mobile": OkdhpMobilePoseConfig(
        keypoints=14, input_size=(64, 96), channels=(4, 6, 8, 10), blocks=(1, 1, 1, 1)
    ),
    "ldcrn": LdcrnConfig(keypoints=14, input_size=(64, 96), stem=4, widths=(4, 6, 8, 10), modules=(1, 1, 1)),
    "hrnet": HrNetConfig(keypoints=14, input_size=(64, 96), widths=(4, 6, 8, 10), modules=(1, 1, 1)),
}


def test_every_architecture_is_saved_and_read_back_here(student: Student) -> None:
    assert TINY.keys() | {student.architecture} == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", TINY)
def test_students_of_every_architecture_come_back_bit_for_bit(
    student: Student, architecture: str, tmp_path: Path
) -> None:
    config = TINY[architecture]
    contract = replace(student.contract, input_size=config.input_size, heatmap_stride=config.heatmap_stride)
    other = replace(student, network=deployed_network(config), config=config, contract=contract)
    randomise_norms(other.network, torch.Generator().manual_seed(1))
    save_student(other, tmp_path / "other.safetensors")
    with safe_open(tmp_path / "other.safetensors", framework="pt") as opened:
        assert json.loads((opened.metadata() or {})["lspdmobile"])["architecture"] == architecture
    back = load_student(str(tmp_path / "other.safetensors"))
    assert (back.config, back.contract) == (config, contract)
    assert same_weights(back.network, other.network)
    pictures = torch.randn(1, 3, *config.input_size)
    with torch.no_grad():
        heatmaps = back.network(pictures)
        assert torch.equal(heatmaps, other.network(pictures))
    assert heatmaps.shape == (1, 14, *contract.heatmap_size)


def test_an_hourglass_takes_multiples_of_64(student: Student) -> None:
    config = TINY["okdhp"]
    hourglass = replace(student, config=config, network=deployed_network(config))
    assert resized(hourglass, (128, 64)).contract.input_size == (128, 64)
    with pytest.raises(BadInputError, match="multiples of 64"):
        resized(hourglass, (96, 64))


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_makes_a_student(name: str) -> None:
    with torch.device("meta"):
        student = student_from_preset(name)
    assert student.config is not None
    assert student.skeleton.count == student.config.keypoints
    assert student.contract.input_size == student.config.input_size
    assert not student.network.training


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"unknown preset 'x': choose from lspd-s"):
        student_from_preset("x")


def test_a_resized_student_keeps_its_weights_and_takes_other_pictures(student: Student) -> None:
    other = resized(student, (96, 128))
    assert other.network is student.network
    assert other.config is not None
    assert other.config.input_size == other.contract.input_size == (96, 128)
    assert student.contract.input_size == (64, 64)
    with torch.no_grad():
        heatmaps = other.network(torch.zeros(1, 3, 96, 128))
    assert tuple(heatmaps.shape) == (1, 14, *other.contract.heatmap_size)


def test_a_resized_student_can_be_saved(student: Student, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_student(resized(student, (96, 64)), path)
    assert load_student(str(path)).contract.input_size == (96, 64)


@pytest.mark.parametrize("size", [(0, 64), (-32, 64), (64, 100), (65, 64)])
def test_a_size_that_is_no_multiple_of_32_is_refused(student: Student, size: tuple[int, int]) -> None:
    with pytest.raises(BadInputError, match="multiples of 32"):
        resized(student, size)
