"""``export --jobs``: the same files, sooner."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lspdmobile.artifact import sha256_of

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


@pytest.mark.slow
def test_files_are_the_same_to_the_byte(
    cli: "Cli",
    start_process: "Callable[..., subprocess.Popen[str]]",
    exported: "Exported",
    people: Path,
    tmp_path: Path,
) -> None:
    arguments = ["export", exported.folder / "colours.safetensors", "-f", "all", "-p", "fp32,w8a8", "--max-drop", 40]
    arguments += ["--data", people, "--calib", people, "--methods", "none"]

    assert cli(*arguments, "--jobs", 1, "-o", tmp_path / "1").code == 0
    abreast = start_process(*arguments, "--jobs", 3, "-o", tmp_path / "3")  # this process has loaded runtimes by now
    _, err = abreast.communicate(timeout=600)

    assert abreast.returncode == 0, err
    files = [path.name for path in (tmp_path / "1").iterdir() if path.suffix in {".tflite", ".pte", ".mlpackage"}]
    assert len(files) == 6
    for name in [*files, "plan.json"]:
        assert sha256_of(tmp_path / "1" / name) == sha256_of(tmp_path / "3" / name), name
    assert cli("verify", tmp_path / "3").code == 0
