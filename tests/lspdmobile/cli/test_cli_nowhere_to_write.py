"""Nowhere to write: a full disk (a limit on the size of files gives the same kind of error), and no permission."""

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

USAGE = 2
LIMIT = 16 * 1024
COMMANDS = [("fuse", "lspd-s"), ("export", "lspd-s", "-f", "tflite", "-p", "fp32", "--num-evaluation-samples", "2")]
# linux/prctl.h and linux/capability.h
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def _refusal(command: tuple[str, ...], *, before: Callable[[], None]) -> str:
    """Run the command after ``before`` in its process; gives the one line it refused with."""
    done = subprocess.run(
        [sys.executable, "-m", "lspdmobile", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=before,
    )
    assert done.returncode == USAGE, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def _obey_permissions() -> None:
    """Take from the superuser the right to write where nobody may; others never had it."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        os._exit(77)


@pytest.mark.parametrize("command", [("fuse",), ("export", "-f", "tflite", "-p", "fp32")])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(
    command: tuple[str, ...], student_file: Path, people: Path, tmp_path: Path
) -> None:
    data = ("--data", str(people), "--calib", str(people)) if command[0] == "export" else ()
    line = _refusal((*command, str(student_file), *data, "-o", str(tmp_path / "out")), before=_limit_files)
    assert "cannot be written" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="the superuser may write anywhere here")
@pytest.mark.parametrize("command", [*COMMANDS, ("predict", "lspd-s", "picture.png")])
def test_a_folder_one_may_not_write_in_is_one_clear_line(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), (90, 120, 60)).save("picture.png")
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o555)
    out = folder / "out.png"
    line = _refusal((*command, "-o", str(out)), before=_obey_permissions)
    assert f"{out}: cannot be written (Permission denied)" in line
    assert list(folder.iterdir()) == []
