import pickle  # noqa: TID251 - plants what must never run
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.program import load_program, save_program


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small exported program on disk."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    path = tmp_path / "network.pt2"
    save_program(torch.export.export(network, (torch.randn(1, 3, 8, 8),)), path)
    return path


def test_a_program_comes_back_as_it_was_written(saved: Path) -> None:
    program = load_program(saved)
    assert program.example_inputs is not None
    ((picture,), _) = program.example_inputs
    again = saved.with_name("again.pt2")
    save_program(program, again)
    with torch.no_grad():
        assert torch.equal(program.module()(picture), load_program(again).module()(picture))
    assert sorted(p.name for p in saved.parent.iterdir()) == ["again.pt2", "network.pt2"]


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def rewritten(saved: Path, entry: str, content: bytes) -> Path:
    """Copy an archive with one entry replaced."""
    path = saved.with_name("evil.pt2")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("network/", "evil/"), content if name.endswith(entry) else old.read(name))
    return path


def test_a_pickle_among_the_example_inputs_is_refused_and_not_executed(saved: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = rewritten(saved, "sample_inputs/model.pt", pickle.dumps(Evil(ran)))
    with pytest.raises(BadInputError, match="holds more than tensors"):
        load_program(path)
    assert not ran.exists()


def test_pickled_weights_are_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        name = next(n for n in archive.namelist() if n.endswith("weights_config.json"))
        text = archive.read(name).replace(b'"use_pickle": false', b'"use_pickle": true')
    with pytest.raises(BadInputError, match="never executed"):
        load_program(rewritten(saved, "weights_config.json", text))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt2"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"damaged\.pt2: not a readable exported program") as caught:
        load_program(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        load_program(tmp_path / "none.pt2")


def test_a_folder_that_cannot_be_written_leaves_nothing(saved: Path) -> None:
    blocked = saved.parent / "file"
    blocked.write_text("")
    with pytest.raises(BadInputError, match="cannot be written"):
        save_program(load_program(saved), blocked / "network.pt2")
