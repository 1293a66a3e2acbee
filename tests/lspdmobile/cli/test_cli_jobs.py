"""``export --jobs``: the same files, sooner."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lspdmobile.artifact import sha256_of

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, Exported


@pytest.mark.slow
def test_files_are_the_same_to_the_byte(cli: "Cli", exported: "Exported", people: Path, tmp_path: Path) -> None:
    arguments = ["export", exported.folder / "colours.safetensors", "-f", "all", "-p", "fp32,w8a8", "--max-drop", 40]
    arguments += ["--data", people, "--calib", people]

    alone, abreast = (cli(*arguments, "--jobs", jobs, "-o", tmp_path / str(jobs)) for jobs in (1, 3))

    assert (alone.code, abreast.code) == (0, 0), abreast.err
    files = [path.name for path in (tmp_path / "1").iterdir() if path.suffix in {".tflite", ".pte", ".mlpackage"}]
    assert len(files) == 6
    for name in [*files, "plan.json"]:
        assert sha256_of(tmp_path / "1" / name) == sha256_of(tmp_path / "3" / name), name
    assert cli("verify", tmp_path / "3").code == 0
