"""Pickled files: tensors are read, everything else is refused and never run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lspdmobile.artifact import sha256_of
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student, load_checkpoint, load_student, save_student


def refusal(file: Path, arch: str | None = None) -> str:
    with pytest.raises(BadInputError) as caught:
        load_student(str(file), arch=arch)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message


def test_a_state_dict_of_a_preset_is_read(student: Student, tmp_path: Path, tiny_preset: str) -> None:
    path = tmp_path / "my net.pth"
    torch.save(student.network.state_dict(), path)
    back = load_student(str(path), arch=tiny_preset)
    ours, theirs = student.network.state_dict(), back.network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert (back.name, back.sha256, back.skeleton) == ("my net", sha256_of(path), LSP_14)
    save_student(back, tmp_path / "again.safetensors")
    assert load_student(str(tmp_path / "again.safetensors")).name == "my net"


def test_a_state_dict_needs_an_architecture(student: Student, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(student.network.state_dict(), path)
    assert "add --arch (lspd-s, lspd-m" in refusal(path)
    with pytest.raises(BadInputError, match="unknown preset 'lspd-xxl'"):
        load_student(str(path), arch="lspd-xxl")


class _Creates:
    """A pickle of this creates a file when it is read by something that runs pickled code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("hidden_in", ["alone", "among tensors"])
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path: Path, tiny_preset: str, hidden_in: str) -> None:
    witness, path = tmp_path / "was_run", tmp_path / "net.pth"
    trap = _Creates(witness)
    torch.save(trap if hidden_in == "alone" else {"stage.heatmap.bias": torch.zeros(14), "x": trap}, path)
    assert "nothing in it was executed" in refusal(path, tiny_preset)
    with pytest.raises(BadInputError, match="not a readable training checkpoint"):
        load_checkpoint(path, device="cpu")
    assert not witness.exists()
    # The trap works: an unsafe reader falls into it.
    torch.load(path, weights_only=False)  # noqa: TID251 - our own file, to prove that the test can fail
    assert witness.exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(2)], torch.zeros(2), {"state_dict": {}}])
def test_a_pth_file_without_a_state_dict_is_refused(tmp_path: Path, tiny_preset: str, content: object) -> None:
    path = tmp_path / "net.pth"
    torch.save(content, path)
    assert "state_dict()" in refusal(path, tiny_preset)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half"])
def test_a_damaged_pth_file_is_refused(tmp_path: Path, tiny_preset: str, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert "not a plain state dict" in refusal(path, tiny_preset)


def test_a_checkpoint_is_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 3, "ema": {"a": torch.ones(2)}}, path)
    assert load_checkpoint(path, device="cpu")["step"] == 3
    torch.save([1, 2], path)
    with pytest.raises(BadInputError, match="not a training checkpoint"):
        load_checkpoint(path, device="cpu")
    with pytest.raises(BadInputError, match="not a readable training checkpoint"):
        load_checkpoint(tmp_path / "gone.pt", device="cpu")
