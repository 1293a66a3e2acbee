"""Nowhere to write: a limit on the size of files stands for a full disk, which gives the same kind of error."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

USAGE = 2
LIMIT = 64 * 1024


def _limited(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lspdmobile", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )


@pytest.mark.parametrize(
    "command", [("fuse", "lspd-s"), ("export", "lspd-s", "-f", "tflite", "-p", "fp32", "--num-evaluation-samples", "2")]
)
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(command: tuple[str, ...], tmp_path: Path) -> None:
    done = _limited(*command, "-o", str(tmp_path / "out"))
    assert done.returncode == USAGE, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "cannot be written" in lines[0]
    assert list(tmp_path.iterdir()) == []
