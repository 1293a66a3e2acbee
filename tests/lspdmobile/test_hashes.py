"""Hashes notice every byte and name of a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lspdmobile.artifact import Delegation, sha256_of, size_in_bytes
from lspdmobile.errors import BadInputError


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "x.mlpackage"
    (folder / "golden").mkdir(parents=True)
    (folder / "report.json").write_text("weights", encoding="utf-8")
    (folder / "golden" / "input").write_bytes(b"\0\1")
    return folder


def test_a_copy_has_the_same_hash_whatever_it_is_called(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "copy")
    assert sha256_of(tmp_path / "copy") == sha256_of(package)


def _change_byte(folder: Path) -> None:
    (folder / "golden" / "input").write_bytes(b"\0\2")


def _rename(folder: Path) -> None:
    (folder / "report.json").rename(folder / "report.jsom")


def _move(folder: Path) -> None:
    (folder / "golden" / "input").rename(folder / "input")


def _add_empty_file(folder: Path) -> None:
    (folder / "zero").touch()


def _remove(folder: Path) -> None:
    (folder / "report.json").unlink()


def _swap_contents(folder: Path) -> None:
    (folder / "report.json").write_bytes(b"\0\1")
    (folder / "golden" / "input").write_bytes(b"weights")


def _say_two_files_in_one(folder: Path) -> None:
    """Write what an unframed concatenation of names and bytes could not tell from the two files."""
    joined = (folder / "golden" / "input").read_bytes() + b"report.json\0" + (folder / "report.json").read_bytes()
    (folder / "golden" / "input").write_bytes(joined)
    (folder / "report.json").unlink()


@pytest.mark.parametrize(
    "change", [_change_byte, _rename, _move, _add_empty_file, _remove, _swap_contents, _say_two_files_in_one]
)
def test_the_hash_of_a_folder_notices(package: Path, change: Callable[[Path], None]) -> None:
    before = sha256_of(package)
    change(package)
    assert sha256_of(package) != before


def test_the_hash_of_a_file_is_plain_sha256(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sizes_count_all_files(package: Path) -> None:
    assert size_in_bytes(package / "report.json") == 7
    assert size_in_bytes(package) == 9


@pytest.mark.parametrize("measure", [sha256_of, size_in_bytes])
def test_what_is_not_there_has_no_hash_and_no_size(tmp_path: Path, measure: Callable[[Path], object]) -> None:
    with pytest.raises(BadInputError, match="no such file or folder"):
        measure(tmp_path / "gone")


def test_the_delegated_fraction_of_nothing_is_one() -> None:
    assert Delegation(delegate="x", delegated=3, total=4).fraction == 0.75
    assert Delegation(delegate="x", delegated=0, total=0).fraction == 1.0
