"""The same export elsewhere, with other hashes, other threads and at another time, is the same to the byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lspdmobile.artifact import sha256_of

ROOT = Path(__file__).parent.parent.parent.parent
TIMED = {"report.json", "report.html", "report.md", "manifest.json"}
"""What holds times, and the hashes of what does."""


def exported(student: Path, people: Path, folder: Path, *, hashes: int, threads: int) -> dict[str, str]:
    """Export in a process of its own; gives the hash of every entry of the run folder."""
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": str(hashes),
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "lspdmobile", "export", str(student), "-f", "all", "-p", "fp32,fp16,w8a8"]
    command += ["--data", str(people), "--calib", str(people), "--max-drop", "60", "-o", "run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr  # verdicts are for other tests
    return {path.name: sha256_of(path) for path in (folder / "run").iterdir()}


@pytest.mark.slow
def test_an_export_is_the_same_to_the_byte(student_file: Path, people: Path, tmp_path: Path) -> None:
    one = exported(student_file, people, tmp_path / "here", hashes=1, threads=1)
    other = exported(student_file, people, tmp_path / "there", hashes=2, threads=2)
    assert one.keys() == other.keys()
    assert {name for name in one if name.endswith((".tflite", ".pte", ".mlpackage"))}
    differ = {name for name in one if one[name] != other[name]}
    assert differ <= TIMED
